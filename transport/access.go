package transport

import (
	"encoding/json"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Key is an API key as the API shows it: all but the key itself.
type Key struct {
	ID        string         `json:"id" format:"uuid"`
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Hint      string         `json:"hint" doc:"How the key begins"`
	Scopes    []access.Scope `json:"scopes"`
	CreatedAt task.Time      `json:"created_at"`
	ExpiresAt *task.Time     `json:"expires_at,omitempty"`
	UsedAt    *task.Time     `json:"used_at,omitempty" doc:"To about a minute"`
	RevokedAt *task.Time     `json:"revoked_at,omitempty"`
}

// KeyOf shows a key.
func KeyOf(k access.Key) Key {
	return Key{
		ID: k.ID.String(), Namespace: k.Namespace, Name: k.Name, Hint: k.Hint, Scopes: k.Scopes, CreatedAt: task.Time(k.Created),
		ExpiresAt: timeOf(k.Expires), UsedAt: timeOf(k.Used), RevokedAt: timeOf(k.Revoked),
	}
}

func timeOf(t time.Time) *task.Time {
	if t.IsZero() {
		return nil
	}
	return new(task.Time(t))
}

// NewKey is a key just made: the only time that the key itself is shown.
type NewKey struct {
	Key
	Secret string `json:"key" doc:"The API key. It is not shown again"`
}

// KeyList is a page of keys.
type KeyList struct {
	Keys       []Key  `json:"keys"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// KeyBody asks for a key. Without scopes it may read and write tasks.
type KeyBody struct {
	Name      string         `json:"name" doc:"For people"`
	Scopes    []access.Scope `json:"scopes,omitempty" doc:"tasks:read and tasks:write unless given"`
	ExpiresAt *task.Time     `json:"expires_at,omitempty"`
	ExpiresIn string         `json:"expires_in,omitempty" doc:"The same as a duration from now"`
	Namespace string         `json:"namespace,omitempty" doc:"Another one than the caller's own; for the operator"`
}

// KeyChange changes a key; what is not given stays.
type KeyChange struct {
	Name      *string    `json:"name,omitempty"`
	ExpiresAt *task.Time `json:"expires_at,omitempty" doc:"Not later than it was"`
}

// KeyRotation asks for a new key in place of one.
type KeyRotation struct {
	Overlap string `json:"overlap,omitempty" doc:"How long the old one goes on; a day unless given"`
}

// Ticket opens one WebSocket.
type Ticket struct {
	Ticket    string    `json:"ticket"`
	ExpiresAt task.Time `json:"expires_at"`
}

// Me is what a credential stands for.
type Me struct {
	Namespace string         `json:"namespace"`
	Actor     string         `json:"actor" doc:"As the audit log names it"`
	Scopes    []access.Scope `json:"scopes"`
	ExpiresAt *task.Time     `json:"expires_at,omitempty"`
	Open      bool           `json:"open" doc:"The server asks nobody for a credential"`
}

// Namespace is a tenant and what it may take up.
type Namespace struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight" doc:"Its share beside other namespaces"`
	Quota
}

// Usage is what a namespace takes up of what it may.
type Usage struct {
	Queued  int64 `json:"queued"`
	Running int64 `json:"running"`
	Bytes   int64 `json:"bytes" doc:"Of payloads, results, checkpoints and events that are kept"`
}

// UsageOf shows it.
func UsageOf(u access.Usage) Usage { return Usage(u) }

// Quota is what a namespace may take up. 0 is no bound.
type Quota struct {
	MaxQueued   int   `json:"max_queued" doc:"Tasks that wait"`
	MaxRunning  int   `json:"max_running" doc:"Tasks that run at once, in the whole cluster"`
	MaxBytes    int64 `json:"max_bytes" doc:"Of payloads, results and events that are kept"`
	Connections int   `json:"max_connections" doc:"WebSockets and event streams at once, on each node"`
	MaxEvents   int   `json:"max_events" doc:"Progress, log and output events a second, on each node"`
}

// QuotaOf shows what a tenant may take up.
func QuotaOf(t access.Tenant) Quota {
	return Quota{MaxQueued: t.Queued, MaxRunning: t.Running, MaxBytes: t.Bytes, Connections: t.Connections, MaxEvents: t.Events}
}

// NamespaceOf shows a tenant.
func NamespaceOf(t access.Tenant) Namespace {
	weight := t.Weight
	if weight == 0 {
		weight = 1
	}
	return Namespace{Name: t.Namespace, Weight: weight, Quota: QuotaOf(t)}
}

// NamespaceList is all that were ever set.
type NamespaceList struct {
	Namespaces []Namespace `json:"namespaces"`
}

// NamespaceChange changes what a namespace may take up; what is not given stays.
type NamespaceChange struct {
	Weight      *float64 `json:"weight,omitempty"`
	MaxQueued   *int     `json:"max_queued,omitempty"`
	MaxRunning  *int     `json:"max_running,omitempty"`
	MaxBytes    *int64   `json:"max_bytes,omitempty"`
	Connections *int     `json:"max_connections,omitempty"`
	MaxEvents   *int     `json:"max_events,omitempty"`
}

// Audit is one administrative act.
type Audit struct {
	ID     string          `json:"id" format:"uuid"`
	At     task.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Target string          `json:"target"`
	Detail json.RawMessage `json:"detail,omitempty"`
}

// AuditOf shows an act.
func AuditOf(a access.Audit) Audit {
	one := Audit{ID: a.ID.String(), At: task.Time(a.At), Actor: a.Actor, Action: a.Action, Target: a.Target}
	if a.Detail != "" {
		one.Detail = json.RawMessage(a.Detail)
	}
	return one
}

// AuditList is a page of acts, newest first.
type AuditList struct {
	Acts       []Audit `json:"acts"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// Wants reads what is asked for of a new key. Its error is a [task.InvalidError]; what
// of it no key may be is said by who makes it.
func (b KeyBody) Wants(now time.Time) (scopes []access.Scope, expires time.Time, err error) {
	var bad task.InvalidError
	refuse := func(field, message string) { bad = append(bad, task.Violation{Field: field, Message: message}) }
	if b.Name == "" {
		refuse("name", "is required")
	}
	if scopes = b.Scopes; len(scopes) == 0 {
		scopes = []access.Scope{access.TasksRead, access.TasksWrite}
	}
	lasts := readDuration(&bad, "expires_in", b.ExpiresIn)
	switch {
	case b.ExpiresAt != nil && b.ExpiresIn != "":
		refuse("expires_in", "cannot stand beside expires_at")
	case b.ExpiresAt != nil:
		expires = time.Time(*b.ExpiresAt)
	case b.ExpiresIn != "":
		expires = now.Add(lasts)
	}
	return scopes, expires, orNil(bad)
}

// Change reads what is to change. Its error is a [task.InvalidError].
func (c KeyChange) Change(now time.Time) (access.KeyChange, error) {
	var bad task.InvalidError
	if c.Name != nil && (*c.Name == "" || len(*c.Name) > 100 || !task.ValidText(*c.Name)) {
		bad = append(bad, task.Violation{Field: "name", Message: "must be 1 to 100 bytes of printable UTF-8"})
	}
	change := access.KeyChange{Name: c.Name, Expires: (*time.Time)(c.ExpiresAt)}
	if c.ExpiresAt != nil && !change.Expires.After(now) {
		bad = append(bad, task.Violation{Field: "expires_at", Message: "is over; delete the key to end it now"})
	}
	return change, orNil(bad)
}

// overlap is how long a key goes on that another one takes the place of.
const overlap = 24 * time.Hour

// For is how long the old key goes on. Its error is a [task.InvalidError].
func (r KeyRotation) For() (time.Duration, error) {
	var bad task.InvalidError
	lasts := overlap
	if r.Overlap != "" {
		lasts = readDuration(&bad, "overlap", r.Overlap)
	}
	if bad == nil && (lasts < 0 || lasts > 30*overlap) {
		bad = append(bad, task.Violation{Field: "overlap", Message: "must be between 0s and 720h"})
	}
	return lasts, orNil(bad)
}

// Make makes the change. Its error is a [task.InvalidError].
func (c NamespaceChange) Make(t *access.Tenant) error {
	var bad task.InvalidError
	if c.Weight != nil && *c.Weight != 0 && !(*c.Weight >= 0.001 && *c.Weight <= 1000) {
		bad = append(bad, task.Violation{Field: "weight", Message: "must be between 0.001 and 1000, or 0 for what the nodes' settings say"})
	}
	give(&t.Weight, c.Weight)
	count := func(field string, to *int, from *int) {
		if give(to, from); *to < 0 || *to > 1_000_000_000 {
			bad = append(bad, task.Violation{Field: field, Message: "must be between 0, which is no bound, and 1000000000"})
		}
	}
	count("max_queued", &t.Queued, c.MaxQueued)
	count("max_running", &t.Running, c.MaxRunning)
	count("max_connections", &t.Connections, c.Connections)
	count("max_events", &t.Events, c.MaxEvents)
	if give(&t.Bytes, c.MaxBytes); t.Bytes < 0 {
		bad = append(bad, task.Violation{Field: "max_bytes", Message: "must be 0, which is no bound, or more"})
	}
	return orNil(bad)
}
