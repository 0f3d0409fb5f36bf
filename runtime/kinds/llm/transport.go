package llm

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

var (
	errSilent   = errors.New("the provider said nothing for too long")
	errTooLong  = errors.New("the provider said too much")
	errCutShort = errors.New("the answer ended before it was complete")
	errTimeout  = errors.New("the task's timeout passed")
)

// newClient makes the client of one provider. Proxies of the environment would
// see the key, so there are none. A redirect would take it elsewhere; to the
// transport that is a refusal as any other.
func newClient(silence time.Duration) *http.Client {
	d := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{Transport: &transport{silence: silence, base: &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: maxHeaders,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        30 * time.Second,
	}}}
}

// transport makes one request. It turns every answer but a stream into a
// [refusal], so that the libraries of all providers say it in the same way, and
// bounds what it reads and how long it waits for more.
type transport struct {
	base    *http.Transport
	silence time.Duration
}

// CloseIdleConnections is asked for by [http.Client].
func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	quiet := time.AfterFunc(t.silence, func() { cancel(errSilent) })
	stop := func() {
		quiet.Stop()
		cancel(nil)
	}
	response, err := t.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		defer stop()
		if errors.Is(context.Cause(ctx), errSilent) {
			return nil, errSilent
		}
		return nil, err
	}
	response.Body = &body{ReadCloser: response.Body, ctx: ctx, quiet: quiet, silence: t.silence, stop: stop, left: maxAnswer}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	return nil, newRefusal(response, time.Now())
}

// body is the stream, watched over.
type body struct {
	io.ReadCloser
	ctx     context.Context //nolint:containedctx // of the request, which ends with the body
	quiet   *time.Timer
	silence time.Duration
	stop    func()
	left    int64
}

func (b *body) Read(p []byte) (int, error) {
	b.quiet.Reset(b.silence)
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		return 0, errTooLong
	case err != nil && errors.Is(context.Cause(b.ctx), errSilent):
		return n, errSilent
	}
	return n, err
}

func (b *body) Close() error {
	b.stop()
	return b.ReadCloser.Close()
}
