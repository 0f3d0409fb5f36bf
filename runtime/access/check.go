package access

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/troupe-run/troupe/runtime/task"
)

// MostListed is how many keys, or acts, a page holds at most.
const MostListed = 1000

// For how long a store keeps what is of no more use but to look back.
const (
	KeepAudits    = 400 * 24 * time.Hour
	KeepEndedKeys = 90 * 24 * time.Hour // revoked or expired; see [Key.Guards] for those that stay
)

// Page is how many a page holds of which limit are asked for; 0 asks for
// [MostListed], and so does more than that.
func Page(limit int) int {
	if limit <= 0 {
		return MostListed
	}
	return min(limit, MostListed)
}

// JoinScopes writes scopes as one text, names with spaces between, and SplitScopes
// reads it.
func JoinScopes(scopes []Scope) string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, " ")
}

// SplitScopes reads what JoinScopes wrote.
func SplitScopes(text string) []Scope {
	var scopes []Scope
	for name := range strings.FieldsSeq(text) {
		scopes = append(scopes, Scope(name))
	}
	return scopes
}

// Of is k with the change made. [task.ErrInvalid] where it is one that may not be.
func (c KeyChange) Of(k Key) (Key, error) {
	refuse := func(why string) (Key, error) { return Key{}, fmt.Errorf("key %s: %s: %w", k.ID, why, task.ErrInvalid) }
	if c.Name != nil {
		k.Name = *c.Name
	}
	if !plain(k.Name) {
		return refuse("its name is no text")
	}
	if c.Expires != nil {
		// As it is kept: who asks for what there is already asks for nothing later.
		at := c.Expires.Truncate(time.Microsecond).UTC()
		switch {
		case !k.Expires.IsZero() && at.IsZero():
			return refuse("it would never expire")
		case !k.Expires.IsZero() && at.After(k.Expires):
			return refuse("it would expire later than it does")
		}
		k.Expires = at
	}
	if c.Revoked != nil && k.Revoked.IsZero() {
		k.Revoked = c.Revoked.Truncate(time.Microsecond).UTC()
	}
	return k, nil
}

// Ended says when the key ceased to open anything, or will: the zero time where
// that is not known.
func (k Key) Ended() time.Time {
	if k.Expires.IsZero() || !k.Revoked.IsZero() && k.Revoked.Before(k.Expires) {
		return k.Revoked
	}
	return k.Expires
}

// Guards says whether a server asks for credentials once this key is there: it may
// let others in. A store never forgets such a key, also after it has ended: a door that
// was closed does not open by itself.
func (k Key) Guards() bool { return k.Namespace == Operator && slices.Contains(k.Scopes, Admin) }

// Check says what is wrong with a key that is to be kept: [task.ErrInvalid].
func (k Key) Check() error {
	refuse := func(why string) error { return fmt.Errorf("key %s: %s: %w", k.ID, why, task.ErrInvalid) }
	switch {
	case k.ID.IsZero() || k.Namespace == "":
		return refuse("no id or no namespace")
	case k.Hash == [32]byte{}:
		return refuse("no hash")
	case k.Created.IsZero():
		return refuse("it was never made")
	case !plain(k.Namespace, k.Name, k.Hint):
		return refuse("its namespace, name or hint is no text")
	}
	for _, s := range k.Scopes {
		if !slices.Contains(Scopes(), s) {
			return refuse(fmt.Sprintf("no such scope as %q", s))
		}
	}
	return nil
}

// Check says what is wrong with bounds that are to be kept: [task.ErrInvalid].
func (t Tenant) Check() error {
	refuse := func(why string) error { return fmt.Errorf("tenant %q: %s: %w", t.Namespace, why, task.ErrInvalid) }
	switch {
	case t.Namespace == "" || !plain(t.Namespace):
		return refuse("no name, or one that is no text")
	case t.Weight < 0 || math.IsNaN(t.Weight) || math.IsInf(t.Weight, 1):
		return refuse("its weight is no share")
	case min(int64(t.Queued), int64(t.Running), t.Bytes, int64(t.Connections), int64(t.Events)) < 0:
		return refuse("a bound below 0")
	}
	return nil
}

// Check says what is wrong with an act that is to be kept: [task.ErrInvalid].
func (a Audit) Check() error {
	refuse := func(why string) error { return fmt.Errorf("audit %s: %s: %w", a.ID, why, task.ErrInvalid) }
	switch {
	case a.ID.IsZero() || a.Namespace == "":
		return refuse("no id or no namespace")
	case a.At.IsZero() || a.Action == "":
		return refuse("nothing was done, or at no time")
	case !plain(a.Namespace, a.Actor, a.Action, a.Target, a.Detail):
		return refuse("something of it is no text")
	}
	return nil
}

// CheckSpent says what is wrong with an id that is to be spent: [task.ErrInvalid].
func CheckSpent(id task.ID, expires time.Time) error {
	if id.IsZero() || expires.IsZero() {
		return fmt.Errorf("spend %s: no id, or it never expires: %w", id, task.ErrInvalid)
	}
	return nil
}

// plain says whether every store can keep texts as they are.
func plain(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) || strings.ContainsRune(s, 0) })
}
