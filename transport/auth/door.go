package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

const (
	maxToken   = 8 << 10 // bytes of any credential
	touchEvery = time.Minute
)

// Config is what a [Door] is made with.
type Config struct {
	Log        *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: the door's metrics go nowhere
	Secret     Secret
	Accounts   access.Accounts
	JWT        []Issuer // whose tokens are credentials too
	// Open lets everybody in who shows no credential, as an administrator of the default
	// namespace: for a server that only this machine reaches. What is shown is checked
	// all the same.
	Open    bool
	Address func(*http.Request) netip.Addr // whose request it is; nil: the connection's other end
	Now     func() time.Time               // nil: [time.Now]
}

// Door checks credentials. It is made by [New].
type Door struct {
	cfg      Config
	known    *known
	failures *failures
	tokens   *tokens
	passes   *passes
	spends   *health // of tickets
	metrics  *metrics

	keySecret    []byte
	ticketSecret []byte
	closed       atomic.Bool // though it was made open
	gone         bool        // there is no door: see [Open]
}

var errNoAccounts = errors.New("there are no accounts to look keys up in")

// New makes a door. It starts nothing: see [Door.Run].
func New(cfg Config) (*Door, error) {
	switch {
	case cfg.Secret.extracted == nil:
		return nil, fmt.Errorf("make a door: %w", errNoSecret)
	case cfg.Accounts == nil:
		return nil, fmt.Errorf("make a door: %w", errNoAccounts)
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Address == nil {
		cfg.Address = peer
	}
	t, err := newTokens(cfg.JWT, cfg.Now, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("make a door: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("make a door: %w", err)
	}
	return &Door{
		cfg: cfg, metrics: m,
		known:        newKnown(cfg.Accounts, cfg.Now, cfg.Log),
		failures:     newFailures(),
		tokens:       t,
		passes:       newPasses(),
		spends:       &health{log: cfg.Log, what: "spending tickets"},
		keySecret:    cfg.Secret.Derive(keyPurpose),
		ticketSecret: cfg.Secret.Derive(ticketPurpose),
	}, nil
}

// Run does what has to be done from time to time, until ctx ends: it closes what is
// watched, reads the keys of issuers again, and notes in the store when ours were used.
func (d *Door) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { d.watch(ctx); return nil })
	g.Go(func() error { d.noteUse(ctx); return nil })
	for _, i := range d.tokens.issuers {
		g.Go(func() error { i.ring.watch(ctx); return nil })
	}
	g.Go(func() error { d.closeOnceGuarded(ctx); return nil })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("run the door: %w", err)
	}
	return nil
}

// noteUse tells the store about once a minute, and at the end, which keys were used.
func (d *Door) noteUse(ctx context.Context) {
	ticker := time.NewTicker(touchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.known.flush(ctx)
		case <-ctx.Done():
			d.known.flush(context.WithoutCancel(ctx)) // has a time limit of its own
			return
		}
	}
}

// Authenticate says who sent a request. Its error is a [transport.Problem].
func (d *Door) Authenticate(r *http.Request) (access.Principal, error) {
	if d.gone {
		return open(), nil
	}
	how, p, err := d.authenticate(r)
	d.metrics.count(how, err)
	return p, err
}

func (d *Door) authenticate(r *http.Request) (how string, p access.Principal, err error) {
	shown, err := bearer(r.Header)
	if err != nil {
		return byUnknown, access.Principal{}, err
	}
	from := subscriber(d.cfg.Address(r))
	if shown == "" {
		return d.withoutBearer(r, from)
	}
	return d.bearing(r.Context(), shown, from)
}

// bearing says whom a key or a token stands for.
func (d *Door) bearing(ctx context.Context, shown string, from netip.Prefix) (how string, p access.Principal, err error) {
	if strings.HasPrefix(shown, keyPrefix) {
		p, err = d.key(ctx, shown, from)
		return byKey, p, err
	}
	if isJWT(shown) {
		p, err = d.jwt(ctx, shown, from)
		return byJWT, p, err
	}
	return byUnknown, access.Principal{}, d.refuse(from)
}

func (d *Door) withoutBearer(r *http.Request, from netip.Prefix) (how string, p access.Principal, err error) {
	if tickets := r.URL.Query()["ticket"]; len(tickets) > 0 && ticketAllowed(r.Context()) {
		p, err = d.redeem(r.Context(), tickets[0])
		if verdict(err) == "refused" {
			err = d.refuse(from)
		}
		return byTicket, p, err
	}
	if d.IsOpen() {
		return byOpen, open(), nil
	}
	return byNothing, access.Principal{}, Unauthorized()
}

// bearer finds the credential in a header; none is "". A scheme that is not ours is
// none: a proxy may have added it.
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", nil
	}
	scheme, shown, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") && len(values) == 1 {
		return "", nil
	}
	shown = strings.TrimSpace(shown)
	if shown == "" || len(shown) > maxToken || len(values) > 1 {
		return "", Unauthorized()
	}
	return shown, nil
}

func open() access.Principal {
	return access.Principal{Namespace: task.DefaultNamespace, Actor: Nobody, Scopes: []access.Scope{access.Admin}}
}

// key says whom a key of ours stands for.
func (d *Door) key(ctx context.Context, plain string, from netip.Prefix) (access.Principal, error) {
	if !WellFormed(plain) {
		return access.Principal{}, d.refuse(from)
	}
	h := hashKey(d.keySecret, plain)
	now := d.cfg.Now()
	a, ok, fresh := d.known.recall(h, now)
	if !ok || !a.key.Valid(now) {
		if wait := d.failures.wait(from, now); wait > 0 {
			return access.Principal{}, slowDown(wait)
		}
	}
	if !fresh {
		var err error
		if a.key, ok, err = d.known.load(ctx, h); err != nil {
			return access.Principal{}, unavailable()
		}
		now = d.cfg.Now()
	}
	if !ok || !a.key.Valid(now) {
		return access.Principal{}, d.refuse(from)
	}
	d.known.touch(a.key.ID, now)
	return ofKey(a.key), nil
}

func ofKey(k access.Key) access.Principal {
	return access.Principal{
		Namespace: k.Namespace, Actor: "key:" + k.ID.String(), Key: k.ID, Scopes: k.Scopes, Expires: k.Expires,
	}
}

// refuse counts a failure of an address, or says that it has had too many.
func (d *Door) refuse(from netip.Prefix) *transport.Problem {
	now := d.cfg.Now()
	if wait := d.failures.wait(from, now); wait > 0 {
		return slowDown(wait)
	}
	d.failures.add(from, now)
	return Unauthorized()
}

// Forget has a key looked up anew, as when it was revoked on this node: there it is
// known at once then, and what is open is closed.
func (d *Door) Forget(id task.ID) {
	d.known.forget(id)
	d.passes.reload()
}
