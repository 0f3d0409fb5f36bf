// Package access says who may do what: scopes, the keys we give out, what a namespace
// may take up, and the record of what administrators did. It decides and keeps
// nothing. Package transport/auth checks credentials by it, package actors holds
// namespaces to their bounds, and the stores keep it for [Accounts].
package access

import (
	"context"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Scope is something a credential allows.
type Scope string

// The scopes. Admin allows all of them, in its own namespace.
const (
	TasksRead  Scope = "tasks:read"
	TasksWrite Scope = "tasks:write"
	Workers    Scope = "workers"
	Admin      Scope = "admin"
)

// Scopes lists all there are.
func Scopes() []Scope { return []Scope{TasksRead, TasksWrite, Workers, Admin} }

// Allows says whether scopes contain what is asked for.
func Allows(scopes []Scope, asked Scope) bool {
	return slices.Contains(scopes, asked) || slices.Contains(scopes, Admin)
}

// Operator is the namespace whose admins run the place: only they may change what
// concerns everybody.
const Operator = task.DefaultNamespace

// Principal is who asks: what a credential stands for.
type Principal struct {
	Namespace string
	Actor     string  // key:ID, jwt:SUBJECT, or open where nobody is asked who they are
	Key       task.ID // zero: it is no key
	Scopes    []Scope
	Expires   time.Time // zero: never
}

// May says whether it may do what a scope is for.
func (p Principal) May(asked Scope) bool { return Allows(p.Scopes, asked) }

// Key is a credential we gave out. The key itself is not kept.
type Key struct {
	ID        task.ID
	Namespace string
	Name      string   // for people
	Hint      string   // how the key begins, so that its owner knows it again
	Hash      [32]byte // an HMAC of the whole key
	Scopes    []Scope
	Created   time.Time
	Expires   time.Time // zero: never
	Used      time.Time // about when it was last shown; zero: never
	Revoked   time.Time // zero: it was not
}

// Valid says whether the key opens anything now.
func (k Key) Valid(now time.Time) bool {
	return k.Revoked.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires))
}

// KeyChange changes a key; what is nil stays. A revoked key stays revoked, whatever
// else is asked.
type KeyChange struct {
	Name    *string
	Expires *time.Time // never later than it was, unless it was never
	Revoked *time.Time
}

// KeyFilter selects keys, newest first by id; empty fields select all.
type KeyFilter struct {
	Namespace string
	IDs       []task.ID
	Before    task.ID // page: keys made before this one
	Limit     int     // see [Page]
}

// Tenant is what a namespace may take up. A zero field is no bound.
type Tenant struct {
	Namespace   string
	Weight      float64 // its share beside others; 0: 1
	Queued      int     // tasks that have not ended and do not run
	Running     int     // tasks that run at once, in the whole cluster
	Bytes       int64   // of payloads, results, checkpoints and events that are kept
	Connections int     // WebSockets and event streams at once, on each node
	Events      int     // progress, log and output events a second, on each node
}

// Usage is what a namespace takes up now of what a [Tenant] bounds.
type Usage struct {
	Queued  int64
	Running int64
	Bytes   int64
}

// Audit is one administrative act.
type Audit struct {
	ID        task.ID // when: a UUIDv7
	At        time.Time
	Namespace string
	Actor     string // the credential: key:ID, jwt:SUBJECT, or open where none is asked for
	Action    string // such as key.create
	Target    string // what it was done to
	Detail    string // JSON, without secrets
}

// Accounts keeps who may do what, and what was done about it. A store that keeps
// tasks keeps these too, and its Sweep drops what is spent and has expired, and what
// is older than [KeepEndedKeys] and [KeepAudits]. Each change is on disk with its
// audit when it returns; where one of the two cannot be kept, so is neither.
//
// Errors are those of [task.Store]; [task.ErrInvalid] where a Check refuses what is
// given, and [task.ErrExists] where the audit's id is known.
type Accounts interface {
	// PutKey keeps a new key; [task.ErrExists] where its id or hash is known.
	PutKey(ctx context.Context, k Key, a Audit) error
	// KeyByHash finds a key of any namespace, valid or not; [task.ErrNotFound].
	KeyByHash(ctx context.Context, hash [32]byte) (Key, error)
	Keys(ctx context.Context, f KeyFilter) ([]Key, error)
	// ChangeKey gives the key as it is then; [task.ErrNotFound] where the namespace has
	// no such key, [task.ErrInvalid] where [KeyChange.Of] refuses the change.
	ChangeKey(ctx context.Context, namespace string, id task.ID, c KeyChange, a Audit) (Key, error)
	// TouchKeys notes when keys were used, never back in time; ids that are not known
	// are left out.
	TouchKeys(ctx context.Context, used map[task.ID]time.Time) error

	SetTenant(ctx context.Context, t Tenant, a Audit) error
	// Tenants lists those that were ever set, by name.
	Tenants(ctx context.Context) ([]Tenant, error)

	// Spend says whether this is the first time that id is spent. It is remembered
	// until a Sweep after expires. Where the error is [task.ErrUnknown] it may be spent.
	Spend(ctx context.Context, id task.ID, expires time.Time) (first bool, err error)

	// AddAudit keeps an act that is none of the above.
	AddAudit(ctx context.Context, a Audit) error
	// Audits lists acts of a namespace, newest first, from before an id on unless it
	// is zero; [Page] says how many.
	Audits(ctx context.Context, namespace string, before task.ID, limit int) ([]Audit, error)
}
