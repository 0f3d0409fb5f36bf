package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// refused is the problem in an error; nil is none.
func refused(tb testing.TB, err error) *transport.Problem {
	tb.Helper()
	if err == nil {
		return nil
	}
	p, ok := errors.AsType[*transport.Problem](err)
	if !ok {
		tb.Fatalf("not a problem: %v", err)
	}
	return p
}

func code(tb testing.TB, err error) string {
	tb.Helper()
	if p := refused(tb, err); p != nil {
		return p.Code
	}
	return ""
}

func TestKeyStandsForItsNamespaceAndScopes(t *testing.T) {
	a := newAccounts()
	d := newDoor(t, a)
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	plain, k := a.add(t, "team", expires, access.TasksRead, access.Workers)
	p, err := d.Authenticate(from(home, plain))
	want := access.Principal{
		Namespace: "team", Actor: "key:" + k.ID.String(), Key: k.ID, Scopes: scopes(access.TasksRead, access.Workers), Expires: expires,
	}
	if diff := cmp.Diff(want, p); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if err := Require(p, access.Workers); err != nil {
		t.Error(err)
	}
	if got := refused(t, Require(p, access.Admin)); got == nil || got.Status != http.StatusForbidden || got.Code != "forbidden" {
		t.Error(got)
	}
	if got, ok := From(With(t.Context(), p)); !ok || !cmp.Equal(p, got) {
		t.Error("the context forgets who asks")
	}
	if _, ok := From(t.Context()); ok {
		t.Error("somebody asks where nobody does")
	}
}

func TestWhoeverIsRefusedLearnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		expired, _ := a.add(t, "team", time.Now().Add(time.Minute), access.Admin)
		gone, k := a.add(t, "team", time.Time{}, access.Admin)
		a.revoke(k.ID, time.Now())
		unknown, _, err := NewKey(testSecret(t), "team", "", access.Scopes(), time.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)

		twice := from(home, unknown)
		twice.Header.Add("Authorization", "Bearer "+unknown)
		basic := from(home, "")
		basic.Header.Set("Authorization", "Basic dXNlcjpwYXNz")
		var first *transport.Problem
		for name, r := range map[string]*http.Request{
			"none": from(home, ""), "expired": from(home, expired), "revoked": from(home, gone), "unknown": from(home, unknown),
			"mistyped": from(home, unknown[:36]+"!"), "of no kind": from(home, "hello"), "too long": from(home, keyPrefix+strings.Repeat("a", maxToken)),
			"empty": from(home, " "), "twice": twice, "of another scheme": basic,
		} {
			p, err := d.Authenticate(r)
			got := refused(t, err)
			if got == nil || got.Status != http.StatusUnauthorized || got.Code != "unauthorized" || !cmp.Equal(p, access.Principal{}) {
				t.Fatalf("%s: %+v, %v", name, p, err)
			}
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("%s is told something else: %s", name, diff)
			}
		}
		h := http.Header{}
		if Challenge(h, first); h.Get("WWW-Authenticate") != `Bearer realm="troupe"` {
			t.Error(h)
		}
		if Challenge(h, Forbidden("no")); !strings.Contains(h.Get("WWW-Authenticate"), "insufficient_scope") {
			t.Error(h)
		}
	})
}

func TestNobodyIsAskedWhereItIsOpen(t *testing.T) {
	a := newAccounts()
	d := newDoor(t, a, func(c *Config) { c.Open = true })
	p, err := d.Authenticate(from("127.0.0.1", ""))
	want := access.Principal{Namespace: "default", Actor: "open", Scopes: scopes(access.Admin)}
	if diff := cmp.Diff(want, p); diff != "" || err != nil {
		t.Error(err, diff)
	}
	plain, k := a.add(t, "team", time.Time{}, access.TasksRead)
	if p, err := d.Authenticate(from("127.0.0.1", plain)); err != nil || p.Key != k.ID || p.Namespace != "team" {
		t.Errorf("a key that is shown does not count: %+v, %v", p, err)
	}
	if _, err := d.Authenticate(from("127.0.0.1", "nonsense")); err == nil {
		t.Error("a wrong credential is let in")
	}
}

