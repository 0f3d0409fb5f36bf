package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
)

// Nobody is the actor where nobody is asked who they are.
const Nobody = "open"

// Open is no door: it lets everybody in, whatever they show. It is for programs that
// have a door of their own in front, and for tests.
func Open() *Door {
	return &Door{cfg: Config{Open: true, Now: time.Now, Address: peer}, gone: true, passes: newPasses()}
}

// Admit says whom a credential stands for that came another way than in a header of a
// request, but from where that one did. Its error is a [transport.Problem].
func (d *Door) Admit(ctx context.Context, shown string, from netip.Addr) (access.Principal, error) {
	if d.gone {
		return open(), nil
	}
	if shown == "" || len(shown) > maxToken {
		return access.Principal{}, Unauthorized()
	}
	how, p, err := d.bearing(ctx, shown, subscriber(from))
	d.metrics.count(how, err)
	return p, err
}

// Address is from where a request comes.
func (d *Door) Address(r *http.Request) netip.Addr { return d.cfg.Address(r) }

// NewKey makes a key, as the function of this name does, that this door will know
// once it is kept.
func (d *Door) NewKey(namespace, name string, scopes []access.Scope, now, expires time.Time) (plain string, k access.Key, err error) {
	return NewKey(d.cfg.Secret, namespace, name, scopes, now, expires)
}

// Changed has a key looked up anew that was made or changed on this node. An open
// door closes for whom nobody knows once there is somebody who may make keys.
func (d *Door) Changed(k access.Key) {
	d.Forget(k.ID)
	if k.Guards() {
		d.closed.Store(true)
	}
}

// IsOpen says that nobody is asked for a credential.
func (d *Door) IsOpen() bool { return d.cfg.Open && !d.closed.Load() }

// Guarded says whether a store has, or had, a key that guards the door.
func Guarded(ctx context.Context, accounts access.Accounts) (bool, error) {
	return anyKey(ctx, accounts, access.Operator, access.Key.Guards)
}

// Peopled says whether a store has a key of any namespace that opens something now.
func Peopled(ctx context.Context, accounts access.Accounts, now time.Time) (bool, error) {
	return anyKey(ctx, accounts, "", func(k access.Key) bool { return k.Valid(now) })
}

// anyKey says whether a key of a namespace, or of any where that is empty, is so.
func anyKey(ctx context.Context, accounts access.Accounts, namespace string, is func(access.Key) bool) (bool, error) {
	for f := (access.KeyFilter{Namespace: namespace, Limit: access.MostListed}); ; {
		keys, err := accounts.Keys(ctx, f)
		if err != nil {
			return false, fmt.Errorf("look for keys: %w", err)
		}
		if slices.ContainsFunc(keys, is) {
			return true, nil
		}
		if len(keys) < access.MostListed {
			return false, nil
		}
		f.Before = keys[len(keys)-1].ID
	}
}

// closeOnceGuarded looks whether another node has got a key that guards the door.
func (d *Door) closeOnceGuarded(ctx context.Context) {
	ticker := time.NewTicker(freshFor)
	defer ticker.Stop()
	for d.IsOpen() {
		select {
		case <-ticker.C:
			if guarded, err := Guarded(ctx, d.cfg.Accounts); err == nil && guarded {
				d.closed.Store(true)
			}
		case <-ctx.Done():
			return
		}
	}
}
