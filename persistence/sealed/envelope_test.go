package sealed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	firstKey  = "2025 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"
	secondKey = "2026.b 6162636465666768696a6b6c6d6e6f707172737475767778797a616263646566\n"
)

func parse(tb testing.TB, text string) Keys {
	tb.Helper()
	keys, err := ParseKeys(text)
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

func TestWhatIsSealedOpensInItsOwnPlaceAlone(t *testing.T) {
	keys := parse(t, firstKey+secondKey)
	boxes := []*box{
		newBox(keys, false, "task", "acme", "1"), newBox(keys, false, "task", "acme", "2"),
		newBox(keys, false, "task", "acm", "e1"), newBox(keys, false, "schedule", "acme", "1"),
	}
	for i, from := range boxes {
		for j, to := range boxes {
			for _, place := range []string{"payload", "result"} {
				stored := from.json("payload", []byte(`{"a": 1.50}`))
				opened, err := to.openJSON(place, stored)
				if own := i == j && place == "payload"; own != (err == nil) || own && string(opened) != `{"a": 1.50}` {
					t.Errorf("of %d, opened as %s of %d: %s, %v", i, place, j, opened, err)
				} else if !own && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "2025")) {
					t.Errorf("the error does not name the key: %v", err)
				}
			}
		}
	}
}

func TestEverySingleBitCounts(t *testing.T) {
	for _, strict := range []bool{false, true} {
		b := newBox(parse(t, firstKey+secondKey), strict, "task", "acme", "1")
		for _, n := range []int{1, 2, 3, 40} { // all ways in which base64 ends
			text := strings.Repeat("x", n)
			flipped(b.json("p", []byte(text)), func(stored []byte, at int) {
				if opened, err := b.openJSON("p", stored); err == nil {
					t.Errorf("bit %d of JSON of %d bytes: opened as %q", at, n, opened)
				}
			})
			flipped([]byte(b.text("p", text)), func(stored []byte, at int) {
				if opened, err := b.openText("p", string(stored)); err == nil {
					t.Errorf("bit %d of a text of %d bytes: opened as %q", at, n, opened)
				}
			})
		}
	}
}

func flipped(stored []byte, check func([]byte, int)) {
	for bit := range len(stored) * 8 {
		changed := bytes.Clone(stored)
		changed[bit/8] ^= 1 << (bit % 8)
		check(changed, bit)
	}
}

func TestOneTextHasOneForm(t *testing.T) {
	b := newBox(parse(t, firstKey), false, "task", "acme", "1")
	stored := b.text("p", "text")
	if b.text("p", "text") != stored {
		t.Error("the same text in the same place is sealed in another way")
	}
	if b.text("q", "text") == stored || newBox(b.keys, false, "task", "acme", "2").text("p", "text") == stored {
		t.Error("the same text looks the same in another place")
	}
	for _, other := range []string{stored + "\n", stored[:20] + "\r\n" + stored[20:], stored + "=", stored + "A", stored[:len(stored)-1]} {
		if opened, err := b.openText("p", other); err == nil {
			t.Errorf("%q opened as %q", other, opened)
		}
	}
}

func TestPlainTextIsReadUnlessStrict(t *testing.T) {
	for _, plain := range []string{`{"a":1}`, `"trp"`, `""`, `1`, `"trpc: connection refused, and then something"`, `null`} {
		b := newBox(parse(t, firstKey), false, "task", "acme", "1")
		if opened, err := b.openJSON("p", []byte(plain)); err != nil || string(opened) != plain {
			t.Errorf("%s: %s, %v", plain, opened, err)
		}
		if opened, err := b.openText("p", plain); err != nil || opened != plain {
			t.Errorf("%s: %s, %v", plain, opened, err)
		}
		b.strict = true
		if _, err := b.openJSON("p", []byte(plain)); !errors.Is(err, ErrPlain) {
			t.Errorf("%s, strict: %v", plain, err)
		}
		if _, err := b.openText("p", plain); !errors.Is(err, ErrPlain) {
			t.Errorf("%s, strict: %v", plain, err)
		}
	}
	b := newBox(nil, true, "task", "acme", "1")
	if opened, err := b.openJSON("p", nil); err != nil || opened != nil {
		t.Errorf("nothing: %q, %v", opened, err)
	}
}

