package httpcall

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

type payload struct {
	Method   string            `json:"method"`
	URL      string            `json:"url"`
	Headers  map[string]string `json:"headers"`
	Body     json.RawMessage   `json:"body"`
	BodyText *string           `json:"body_text"`
	Timeout  string            `json:"timeout"`
	Expect   []int             `json:"expect"`
}

// call is a payload that was found to be right.
type call struct {
	method  string
	url     *url.URL
	headers http.Header
	body    []byte // nil for none
	timeout time.Duration
	expect  []int
}

func parse(raw json.RawMessage, maxTimeout time.Duration) (call, error) {
	var p payload
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return call{}, invalid("want an object, got %s", wrong.Value)
		}
		return call{}, invalid("%s: cannot be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return call{}, invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return p.check(maxTimeout)
}

func (p payload) check(maxTimeout time.Duration) (c call, err error) {
	c.timeout = min(defaultTimeout, maxTimeout)
	if p.Timeout != "" {
		c.timeout, err = time.ParseDuration(p.Timeout)
		if err != nil || c.timeout <= 0 || c.timeout > maxTimeout {
			return c, invalid(`timeout: want a duration such as "1.5s", at most %s`, maxTimeout)
		}
	}
	if c.url, err = url.Parse(p.URL); err != nil {
		return c, invalid("url: is not a URL") // the error would repeat it, with what is secret in it
	}
	if problem := unfit(c.url); problem != "" {
		return c, invalid("url: %s", problem)
	}
	if c.headers, err = checkHeaders(p.Headers); err != nil {
		return c, err
	}
	var contentType string
	if c.body, contentType, err = p.content(); err != nil {
		return c, err
	}
	c.method = cmp.Or(p.Method, http.MethodGet)
	if c.body != nil {
		c.method = cmp.Or(p.Method, http.MethodPost)
		if c.headers.Get("Content-Type") == "" {
			c.headers.Set("Content-Type", contentType)
		}
	}
	if !token(c.method) || c.method == http.MethodConnect {
		return c, invalid("method: %.20q cannot be one", c.method)
	}
	for _, status := range p.Expect {
		if status < 200 || status > 599 {
			return c, invalid("expect: want statuses from 200 to 599")
		}
	}
	c.expect = p.Expect
	return c, nil
}

// content is the body to send, nil for none, and what type it has unless the
// headers say so.
func (p payload) content() (body []byte, contentType string, err error) {
	hasJSON := len(p.Body) > 0 && string(p.Body) != "null"
	switch {
	case hasJSON && p.BodyText != nil:
		return nil, "", invalid("body_text: there is a body too")
	case hasJSON:
		return p.Body, "application/json", nil
	case p.BodyText != nil:
		return []byte(*p.BodyText), "text/plain; charset=utf-8", nil
	}
	return nil, "", nil
}

// unfit is what is wrong with a URL of a task or of a redirect, or "".
func unfit(u *url.URL) string {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "want http:// or https://"
	case u.Hostname() == "":
		return "has no host"
	case u.Port() != "" && !isPort(u.Port()):
		return "has no such port"
	case u.User != nil:
		return "has a user or password; use a header"
	}
	return ""
}

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

// The connection is ours, so what is about it and not about the request is not
// for the task to say.
var ofConnection = []string{
	"Connection", "Content-Length", "Expect", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

func checkHeaders(headers map[string]string) (http.Header, error) {
	checked := http.Header{"User-Agent": {"troupe"}}
	seen := make(map[string]bool, len(headers))
	for name, value := range headers {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !token(name):
			return nil, invalid("headers: %.50q cannot be a name", name)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return nil, invalid("headers.%s: has a control character", canonical)
		case slices.Contains(ofConnection, canonical):
			return nil, invalid("headers.%s: cannot be set", canonical)
		case seen[canonical]:
			return nil, invalid("headers.%s: is there twice", canonical)
		}
		seen[canonical] = true
		checked.Set(canonical, value)
	}
	return checked, nil
}

// token says whether s may be the name of a method or header.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func invalid(format string, args ...any) error {
	return &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf(format, args...)}
}
