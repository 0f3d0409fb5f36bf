package llm

import (
	"context"
	"strings"
	"time"
)

// echo is a model that needs nobody: it says the last message again, a word at a
// time. For tries of what is around a model.
type echo struct{}

const perWord = 20 * time.Millisecond

func (echo) stream(ctx context.Context, r request, say func(string) error) (answer, error) {
	got := answer{model: r.Model, stopReason: "stop"}
	for _, m := range r.Messages {
		got.usage.InputTokens += int64(len(strings.Fields(m.Content)))
	}
	next := time.NewTicker(perWord)
	defer next.Stop()
	for word := range strings.SplitAfterSeq(r.Messages[len(r.Messages)-1].Content, " ") {
		if r.MaxTokens != nil && got.usage.OutputTokens == *r.MaxTokens {
			got.stopReason = "length"
			break
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return got, context.Cause(ctx)
		}
		if err := say(word); err != nil {
			return got, err
		}
		got.usage.OutputTokens++
	}
	return got, nil
}
