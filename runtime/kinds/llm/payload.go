package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// request is the payload.
type request struct {
	Provider    string          `json:"provider"`
	Model       string          `json:"model"`
	Messages    []message       `json:"messages"`
	System      string          `json:"system"`
	MaxTokens   *int64          `json:"max_tokens"`
	Temperature *float64        `json:"temperature"`
	Stop        []string        `json:"stop"`
	JSONSchema  json.RawMessage `json:"json_schema"`
	Timeout     string          `json:"timeout"`

	schema  map[string]any
	timeout time.Duration
}

func (c Config) parse(raw json.RawMessage) (request, error) {
	var r request
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&r)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return r, invalid("want an object, got %s", wrong.Value)
		}
		return r, invalid("%s: cannot be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return r, invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return c.check(r)
}

func (c Config) check(r request) (_ request, err error) {
	const mostTokens, mostMessages, mostStops, longestModel = 10_000_000, 10_000, 16, 200
	switch {
	case r.Provider == "":
		return r, invalid("provider: want the name of a provider")
	case r.Model == "" || len(r.Model) > longestModel:
		return r, invalid("model: want the name of a model")
	case len(r.Messages) == 0 || len(r.Messages) > mostMessages:
		return r, invalid("messages: want 1 to %d", mostMessages)
	case r.MaxTokens != nil && (*r.MaxTokens < 1 || *r.MaxTokens > mostTokens):
		return r, invalid("max_tokens: want 1 to %d", mostTokens)
	case r.Temperature != nil && (*r.Temperature < 0 || *r.Temperature > 2):
		return r, invalid("temperature: want 0 to 2")
	case len(r.Stop) > mostStops:
		return r, invalid("stop: want at most %d", mostStops)
	}
	for i, m := range r.Messages {
		if m.Role != "user" && m.Role != "assistant" {
			return r, invalid("messages[%d].role: want user or assistant; what a system says has a field of its own", i)
		}
		if m.Content == "" {
			return r, invalid("messages[%d].content: is empty", i)
		}
	}
	for i, s := range r.Stop {
		if s == "" {
			return r, invalid("stop[%d]: is empty", i)
		}
	}
	if len(r.JSONSchema) > 0 && string(r.JSONSchema) != "null" {
		if err := json.Unmarshal(r.JSONSchema, &r.schema); err != nil {
			return r, invalid("json_schema: want a JSON schema, which is an object")
		}
	}
	r.timeout = min(defaultTimeout, c.MaxTimeout)
	if r.Timeout != "" {
		r.timeout, err = time.ParseDuration(r.Timeout)
		if err != nil || r.timeout <= 0 || r.timeout > c.MaxTimeout {
			return r, invalid(`timeout: want a duration such as "90s", at most %s`, c.MaxTimeout)
		}
	}
	return r, nil
}

func invalid(format string, args ...any) error {
	return &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf(format, args...)}
}