// Shown again and again while it is revoked at some time, a key is believed for less
// than two seconds more, and the store is asked at most every two.
func TestRevocationIsKnownWithinTwoSeconds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 3000), 1, 40).Draw(rt, "ms between requests")
		revokeAt := rapid.IntRange(0, len(steps)-1).Draw(rt, "revoked before")
		wrong := ""
		synctest.Test(t, func(t *testing.T) {
			a := newAccounts()
			d := newDoor(t, a)
			plain, k := a.add(t, "team", time.Time{}, access.Admin)
			var revoked time.Time
			began := time.Now()
			for i, ms := range steps {
				if i == revokeAt {
					revoked = time.Now()
					a.revoke(k.ID, revoked)
				}
				time.Sleep(time.Duration(ms) * time.Millisecond)
				_, err := d.Authenticate(from(home, plain))
				late := !revoked.IsZero() && time.Since(revoked) >= freshFor
				if late && err == nil || revoked.IsZero() && err != nil {
					wrong = fmt.Sprintf("request %d, %s after the revocation: %v", i, time.Since(revoked), err)
					return
				}
			}
			if most := int(time.Since(began)/unknownFor) + 1; a.count() > most {
				wrong = fmt.Sprintf("the store was asked %d times, at most %d are needed", a.count(), most)
			}
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func TestRevocationOnThisNodeIsKnownAtOnce(t *testing.T) {
	a := newAccounts()
	d := newDoor(t, a)
	plain, k := a.add(t, "team", time.Time{}, access.Admin)
	other, _ := a.add(t, "others", time.Time{}, access.Admin)
	for _, shown := range []string{plain, other} {
		if _, err := d.Authenticate(from(home, shown)); err != nil {
			t.Fatal(err)
		}
	}
	a.revoke(k.ID, time.Now())
	d.Forget(k.ID)
	if _, err := d.Authenticate(from(home, plain)); err == nil {
		t.Error("a revoked key opens")
	}
	if asked := a.count(); asked != 3 {
		t.Errorf("the store was asked %d times", asked)
	}
}

func TestExpiryNeedsNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		plain, _ := a.add(t, "team", time.Now().Add(time.Second), access.Admin)
		if _, err := d.Authenticate(from(home, plain)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := d.Authenticate(from(home, plain)); code(t, err) != "unauthorized" {
			t.Error("an expired key opens", err)
		}
	})
}

func TestKnownKeyOutlastsAnOutageOf30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		a := newAccounts()
		d := newDoor(t, a, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
		plain, _ := a.add(t, "team", time.Time{}, access.Admin)
		unseen, _ := a.add(t, "team", time.Time{}, access.Admin)
		if _, err := d.Authenticate(from(home, plain)); err != nil {
			t.Fatal(err)
		}
		a.fail(task.ErrUnavailable)
		for began := time.Now(); time.Since(began) < outageFor; time.Sleep(100 * time.Millisecond) {
			if _, err := d.Authenticate(from(home, plain)); err != nil {
				t.Fatalf("%s into the outage: %v", time.Since(began), err)
			}
			p := refused(t, func() error { _, err := d.Authenticate(from(home, unseen)); return err }())
			if p == nil || p.Status != http.StatusServiceUnavailable || p.Code != "store_unavailable" || p.RetryAfter == 0 {
				t.Fatalf("a key nobody knows: %+v", p)
			}
		}
		if _, err := d.Authenticate(from(home, plain)); code(t, err) != "store_unavailable" {
			t.Errorf("after 30 s: %v", err)
		}
		a.fail(nil)
		for _, shown := range []string{plain, unseen} {
			if _, err := d.Authenticate(from(home, shown)); err != nil {
				t.Errorf("after the outage: %v", err)
			}
		}
		if n := strings.Count(logged.String(), "\n"); n != 2 {
			t.Errorf("logged %d lines: %s", n, logged.String())
		}
	})
}

