package httpcall

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestTheRequestIsWhatThePayloadSays(t *testing.T) {
	type received struct {
		Method, Path, Host, Body string
		Header                   map[string]string
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		header := shown(r.Header)
		delete(header, "Accept-Encoding")
		delete(header, "Content-Length")
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(received{r.Method, r.URL.String(), strings.SplitN(r.Host, ":", 2)[0], string(body), header})
	})
	agent := func(more ...string) map[string]string {
		h := map[string]string{"User-Agent": "troupe"}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	tests := []struct {
		name    string
		payload map[string]any
		want    received
	}{
		{
			"only a URL",
			map[string]any{"url": url + "/a?b=c#d"},
			received{"GET", "/a?b=c", "127.0.0.1", "", agent()},
		},
		{
			"JSON",
			map[string]any{"url": url, "body": json.RawMessage(`{"n":1e400,"m":12345678901234567890}`)},
			received{"POST", "/", "127.0.0.1", `{"n":1e400,"m":12345678901234567890}`, agent("Content-Type", "application/json")},
		},
		{
			"text",
			map[string]any{"url": url, "body_text": "é", "method": "PUT"},
			received{"PUT", "/", "127.0.0.1", "é", agent("Content-Type", "text/plain; charset=utf-8")},
		},
		{
			"headers",
			map[string]any{"url": url, "method": "DELETE", "headers": map[string]string{
				"x-key": "a b", "content-type": "a/b", "user-agent": "me", "host": "other.test",
			}, "body": nil},
			received{"DELETE", "/", "other.test", "", map[string]string{"X-Key": "a b", "Content-Type": "a/b", "User-Agent": "me"}},
		},
	}
	c := open(t, Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.run(t.Context(), newRecorder(), encode(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			var seen received
			if err := json.Unmarshal(got.Body, &seen); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, seen); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheAnswerIsStreamedAndKept(t *testing.T) {
	next := make(chan string)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Date", "x")
		w.Header()["Many"] = []string{"a", "b"}
		w.Header().Set("Set-Cookie", "session=secret")
		w.WriteHeader(http.StatusAccepted)
		for piece := range next {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
	})
	r := newRecorder()
	var (
		got  result
		err  error
		done = make(chan struct{})
	)
	go func() {
		defer close(done)
		got, err = open(t, Config{}).run(t.Context(), r, encode(map[string]string{"url": url}))
	}()
	// The next piece is sent when the last has arrived.
	for _, piece := range []string{"one", "two ", "<é>"} {
		next <- piece
		if heard := <-r.heard; heard != piece {
			t.Errorf("heard %q, want %q", heard, piece)
		}
	}
	next <- "\xe2\x82" // the beginning of a character
	next <- "\xac"
	if heard := <-r.heard; heard != "€" {
		t.Errorf("heard %q", heard)
	}
	close(next)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	const headers = `{"Content-Type":"text/plain","Date":"x","Many":"a, b"}`
	if want := `{"status":202,"headers":` + headers + `}`; r.head != want {
		t.Errorf("the head is %s, want %s", r.head, want)
	}
	want := `{"status":202,"headers":` + headers + `,"body":"onetwo \u003cé\u003e€","encoding":"text","bytes":14,"truncated":false}`
	if diff := cmp.Diff(want, string(encode(got))); diff != "" {
		t.Error(diff)
	}
}

func TestTheBodyInTheResult(t *testing.T) {
	big := strings.Repeat("é", 100)
	tests := []struct {
		name, contentType, sent string
		body, encoding          string
		truncated               bool
	}{
		{"JSON", "application/json", `{"n": 12345678901234567890.10}`, `{"n":12345678901234567890.10}`, "json", false},
		{"a kind of JSON", "application/problem+json; charset=utf-8", `[1]`, `[1]`, "json", false},
		{"called JSON", "application/json", `{"n":`, `"{\"n\":"`, "text", false},
		{"not called JSON", "text/html", `[1]`, `"[1]"`, "text", false},
		{"nothing", "application/json", ``, `""`, "text", false},
		{"bytes", "application/octet-stream", "\x00\xff", `"AP8="`, "base64", false},
		{"half a character", "text/plain", "a\xe2\x82", `"YeKC"`, "base64", false},
		{"too much text", "text/plain", big, `"` + strings.Repeat("é", 49) + `"`, "text", true},
		{"too much JSON", "application/json", `"` + big + `"`, `"\"` + strings.Repeat("é", 48) + `"`, "text", true},
		{"grows when escaped", "text/plain", strings.Repeat("<", 90), `"` + strings.Repeat(`\u003c`, 16) + `"`, "text", true},
		{"JSON grows too", "application/json", `"` + strings.Repeat("<", 90) + `"`, `"\"` + strings.Repeat(`\u003c`, 15) + `"`, "text", true},
		{"too many bytes", "", strings.Repeat("\xff", 90), `"` + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xff", 72))) + `"`, "base64", true},
		{"longer than is read", "text/plain", strings.Repeat("x", 301), `"` + strings.Repeat("x", 98) + `"`, "text", true},
		{"just as long as is read", "text/plain", strings.Repeat("x", 300), `"` + strings.Repeat("x", 98) + `"`, "text", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				_, _ = io.WriteString(w, tt.sent)
			})
			r := newRecorder()
			got, err := open(t, Config{MaxBody: 100, MaxStream: 300}).run(t.Context(), r, encode(map[string]string{"url": url}))
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Body) != tt.body || got.Encoding != tt.encoding || got.Truncated != tt.truncated {
				t.Errorf("got %s %s %v, want %s %s", got.Encoding, got.Body, got.Truncated, tt.encoding, tt.body)
			}
			if len(got.Body) > 100 {
				t.Errorf("%d bytes are more than it may be", len(got.Body))
			}
			read := tt.sent[:min(len(tt.sent), 300)]
			if string(r.body) != read || got.Bytes != int64(len(read)) {
				t.Errorf("streamed %d bytes, counted %d, want %d", len(r.body), got.Bytes, len(read))
			}
		})
	}
}

func TestAnEndlessBodyIsCut(t *testing.T) {
	gone := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		// As much as there may be, and all of it grows when it is escaped.
		w.Header().Set("X", strings.Repeat("<", 30<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	r := newRecorder()
	got, err := open(t, Config{}).run(t.Context(), r, encode(map[string]string{"url": url}))
	if err != nil || !got.Truncated || got.Bytes != 16<<20 || len(r.body) != 16<<20 {
		t.Errorf("%d bytes, truncated %v, %v", got.Bytes, got.Truncated, err)
	}
	limits := task.Limits{}.WithDefaults()
	if size := len(encode(got)); size > limits.Result {
		t.Errorf("the result has %d bytes, more than a task may have", size)
	}
	if len(r.head) > limits.Event {
		t.Errorf("the head has %d bytes, more than an event may have", len(r.head))
	}
	<-gone
}

func TestStatuses(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscan(r.URL.Query().Get("status"), &status)
		w.Header().Set("Retry-After", r.URL.Query().Get("after"))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "why")
	})
	tests := []struct {
		status    int
		expect    []int
		after     string
		details   string // "" for a success
		retryable bool
	}{
		{200, nil, "", "", false},
		{204, nil, "", "", false},
		{304, nil, "", "", false},
		{404, nil, "", `{"status":404}`, false},
		{404, []int{200, 404}, "", "", false},
		{200, []int{404}, "", `{"status":200}`, false},
		{503, []int{503}, "", "", false},
		{500, nil, "", `{"status":500}`, true},
		{599, nil, "x", `{"status":599}`, true},
		{503, nil, "30", `{"status":503,"retry_after":"30s"}`, true},
		{429, nil, "Mon, 02 Jan 2006 15:04:05 GMT", `{"status":429,"retry_after":"0s"}`, true},
		{408, nil, "-1", `{"status":408}`, true},
	}
	c := open(t, Config{})
	for _, tt := range tests {
		r := newRecorder()
		where := fmt.Sprintf("%s/?status=%d&after=%s", url, tt.status, strings.ReplaceAll(tt.after, " ", "+"))
		got, err := c.run(t.Context(), r, encode(map[string]any{"url": where, "expect": tt.expect}))
		if tt.details == "" {
			if err != nil || got.Status != tt.status {
				t.Errorf("%d: %+v, %v", tt.status, got, err)
			}
			continue
		}
		f := wantFailure(t, err, "http_status", tt.retryable)
		if string(f.Details) != tt.details {
			t.Errorf("%d: %s, want %s", tt.status, f.Details, tt.details)
		}
		if string(r.body) != "why" {
			t.Errorf("%d: the body is not shown: %q", tt.status, r.body)
		}
	}
}

func TestRedirects(t *testing.T) {
	seen := make(chan http.Header, 100)
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		if back := r.URL.Query().Get("back"); back != "" {
			http.Redirect(w, r, back, http.StatusFound)
		}
	})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/away":
			http.Redirect(w, r, other, http.StatusFound)
		case "/away-and-back":
			http.Redirect(w, r, other+"?back=http://"+r.Host+"/end", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle?secret=1", http.StatusFound)
		}
	})
	headers := map[string]string{"Authorization": "secret", "X-Api-Key": "secret", "Cookie": "a=b", "Accept": "text/plain"}
	tests := []struct {
		path string
		want [][]string // of the headers above, those that each hop gets
	}{
		{"/same", [][]string{{"Accept", "Authorization", "Cookie", "X-Api-Key"}, {"Accept", "Authorization", "Cookie", "X-Api-Key"}}},
		{"/away", [][]string{{"Accept", "Authorization", "Cookie", "X-Api-Key"}, {"Accept"}}},
		{"/away-and-back", [][]string{{"Accept", "Authorization", "Cookie", "X-Api-Key"}, {"Accept"}, {"Accept"}}},
	}
	c := open(t, Config{})
	for _, tt := range tests {
		if _, err := c.run(t.Context(), newRecorder(), encode(map[string]any{"url": url + tt.path, "headers": headers})); err != nil {
			t.Fatal(err)
		}
		for i, want := range tt.want {
			got := <-seen
			names := slices.DeleteFunc(slices.Sorted(maps.Keys(got)), func(name string) bool {
				return name == "User-Agent" || name == "Accept-Encoding"
			})
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("%s, hop %d: %s", tt.path, i, diff)
			}
		}
	}
	_, err := get(t, c, url+"/circle")
	f := wantFailure(t, err, "http_redirect", false)
	if len(seen) != 11 || f.Message != "redirect: more than 10 in a row" {
		t.Errorf("%d calls, %q", len(seen), f.Message)
	}
}

func TestNoAnswerMayBeTriedAgain(t *testing.T) {
	broken := serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = out.WriteString(r.URL.Query().Get("say"))
		_ = out.Flush()
		_ = conn.Close()
	})
	gone := serve(t, func(http.ResponseWriter, *http.Request) {})
	closedPort := strings.TrimPrefix(gone, "http://")
	c := open(t, Config{})
	tests := []struct{ name, url, reason string }{
		{"nobody listens", "http://127.0.0.1:1/", "127.0.0.1:1: connection refused"},
		{"no such name", "http://no-such-name.invalid/?secret", "no-such-name.invalid: "},
		{"silence", broken, "the connection ended before the answer"},
		{"half an answer", broken + "/?say=HTTP/1.1+200+OK%0d%0aContent-Length:9%0d%0a%0d%0ahalf", "the connection ended before the answer"},
		{"not HTTP", broken + "/?say=hello%0a%0a", "the connection failed"},
		{"endless headers", broken + "/?say=HTTP/1.1+200+OK%0d%0aX:" + strings.Repeat("x", 40<<10) + "%0d%0a%0d%0a", "the connection failed"},
		{"no TLS", "https://" + closedPort, "it does not speak TLS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := get(t, c, tt.url)
			f := wantFailure(t, err, "http_error", true)
			if !strings.Contains(f.Message, tt.reason) || strings.Contains(f.Message, "secret") {
				t.Errorf("got %q, want %q", f.Message, tt.reason)
			}
		})
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	s := newTLSServer(t)
	_, err := get(t, open(t, Config{}), s)
	f := wantFailure(t, err, "http_error", true)
	if !strings.Contains(f.Message, "its certificate was not accepted") {
		t.Error(f.Message)
	}
}

func TestTimeIsBounded(t *testing.T) {
	for _, begun := range []bool{false, true} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if begun {
				_, _ = io.WriteString(w, "drip")
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		})
		_, err := open(t, Config{}).run(t.Context(), newRecorder(), encode(map[string]string{"url": url, "timeout": "20ms"}))
		f := wantFailure(t, err, "http_error", true)
		if !strings.HasSuffix(f.Message, "no complete answer within 20ms") {
			t.Error(f.Message)
		}
	}
}

func TestCancelEndsTheCall(t *testing.T) {
	why := errors.New("somebody cancelled it")
	for _, begun := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if begun {
				_ = http.NewResponseController(w).Flush()
			}
			cancel(why)
			<-r.Context().Done()
		})
		if _, err := open(t, Config{}).run(ctx, newRecorder(), encode(map[string]string{"url": url})); !errors.Is(err, why) {
			t.Errorf("ended with %v, want why its context ended", err)
		}
	}
}

func TestTheTasksLog(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	c := open(t, Config{})
	full := newRecorder()
	full.refuse = task.ErrLogFull
	got, err := c.run(t.Context(), full, encode(map[string]string{"url": url}))
	if err != nil || string(got.Body) != `"hello"` {
		t.Errorf("a full log: %s, %v", got.Body, err)
	}
	over := newRecorder()
	over.refuse = errors.New("the attempt is over")
	if _, err := c.run(t.Context(), over, encode(map[string]string{"url": url})); !errors.Is(err, over.refuse) {
		t.Errorf("an attempt that is over: %v", err)
	}
	late := &lateRefusal{recorder: newRecorder(), err: over.refuse}
	if _, err := c.run(t.Context(), late, encode(map[string]string{"url": url})); !errors.Is(err, over.refuse) {
		t.Errorf("an attempt that ends during the answer: %v", err)
	}
}

type lateRefusal struct {
	*recorder
	err error
}

func (r *lateRefusal) EmitBytes([]byte) error { return r.err }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]string{
		"": "", "0": "0s", "120": "2m0s", "-1": "", "99999999999999": "", "soon": "",
		now.Add(90 * time.Second).Format(http.TimeFormat): "1m30s",
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