func TestAnythingComesBack(t *testing.T) {
	keys := parse(t, firstKey+secondKey)
	rapid.Check(t, func(t *rapid.T) {
		owner, place := rapid.String().Draw(t, "owner"), rapid.String().Draw(t, "place")
		text := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(t, "text")
		by := keys
		if rapid.Bool().Draw(t, "the other key") {
			by = Keys{keys[1], keys[0]}
		}
		stored := newBox(by, true, owner).json(place, text)
		if !json.Valid(stored) {
			t.Fatalf("%s is no JSON", stored)
		}
		opened, err := newBox(keys, true, owner).openJSON(place, stored)
		if err != nil || !bytes.Equal(opened, text) {
			t.Fatalf("%q came back as %q, %v", text, opened, err)
		}
		asText := newBox(by, true, owner).text(place, string(text))
		if opened, err := newBox(keys, true, owner).openText(place, asText); err != nil || opened != string(text) {
			t.Fatalf("%q came back as %q, %v", text, opened, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	keys, err := ParseKeys(firstKey)
	if err != nil {
		f.Fatal(err)
	}
	b := newBox(keys, true, "task", "acme", "1")
	real := b.json("p", []byte("text"))
	f.Add(real)
	f.Add([]byte(`"trp1:2025:"`))
	f.Add([]byte(`"trp1:`))
	f.Fuzz(func(t *testing.T, stored []byte) {
		opened, err := b.openJSON("p", stored)
		if err == nil && len(opened) > 0 && !bytes.Equal(stored, real) {
			t.Fatalf("%q opened as %q", stored, opened)
		}
	})
}

func TestKeysAreReadAndNeverShown(t *testing.T) {
	keys := parse(t, "# rotated in May\n\n  "+secondKey+"\r\n"+firstKey)
	if len(keys) != 2 || keys[0].ID != "2026.b" || keys[1].ID != "2025" || string(keys[0].secret[:5]) != "abcde" || string(keys[1].secret[:5]) != "01234" {
		t.Errorf("read %v", keys)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if shown := fmt.Sprintf(form, keys); strings.Contains(shown, "97") || strings.Contains(shown, "abc") || strings.Contains(shown, "61") {
			t.Errorf("%s shows %s", form, shown)
		}
	}
	if parse(t, firstKey).CacheSecret() == parse(t, secondKey).CacheSecret() {
		t.Error("two keys make the same cache keys")
	}
	for _, bad := range []string{
		"", "# nothing\n", "lonely\n", "a b c\n", "a!b " + strings.Repeat("00", 32), "short " + strings.Repeat("00", 31),
		firstKey + firstKey, strings.Repeat("x", 33) + " " + strings.Repeat("00", 32), "hex " + strings.Repeat("0g", 32),
	} {
		if keys, err := ParseKeys(bad); !errors.Is(err, ErrKeys) || strings.Contains(err.Error(), "0000") {
			t.Errorf("%q: %v, %v", bad, keys, err)
		}
	}
	var many strings.Builder
	for i := range maxKeys + 1 {
		fmt.Fprintf(&many, "k%d %064x\n", i, i)
	}
	if _, err := ParseKeys(many.String()); !errors.Is(err, ErrKeys) {
		t.Errorf("more keys than may be: %v", err)
	}
}

// BenchmarkText seals and opens a text of a kilobyte of a task of its own.
func BenchmarkText(b *testing.B) {
	keys := parse(b, firstKey)
	text := bytes.Repeat([]byte("x"), 1000)
	b.ReportAllocs()
	for b.Loop() {
		stored := newBox(keys, true, "task", "acme", "1").json("payload", text)
		if _, err := newBox(keys, true, "task", "acme", "1").openJSON("payload", stored); err != nil {
			b.Fatal(err)
		}
	}
}
