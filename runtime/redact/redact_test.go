package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func paths(tb testing.TB, texts ...string) *Paths {
	tb.Helper()
	p, err := New(texts...)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestWhatPathsNameIsRedacted(t *testing.T) {
	for _, tt := range []struct {
		paths     string
		raw, want string
	}{
		{"$.password", `{"user":"a", "password": "b", "n": 1.50}`, `{"user":"a", "password": "[redacted]", "n": 1.50}`},
		{"$.password", `{"Password":{"a":[1,"}"]},"passwords":1}`, `{"Password":"[redacted]","passwords":1}`},
		{"$.password", `{"pass\u0077ord":1e400}`, `{"pass\u0077ord":"[redacted]"}`},
		{"$.password", `{"password":1,"password":2}`, `{"password":"[redacted]","password":"[redacted]"}`},
		{"$.password", `{"in":{"password":1}}`, ""},
		{"$.password", `[{"password":1}]`, ""},
		{"$.password", `"password"`, ""},
		{"$.password", ` { } `, ""},
		{"$.password", `{"password":`, ""},
		{"$..token", `{"token":1,"a":[{"token":[2]},{"b":{"token":null}}]}`, `{"token":"[redacted]","a":[{"token":"[redacted]"},{"b":{"token":"[redacted]"}}]}`},
		{"$..a.b", `{"a":{"a":{"b":1,"c":2},"b":3},"b":4}`, `{"a":{"a":{"b":"[redacted]","c":2},"b":"[redacted]"},"b":4}`},
		{"$.a..b", `{"b":1,"a":{"b":2,"c":[{"b":3}]}}`, `{"b":1,"a":{"b":"[redacted]","c":[{"b":"[redacted]"}]}}`},
		{"$.headers.authorization", `{"headers":{"Authorization":"x","Accept":"y"}}`, `{"headers":{"Authorization":"[redacted]","Accept":"y"}}`},
		{"$.items[*].secret", `{"items":[{"secret":1},2,[{"secret":3}],{"secret":4}]}`, `{"items":[{"secret":"[redacted]"},2,[{"secret":3}],{"secret":"[redacted]"}]}`},
		{"$.users.*.key", `{"users":{"a":{"key":1},"b":{"key":2}}}`, `{"users":{"a":{"key":"[redacted]"},"b":{"key":"[redacted]"}}}`},
		{"$[*]", `[1,{"a":2}]`, `["[redacted]","[redacted]"]`},
		{"$..*", `{"a":[1]}`, `{"a":"[redacted]"}`},
		{"$['a b']['c.d']", `{"a b":{"c.d":1}}`, `{"a b":{"c.d":"[redacted]"}}`},
		{"$..['x y']", `[{"x y":1}]`, `[{"x y":"[redacted]"}]`},
		{"$.a $.b.c", `{"a":1,"b":{"c":2,"d":3}}`, `{"a":"[redacted]","b":{"c":"[redacted]","d":3}}`},
		{"$.名", `{"名":1}`, `{"名":"[redacted]"}`},
	} {
		texts := strings.Fields(tt.paths)
		if strings.Contains(tt.paths, "'") {
			texts = []string{tt.paths}
		}
		got := paths(t, texts...).JSON(json.RawMessage(tt.raw))
		if want := tt.want; want == "" && string(got) != tt.raw || want != "" && string(got) != want {
			t.Errorf("%s of %s: %s", tt.paths, tt.raw, got)
		}
	}
	raw := json.RawMessage(`{"a":1}`)
	if got := paths(t).JSON(raw); &got[0] != &raw[0] {
		t.Error("without a path there is a copy")
	}
	if got := paths(t, "$.b").JSON(raw); &got[0] != &raw[0] {
		t.Error("where nothing is named there is a copy")
	}
	if _ = paths(t, "$.a").JSON(raw); string(raw) != `{"a":1}` {
		t.Errorf("what was given became %s", raw)
	}
}

func TestWhatIsNestedTooDeepIsRedacted(t *testing.T) {
	deep := json.RawMessage(strings.Repeat("[", 1100) + `{"token":"canary"}` + strings.Repeat("]", 1100))
	if got := paths(t, "$..token").JSON(deep); bytes.Contains(got, []byte("canary")) || !json.Valid(got) {
		t.Errorf("%s", got)
	}
}

func TestPathsThatAreNone(t *testing.T) {
	for _, bad := range []string{
		"", "$", "password", "$password", "$.", "$..", "$.a.", "$[", "$[*", "$['a", "$['a'", "$[0]", "$.a b", "$.a*", "$[?(@.a)]", "$...a", `$['a\'b']`, "$.a]", "$$",
	} {
		if p, err := New("$.fine", bad); !errors.Is(err, ErrPath) {
			t.Errorf("%q: %+v, %v", bad, p, err)
		}
	}
	if _, err := New(slices.Repeat([]string{"$.a.b.c.d"}, 64)...); err != nil {
		t.Error(err)
	}
	if _, err := New(slices.Repeat([]string{"$.a.b.c.d"}, 65)...); err == nil {
		t.Error("so many steps were taken")
	}
}

// naive does the same as plainly as can be, on values.
func naive(v any, texts []string) any {
	for _, text := range texts {
		steps, err := parse(text)
		if err != nil {
			panic(err)
		}
		v = naivePath(v, steps)
	}
	return v
}

func naivePath(v any, steps []step) any {
	if len(steps) == 0 {
		return "[redacted]"
	}
	s := steps[0]
	each := func(name string, member bool, child any) any {
		if s.any || member && strings.EqualFold(name, string(s.name)) {
			child = naivePath(child, steps[1:])
		}
		if s.deep {
			child = naivePath(child, steps)
		}
		return child
	}
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, child := range v {
			out[name] = each(name, true, child)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = each("", false, child)
		}
		return out
	}
	return v
}

