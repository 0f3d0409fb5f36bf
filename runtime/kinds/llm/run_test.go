package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestTextComesAsItIsSaid(t *testing.T) {
	next := make(chan struct{})
	p := serve(t, func(w http.ResponseWriter, r *http.Request) {
		say(w, opening(r), delta(r, "Be"))
		<-next // until the first piece is there
		say(w, delta(r, "cause <&> ü."), closing(r))
	})
	m := p.models(t, Config{})
	for _, protocol := range protocols {
		j := &recorder{}
		j.refuse = func(what string) error {
			if what == "text" && len(j.pieces) == 0 {
				next <- struct{}{}
			}
			return nil
		}
		got, err := m.run(t.Context(), j, asking(protocol))
		want := result{Text: "Because <&> ü.", Usage: usage{12, 3}, Model: "m-1-2026", StopReason: "stop"}
		if err != nil || !reflect.DeepEqual(got, want) || strings.Join(j.pieces, "|") != "Be|cause <&> ü." {
			t.Errorf("%s: %+v, %v, %q", protocol, got, err, j.pieces)
		}
	}
}

func TestRequestsAreAsTheProtocolsWantThem(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "from-the-environment")
	t.Setenv("OPENAI_BASE_URL", "http://from-the-environment.invalid")
	t.Setenv("OPENAI_ORG_ID", "from-the-environment")
	t.Setenv("ANTHROPIC_API_KEY", "from-the-environment")
	t.Setenv("ANTHROPIC_AUTH_TOKEN", "from-the-environment")
	t.Setenv("ANTHROPIC_BASE_URL", "http://from-the-environment.invalid")
	t.Setenv("HTTP_PROXY", "http://from-the-environment.invalid")
	p := serve(t, answering(`{"a": 1}`))
	m := p.models(t, Config{})
	schema := map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"type": "integer"}}}
	full := []func(map[string]any){with("max_tokens", 100), with("temperature", 0.5), with("stop", []string{"END"}), with("json_schema", schema)}
	conversation := []any{
		map[string]any{"role": "user", "content": "hello"}, map[string]any{"role": "assistant", "content": "yes?"}, map[string]any{"role": "user", "content": "why?"},
	}
	got, err := m.run(t.Context(), &recorder{}, asking("openai", full...))
	if err != nil || string(got.JSON) != `{"a": 1}` {
		t.Fatalf("%+v, %v", got, err)
	}
	sent := p.last()
	want := map[string]any{
		"model": "m-1", "stream": true, "stream_options": map[string]any{"include_usage": true}, "max_tokens": 100.0, "temperature": 0.5, "stop": []any{"END"},
		"messages":        append([]any{map[string]any{"role": "system", "content": "be brief"}}, conversation...),
		"response_format": map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "answer", "strict": true, "schema": schema}},
	}
	if sent.header.Get("Authorization") != "Bearer "+canary || !reflect.DeepEqual(sent.body, want) {
		t.Errorf("%v\n%v\nwant\n%v", sent.header, sent.body, want)
	}
	if all := fmt.Sprint(sent.header); strings.Contains(all, "from-the-environment") {
		t.Error(all)
	}

	if got, err = m.run(t.Context(), &recorder{}, asking("anthropic", full...)); err != nil || string(got.JSON) != `{"a": 1}` {
		t.Fatalf("%+v, %v", got, err)
	}
	sent = p.last()
	blocks := make([]any, len(conversation))
	for i, c := range conversation {
		c := c.(map[string]any)
		blocks[i] = map[string]any{"role": c["role"], "content": []any{map[string]any{"type": "text", "text": c["content"]}}}
	}
	want = map[string]any{
		"model": "m-1", "stream": true, "max_tokens": 100.0, "temperature": 0.5, "stop_sequences": []any{"END"}, "messages": blocks,
		"system":        []any{map[string]any{"type": "text", "text": "be brief"}},
		"output_config": map[string]any{"format": map[string]any{"type": "json_schema", "schema": schema}},
	}
	if sent.path != "/v1/messages" || sent.header.Get("X-Api-Key") != canary || !reflect.DeepEqual(sent.body, want) {
		t.Errorf("%s %v\n%v\nwant\n%v", sent.path, sent.header, sent.body, want)
	}
	if all := fmt.Sprint(sent.header); strings.Contains(all, "from-the-environment") {
		t.Error(all)
	}

	// Anthropic has to be told how long the answer may be; OpenAI's newer models know the field by another name.
	if _, err := m.run(t.Context(), &recorder{}, asking("anthropic")); err != nil || p.last().body["max_tokens"] != 4096.0 {
		t.Errorf("%v, %v", p.last().body, err)
	}
	raw, err := json.Marshal((&openAI{official: true}).params(request{Model: "m", MaxTokens: new(int64(7))}))
	if err != nil || !strings.Contains(string(raw), `"max_completion_tokens":7`) {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestServersWithoutAKeyGetNone(t *testing.T) {
	p := serve(t, answering("yes"))
	m := open(t, Config{Providers: map[string]Provider{
		"openai": {Type: "openai", URL: p.URL + "/v1"}, "anthropic": {Type: "anthropic", URL: p.URL},
	}})
	for _, protocol := range protocols {
		if _, err := m.run(t.Context(), &recorder{}, asking(protocol)); err != nil {
			t.Error(err)
		}
		if h := p.last().header; h.Get("Authorization") != "" || h.Get("X-Api-Key") != "" {
			t.Errorf("%s: %v", protocol, h)
		}
	}
}

// busy are answers that put a task off, and for how long at least and at most.
var busy = []struct {
	status      int
	name, value string
	least, most time.Duration
}{
	{429, "Retry-After", "30", 30 * time.Second, 34 * time.Second},
	{429, "Retry-After", "1.5", 1500 * time.Millisecond, 3 * time.Second},
	{429, "Retry-After-Ms", "2500", 2500 * time.Millisecond, 4 * time.Second},
	{429, "Retry-After", "0", 100 * time.Millisecond, 2 * time.Second},
	{429, "Retry-After", "99999999999999999999", time.Hour, 67 * time.Minute},
	{429, "Retry-After", "date", 50 * time.Second, 68 * time.Second},
	{429, "", "", time.Second / 2, 2 * time.Second},
	{429, "Retry-After", "-7", time.Second / 2, 2 * time.Second},
	{429, "Retry-After", "soon", time.Second / 2, 2 * time.Second},
	{529, "", "", time.Second / 2, 2 * time.Second},
	{529, "Retry-After", "5", 5 * time.Second, 7 * time.Second},
	{503, "Retry-After", "10", 10 * time.Second, 12 * time.Second},
}

func TestBusyProvidersAreWaitedFor(t *testing.T) {
	for _, tt := range busy {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			value := tt.value
			if value == "date" {
				value = time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
			}
			if tt.name != "" {
				w.Header().Set(tt.name, value)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, `{"error":{"type":"rate_limit_error","message":"slow down"}}`)
		})
		m := p.models(t, Config{})
		for _, protocol := range protocols {
			j := &recorder{}
			_, err := m.run(t.Context(), j, asking(protocol))
			if !errors.Is(err, errAgain) || string(j.kept) != `{"waits":1}` || len(j.lines) != 1 || j.waits[0] < tt.least || j.waits[0] > tt.most {
				t.Errorf("%s: %d %s: %v, %s, %v, %v", protocol, tt.status, tt.value, err, j.kept, j.lines, j.waits)
			}
		}
		if p.count() != len(protocols) {
			t.Errorf("%d requests: a library tries again by itself", p.count())
		}
	}
}

