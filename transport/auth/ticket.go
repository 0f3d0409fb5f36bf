package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

const (
	ticketFor     = 30 * time.Second
	ticketPurpose = "tickets"
	ticketPrefix  = "trt_" // so that nobody takes it for a key
)

// stub is what a ticket says.
type stub struct {
	ID        task.ID        `json:"id"`
	Until     int64          `json:"until"` // of the ticket; Unix time in microseconds
	Namespace string         `json:"namespace"`
	Actor     string         `json:"actor"`
	Key       *task.ID       `json:"key,omitempty"`
	Scopes    []access.Scope `json:"scopes"`
	Expires   *time.Time     `json:"expires,omitempty"` // the credential does
}

// Ticket changes a principal for a text that stands for it once, within 30 seconds:
// for a browser, which can open a WebSocket with an address only. It may be for some
// of the principal's scopes; none named is all.
func (d *Door) Ticket(_ context.Context, p access.Principal, scopes ...access.Scope) (ticket string, expires time.Time, err error) {
	for _, s := range scopes {
		if err := Require(p, s); err != nil {
			return "", time.Time{}, err
		}
	}
	if len(scopes) == 0 {
		scopes = p.Scopes
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("make a ticket: %w", err)
	}
	expires = d.cfg.Now().Add(ticketFor).Truncate(time.Microsecond)
	s := stub{ID: task.ID(id), Until: expires.UnixMicro(), Namespace: p.Namespace, Actor: p.Actor, Scopes: scopes}
	if !p.Key.IsZero() {
		s.Key = &p.Key
	}
	if !p.Expires.IsZero() {
		s.Expires = &p.Expires
	}
	said, err := json.Marshal(s)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("make a ticket: %w", err)
	}
	body := ticketPrefix + base64.RawURLEncoding.EncodeToString(said)
	return body + "." + d.sign(body), expires, nil
}

func (d *Door) sign(body string) string {
	mac := hmac.New(sha256.New, d.ticketSecret)
	mac.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Redeem says whom a ticket stands for, and spends it. Its error is a
// [transport.Problem].
func (d *Door) Redeem(ctx context.Context, ticket string) (access.Principal, error) {
	p, err := d.redeem(ctx, ticket)
	d.metrics.count(byTicket, err)
	return p, err
}

func (d *Door) redeem(ctx context.Context, ticket string) (access.Principal, error) {
	s, ok := d.read(ticket)
	now := d.cfg.Now()
	until := time.UnixMicro(s.Until)
	if !ok || !now.Before(until) {
		return access.Principal{}, Unauthorized()
	}
	p := access.Principal{Namespace: s.Namespace, Actor: s.Actor, Scopes: s.Scopes}
	if s.Expires != nil {
		p.Expires = *s.Expires
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if s.Key != nil {
		p.Key = *s.Key
		// Revoked since the ticket was made, the key takes the ticket with it.
		keys, err := d.cfg.Accounts.Keys(ctx, access.KeyFilter{Namespace: p.Namespace, IDs: []task.ID{p.Key}, Limit: 1})
		if d.known.reads.note(ctx, err); err != nil {
			return access.Principal{}, unavailable()
		}
		if len(keys) != 1 || !keys[0].Valid(now) {
			return access.Principal{}, Unauthorized()
		}
		p.Expires = keys[0].Expires // it may be sooner now
	}
	if !p.Expires.IsZero() && !now.Before(p.Expires) {
		return access.Principal{}, Unauthorized()
	}
	first, err := d.cfg.Accounts.Spend(ctx, s.ID, until)
	if d.spends.note(ctx, err); err != nil {
		return access.Principal{}, unavailable()
	}
	if !first {
		return access.Principal{}, Unauthorized()
	}
	return p, nil
}

// read opens a ticket that was signed here.
func (d *Door) read(ticket string) (s stub, ok bool) {
	body, mac, cut := strings.Cut(ticket, ".")
	// The texts are compared, not what they stand for: base64 has several for one.
	if !cut || len(ticket) > maxToken || !hmac.Equal([]byte(mac), []byte(d.sign(body))) {
		return stub{}, false
	}
	said, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(body, ticketPrefix))
	if err != nil {
		return stub{}, false
	}
	return s, json.Unmarshal(said, &s) == nil
}
