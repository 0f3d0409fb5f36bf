package auth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

var epoch = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)

func TestKeyIsKnownAgainAndNotKept(t *testing.T) {
	s := testSecret(t)
	expires := epoch.Add(time.Hour)
	seen := map[string]bool{}
	for range 1000 {
		plain, k, err := NewKey(s, "team", "laptop", scopes(access.TasksRead), epoch, expires)
		if err != nil {
			t.Fatal(err)
		}
		if !WellFormed(plain) || seen[plain] || len(plain) != 4+27+6 {
			t.Fatalf("%q", plain)
		}
		seen[plain] = true
		if hashKey(s.Derive(keyPurpose), plain) != k.Hash {
			t.Fatal("the hash is of something else")
		}
		if kept := fmt.Sprintf("%+v", k); strings.Contains(kept, plain) {
			t.Fatalf("the key is kept: %s", kept)
		}
		want := access.Key{
			ID: k.ID, Namespace: "team", Name: "laptop", Hint: plain[:8], Hash: k.Hash,
			Scopes: scopes(access.TasksRead), Created: epoch, Expires: expires,
		}
		if diff := cmp.Diff(want, k); diff != "" || k.ID.IsZero() {
			t.Fatal(diff)
		}
	}
}

func TestKeyIsAsTheStoresKeepIt(t *testing.T) {
	at := time.Date(2026, 11, 5, 13, 0, 0, 123456789, time.FixedZone("CET", 3600))
	_, k, err := NewKey(testSecret(t), "team", "", scopes(access.Workers, access.TasksRead, access.Workers), at, at.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Check(); err != nil {
		t.Error(err)
	}
	want := epoch.Add(123456 * time.Microsecond)
	if k.Created != want || k.Expires != want.Add(time.Hour) || !cmp.Equal(k.Scopes, scopes(access.TasksRead, access.Workers)) {
		t.Errorf("%+v", k)
	}
}

func TestKeyOfAnotherSecretIsAnother(t *testing.T) {
	other, err := NewSecret([]byte("correct horse battery staplf"))
	if err != nil {
		t.Fatal(err)
	}
	plain, k, err := NewKey(other, "team", "", access.Scopes(), epoch, time.Time{})
	if err != nil || hashKey(testSecret(t).Derive(keyPurpose), plain) == k.Hash {
		t.Fatal("one secret knows the keys of another", err)
	}
}

// Changed, dropped, doubled or swapped: a checksum of 32 bits finds each single one of
// these but for swaps, which it misses once in some billions.
func TestMistypedKeyIsNotWellFormed(t *testing.T) {
	const typed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-. \x00é"
	rapid.Check(t, func(rt *rapid.T) {
		plain, _, err := NewKey(testSecret(t), "team", "", access.Scopes(), epoch, time.Time{})
		if err != nil {
			rt.Fatal(err)
		}
		at := rapid.IntRange(0, len(plain)-1).Draw(rt, "at")
		to := string(rapid.SampledFrom([]rune(typed)).Draw(rt, "to"))
		changed := plain[:at] + to + plain[at+1:]
		if (changed != plain) == WellFormed(changed) {
			rt.Fatalf("%q from %q", changed, plain)
		}
		for _, wrong := range []string{plain[:at] + plain[at+1:], plain[:at] + to + plain[at:], plain + to, strings.ToUpper(plain)} {
			if WellFormed(wrong) {
				rt.Fatalf("%q from %q", wrong, plain)
			}
		}
	})
}

func FuzzWellFormed(f *testing.F) {
	f.Add("trp_0000000000000000000000000000000000000")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if WellFormed(s) && (len(s) != keyLength || s != s[:31]+checksum(s[:31])) {
			t.Fatalf("%q", s)
		}
	})
}

func TestKeyThatMakesNoSenseIsRefused(t *testing.T) {
	ok := scopes(access.Admin)
	for field, make := range map[string]func() error{
		"namespace": func() error { _, _, err := NewKey(testSecret(t), "Team!", "", ok, epoch, time.Time{}); return err },
		"name": func() error {
			_, _, err := NewKey(testSecret(t), "team", strings.Repeat("x", 101), ok, epoch, time.Time{})
			return err
		},
		"scopes":     func() error { _, _, err := NewKey(testSecret(t), "team", "", nil, epoch, time.Time{}); return err },
		"expires_at": func() error { _, _, err := NewKey(testSecret(t), "team", "", ok, epoch, epoch); return err },
	} {
		bad, is := errors.AsType[task.InvalidError](make())
		if !is || len(bad) != 1 || bad[0].Field != field {
			t.Errorf("%s: %v", field, bad)
		}
	}
	if _, _, err := NewKey(testSecret(t), "team", "", scopes("tasks:write", "root"), epoch, time.Time{}); err == nil {
		t.Error("a scope that there is not")
	}
}

func TestSecretIsLongEnoughAndShownNowhere(t *testing.T) {
	if _, err := NewSecret(make([]byte, 15)); err == nil {
		t.Error("15 bytes are taken")
	}
	raw := []byte("0123456789abcdef")
	s, err := NewSecret(raw)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(s.Derive("a"), s.Derive("b")) || len(s.Derive("a")) != 32 || !bytes.Equal(s.Derive("a"), s.Derive("a")) {
		t.Error("what derives is not one of its own for each purpose")
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", slog.Any("secret", s), slog.Any("in", struct{ S Secret }{s}))
	fmt.Fprintf(&out, "%v %+v %#v %s %x %d %q %v %+v", s, s, s, s, s, s, s, struct{ s Secret }{s}, &struct{ S *Secret }{&s})
	key := s.extracted[:]
	for _, shown := range []string{string(raw), hex.EncodeToString(key), fmt.Sprintf("%d", key), fmt.Sprintf("%#v", key), fmt.Sprintf("%q", key)} {
		if strings.Contains(out.String(), shown) {
			t.Errorf("shown: %s", out.String())
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("something derives from no secret")
		}
	}()
	Secret{}.Derive("a")
}
