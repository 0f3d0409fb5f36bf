package schedule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func id(n int) ID {
	var i ID
	binary.BigEndian.PutUint64(i[8:], uint64(n))
	return i
}

// naive is the rule written down without any thought for speed.
type naive struct {
	capacity map[string]int64
	waiting  []Entry
	running  map[ID]Entry
	paused   map[string]bool
}

func (m *naive) used(name string) (sum int64) {
	for _, e := range m.running {
		for _, a := range e.Demand {
			if a.Name == name {
				sum += a.Milli
			}
		}
	}
	return sum
}

func (m *naive) fits(e Entry) bool {
	for _, a := range e.Demand {
		if a.Milli > m.capacity[a.Name]-m.used(a.Name) {
			return false
		}
	}
	return true
}

// sort puts the waiting entries in the order of decisions.
func (m *naive) sort() {
	slices.SortFunc(m.waiting, func(a, b Entry) int {
		virtual := func(e Entry) time.Time { return e.Since.Add(-time.Duration(e.Priority) * time.Minute) }
		if c := virtual(a).Compare(virtual(b)); c != 0 {
			return c
		}
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
}

func (m *naive) next() (Entry, bool) {
	m.sort()
	for i, e := range m.waiting {
		if !m.paused[e.Queue] && m.fits(e) {
			m.waiting = slices.Delete(m.waiting, i, i+1)
			m.running[e.ID] = e
			return e, true
		}
	}
	return Entry{}, false
}

func drawEntry(t *rapid.T, n int) Entry {
	demand := map[string]int64{}
	for _, name := range []string{"cpu", "gpu", "slots"} {
		demand[name] = rapid.SampledFrom([]int64{0, 0, 1, 2, 3, 10}).Draw(t, name)
	}
	return Entry{
		ID: id(n), Namespace: "n", Queue: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue"),
		Kind:     rapid.SampledFrom([]string{"x", "y"}).Draw(t, "kind"),
		Priority: rapid.SampledFrom([]int{-100, -1, 0, 0, 0, 1, 100}).Draw(t, "priority"),
		Since:    epoch.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "since")) * time.Second),
		Demand:   NewDemand(demand),
	}
}

func newPair() (*Core, *naive) {
	c := New(Config{Ageing: time.Minute})
	m := &naive{capacity: map[string]int64{}, running: map[ID]Entry{}, paused: map[string]bool{}}
	for name, n := range map[string]int64{"cpu": 4, "gpu": 2, "slots": 5} {
		c.SetCapacity(name, n)
		m.capacity[name] = n
	}
	return c, m
}

func TestCoreDecidesAsTheRuleSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, m := newPair()
		count := 0
		anyOf := func(ids []ID) ID {
			if len(ids) == 0 {
				return id(1 << 40)
			}
			slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
			return rapid.SampledFrom(ids).Draw(t, "id")
		}
		waitingIDs := func() (ids []ID) {
			for _, e := range m.waiting {
				ids = append(ids, e.ID)
			}
			return ids
		}
		runningIDs := func() (ids []ID) {
			for i := range m.running {
				ids = append(ids, i)
			}
			return ids
		}
		overcommitted := false
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				count++
				e := drawEntry(t, count)
				if err := c.Add(e); err != nil {
					t.Fatal(err)
				}
				m.waiting = append(m.waiting, e)
			},
			"next": func(t *rapid.T) {
				got, ok := c.Next(epoch)
				want, should := m.next()
				if ok != should || got.ID != want.ID {
					t.Fatalf("started %v %x, want %v %x", ok, got.ID[14:], should, want.ID[14:])
				}
			},
			"release": func(t *rapid.T) {
				i := anyOf(runningIDs())
				_, runs := m.running[i]
				delete(m.running, i)
				if c.Release(i) != runs {
					t.Fatalf("release said %v", !runs)
				}
				if c.Release(i) {
					t.Fatal("released twice")
				}
			},
			"remove": func(t *rapid.T) {
				i := anyOf(waitingIDs())
				before := len(m.waiting)
				m.waiting = slices.DeleteFunc(m.waiting, func(e Entry) bool { return e.ID == i })
				if c.Remove(i) != (len(m.waiting) < before) {
					t.Fatal("remove")
				}
			},
			"pause": func(t *rapid.T) {
				q, paused := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue"), rapid.Bool().Draw(t, "paused")
				m.paused[q] = paused
				c.SetPaused("n", q, paused)
			},
			"capacity": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"cpu", "gpu", "slots"}).Draw(t, "name")
				n := rapid.Int64Range(0, 8).Draw(t, "capacity")
				m.capacity[name] = n
				c.SetCapacity(name, n)
				overcommitted = overcommitted || m.used(name) > n
			},
			"restore": func(t *rapid.T) {
				count++
				e := drawEntry(t, count)
				c.Restore(e)
				c.Restore(e)
				m.running[e.ID] = e
				overcommitted = true
			},
			"": func(t *rapid.T) { check(t, c, m, overcommitted) },
		})
	})
}

