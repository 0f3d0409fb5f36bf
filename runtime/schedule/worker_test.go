package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// labelsWith is a selector that asks for one label.
type labelsWith string

func (l labelsWith) Matches(labels map[string]string) bool { return labels["zone"] == string(l) }

func needs(of ...any) Demand {
	m := map[string]int64{Slots: 1}
	for i := 0; i < len(of); i += 2 {
		name, _ := of[i].(string)
		amount, _ := of[i+1].(int)
		m[name] = int64(amount)
	}
	return NewDemand(m)
}

// away is an entry that runs on workers alone.
func away(n int, kind string, d Demand) Entry {
	return Entry{ID: id(n), Namespace: "m", Queue: "a", Kind: kind, Since: epoch.Add(time.Duration(n)), Site: &Site{Needs: d, Only: true}}
}

func started(t *testing.T, c *Core, want string) {
	t.Helper()
	e, ok := c.Next(epoch.Add(time.Minute))
	if got := fmt.Sprintf("%d on %s", e.ID[15], e.Worker); !ok && want != "" || ok && got != want {
		t.Errorf("%s (%t) starts, want %q", got, ok, want)
	}
}

func TestEntryWaitsForAWorkerWithRoom(t *testing.T) {
	c := New(Config{})
	c.SetCapacity(Slots, 100)
	must := func(e Entry) {
		t.Helper()
		if err := c.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		must(away(i+1, "x", needs()))
	}
	started(t, c, "")
	if r, _ := c.Explain(id(1), epoch); r.Code != Unplaced || r.Workers != 0 || c.Contending() != 0 || !c.Stuck(id(1)) {
		t.Errorf("%+v, %d contend", r, c.Contending())
	}
	c.SetWorker(Worker{ID: "w", Namespace: "m", Kinds: []string{"x", "y"}, Capacity: needs(Slots, 2)})
	c.SetWorker(Worker{ID: "other", Namespace: "n", Kinds: []string{"x"}, Capacity: needs(Slots, 9)})
	if !c.Serves("m", "y") || c.Serves("n", "y") {
		t.Error("serves what it does not")
	}
	started(t, c, "1 on w")
	started(t, c, "2 on w")
	started(t, c, "")
	if r, _ := c.Explain(id(4), epoch); r.Code != Unplaced || r.Capacity != 2 || r.Free != 0 || r.Position != 2 || c.Load("w", Slots) != 2 {
		t.Errorf("%+v", r)
	}
	must(away(5, "y", needs())) // of the same count of slots
	started(t, c, "")
	c.Release(id(1), epoch.Add(2*time.Minute))
	started(t, c, "3 on w")
	c.SetWorker(Worker{ID: "w", Namespace: "m", Kinds: []string{"x", "y"}, Capacity: needs(Slots, 2), Closed: true})
	c.Release(id(2), epoch.Add(2*time.Minute))
	started(t, c, "")
	c.SetWorker(Worker{ID: "w", Namespace: "m", Kinds: []string{"y"}, Capacity: needs(Slots, 2)})
	started(t, c, "5 on w")
	c.RemoveWorker("w")
	c.RemoveWorker("nobody")
	c.Release(id(3), epoch.Add(2*time.Minute))
	c.Release(id(5), epoch.Add(2*time.Minute))
	c.SetWorker(Worker{ID: "v", Namespace: "m", Kinds: []string{"x"}, Capacity: needs(Slots, 1)})
	started(t, c, "4 on v")
	if c.Load("v", Slots) != 1 || c.Load("w", Slots) != 0 {
		t.Error("what is taken is not what runs")
	}
	for _, g := range c.Resources() {
		if g.Used != 0 {
			t.Errorf("they took %d of %s here", g.Used, g.Name)
		}
	}
}

