package httpcall

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// newClient makes the client that all tasks share. It keeps connections open
// for a while, but nothing else: no cookies, no cache, no credentials.
func newClient(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxResponseHeaderBytes: maxHeaders,
			MaxIdleConns:           100,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
		},
	}
}

// dialler dials for all tasks. What a name leads to is checked when it is
// dialled, more generously for the names that the operator named.
type dialler struct {
	strict, generous net.Dialer
	names            []string // host:port
}

func newDialler(cfg Config) *dialler {
	strict := policy{allowPrivate: cfg.AllowPrivate, allowed: cfg.Allow.prefixes, own: net.InterfaceAddrs}
	generous := policy{allowPrivate: true}
	return &dialler{
		strict:   net.Dialer{Timeout: dialTimeout, Control: strict.control},
		generous: net.Dialer{Timeout: dialTimeout, Control: generous.control},
		names:    cfg.Allow.names,
	}
}

func (d *dialler) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if name, ok := canonical(address); ok && slices.Contains(d.names, name) {
		return d.generous.DialContext(ctx, network, address)
	}
	return d.strict.DialContext(ctx, network, address)
}

var errRedirect = errors.New("redirect")

// checkRedirect sees every hop before it is made; where it leads to is checked
// when it is dialled.
func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d in a row", errRedirect, maxRedirects)
	}
	if problem := unfit(next.URL); problem != "" {
		return fmt.Errorf("%w: the URL it leads to: %s", errRedirect, problem)
	}
	next.Header.Del("Referer") // the query of the last URL may hold a secret
	// What the task told one server is for no other, also when a later hop leads back.
	foreign := func(hop *http.Request) bool {
		return hop.URL.Scheme != via[0].URL.Scheme || hop.URL.Host != via[0].URL.Host
	}
	if foreign(next) || slices.ContainsFunc(via, foreign) {
		keepHarmless(next.Header)
	}
	return nil
}

func keepHarmless(h http.Header) {
	harmless := []string{"Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "User-Agent"}
	for name := range h {
		if !slices.Contains(harmless, name) {
			h.Del(name)
		}
	}
}

func (c call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if c.body != nil {
		body = bytes.NewReader(c.body)
	}
	r, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), body)
	if err != nil {
		return nil, invalid("url: is not a URL")
	}
	r.Host = c.headers.Get("Host")
	c.headers.Del("Host")
	r.Header = c.headers
	return r, nil
}

// hostOf is the host of the hop that failed.
func hostOf(err error, c call) string {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		if u, err := url.Parse(failed.URL); err == nil {
			return u.Host
		}
	}
	return c.url.Host
}