func TestWaitsGrowAndEnd(t *testing.T) {
	p := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	m := p.models(t, Config{MaxWaits: 12})
	j := &recorder{}
	for i := range 12 {
		if _, err := m.run(t.Context(), j, asking("openai")); !errors.Is(err, errAgain) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if j.waits[11] < 30*time.Second || j.waits[11] > 90*time.Second {
		t.Errorf("%v", j.waits)
	}
	_, err := m.run(t.Context(), j, asking("openai"))
	wantFailure(t, err, "llm_busy", false)

	// What cannot be kept or said of a wait.
	over := errors.New("the attempt is over")
	for _, what := range []string{"checkpoint", "log"} {
		for _, cause := range []error{over, task.ErrLogFull} {
			j := &recorder{refuse: func(w string) error {
				if w == what {
					return cause
				}
				return nil
			}}
			want := cause
			if what == "log" && errors.Is(cause, task.ErrLogFull) {
				want = errAgain
			}
			if _, err := m.run(t.Context(), j, asking("openai")); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
	}
	if _, err := m.run(t.Context(), &recorder{kept: json.RawMessage(`"x"`)}, asking("openai")); err == nil {
		t.Error("a checkpoint of something else was taken")
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		status int
		kind   string
		again  bool
	}{
		{400, "invalid_request_error", false},
		{401, "authentication_error", false},
		{403, "permission_error", false},
		{404, "not_found_error", false},
		{429, "insufficient_quota", false},
		{408, "timeout", true},
		{409, "conflict", true},
		{500, "api_error", true},
		{502, "", true},
		{503, "", true},
		{301, "", false},
		{204, "", false},
	} {
		p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Echo", canary)
			w.WriteHeader(tt.status)
			if tt.status != http.StatusNoContent {
				_, _ = fmt.Fprintf(w, `{"error":{"type":%q,"code":7,"message":"no: %s"}}`, tt.kind, canary)
			}
		})
		m := p.models(t, Config{})
		for _, protocol := range protocols {
			j := &recorder{}
			_, err := m.run(t.Context(), j, asking(protocol))
			f := failure(t, err, "llm_error", tt.again)
			if !strings.Contains(string(f.Details), fmt.Sprintf(`"status":%d`, tt.status)) || tt.kind != "" && !strings.Contains(string(f.Details), tt.kind) {
				t.Errorf("%s: %d: %s", protocol, tt.status, f.Details)
			}
			if all := f.Message + string(f.Details) + j.all(); strings.Contains(all, canary) || len(j.waits) > 0 {
				t.Errorf("%s: %d: %s, %v", protocol, tt.status, all, j.waits)
			}
		}
		if p.count() != len(protocols) {
			t.Errorf("%d: %d requests", tt.status, p.count())
		}
	}
}

