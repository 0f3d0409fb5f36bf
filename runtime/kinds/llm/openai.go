package llm

import (
	"context"
	"net/http"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

// openAI asks by the protocol of OpenAI's chat completions, which many servers
// speak.
type openAI struct {
	service  openai.ChatCompletionService
	official bool
}

// newOpenAI makes the service without a client, which would read the environment.
func newOpenAI(p Provider, c *http.Client) *openAI {
	options := []option.RequestOption{option.WithBaseURL(p.URL), option.WithHTTPClient(c), option.WithMaxRetries(0)}
	if p.Key != "" {
		options = append(options, option.WithAPIKey(p.Key))
	}
	return &openAI{service: openai.NewChatCompletionService(options...), official: p.IsOfficial()}
}

func (o *openAI) stream(ctx context.Context, r request, say func(string) error) (got answer, err error) {
	stream := o.service.NewStreaming(ctx, o.params(r))
	defer func() { _ = stream.Close() }()
	for stream.Next() {
		chunk := stream.Current()
		if chunk.Model != "" {
			got.model = chunk.Model
		}
		if chunk.JSON.Usage.Valid() {
			got.usage = usage{InputTokens: chunk.Usage.PromptTokens, OutputTokens: chunk.Usage.CompletionTokens}
		}
		for _, choice := range chunk.Choices {
			if choice.FinishReason != "" {
				got.stopReason = choice.FinishReason
			}
			if err := say(choice.Delta.Content + choice.Delta.Refusal); err != nil {
				return got, err
			}
		}
	}
	return got, stream.Err()
}

func (o *openAI) params(r request) openai.ChatCompletionNewParams {
	p := openai.ChatCompletionNewParams{
		Model:         r.Model,
		StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
	}
	if r.System != "" {
		p.Messages = append(p.Messages, openai.SystemMessage(r.System))
	}
	for _, m := range r.Messages {
		if m.Role == "assistant" {
			p.Messages = append(p.Messages, openai.AssistantMessage(m.Content))
		} else {
			p.Messages = append(p.Messages, openai.UserMessage(m.Content))
		}
	}
	switch {
	case r.MaxTokens == nil:
	case o.official: // whose newer models refuse the older name, which other servers know
		p.MaxCompletionTokens = openai.Int(*r.MaxTokens)
	default:
		p.MaxTokens = openai.Int(*r.MaxTokens)
	}
	if r.Temperature != nil {
		p.Temperature = openai.Float(*r.Temperature)
	}
	if len(r.Stop) > 0 {
		p.Stop = openai.ChatCompletionNewParamsStopUnion{OfStringArray: r.Stop}
	}
	if r.schema != nil {
		p.ResponseFormat = openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "answer", Schema: r.schema, Strict: openai.Bool(true)},
		}}
	}
	return p
}
