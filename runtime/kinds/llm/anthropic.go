package llm

import (
	"context"
	"net/http"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

// anthropicMessages asks by the protocol of Anthropic's messages.
type anthropicMessages struct{ service anthropic.MessageService }

// newAnthropic makes the service without a client, which would read the environment.
func newAnthropic(p Provider, c *http.Client) *anthropicMessages {
	options := []option.RequestOption{option.WithBaseURL(p.URL), option.WithHTTPClient(c), option.WithMaxRetries(0)}
	if p.Key != "" {
		options = append(options, option.WithAPIKey(p.Key))
	}
	return &anthropicMessages{service: anthropic.NewMessageService(options...)}
}

func (a *anthropicMessages) stream(ctx context.Context, r request, say func(string) error) (got answer, err error) {
	stream := a.service.NewStreaming(ctx, messageParams(r))
	defer func() { _ = stream.Close() }()
	stopReason, over := "", false
	for stream.Next() {
		event := stream.Current()
		switch event.Type {
		case "message_start":
			u := event.Message.Usage
			got.model = event.Message.Model
			got.usage = usage{InputTokens: u.InputTokens + u.CacheReadInputTokens + u.CacheCreationInputTokens, OutputTokens: u.OutputTokens}
		case "content_block_delta":
			if err := say(event.Delta.Text); err != nil {
				return got, err
			}
		case "message_delta":
			stopReason = string(event.Delta.StopReason)
			got.usage.OutputTokens = event.Usage.OutputTokens
		case "message_stop":
			over = true
		}
	}
	if over {
		got.stopReason = stopReason
	}
	return got, stream.Err()
}

func messageParams(r request) anthropic.MessageNewParams {
	p := anthropic.MessageNewParams{Model: r.Model, MaxTokens: defaultMaxTokens, StopSequences: r.Stop}
	if r.MaxTokens != nil {
		p.MaxTokens = *r.MaxTokens
	}
	if r.System != "" {
		p.System = []anthropic.TextBlockParam{{Text: r.System}}
	}
	for _, m := range r.Messages {
		text := anthropic.NewTextBlock(m.Content)
		if m.Role == "assistant" {
			p.Messages = append(p.Messages, anthropic.NewAssistantMessage(text))
		} else {
			p.Messages = append(p.Messages, anthropic.NewUserMessage(text))
		}
	}
	if r.Temperature != nil {
		p.Temperature = anthropic.Float(*r.Temperature)
	}
	if r.schema != nil {
		p.OutputConfig = anthropic.OutputConfigParam{Format: anthropic.JSONOutputFormatParam{Schema: r.schema}}
	}
	return p
}