// What ends in the middle: how it is told, whether it is tried again, or waited for.
func TestStreamsThatBreakOff(t *testing.T) {
	for name, tt := range map[string]struct {
		end   func(http.ResponseWriter, *http.Request)
		waits bool
		again bool
	}{
		"connection":   {end: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, again: true},
		"no end":       {end: func(http.ResponseWriter, *http.Request) {}, again: true},
		"no JSON":      {end: func(w http.ResponseWriter, _ *http.Request) { say(w, "event: content_block_delta\ndata: {\"x\n\n") }, again: true},
		"no object":    {end: func(w http.ResponseWriter, _ *http.Request) { say(w, "event: message_delta\ndata: [1,2\n\n") }, again: true},
		"server error": {end: func(w http.ResponseWriter, r *http.Request) { say(w, midError(r, "api_error")) }, again: true},
		"overloaded":   {end: func(w http.ResponseWriter, r *http.Request) { say(w, midError(r, "overloaded_error")) }, waits: true},
		"rate":         {end: func(w http.ResponseWriter, r *http.Request) { say(w, midError(r, "rate_limit_error")) }, waits: true},
		"invalid request": {end: func(w http.ResponseWriter, r *http.Request) {
			say(w, midError(r, "invalid_request_error"))
		}},
		"half of it": {end: func(w http.ResponseWriter, r *http.Request) { say(w, delta(r, "x")[:40]); panic(http.ErrAbortHandler) }, again: true},
	} {
		p := serve(t, func(w http.ResponseWriter, r *http.Request) {
			say(w, opening(r), delta(r, "begun"))
			tt.end(w, r)
		})
		p.Config.ErrorLog = nil
		m := p.models(t, Config{})
		for _, protocol := range protocols {
			j := &recorder{}
			got, err := m.run(t.Context(), j, asking(protocol))
			if strings.Join(j.pieces, "") != "begun" {
				t.Errorf("%s, %s: %q, %+v, %v", name, protocol, j.pieces, got, err)
			}
			if tt.waits {
				if !errors.Is(err, errAgain) {
					t.Errorf("%s, %s: %v", name, protocol, err)
				}
				continue
			}
			f := failure(t, err, "llm_error", tt.again)
			if all := f.Message + string(f.Details) + j.all(); strings.Contains(all, canary) || strings.Contains(all, "127.0.0.1") {
				t.Errorf("%s, %s: %s", name, protocol, all)
			}
		}
		if p.count() != len(protocols) {
			t.Errorf("%s: %d requests", name, p.count())
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	hits := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		p := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		m := p.models(t, Config{})
		for _, protocol := range protocols {
			_, err := m.run(t.Context(), &recorder{}, asking(protocol))
			wantFailure(t, err, "llm_error", false)
		}
	}
	if hits > 0 {
		t.Errorf("%d requests went elsewhere", hits)
	}
}

// A provider may say the key again, in one piece or in many.
func TestKeyIsNotInTheText(t *testing.T) {
	middle := len(canary) / 2
	for _, pieces := range [][]string{
		{"a " + canary + " b"}, {"a " + canary[:middle], canary[middle:] + " b"}, strings.Split("a "+canary+" b", ""), {"a ", canary, " b"}, {"a " + canary, " b"},
	} {
		p := serve(t, answering(pieces...))
		m := p.models(t, Config{})
		for _, protocol := range protocols {
			j := &recorder{}
			got, err := m.run(t.Context(), j, asking(protocol))
			if err != nil || got.Text != "a *** b" || strings.Join(j.pieces, "") != "a *** b" {
				t.Errorf("%s: %q, %q, %v", protocol, got.Text, j.pieces, err)
			}
		}
	}
	p := serve(t, answering("it ends with a part: "+canary[:middle]))
	got, err := p.models(t, Config{}).run(t.Context(), &recorder{}, asking("openai"))
	if err != nil || got.Text != "it ends with a part: "+canary[:middle] {
		t.Errorf("%q, %v", got.Text, err)
	}
}

func TestTextIsBounded(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		say(w, opening(r))
		for r.Context().Err() == nil {
			say(w, delta(r, strings.Repeat("ü<", 20_000)))
		}
	}
	m := serve(t, endless).models(t, Config{MaxText: 1 << 20})
	for _, protocol := range protocols {
		j := &recorder{}
		got, err := m.run(t.Context(), j, asking(protocol))
		if err != nil || !got.Truncated || got.StopReason != "truncated" || got.Text != strings.Join(j.pieces, "") {
			t.Fatalf("%s: %d bytes, %v", protocol, len(got.Text), err)
		}
		if raw, err := json.Marshal(got.Text); err != nil || len(raw) > 1<<20+2 || len(raw) < 1<<19 {
			t.Errorf("%d bytes, %v", len(raw), err)
		}
		for _, piece := range j.pieces {
			if len(piece) > maxPiece || strings.ToValidUTF8(piece, "?") != piece {
				t.Errorf("a piece of %d bytes", len(piece))
			}
		}
	}

	flood := func(w http.ResponseWriter, r *http.Request) {
		say(w, opening(r))
		for r.Context().Err() == nil {
			say(w, strings.Repeat(": nothing to say\n", 10_000))
		}
	}
	m = serve(t, flood).models(t, Config{})
	for _, protocol := range protocols {
		_, err := m.run(t.Context(), &recorder{}, asking(protocol))
		if f := failure(t, err, "llm_error", true); !strings.Contains(f.Message, "too much") {
			t.Error(f.Message)
		}
	}
}