func TestWorkersResourcesAreTakenThereAndTheRestHere(t *testing.T) {
	c := New(Config{})
	c.SetCapacity(Slots, 1)
	c.SetCapacity("licence", 1)
	c.SetWorker(Worker{ID: "w", Namespace: "m", Kinds: []string{"x"}, Capacity: needs(Slots, 9, "gpu", 2)})
	for i, d := range []Demand{needs("licence", 1), needs("licence", 1), needs("gpu", 2), needs("gpu", 1), needs("gpu", 3), needs("tpu", 1)} {
		if err := c.Add(away(i+1, "x", d)); err != nil {
			t.Fatal(err)
		}
	}
	started(t, c, "1 on w")
	started(t, c, "3 on w")
	started(t, c, "")
	for n, want := range map[int]Reason{
		2: {Code: Unplaced}, 4: {Code: Unplaced}, 5: {Code: Impossible, Resource: "gpu", Needed: 3, Capacity: 2}, 6: {Code: Impossible, Resource: "tpu", Needed: 1},
	} {
		if r, ok := c.Explain(id(n), epoch); !ok || r.Code != want.Code || r.Resource != want.Resource || r.Needed != want.Needed || want.Code == Impossible && r.Capacity != want.Capacity {
			t.Errorf("%d waits for %+v", n, r)
		}
	}
	c.Release(id(1), epoch.Add(2*time.Minute))
	started(t, c, "2 on w")
	c.Release(id(3), epoch.Add(2*time.Minute))
	started(t, c, "4 on w")
	c.SetCapacity("tpu", 1)
	started(t, c, "6 on w")
	if c.Load("w", "gpu") != 1 || c.Load("w", Slots) != 3 {
		t.Errorf("%d gpu, %d slots", c.Load("w", "gpu"), c.Load("w", Slots))
	}
	// After a restart it is as it was.
	d := New(Config{})
	d.SetCapacity("licence", 1)
	d.SetWorker(Worker{ID: "w", Namespace: "m", Kinds: []string{"x"}, Capacity: needs(Slots, 9, "gpu", 2)})
	e := away(1, "x", needs("licence", 1, "gpu", 1))
	e.Worker = "w"
	d.Restore(e, epoch)
	d.Restore(e, epoch)
	if d.Load("w", "gpu") != 1 || d.Load("w", Slots) != 1 || d.Resources()[0].Used != 1 || d.Running() != 1 {
		t.Errorf("%d gpu, %+v", d.Load("w", "gpu"), d.Resources())
	}
	d.Release(id(1), epoch)
	if d.Load("w", "gpu") != 0 || d.Resources()[0].Used != 0 {
		t.Errorf("%d gpu, %+v", d.Load("w", "gpu"), d.Resources())
	}
}

