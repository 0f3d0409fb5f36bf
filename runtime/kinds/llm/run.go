package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// job is what this kind needs of the attempt it runs in.
type job interface {
	EmitText(text string) error
	Log(level slog.Level, message string, args ...any) error
	Checkpoint(v any) error
	Restore(v any) (bool, error)
	Again(d time.Duration) error
}

// model asks a provider, and gives on what comes of it as it comes. say returns an
// error when nothing more is wanted, which stream returns as it is.
type model interface {
	stream(ctx context.Context, r request, say func(text string) error) (answer, error)
}

// answer is what a provider said beside the text.
type answer struct {
	model      string
	stopReason string // empty if the answer broke off
	usage      usage
}

type usage struct {
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

type result struct {
	Text       string          `json:"text"`
	JSON       json.RawMessage `json:"json,omitempty"`
	Usage      usage           `json:"usage"`
	Model      string          `json:"model"`
	StopReason string          `json:"stop_reason"`
	Truncated  bool            `json:"truncated,omitempty"`
}

// Models are the providers: the kind "llm", ready to be registered.
type Models struct {
	config  Config
	clients []*http.Client
	models  map[string]model
}

// Open checks the configuration. It calls nobody.
func Open(cfg Config) (*Models, error) {
	m := &Models{config: cfg.withDefaults(), models: make(map[string]model, len(cfg.Providers))}
	for _, name := range slices.Sorted(maps.Keys(cfg.Providers)) {
		if !task.ValidName(name) {
			return nil, fmt.Errorf("%q cannot be the name of a provider: want 1 to 100 of the characters a-z 0-9 . _ -", name)
		}
		p := cfg.Providers[name]
		client := newClient(m.config.Silence)
		m.clients = append(m.clients, client)
		switch p.Type {
		case "openai":
			m.models[name] = newOpenAI(p, client)
		case "anthropic":
			m.models[name] = newAnthropic(p, client)
		case "fake":
			m.models[name] = echo{}
		default:
			return nil, fmt.Errorf("provider %s: %w", name, errProvider)
		}
	}
	return m, nil
}

// Close gives up the connections that are kept for the next task.
func (m *Models) Close() error {
	for _, c := range m.clients {
		c.CloseIdleConnections()
	}
	return nil
}

// waits is the checkpoint: how often the task was told to come later.
type waits struct {
	Waits int `json:"waits"`
}

func (m *Models) run(ctx context.Context, j job, raw json.RawMessage) (result, error) {
	r, err := m.config.parse(raw)
	if err != nil {
		return result{}, err
	}
	asked, ok := m.models[r.Provider]
	if !ok {
		return result{}, invalid("provider: this node has none of the name %.100q", r.Provider)
	}
	limited, cancel := context.WithTimeoutCause(ctx, r.timeout, errTimeout)
	defer cancel()
	secret := m.config.Providers[r.Provider].Key
	out := &output{job: j, secret: secret, room: m.config.MaxText}
	got, err := asked.stream(limited, r, out.say)
	if err == nil && got.stopReason == "" {
		err = errCutShort
	}
	if err == nil {
		err = out.end()
	}
	switch {
	case ctx.Err() != nil:
		return result{}, context.Cause(ctx)
	case errors.Is(err, errEnough):
		out.truncated, got.stopReason = true, "truncated"
	case out.refused != nil:
		return result{}, out.refused
	case err != nil:
		return result{}, m.failed(limited, j, r, err)
	}
	final := result{
		Text: out.text.String(), Usage: got.usage, Truncated: out.truncated,
		Model: redact(bounded(got.model), secret), StopReason: redact(bounded(got.stopReason), secret),
	}
	if text := []byte(final.Text); r.schema != nil && task.ValidJSON(text) {
		final.JSON = text
	}
	return final, nil
}

// failed is what becomes of the attempt after an error: a failure, or a wait if
// the provider has too much to do.
func (m *Models) failed(ctx context.Context, j job, r request, err error) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return &task.Failure{Code: "llm_timeout", Message: "no complete answer within " + r.timeout.String(), Retryable: true}
	}
	said := refusalOf(err)
	if said == nil {
		return unanswered(ctx, err)
	}
	secret := m.config.Providers[r.Provider].Key
	if !said.busy() {
		return said.failure(r.Provider, secret)
	}
	var before waits
	if _, err := j.Restore(&before); err != nil {
		return err
	}
	if before.Waits >= m.config.MaxWaits {
		f := said.failure(r.Provider, secret)
		f.Code, f.Message, f.Retryable = "llm_busy", fmt.Sprintf("%s has put the task off %d times", r.Provider, before.Waits), false
		return f
	}
	wait := said.wait(before.Waits, rand.Float64()) //nolint:gosec // spreads requests, no secret
	if err := j.Checkpoint(waits{before.Waits + 1}); err != nil {
		return err
	}
	// A full log is no reason not to wait.
	err = j.Log(slog.LevelInfo, "the provider is busy", "provider", r.Provider, "status", said.status, "wait", wait.Round(time.Millisecond))
	if err != nil && !errors.Is(err, task.ErrLogFull) {
		return err
	}
	return j.Again(wait)
}