func anyValue(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 3+min(depth, 2)).Draw(t, "what") {
	case 0:
		return nil
	case 1:
		return json.Number(rapid.SampledFrom([]string{"0", "1.50", "12345678901234567890", "-1e+400"}).Draw(t, "number"))
	case 2, 3:
		return rapid.SampledFrom([]string{"", "a", `{"a":"`, `\"`, "]}", "é"}).Draw(t, "text")
	case 4:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "elements"))
		for i := range list {
			list[i] = anyValue(t, depth-1)
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		object[rapid.SampledFrom([]string{"a", "A", "b", "é", "É", "a b", `"`, ""}).Draw(t, "name")] = anyValue(t, depth-1)
	}
	return object
}

func decode(t interface{ Fatal(args ...any) }, raw []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(fmt.Sprintf("%s: %v", raw, err))
	}
	return v
}

func TestItRedactsWhatANaiveOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := []string{".a", ".b", "..a", "..b", "[*]", ".*", "..*", "['a b']", "..['é']"}
		texts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			return "$" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(steps), 1, 4).Draw(t, "steps"), "")
		}), 0, 4).Draw(t, "paths")
		value := anyValue(t, 5)
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "space") {
			var b bytes.Buffer
			if err := json.Indent(&b, raw, " ", "\t"); err != nil {
				t.Fatal(err)
			}
			raw = b.Bytes()
		}
		p, err := New(texts...)
		if err != nil {
			t.Fatal(err)
		}
		got := p.JSON(raw)
		want := naive(decode(t, raw), texts)
		if !reflect.DeepEqual(decode(t, got), want) {
			t.Fatalf("%v of %s:\n%s, want\n%v", texts, raw, got, want)
		}
		if reflect.DeepEqual(want, decode(t, raw)) && !bytes.Contains(raw, []byte("redacted")) && !bytes.Equal(got, raw) {
			t.Fatalf("%v named nothing in %s, which became %s", texts, raw, got)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add("$..a", []byte(`{"a": [1, {"b": "\""}]}`))
	f.Add("$.a[*]", []byte(`[[["`))
	f.Fuzz(func(t *testing.T, path string, raw []byte) {
		p, err := New(path)
		if err != nil {
			return
		}
		got := p.JSON(raw)
		if json.Valid(raw) != json.Valid(got) {
			t.Fatalf("%s of %q: %q", path, raw, got)
		}
		if json.Valid(raw) && !bytes.Equal(p.JSON(got), got) {
			t.Fatalf("%s of %q, twice: %q", path, raw, p.JSON(got))
		}
	})
}

func BenchmarkNothingNamed(b *testing.B) {
	p := paths(b, "$..token", "$.headers.authorization")
	raw := json.RawMessage(`{"level":"info","items":[` + strings.Repeat(`{"name":"a value","n":1},`, 100) + `1]}`)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		p.JSON(raw)
	}
}