func TestWorkersAreChosenByLabelsThenByRoom(t *testing.T) {
	c := New(Config{})
	c.SetCapacity(Slots, 1)
	for zone, slots := range map[string]int{"a": 3, "b": 9} {
		c.SetWorker(Worker{ID: zone, Namespace: "m", Kinds: []string{"x"}, Labels: map[string]string{"zone": zone}, Capacity: needs(Slots, slots)})
	}
	add := func(n int, s Site) {
		t.Helper()
		e := away(n, "x", nil)
		s.Needs = needs()
		s.Asks = fmt.Sprint(s.Require, s.Prefer)
		e.Site = &s
		if !s.Only {
			e.Demand = needs()
		}
		if err := c.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	add(1, Site{Only: true})
	started(t, c, "1 on b")
	add(2, Site{Only: true, Prefer: labelsWith("a")})
	started(t, c, "2 on a")
	add(3, Site{Only: true, Require: labelsWith("a")})
	started(t, c, "3 on a")
	add(4, Site{Only: true, Require: labelsWith("c")})
	started(t, c, "")
	add(5, Site{Prefer: labelsWith("home"), Home: true})
	started(t, c, "5 on ")
	add(6, Site{Prefer: labelsWith("home"), Home: true}) // where there is no room
	started(t, c, "6 on b")
	add(7, Site{Prefer: labelsWith("a"), Home: true})
	started(t, c, "7 on a")
	for n := 8; n < 15; n++ {
		add(n, Site{})
		started(t, c, fmt.Sprintf("%d on b", n))
	}
	add(15, Site{})
	started(t, c, "")
	if r, _ := c.Explain(id(15), epoch.Add(time.Minute)); r.Code != Short || r.Resource != Slots {
		t.Errorf("%+v", r)
	}
	c.Release(id(5), epoch.Add(2*time.Minute))
	started(t, c, "15 on ")
}

// Between the queues of a namespace the slots of its workers are shared as those of
// the node are, and what runs on workers costs their namespace nothing here.
func TestQueuesShareWorkers(t *testing.T) {
	c := New(Config{})
	c.SetCapacity(Slots, 10)
	c.SetWeight("m", "b", 3)
	c.SetWorker(Worker{ID: "w", Namespace: "m", Kinds: []string{"x"}, Capacity: needs(Slots, 4)})
	for n := range 200 {
		e := away(n+1, "x", needs())
		e.Queue, e.Expected = []string{"a", "b"}[n%2], time.Second
		if err := c.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	now, got := epoch, map[string]int{}
	var running []Entry
	for range 80 {
		for e, ok := c.Next(now); ok; e, ok = c.Next(now) {
			got[e.Queue]++
			running = append(running, e)
		}
		now = now.Add(time.Second)
		c.Release(running[0].ID, now)
		running = running[1:]
	}
	if got["b"] < 2*got["a"] {
		t.Errorf("of weights 1 and 3 they had %v", got)
	}
	if tag := c.tenants["m"].account(0).tag; tag != 0 {
		t.Errorf("their namespace has paid %v", tag)
	}
}

// A random walk with workers that come, go, close and have room for this and that:
// never more is taken of one than it has, nothing runs where it may not, and nothing
// waits for which there is room.
func TestWalkWithWorkers(t *testing.T) {
	for walk := range uint64(8) {
		r := rand.New(rand.NewPCG(*seed+walk, 9))
		c := New(Config{Ageing: ageing})
		c.SetCapacity(Slots, 3)
		c.SetCapacity("licence", 2)
		workers, waiting, running := map[string]Worker{}, map[ID]Entry{}, map[ID]Entry{}
		now, count := epoch, 0
		room := func(e Entry, w Worker) bool {
			if w.Closed || w.Namespace != e.Namespace || !slices.Contains(w.Kinds, e.Kind) || e.Site.Require != nil && !e.Site.Require.Matches(w.Labels) {
				return false
			}
			taken, here := map[string]int64{}, map[string]int64{}
			for _, o := range running {
				for _, a := range o.Site.Needs {
					at := slices.IndexFunc(workers[o.Worker].Capacity, func(c Amount) bool { return c.Name == a.Name })
					switch {
					case o.Worker == w.ID && at >= 0:
						taken[a.Name] += a.Milli
					case o.Worker == "" || at < 0:
						here[a.Name] += a.Milli
					}
				}
			}
			for _, a := range e.Site.Needs {
				at := slices.IndexFunc(w.Capacity, func(c Amount) bool { return c.Name == a.Name })
				if at >= 0 && taken[a.Name]+a.Milli > w.Capacity[at].Milli || at < 0 && (a.Name != "licence" || here[a.Name]+a.Milli > 2) {
					return false
				}
			}
			return true
		}
		for range *steps / 40 {
			now = now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			switch r.IntN(10) {
			case 0: // only while nothing of it runs, as what that took is reckoned by what it has
				name := pick(r, "u", "v", "w")
				if slices.ContainsFunc(collect(running), func(e Entry) bool { return e.Worker == name }) {
					break
				}
				if r.IntN(3) == 0 {
					c.RemoveWorker(name)
					delete(workers, name)
					break
				}
				capacity := []any{Slots, 1 + r.IntN(3)}
				if r.IntN(2) == 0 {
					capacity = append(capacity, "gpu", 1+r.IntN(2))
				}
				workers[name] = Worker{
					ID: name, Namespace: pick(r, "m", "n"), Kinds: pick(r, []string{"x"}, []string{"x", "y"}), Labels: map[string]string{"zone": pick(r, "a", "b")},
					Capacity: needs(capacity...), Closed: r.IntN(4) == 0,
				}
				c.SetWorker(workers[name])
			case 1, 2, 3:
				for _, e := range collect(running)[:min(1, len(running))] {
					c.Release(e.ID, now)
					delete(running, e.ID)
				}
			case 4:
				for _, e := range collect(waiting)[:min(1, len(waiting))] {
					c.Remove(e.ID)
					delete(waiting, e.ID)
				}
			default:
				count++
				d := pick(r, needs(), needs(Slots, 2), needs("gpu", 1), needs("licence", 1), needs("gpu", 2, "licence", 1))
				e := Entry{
					ID: id(count), Namespace: pick(r, "m", "n"), Queue: pick(r, "a", "b"), Kind: pick(r, "x", "y"), Priority: pick(r, 0, 0, 1), Since: now,
					Expected: time.Duration(1+r.IntN(20)) * time.Second, Site: &Site{Needs: d, Only: true},
				}
				if r.IntN(3) == 0 {
					e.Site.Require, e.Site.Asks = labelsWith("a"), "a"
				}
				waiting[e.ID] = e
				if err := c.Add(e); err != nil {
					t.Fatal(err)
				}
			}
			for e, ok := c.Next(now); ok; e, ok = c.Next(now) {
				w, known := workers[e.Worker]
				if !known || !room(waiting[e.ID], w) {
					t.Fatalf("walk %d: %+v has no room on %q", walk, waiting[e.ID], e.Worker)
				}
				delete(waiting, e.ID)
				running[e.ID] = e
			}
			for _, e := range waiting {
				for _, w := range workers {
					if room(e, w) {
						t.Fatalf("walk %d: %s has room for %+v", walk, w.ID, e)
					}
				}
				if !c.Stuck(e.ID) {
					t.Fatalf("walk %d: %+v is not said to be stuck", walk, e)
				}
			}
			if c.Waiting() != len(waiting) || c.Running() != len(running) || c.Contending() != 0 {
				t.Fatalf("%d wait and %d run, %d contend", c.Waiting(), c.Running(), c.Contending())
			}
		}
		if count < 20 {
			t.Error("the walk was too short")
		}
	}
}

func collect(all map[ID]Entry) (list []Entry) {
	for _, e := range all {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list
}