// check compares everything that can be asked with the naive model.
func check(t *rapid.T, c *Core, m *naive, overcommitted bool) {
	if c.Waiting() != len(m.waiting) || c.Running() != len(m.running) {
		t.Fatalf("waiting %d running %d, want %d and %d", c.Waiting(), c.Running(), len(m.waiting), len(m.running))
	}
	for _, g := range c.Resources() {
		if g.Used != m.used(g.Name) || g.Used < 0 || g.Used > g.Capacity && !overcommitted {
			t.Fatalf("%+v, want %d used", g, m.used(g.Name))
		}
	}
	m.sort()
	for i, e := range m.waiting {
		r, ok := c.Explain(e.ID, epoch)
		if !ok || r.Code == "" || r.Position != i+1 {
			t.Fatalf("explain %d: %+v", i+1, r)
		}
		if (r.Code == Short || r.Code == Impossible) != (r.Resource != "") || r.Resource != "" && r.Needed <= r.Free {
			t.Fatalf("explain: %+v", r)
		}
		if lacking := !m.fits(e); r.Code != Paused && lacking != (r.Resource != "") {
			t.Fatalf("lacking %v, but %+v", lacking, r)
		}
		if !c.IsWaiting(e.ID) {
			t.Fatal("not waiting")
		}
	}
	least := c.Least(3)
	for i, e := range least {
		if want := m.waiting[len(m.waiting)-1-i]; e.ID != want.ID {
			t.Fatalf("least urgent %d is %x, want %x", i, e.ID[14:], want.ID[14:])
		}
	}
}

func TestSameCallsSameAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := make([]Entry, rapid.IntRange(1, 60).Draw(t, "entries"))
		for i := range entries {
			entries[i] = drawEntry(t, i)
		}
		play := func() (starts []ID) {
			c, _ := newPair()
			for _, e := range entries {
				_ = c.Add(e)
			}
			for range entries {
				e, ok := c.Next(epoch)
				if !ok {
					break
				}
				starts = append(starts, e.ID)
				if len(starts)%2 == 0 {
					c.Release(e.ID)
				}
			}
			return starts
		}
		if a, b := play(), play(); !slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	})
}

func TestWaitingIsBoundedByAgeing(t *testing.T) {
	c := New(Config{Ageing: time.Minute})
	c.SetCapacity("slots", 1)
	one := NewDemand(map[string]int64{"slots": 1})
	patient := Entry{ID: id(0), Priority: 0, Since: epoch, Demand: one}
	if err := c.Add(patient); err != nil {
		t.Fatal(err)
	}
	// Every second somebody of priority 10 comes, and there is room for one.
	for n := 1; ; n++ {
		now := epoch.Add(time.Duration(n) * time.Second)
		if err := c.Add(Entry{ID: id(n), Priority: 10, Since: now, Demand: one}); err != nil {
			t.Fatal(err)
		}
		e, ok := c.Next(now)
		if !ok {
			t.Fatal("the slot stays idle")
		}
		c.Release(e.ID)
		if e.ID == patient.ID {
			if waited := now.Sub(epoch); waited > 10*time.Minute+2*time.Second {
				t.Errorf("it waited %s", waited)
			}
			return
		}
		if n > 1000 {
			t.Fatal("it waits for ever")
		}
	}
}

func TestDuplicateIsRefused(t *testing.T) {
	c, _ := newPair()
	e := Entry{ID: id(1), Since: epoch}
	if err := c.Add(e); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(e); !errors.Is(err, ErrDuplicate) {
		t.Errorf("second add: %v", err)
	}
	if got, ok := c.Next(epoch); !ok || got.ID != e.ID {
		t.Error("an empty demand does not start")
	}
	if err := c.Add(e); !errors.Is(err, ErrDuplicate) {
		t.Errorf("add of a running one: %v", err)
	}
	if _, ok := c.Explain(e.ID, epoch); ok {
		t.Error("a running one waits")
	}
}

// A million entries in ten thousand groups, and room for a few: what one
// decision costs.
func BenchmarkDecision(b *testing.B) {
	const groups, each = 10_000, 100
	c := New(Config{})
	c.SetCapacity("slots", 16_000)
	c.SetCapacity("cpu", 8_000)
	n := 0
	for g := range groups {
		demand := NewDemand(map[string]int64{"slots": 1000, "cpu": int64(g%4) * 500})
		for range each {
			n++
			e := Entry{
				ID: id(n), Namespace: fmt.Sprint("ns", g%100), Queue: fmt.Sprint("q", g/100), Kind: "k",
				Priority: g % 3, Since: epoch.Add(time.Duration(n*7919%1_000_000) * time.Millisecond), Demand: demand,
			}
			if err := c.Add(e); err != nil {
				b.Fatal(err)
			}
		}
	}
	var running []ID
	took := make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		e, ok := c.Next(epoch)
		took = append(took, time.Since(began))
		if ok {
			running = append(running, e.ID)
			n++
			e.ID, e.Since = id(n), e.Since.Add(1000*time.Second)
			_ = c.Add(e)
			continue
		}
		c.Release(running[0])
		running = running[1:]
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(took[len(took)-1].Nanoseconds()), "worst-ns")
}
