package llm

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// protocols are the two that these tests speak.
var protocols = []string{"openai", "anthropic"}

// provider is a server of a test's own, which speaks both protocols.
type provider struct {
	*httptest.Server
	mu       sync.Mutex
	requests []seen
}

type seen struct {
	path   string
	header http.Header
	body   map[string]any
}

// serve answers each request by answer, after it was noted.
func serve(t *testing.T, answer func(http.ResponseWriter, *http.Request)) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		s := seen{path: r.URL.Path, header: r.Header.Clone()}
		_ = json.Unmarshal(raw, &s.body)
		p.mu.Lock()
		p.requests = append(p.requests, s)
		p.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) last() seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[len(p.requests)-1]
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.requests)
}

// models are both protocols, spoken to p, with a key.
func (p *provider) models(t *testing.T, cfg Config) *Models {
	t.Helper()
	cfg.Providers = map[string]Provider{
		"openai":    {Type: "openai", URL: p.URL + "/v1", Key: canary},
		"anthropic": {Type: "anthropic", URL: p.URL, Key: canary},
	}
	return open(t, cfg)
}

// say streams events and flushes each.
func say(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		_, _ = io.WriteString(w, e)
		_ = http.NewResponseController(w).Flush()
	}
}

func isOpenAI(r *http.Request) bool { return r.URL.Path == "/v1/chat/completions" }

func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Parts of a stream, in the protocol that r is of.

func opening(r *http.Request) string {
	if isOpenAI(r) {
		return `data: {"id":"1","object":"chat.completion.chunk","model":"m-1-2026","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}` + "\n\n"
	}
	return `event: message_start` + "\n" + `data: {"type":"message_start","message":{"id":"1","type":"message","role":"assistant","model":"m-1-2026","content":[],"usage":{"input_tokens":7,"cache_read_input_tokens":5,"output_tokens":1}}}` + "\n\n" +
		`event: content_block_start` + "\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n" +
		`event: ping` + "\n" + `data: {"type":"ping"}` + "\n\n"
}

func delta(r *http.Request, text string) string {
	if isOpenAI(r) {
		return fmt.Sprintf(`data: {"id":"1","object":"chat.completion.chunk","model":"m-1-2026","choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}],"usage":null}`+"\n\n", quoted(text))
	}
	return "event: content_block_delta\n" + fmt.Sprintf(`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%s}}`+"\n\n", quoted(text))
}

func closing(r *http.Request) string {
	if isOpenAI(r) {
		return `data: {"id":"1","object":"chat.completion.chunk","model":"m-1-2026","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}` + "\n\n" +
			`data: {"id":"1","object":"chat.completion.chunk","model":"m-1-2026","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}` + "\n\n" + "data: [DONE]\n\n"
	}
	return "event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` + "\n\n" +
		"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"stop","stop_sequence":null},"usage":{"output_tokens":3}}` + "\n\n" +
		"event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"
}

// midError is an error in the middle of a stream, which says the key again.
func midError(r *http.Request, kind string) string {
	text := "oh " + canary
	if isOpenAI(r) {
		return fmt.Sprintf(`data: {"error":{"message":%s,"type":%s,"code":null}}`+"\n\n", quoted(text), quoted(kind))
	}
	return "event: error\n" + fmt.Sprintf(`data: {"type":"error","error":{"type":%s,"message":%s}}`+"\n\n", quoted(kind), quoted(text))
}

// answering streams the pieces as a whole answer.
func answering(pieces ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		say(w, opening(r))
		for _, p := range pieces {
			say(w, delta(r, p))
		}
		say(w, closing(r))
	}
}
