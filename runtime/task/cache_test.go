package task

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func keyOf(kind, payload string) string {
	return specOf(func(s *Spec) { s.Kind, s.Payload, s.Cache.TTL = kind, json.RawMessage(payload), time.Hour }).Cache.Key
}

// anyJSON draws a value that can be compared: numbers as they are written.
func anyJSON(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 4+min(depth, 2)).Draw(t, "what") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "truth")
	case 2:
		return json.Number(rapid.SampledFrom([]string{"0", "1", "1.0", "1e0", "-1", "12345678901234567890"}).Draw(t, "number"))
	case 3, 4:
		return rapid.SampledFrom([]string{"", "a", "{", `"`, `\`, ",]}", "é", "1"}).Draw(t, "text")
	case 5:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "elements"))
		for i := range list {
			list[i] = anyJSON(t, depth-1)
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		object[rapid.SampledFrom([]string{"", "a", "b", "aa", "}", `"`, ":"}).Draw(t, "name")] = anyJSON(t, depth-1)
	}
	return object
}

// written writes a value with its members in any order and space anywhere.
func written(t *rapid.T, b *bytes.Buffer, v any) {
	space := func() { b.WriteString(rapid.SampledFrom([]string{"", "", " ", "\n\t"}).Draw(t, "space")) }
	space()
	switch v := v.(type) {
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			written(t, b, e)
		}
		b.WriteByte(']')
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		b.WriteByte('{')
		for i, name := range rapid.Permutation(names).Draw(t, "order") {
			if i > 0 {
				b.WriteByte(',')
			}
			written(t, b, name)
			b.WriteByte(':')
			written(t, b, v[name])
		}
		b.WriteByte('}')
	default:
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	space()
}

// TestCanonicalFormIsOfTheValueNotOfItsSpelling compares with what encoding/json
// makes of two texts: the forms are the same where the values are, and only there.
func TestCanonicalFormIsOfTheValueNotOfItsSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := anyJSON(t, 3)
		other := value
		if rapid.Bool().Draw(t, "another") {
			other = anyJSON(t, 3)
		}
		var one, two bytes.Buffer
		written(t, &one, value)
		written(t, &two, other)
		a, b := canonical(one.Bytes()), canonical(two.Bytes())
		if same := reflect.DeepEqual(value, other); same != bytes.Equal(a, b) {
			t.Fatalf("same: %v, and\n%s becomes %s\n%s becomes %s", same, one.Bytes(), a, two.Bytes(), b)
		}
		var read any
		d := json.NewDecoder(bytes.NewReader(a))
		d.UseNumber()
		if err := d.Decode(&read); err != nil || !reflect.DeepEqual(read, value) {
			t.Fatalf("%s became %s, %v", one.Bytes(), a, err)
		}
		if again := canonical(a); !bytes.Equal(again, a) {
			t.Fatalf("%s became %s", a, again)
		}
	})
}

func TestPayloadsThatAHandlerCanTellApartHaveOtherKeys(t *testing.T) {
	seen := map[string]string{}
	for _, of := range [][2]string{
		{"k", `1`},
		{"k", `1.0`},
		{"k", `"1"`},
		{"k2", `1`},
		{"k", `[1]`},
		{"k", `{}`},
		{"k", `[]`},
		{"k", `null`},
		{"k", `{"a":1,"a":2}`},
		{"k", `{"a":2,"a":1}`},
		{"k", `"\ud800"`},
		{"k", `"\ud801"`},
		{"k", `{"a":[1,2]}`},
		{"k", `{"a":[2,1]}`},
	} {
		key := keyOf(of[0], of[1])
		if before, there := seen[key]; there {
			t.Errorf("%s of %s has the key of %s", of[1], of[0], before)
		}
		seen[key] = fmt.Sprint(of)
		if !ValidText(key) || len(key) > maxKey {
			t.Errorf("key %q", key)
		}
	}
	if keyOf("k", `{"b":[{"d":1,"c":2}],"a":""}`) != keyOf("k", ` { "a":"", "b":[ {"c":2,"d":1}]}`) {
		t.Error("the order of members makes another key")
	}
}

func TestASecretHidesPayloadsInCacheKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, of := range []struct {
		secret                   byte
		namespace, kind, payload string
	}{
		{0, "acme", "k", `1`}, {1, "acme", "k", `1`}, {2, "acme", "k", `1`}, {1, "other", "k", `1`}, {1, "acme", "k2", `1`}, {1, "acme", "k", `2`},
	} {
		limits := Limits{CacheSecret: [32]byte{of.secret}}
		key := func(payload string) string {
			spec, err := limits.Check(Spec{
				Namespace: of.namespace, Kind: of.kind, Payload: json.RawMessage(payload), Cache: Cache{TTL: time.Hour},
			}, epoch)
			if err != nil {
				t.Fatal(err)
			}
			return spec.Cache.Key
		}
		got := key(of.payload)
		if seen[got] || got != key(" "+of.payload) {
			t.Errorf("%+v has the key %s", of, got)
		}
		seen[got] = true
	}
}

func TestSuccessSaysHowItCameToItsResult(t *testing.T) {
	start := func(ttl time.Duration) Task {
		row := New(specOf(func(s *Spec) { s.Cache.TTL = ttl }), epoch, 1).Task
		return ok(row.Start(epoch, "n", "w")).Task
	}
	for want, step := range map[CacheStatus]Step{
		"":          ok(start(0).Succeed(epoch, nil)),
		CacheMiss:   ok(start(time.Minute).Succeed(epoch, nil)),
		CacheHit:    ok(start(time.Minute).Reuse(epoch, nil, false)),
		CacheShared: ok(start(time.Minute).Reuse(epoch, nil, true)),
	} {
		var data StateData
		if err := json.Unmarshal(step.Events[0].Data, &data); err != nil {
			t.Fatal(err)
		}
		if step.Task.Cached != want || data.Cache != want || string(step.Task.Result) != "null" {
			t.Errorf("want %q, got %q and %s", want, step.Task.Cached, step.Events[0].Data)
		}
		if m := step.Mutation(); m.Keeps() != (want == CacheMiss) {
			t.Errorf("the result of %q is kept: %v", want, want != CacheMiss)
		}
	}
	if _, err := ok(start(time.Minute).Cancel(epoch, "")).Task.Reuse(epoch, nil, false); err == nil {
		t.Error("a cancelled task found a result")
	}
	step := ok(start(time.Minute).Fail(epoch, Failure{Code: "x"}, 0))
	if m := step.Mutation(); m.Task.Cached != "" || m.Keeps() {
		t.Errorf("a failure is %q", step.Task.Cached)
	}
}

func TestIdenticalTasksAndNoOthersShareALimit(t *testing.T) {
	limits := map[LimitName]string{}
	for _, change := range []func(*Spec){
		func(*Spec) {}, func(s *Spec) { s.Namespace = "other" }, func(s *Spec) { s.Kind = "other" }, func(s *Spec) { s.Cache.Key = "other" },
	} {
		spec := specOf(func(s *Spec) {
			s.Cache = Cache{"k", time.Hour}
			change(s)
		})
		spec.ID = idB
		tokens := New(spec, epoch, 1).Task.Wants(Queue{}, Kind{}, 0, func(string) bool { return false })
		if len(tokens) != 1 || tokens[0].Most != tokens[0].Amount || len(tokens[0].Limit.Name) > maxName {
			t.Fatalf("%+v", tokens)
		}
		if other, there := limits[tokens[0].Limit]; there {
			t.Errorf("%+v has the limit of %s", spec, other)
		}
		limits[tokens[0].Limit] = fmt.Sprintf("%+v", spec)
	}
	if plain := New(specOf(nil), epoch, 1).Task.Wants(Queue{}, Kind{}, 0, func(string) bool { return false }); plain != nil {
		t.Errorf("a task without a cache wants %+v", plain)
	}
}