func TestStoreThatHangsHoldsKnownKeysUpForASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		plain, _ := a.add(t, "team", time.Time{}, access.Admin)
		if _, err := d.Authenticate(from(home, plain)); err != nil {
			t.Fatal(err)
		}
		a.with(func() { a.wait = time.Hour })
		for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(100 * time.Millisecond) {
			asked := time.Now()
			if _, err := d.Authenticate(from(home, plain)); err != nil || time.Since(asked) > knownTimeout {
				t.Fatalf("%v after %s", err, time.Since(asked))
			}
		}
		if most := int(20*time.Second/againAfter) + 1; a.count() > most {
			t.Errorf("asked %d times", a.count())
		}
	})
}

func TestUnknownKeyIsLookedUpOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		plain, k := a.add(t, "team", time.Time{}, access.Admin)
		if _, err := d.Authenticate(from(home, plain)); err != nil {
			t.Fatal(err)
		}
		a.with(func() { delete(a.keys, k.ID) })
		time.Sleep(freshFor)
		for range 5 {
			if _, err := d.Authenticate(from(home, plain)); code(t, err) != "unauthorized" {
				t.Fatalf("a key that is gone: %v", err)
			}
		}
		if a.count() != 2 {
			t.Errorf("asked %d times", a.count())
		}
		a.with(func() { a.keys[k.ID] = k })
		time.Sleep(unknownFor)
		if _, err := d.Authenticate(from(home, plain)); err != nil {
			t.Errorf("a key that is there again: %v", err)
		}
	})
}

func TestManyWhoShowOneKeyAskTheStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		a.wait = time.Second
		d := newDoor(t, a)
		plain, _ := a.add(t, "team", time.Time{}, access.Admin)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				r := from(home, plain)
				if i == 0 { // who comes first may go before there is an answer
					ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
					defer cancel()
					r = r.WithContext(ctx)
				}
				if _, err := d.Authenticate(r); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if a.count() != 1 {
			t.Errorf("asked %d times", a.count())
		}
	})
}

func TestGuessesAreSlowedAndKnownKeysAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		good, _ := a.add(t, "team", time.Time{}, access.Admin)
		late, _ := a.add(t, "team", time.Time{}, access.Admin)
		guess := func() error {
			plain, _, err := NewKey(testSecret(t), "team", "", access.Scopes(), time.Now(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Authenticate(from(home, plain))
			return err
		}
		if _, err := d.Authenticate(from(home, good)); err != nil {
			t.Fatal(err)
		}
		for i := range 9 {
			if err := guess(); code(t, err) != "unauthorized" {
				t.Fatalf("guess %d: %v", i, err)
			}
		}
		var waits []time.Duration
		for range 12 {
			if err := guess(); code(t, err) != "unauthorized" {
				t.Fatal(err)
			}
			asked := a.count()
			p := refused(t, guess())
			if p == nil || p.Status != http.StatusTooManyRequests || p.Code != "rate_limited" {
				t.Fatalf("%+v", p)
			}
			for _, shown := range []string{"mistyped", keyPrefix, late} {
				if _, err := d.Authenticate(from(home, shown)); code(t, err) != "rate_limited" {
					t.Fatalf("%q: %v", shown, err)
				}
			}
			if a.count() != asked {
				t.Fatal("the store is asked about what is slowed")
			}
			if _, err := d.Authenticate(from(home, good)); err != nil {
				t.Fatalf("a known key is slowed: %v", err)
			}
			if _, err := d.Authenticate(from("192.0.2.2", "x")); code(t, err) != "unauthorized" {
				t.Fatalf("another address is slowed: %v", err)
			}
			waits = append(waits, p.RetryAfter)
			time.Sleep(p.RetryAfter)
		}
		for i, w := range waits {
			if i > 0 && w != min(2*waits[i-1], longestWait) || i == 0 && w != firstWait {
				t.Fatalf("waits: %v", waits)
			}
		}
		time.Sleep(forgetFailure + 1)
		for range 9 {
			if err := guess(); code(t, err) != "unauthorized" {
				t.Fatalf("failures are remembered for ever: %v", err)
			}
		}
	})
}

func TestFewFailuresAMinuteAreNoGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t, newAccounts())
		for range 100 {
			if _, err := d.Authenticate(from(home, "wrong")); code(t, err) != "unauthorized" {
				t.Fatal(err)
			}
			time.Sleep(7 * time.Second)
		}
	})
}

func TestAddressesOfOneSubscriberAreOne(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"fe80::1%eth0", "fe80::1", true},
	} {
		if got := subscriber(netip.MustParseAddr(tt.a)) == subscriber(netip.MustParseAddr(tt.b)); got != tt.same {
			t.Errorf("%s and %s: %v", tt.a, tt.b, got)
		}
	}
	if got := subscriber(peer(&http.Request{RemoteAddr: "@"})); got != (netip.Prefix{}) {
		t.Errorf("no address is %s", got)
	}
}

func TestUseOfKeysIsNotedEachMinuteAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccounts()
		d := newDoor(t, a)
		plain, k := a.add(t, "team", time.Time{}, access.Admin)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		use := func() time.Time {
			if _, err := d.Authenticate(from(home, plain)); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}
		noted := func(want time.Time) {
			t.Helper()
			synctest.Wait()
			a.with(func() {
				if !a.touched[k.ID].Equal(want) {
					t.Errorf("noted %s, used %s", a.touched[k.ID], want)
				}
			})
		}
		first := use()
		noted(time.Time{})
		time.Sleep(touchEvery)
		noted(first)

		a.fail(task.ErrUnavailable) // what could not be noted is noted later
		d.Forget(k.ID)
		time.Sleep(time.Second)
		a.fail(nil)
		second := use()
		a.fail(task.ErrUnavailable)
		time.Sleep(touchEvery)
		noted(first)
		a.fail(nil)
		time.Sleep(touchEvery)
		noted(second)

		last := use()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		noted(last)
	})
}

func TestDoorCountsVerdicts(t *testing.T) {
	reg := prometheus.NewRegistry()
	a := newAccounts()
	d := newDoor(t, a, func(c *Config) { c.Registerer = reg })
	plain, _ := a.add(t, "team", time.Time{}, access.Admin)
	for _, shown := range []string{plain, plain, "wrong", ""} {
		_, _ = d.Authenticate(from(home, shown))
	}
	const want = `
# HELP troupe_auth_total Credentials that were checked, by kind and verdict.
# TYPE troupe_auth_total counter
troupe_auth_total{how="key",verdict="ok"} 2
troupe_auth_total{how="none",verdict="refused"} 1
troupe_auth_total{how="unknown",verdict="refused"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "troupe_auth_total"); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{Secret: testSecret(t), Accounts: a, Registerer: reg}); err == nil {
		t.Error("two doors count in one place")
	}
	if _, err := New(Config{Accounts: a}); err == nil {
		t.Error("a door without a secret")
	}
	if _, err := New(Config{Secret: testSecret(t)}); err == nil {
		t.Error("a door without accounts")
	}
}

func TestOldestUntouchedEntryGoesFirst(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const most = 4
		l := newLRU[int, int](most)
		var model []int // newest last
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			k := rapid.IntRange(0, 7).Draw(rt, "key")
			at := -1
			for i, have := range model {
				if have == k {
					at = i
				}
			}
			put := rapid.Bool().Draw(rt, "put")
			if at >= 0 {
				model = append(append([]int{}, model[:at]...), model[at+1:]...)
			}
			if put || at >= 0 {
				model = append(model, k)
			}
			model = model[max(len(model)-most, 0):]
			if put {
				l.put(k, k)
			} else if _, ok := l.get(k); ok != (at >= 0) {
				rt.Fatalf("%d is there: %v, model %v", k, ok, model)
			}
			if len(l.places) != len(model) || l.order.Len() != len(model) {
				rt.Fatalf("%d entries, want %v", len(l.places), model)
			}
		}
	})
}
