package recent_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/persistence/recent"
)

func open(tb testing.TB, bytes uint64) *recent.Results {
	tb.Helper()
	r, err := recent.New(bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

type act struct {
	at    [3]string
	ttl   time.Duration
	sleep time.Duration
	adds  bool
}

// What is given was the newest put under exactly that name, and its time is not over;
// with enough memory it is given until then.
func TestOnlyTheNewestIsGivenAndOnlyInItsTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		part := rapid.SampledFrom([]string{"", "a", "ab", "b"})
		acts := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) act {
			return act{
				at:    [3]string{part.Draw(rt, "namespace"), part.Draw(rt, "kind"), part.Draw(rt, "key")},
				ttl:   time.Duration(rapid.IntRange(-1, 5).Draw(rt, "ttl")) * time.Second,
				sleep: time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ms")) * time.Millisecond,
				adds:  rapid.Bool().Draw(rt, "adds"),
			}
		}), 1, 50).Draw(rt, "acts")
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = play(open(t, 1<<20), acts) }) // its goroutine is another
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// play does one after the other and says where the results are not those of a map.
func play(r *recent.Results, acts []act) string {
	type entry struct {
		result  string
		expires time.Time
	}
	model := map[[3]string]entry{}
	for i, a := range acts {
		now, next := time.Now(), json.RawMessage(strconv.Itoa(i))
		if !a.adds {
			r.Put(a.at[0], a.at[1], a.at[2], next, a.ttl)
		} else {
			r.Add(a.at[0], a.at[1], a.at[2], next, a.ttl)
		}
		if !a.adds || !model[a.at].expires.After(now) {
			model[a.at] = entry{string(next), now.Add(a.ttl)}
		}
		time.Sleep(a.sleep)
		for at, want := range model {
			got, ok := r.Get(at[0], at[1], at[2])
			if ok != want.expires.After(time.Now()) || ok && string(got) != want.result {
				return fmt.Sprintf("%q: %s, %t; want %+v", at, got, ok, want)
			}
		}
	}
	return ""
}

func TestMemoryIsBounded(t *testing.T) {
	r := open(t, 1<<20)
	large := json.RawMessage(`"` + string(make([]byte, 64<<10)) + `"`)
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 200 {
				r.Put("ns", "kind", strconv.Itoa(w*1000+i), large, time.Hour)
			}
		})
	}
	group.Wait()
	kept := func() (n int) {
		for w := range 4 {
			for i := range 200 {
				if _, ok := r.Get("ns", "kind", strconv.Itoa(w*1000+i)); ok {
					n++
				}
			}
		}
		return n
	}
	for began := time.Now(); kept() > 16; { // it makes room a moment later
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%d of 64 KiB are kept in 1 MiB", kept())
		}
	}
	if kept() == 0 {
		t.Error("nothing is kept")
	}
	if _, err := recent.New(1); err != nil {
		t.Error(err)
	}
}