func TestFullLogDoesNotFailTheTask(t *testing.T) {
	m := serve(t, answering("a", "b", "c")).models(t, Config{})
	over := errors.New("the attempt is over")
	for _, protocol := range protocols {
		for _, cause := range []error{task.ErrLogFull, over} {
			j := &recorder{}
			j.refuse = func(string) error {
				if len(j.pieces) == 1 {
					return cause
				}
				return nil
			}
			got, err := m.run(t.Context(), j, asking(protocol))
			if errors.Is(cause, over) {
				if !errors.Is(err, over) {
					t.Errorf("%s: %v", protocol, err)
				}
			} else if err != nil || got.Text != "abc" || len(j.pieces) != 1 {
				t.Errorf("%s: %+v, %v", protocol, got, err)
			}
		}
	}
}

func TestTimeoutSilenceAndCancellation(t *testing.T) {
	cancelled := errors.New("cancelled")
	for _, begun := range []bool{false, true} {
		p := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if begun {
				say(w, opening(r), delta(r, "begun"))
			}
			<-r.Context().Done()
		})
		for _, protocol := range protocols {
			m := p.models(t, Config{})
			_, err := m.run(t.Context(), &recorder{}, asking(protocol, with("timeout", "50ms")))
			wantFailure(t, err, "llm_timeout", true)

			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(20*time.Millisecond, func() { cancel(cancelled) })
			if _, err := m.run(ctx, &recorder{}, asking(protocol)); !errors.Is(err, cancelled) {
				t.Errorf("%s: %v", protocol, err)
			}

			_, err = p.models(t, Config{Silence: 50 * time.Millisecond}).run(t.Context(), &recorder{}, asking(protocol))
			if f := failure(t, err, "llm_error", true); !strings.Contains(f.Message, "too long") {
				t.Error(f.Message)
			}
		}
	}
}

