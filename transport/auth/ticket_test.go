package auth

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestTicketCarriesThePrincipal(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newAccounts()
		d := newDoor(t, a)
		p := access.Principal{
			Namespace: rapid.StringMatching(`[a-z0-9._-]{1,100}`).Draw(rt, "namespace"),
			Actor:     rapid.String().Draw(rt, "actor"),
			Scopes:    rapid.SliceOf(rapid.SampledFrom(access.Scopes())).Draw(rt, "scopes"),
		}
		p.Actor = strings.ToValidUTF8(p.Actor, "")
		if rapid.Bool().Draw(rt, "expires") {
			p.Expires = time.Now().Add(time.Hour).UTC()
		}
		if rapid.Bool().Draw(rt, "a key") {
			p.Key = task.ID(uuid.New())
			a.keys[p.Key] = access.Key{ID: p.Key, Namespace: p.Namespace, Expires: p.Expires}
		}
		ticket, expires, err := d.Ticket(t.Context(), p)
		if err != nil || time.Until(expires) > ticketFor {
			rt.Fatal(expires, err)
		}
		got, err := d.Redeem(t.Context(), ticket)
		if diff := cmp.Diff(p, got); diff != "" || err != nil {
			rt.Fatal(err, diff)
		}
		if _, err := d.Redeem(t.Context(), ticket); code(t, err) != "unauthorized" {
			rt.Fatalf("a spent ticket is taken: %v", err)
		}
	})
}

func TestChangedTicketIsRefused(t *testing.T) {
	d := newDoor(t, newAccounts())
	p := access.Principal{Namespace: "team", Actor: "jwt:ada", Scopes: scopes(access.TasksRead)}
	ticket, _, err := d.Ticket(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.IntRange(0, len(ticket)-1).Draw(rt, "at")
		to := string(rapid.Byte().Draw(rt, "to"))
		for _, wrong := range []string{ticket[:at] + to + ticket[at+1:], ticket[:at] + ticket[at+1:], ticket[:at] + to + ticket[at:], ticket + to, ticket[:at]} {
			if wrong == ticket {
				continue
			}
			if got, err := d.Redeem(t.Context(), wrong); code(t, err) != "unauthorized" {
				rt.Fatalf("%q is taken for %+v, %v", wrong, got, err)
			}
		}
	})
	for _, end := range []string{"\n", "\r\n", "=", " "} {
		if _, err := d.Redeem(t.Context(), ticket+end); err == nil {
			t.Errorf("taken with %q behind it", end)
		}
	}
	ticket, _, err = d.Ticket(t.Context(), p) // the first one's time may be over
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Redeem(t.Context(), ticket); err != nil {
		t.Errorf("the ticket itself: %v", err)
	}
}

func TestTicketOfAnotherServerIsRefused(t *testing.T) {
	other, err := NewSecret([]byte("another secret that is long enough"))
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err := newDoor(t, newAccounts(), func(c *Config) { c.Secret = other }).Ticket(t.Context(), access.Principal{Namespace: "team"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newDoor(t, newAccounts()).Redeem(t.Context(), ticket); code(t, err) != "unauthorized" {
		t.Error(err)
	}
}

func TestTicketIsForOnceAndForThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		p := access.Principal{Namespace: "team", Actor: "jwt:ada", Expires: time.Now().Add(40 * time.Second)}
		ticket := func() string {
			text, _, err := d.Ticket(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		first := ticket()
		var taken atomic.Int32
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := d.Redeem(t.Context(), first); err == nil {
					taken.Add(1)
				}
			})
		}
		if all.Wait(); taken.Load() != 1 {
			t.Errorf("taken %d times", taken.Load())
		}
		second := ticket()
		time.Sleep(ticketFor)
		if _, err := d.Redeem(t.Context(), second); code(t, err) != "unauthorized" {
			t.Errorf("after 30 s: %v", err)
		}
		third := ticket()
		time.Sleep(10 * time.Second)
		if _, err := d.Redeem(t.Context(), third); code(t, err) != "unauthorized" {
			t.Errorf("after its credential: %v", err)
		}
	})
}

func TestTicketEndsWithItsKey(t *testing.T) {
	a := newAccounts()
	d := newDoor(t, a)
	plain, k := a.add(t, "team", time.Time{}, access.Admin)
	p, err := d.Authenticate(from(home, plain))
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err := d.Ticket(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	a.fail(task.ErrUnavailable)
	if _, err := d.Redeem(t.Context(), ticket); code(t, err) != "store_unavailable" {
		t.Errorf("without a store: %v", err)
	}
	a.fail(nil)
	a.revoke(k.ID, time.Now())
	if _, err := d.Redeem(t.Context(), ticket); code(t, err) != "unauthorized" {
		t.Errorf("of a revoked key: %v", err)
	}
}

func TestTicketMayBeForLessAndNotForMore(t *testing.T) {
	a := newAccounts()
	d := newDoor(t, a)
	p := access.Principal{Namespace: "team", Actor: "jwt:ada", Scopes: scopes(access.TasksRead, access.TasksWrite)}
	ticket, _, err := d.Ticket(t.Context(), p, access.TasksRead)
	if err != nil {
		t.Fatal(err)
	}
	a.fail(task.ErrUnavailable)
	if _, err := d.Redeem(t.Context(), ticket); code(t, err) != "store_unavailable" {
		t.Errorf("spent without a store: %v", err)
	}
	a.fail(nil)
	if got, err := d.Redeem(t.Context(), ticket); err != nil || !cmp.Equal(got.Scopes, scopes(access.TasksRead)) {
		t.Errorf("%v, %v", got.Scopes, err)
	}
	if _, _, err := d.Ticket(t.Context(), p, access.Workers); code(t, err) != "forbidden" {
		t.Errorf("for more: %v", err)
	}
}

func TestTicketCountsWhereItIsAllowed(t *testing.T) {
	a := newAccounts()
	d := newDoor(t, a)
	p := access.Principal{Namespace: "team", Actor: "jwt:ada"}
	text, _, err := d.Ticket(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	r := from(home, "")
	r.URL.RawQuery = "ticket=" + text
	if _, err := d.Authenticate(r); code(t, err) != "unauthorized" {
		t.Errorf("where it is not: %v", err)
	}
	r.Header.Set("Authorization", "Basic eDp5") // of a proxy before us
	if got, err := d.Authenticate(AllowTicket(r)); err != nil || got.Actor != p.Actor {
		t.Errorf("%+v, %v", got, err)
	}
	plain, k := a.add(t, "team", time.Time{}, access.Admin)
	both := from(home, plain)
	both.URL.RawQuery = "ticket=nonsense"
	if got, err := d.Authenticate(AllowTicket(both)); err != nil || got.Key != k.ID {
		t.Errorf("beside a key: %+v, %v", got, err)
	}
	for range freeFailures {
		if _, err := d.Authenticate(AllowTicket(r)); code(t, err) != "unauthorized" {
			t.Fatal(err)
		}
	}
	if _, err := d.Authenticate(AllowTicket(r)); code(t, err) != "rate_limited" {
		t.Errorf("tickets can be guessed for ever: %v", err)
	}
}
