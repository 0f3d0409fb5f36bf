package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

const maxSubject = 200 // bytes

// issuer is one whose tokens are taken.
type issuer struct {
	Issuer
	ring *keyring
}

// tokens checks those that issuers signed.
type tokens struct {
	issuers map[string]*issuer
	log     *slog.Logger

	mu   sync.Mutex
	good *lru[digest, struct{}] // those that were; only so that they are not slowed
}

// newTokens reads the keys that are in files, so that a mistake there is known at once.
func newTokens(list []Issuer, now func() time.Time, log *slog.Logger) (*tokens, error) {
	list = slices.Clone(list)
	if err := checkIssuers(list); err != nil {
		return nil, err
	}
	t := &tokens{issuers: make(map[string]*issuer), log: log, good: newLRU[digest, struct{}](maxKnown)}
	for _, i := range list {
		ring := newKeyring(i, now, log)
		if i.Keys != "" {
			if err := ring.read(context.Background()); err != nil { // a file
				return nil, fmt.Errorf("issuer %q: %w", i.Name, err)
			}
		}
		t.issuers[i.Name] = &issuer{i, ring}
	}
	return t, nil
}

func (t *tokens) wasGood(h digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.good.get(h)
	return ok
}

func (t *tokens) noteGood(h digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.good.put(h, struct{}{})
}

// isJWT says whether a credential looks like a token.
func isJWT(shown string) bool { return strings.Count(shown, ".") == 2 }

// jwt says whom a token stands for.
func (d *Door) jwt(ctx context.Context, text string, from netip.Prefix) (access.Principal, error) {
	h := hashKey(d.keySecret, text)
	now := d.cfg.Now()
	if !d.tokens.wasGood(h) {
		if wait := d.failures.wait(from, now); wait > 0 {
			return access.Principal{}, slowDown(wait)
		}
	}
	p, err := d.tokens.check(ctx, text, now)
	if problem, ok := errors.AsType[*transport.Problem](err); ok {
		return access.Principal{}, problem
	}
	if err != nil {
		// For whoever sets an issuer up. The reason has nothing of the signature.
		d.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "a token was refused", slog.String("reason", err.Error()))
		return access.Principal{}, d.refuse(from)
	}
	d.tokens.noteGood(h)
	return p, nil
}

var errIssuer = errors.New("it is of no issuer that is known")

// check verifies a token, and then believes what it says. Its error is a problem where
// the token is not simply wrong.
func (t *tokens) check(ctx context.Context, text string, now time.Time) (access.Principal, error) {
	s, err := split(text)
	if err != nil {
		return access.Principal{}, err
	}
	// Only which keys to try: whoever lies here has not signed with them.
	var said struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(s.payload, &said); err != nil {
		return access.Principal{}, errMalformed
	}
	i, ok := t.issuers[said.Issuer]
	if !ok {
		return access.Principal{}, errIssuer
	}
	keys, err := i.ring.find(ctx, s.kid)
	if err != nil {
		return access.Principal{}, issuerUnavailable()
	}
	if err := s.verify(keys, i.Algorithms); err != nil {
		return access.Principal{}, err
	}
	return i.principal(s.payload, now)
}

func issuerUnavailable() *transport.Problem {
	p := transport.NewProblem(http.StatusServiceUnavailable, "issuer_unavailable", "The server cannot get the keys of the token's issuer right now; try again later.")
	p.RetryAfter = fetchAgain
	return p
}

// principal is what the claims of a verified token stand for.
func (i *issuer) principal(payload []byte, now time.Time) (access.Principal, error) {
	// The library's parsers would also take a payload for another token, and look inside.
	token := jwt.New()
	if err := json.Unmarshal(payload, token); err != nil {
		return access.Principal{}, errMalformed
	}
	err := jwt.Validate(token,
		jwt.WithIssuer(i.Name), jwt.WithAudience(i.Audience), jwt.WithRequiredClaim("exp"),
		jwt.WithAcceptableSkew(i.Leeway), jwt.WithClock(jwt.ClockFunc(func() time.Time { return now })))
	if err != nil {
		return access.Principal{}, fmt.Errorf("its claims do not hold: %w", err)
	}
	expires, _ := token.Expiration() // it is required
	begins, ok := token.IssuedAt()
	if !ok {
		begins = now
	}
	if expires.Sub(begins) > i.MaxLifetime+i.Leeway {
		return access.Principal{}, fmt.Errorf("it lives longer than %s", i.MaxLifetime)
	}
	subject, _ := token.Subject()
	if subject == "" || len(subject) > maxSubject || !task.ValidText(subject) {
		return access.Principal{}, errors.New("its sub is missing, too long or not printable")
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		return access.Principal{}, errMalformed
	}
	namespace, ok := i.namespaceOf(claims)
	if !ok {
		return access.Principal{}, Forbidden("The token names no namespace that it is good for.")
	}
	return access.Principal{
		Namespace: namespace, Actor: "jwt:" + subject, Scopes: i.scopesOf(claims), Expires: expires.Add(i.Leeway),
	}, nil
}

func (i *issuer) namespaceOf(claims map[string]any) (string, bool) {
	if i.Namespace != "" {
		return i.Namespace, true
	}
	value, ok := claim(claims, i.NamespaceClaim).(string)
	if ok && i.Namespaces != nil {
		value, ok = i.Namespaces[value]
	}
	return value, ok && task.ValidName(value)
}

// scopesOf leaves out what is no scope of ours: tokens have others too.
func (i *issuer) scopesOf(claims map[string]any) []access.Scope {
	given := make(map[access.Scope]bool)
	for _, value := range texts(claim(claims, i.ScopeClaim)) {
		if i.Scopes == nil {
			given[access.Scope(value)] = true
		}
		for _, s := range i.Scopes[value] {
			given[s] = true
		}
	}
	return slices.DeleteFunc(access.Scopes(), func(s access.Scope) bool { return !given[s] })
}

// claim finds a claim by its name, or by a path of names with dots between.
func claim(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok {
		return nil
	}
	inner, _ := claims[first].(map[string]any) // others contain nothing
	return claim(inner, rest)
}

// texts are those in a list, or in a text with spaces between.
func texts(value any) []string {
	switch value := value.(type) {
	case string:
		return strings.Fields(value)
	case []any:
		var all []string
		for _, one := range value {
			if s, ok := one.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}