func TestProvidersThatAreAway(t *testing.T) {
	m := open(t, Config{Providers: map[string]Provider{
		"openai": {Type: "openai", URL: "http://127.0.0.1:1/hush", Key: canary}, "anthropic": {Type: "anthropic", URL: "http://hush.invalid", Key: canary},
	}})
	for _, protocol := range protocols {
		_, err := m.run(t.Context(), &recorder{}, asking(protocol))
		f := failure(t, err, "llm_error", true)
		if strings.Contains(f.Message, "hush") || strings.Contains(f.Message, "127") || strings.Contains(f.Message, canary) {
			t.Error(f.Message)
		}
	}
}

func TestPayloads(t *testing.T) {
	m := open(t, Config{Providers: map[string]Provider{"fake": {Type: "fake"}}, MaxTimeout: time.Minute})
	for name, raw := range map[string]json.RawMessage{
		"none": json.RawMessage(`{}`), "list": json.RawMessage(`[]`), "key": asking("fake", with("api_key", canary)), "provider": asking(""), "unknown": asking("nobody"),
		"model": asking("fake", with("model", "")), "messages": asking("fake", with("messages", []any{})), "role": asking("fake", with("messages", []message{{"system", "x"}})),
		"content": asking("fake", with("messages", []message{{"user", ""}})), "tokens": asking("fake", with("max_tokens", 0)), "temperature": asking("fake", with("temperature", 3)),
		"stop": asking("fake", with("stop", []string{""})), "stops": asking("fake", with("stop", make([]string, 17))), "schema": asking("fake", with("json_schema", []int{1})),
		"timeout": asking("fake", with("timeout", "2m")), "no timeout": asking("fake", with("timeout", "soon")), "type": asking("fake", with("model", 7)),
	} {
		_, err := m.run(t.Context(), &recorder{}, raw)
		f := failure(t, err, "invalid_payload", false)
		if strings.Contains(f.Message, canary) {
			t.Errorf("%s: %s", name, f.Message)
		}
	}
}

