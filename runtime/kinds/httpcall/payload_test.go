package httpcall

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestAWrongPayloadIsNotTriedAgain(t *testing.T) {
	tests := []struct{ payload, message string }{
		{`null`, "url: want http:// or https://"},
		{`"http://x"`, "want an object, got string"},
		{`{"uri":"http://x"}`, `unknown field "uri"`},
		{`{"url":5}`, "url: cannot be a number"},
		{`{"url":"ftp://x"}`, "url: want http:// or https://"},
		{`{"url":"example.com"}`, "url: want http:// or https://"},
		{`{"url":"http://"}`, "url: has no host"},
		{`{"url":"http:x"}`, "url: has no host"},
		{`{"url":"http://a:secret@x"}`, "url: has a user or password; use a header"},
		{`{"url":"http://x:65536"}`, "url: has no such port"},
		{`{"url":"http://x:0"}`, "url: has no such port"},
		{`{"url":"http://x/%zz?secret"}`, "url: is not a URL"},
		{`{"url":"http://x\n/secret"}`, "url: is not a URL"},
		{`{"url":"http://x","timeout":"soon"}`, `timeout: want a duration such as "1.5s", at most 1h0m0s`},
		{`{"url":"http://x","timeout":"0s"}`, `timeout: want a duration such as "1.5s", at most 1h0m0s`},
		{`{"url":"http://x","timeout":"61m"}`, `timeout: want a duration such as "1.5s", at most 1h0m0s`},
		{`{"url":"http://x","method":"GET /"}`, `method: "GET /" cannot be one`},
		{`{"url":"http://x","method":"CONNECT"}`, `method: "CONNECT" cannot be one`},
		{`{"url":"http://x","body":{},"body_text":"x"}`, "body_text: there is a body too"},
		{`{"url":"http://x","expect":[101]}`, "expect: want statuses from 200 to 599"},
		{`{"url":"http://x","headers":{"a b":"secret"}}`, `headers: "a b" cannot be a name`},
		{`{"url":"http://x","headers":{"":"secret"}}`, `headers: "" cannot be a name`},
		{`{"url":"http://x","headers":{"a":"secret\r\nb: c"}}`, "headers.A: has a control character"},
		{`{"url":"http://x","headers":{"a":"\u0000"}}`, "headers.A: has a control character"},
		{`{"url":"http://x","headers":{"a":"1","A":"2"}}`, "headers.A: is there twice"},
		{`{"url":"http://x","headers":{"transfer-encoding":"chunked"}}`, "headers.Transfer-Encoding: cannot be set"},
		{`{"url":"http://x","headers":{"connection":"upgrade"}}`, "headers.Connection: cannot be set"},
	}
	c := open(t, Config{})
	for _, tt := range tests {
		_, err := c.run(t.Context(), newRecorder(), json.RawMessage(tt.payload))
		f, ok := errors.AsType[*task.Failure](err)
		if !ok || f.Code != task.CodeInvalidPayload || f.Retryable || f.Message != tt.message {
			t.Errorf("%s: %v, want %q", tt.payload, err, tt.message)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"url":"http://127.0.0.1","headers":{"a":"b"},"body":1}`))
	f.Add([]byte(`{"url":"http://[::1%25lo]:80/?a#b","method":"X"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parse(raw, time.Hour)
		if err != nil {
			if _, ok := errors.AsType[*task.Failure](err); !ok {
				t.Errorf("%v is no failure", err)
			}
			return
		}
		if _, err := c.request(t.Context()); err != nil {
			t.Errorf("%s was found right, but: %v", raw, err)
		}
	})
}