func TestEcho(t *testing.T) {
	m := open(t, Config{Providers: map[string]Provider{"fake": {Type: "fake"}}})
	synctest.Test(t, func(t *testing.T) {
		j := &recorder{}
		begin := time.Now()
		got, err := m.run(t.Context(), j, asking("fake", with("messages", []message{{"user", "one two three"}})))
		if err != nil || got.Text != "one two three" || len(j.pieces) != 3 || got.Usage != (usage{3, 3}) || time.Since(begin) != 3*perWord {
			t.Errorf("%+v, %v, %q", got, err, j.pieces)
		}
		got, err = m.run(t.Context(), j, asking("fake", with("messages", []message{{"user", "one two three"}}), with("max_tokens", 2)))
		if err != nil || got.Text != "one two " || got.StopReason != "length" {
			t.Errorf("%+v, %v", got, err)
		}
		_, err = m.run(t.Context(), j, asking("fake", with("messages", []message{{"user", strings.Repeat("word ", 1000)}}), with("timeout", "1s")))
		wantFailure(t, err, "llm_timeout", true)
		got, err = m.run(t.Context(), &recorder{refuse: func(string) error { return task.ErrInvalid }}, asking("fake"))
		if !errors.Is(err, task.ErrInvalid) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestProvidersAreParsed(t *testing.T) {
	for text, want := range map[string]struct {
		p        Provider
		official bool
	}{
		"openai:":                           {Provider{Type: "openai", URL: "https://api.openai.com/v1"}, true},
		"openai:https://api.openai.com/v1/": {Provider{Type: "openai", URL: "https://api.openai.com/v1"}, true},
		"openai:http://localhost:11434/v1":  {Provider{Type: "openai", URL: "http://localhost:11434/v1"}, false},
		"anthropic:":                        {Provider{Type: "anthropic", URL: "https://api.anthropic.com"}, true},
		"fake:":                             {Provider{Type: "fake"}, false},
	} {
		p, err := ParseProvider(text)
		if err != nil || p != want.p || p.IsOfficial() != want.official {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
	for _, text := range []string{
		"", "openai", "mistral:https://x", "openai:ftp://x", "openai:https://", "openai:https://user:hunter2@x", "openai:https://x?key=hunter2", "openai:https://x#y", "openai:x:y:z",
	} {
		if p, err := ParseProvider(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
	secret := Provider{Type: "openai", URL: "https://x", Key: canary}
	if shown := fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret); strings.Contains(shown, canary) {
		t.Error(shown)
	}
	for name, p := range map[string]Provider{"a b": {Type: "fake"}, "x": {Type: "other"}} {
		if _, err := Open(Config{Providers: map[string]Provider{name: p}}); err == nil {
			t.Errorf("%s: %v was taken", name, p)
		}
	}
}

func TestOverlap(t *testing.T) {
	for text, want := range map[string]int{"": 0, "a": 0, "s": 1, "xsk-": 3, canary: 0, canary[:len(canary)-1]: len(canary) - 1, "sksk": 2} {
		if got := overlap(text, canary); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if overlap("abc", "") != 0 || redact("abc", "") != "abc" {
		t.Error("no secret is found everywhere")
	}
	if got := characters(strings.Repeat("\x80", 10), 8); got != 8 {
		t.Error(got)
	}
	if text := bounded(strings.Repeat("ü", 400)); len(text) > 510 || strings.ToValidUTF8(text, "?") != text {
		t.Error(text)
	}
}
