package task

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// cluster is one task, the store it is in, the node that holds it and everybody
// who watches. The node does what doc.go says a node does: it believes its own
// decisions at once and stores them in order a moment later, shows live events
// before they are stored but none in front of a state event that is not, and
// runs a handler before its start is stored unless MustStoreStart. A kill loses
// all that is not stored; whoever notices then buries what the store has.
type cluster struct {
	disk Task    // the row in the store
	log  []Event // its log in the store

	row      Task // what the node believes
	writes   []write
	unstored []Event // live events to go with the next write
	unseen   []Event // events not shown yet, in order
	running  bool    // the handler runs
	lives    Incarnation

	now    time.Time
	spoken int
	seen   map[Cursor]string // all that anybody has ever been shown
	read   int               // how much of the log in the store has been shown
	at     Cursor            // where a watcher stands who was there all the time

	deaths    int // nodes that the handler has killed
	postponed int // of those, before the start of its attempt was on disk
}

// write is one mutation on its way to the store.
type write struct {
	step  Step
	start bool // of an attempt whose handler waits for it
}

func newCluster(spec Spec) *cluster {
	c := &cluster{now: epoch, seen: map[Cursor]string{}}
	birth := New(spec, c.now, 0)
	c.disk, c.log = birth.Task, birth.Events
	c.claim()
	return c
}

// claim gives the task to a new node, on which the watcher resumes from the log.
func (c *cluster) claim() {
	if c.disk.State.Terminal() {
		c.row = c.disk
		return
	}
	c.lives++
	c.store(c.disk.Take(c.lives))
	c.row = c.disk
}

// store applies one step to the store. It must fit: nobody else writes.
func (c *cluster) store(s Step) {
	if c.disk.Guard() != s.Guard {
		panic(fmt.Sprintf("a write is stale: %+v on %+v", s.Guard, c.disk.Guard()))
	}
	c.disk, c.log = s.Task, append(c.log, s.Events...)
}

// decide is how the node makes a decision.
func (c *cluster) decide(s Step, start bool) {
	c.unseen = append(c.unseen, s.Events...)
	s.Events = append(c.unstored, s.Events...)
	c.unstored = nil
	c.writes = append(c.writes, write{step: s, start: start})
	c.row = s.Task
}

func (c *cluster) start() {
	must := c.row.MustStoreStart()
	c.decide(ok(c.row.Start(c.now, "node", "local")), must)
	c.running = !must
}

// commit brings the oldest write to disk.
func (c *cluster) commit(t rapid.TB) {
	w := c.writes[0]
	c.writes = c.writes[1:]
	c.store(w.step)
	c.running = c.running || w.start && c.row.State == Running
	c.show(t)
}

// show shows what may be seen: everything on disk, and live events behind it up
// to the first state event that is not.
func (c *cluster) show(t rapid.TB) {
	t.Helper()
	for ; c.read < len(c.log); c.read++ {
		c.see(t, c.log[c.read])
	}
	for len(c.unseen) > 0 {
		e := c.unseen[0]
		if e.Type == EventState && c.disk.Cursor.Before(e.Cursor) {
			return
		}
		c.see(t, e)
		c.unseen = c.unseen[1:]
	}
}

// see shows one event to the watcher, if that is news.
func (c *cluster) see(t rapid.TB, e Event) {
	t.Helper()
	content := fmt.Sprintf("%s %s", e.Type, e.Data)
	if had, known := c.seen[e.Cursor]; known && had != content {
		t.Fatalf("cursor %v was %q and is now %q", e.Cursor, had, content)
	}
	c.seen[e.Cursor] = content
	if !c.at.Before(e.Cursor) {
		return
	}
	if !e.Cursor.Follows(c.at) {
		t.Fatalf("shown %v after %v", e.Cursor, c.at)
	}
	for _, missed := range slices.Backward(c.log) {
		if !c.at.Before(missed.Cursor) {
			break
		}
		if missed.Cursor.Before(e.Cursor) {
			t.Fatalf("shown %v after %v, without %v", e.Cursor, c.at, missed.Cursor)
		}
	}
	c.at = e.Cursor
}

func (c *cluster) say(t rapid.TB) {
	c.spoken++
	data, _ := json.Marshal(OutputData{Chunk: fmt.Appendf(nil, "%d", c.spoken)})
	row, e := c.row.Say(c.now, EventOutput, data)
	c.row = row
	c.unstored = append(c.unstored, e)
	c.unseen = append(c.unseen, e)
	c.show(t)
}

// kill ends the node: what was not stored is lost.
func (c *cluster) kill() {
	if c.running {
		c.deaths++
		if c.disk.State != Running {
			c.postponed++
		}
	}
	c.writes, c.unstored, c.unseen, c.running = nil, nil, nil, false
}

// bury frees the dead node's task.
func (c *cluster) bury(t rapid.TB, chance float64) {
	t.Helper()
	if c.disk.Holder != 0 {
		c.store(c.disk.Lost(c.now, CodeNodeLost, chance, mostCrashes))
	}
	c.show(t)
	c.claim()
}

// checkLog checks that what is stored has no hole in itself.
func (c *cluster) checkLog(t rapid.TB) {
	t.Helper()
	at := Cursor{}
	for _, e := range c.log {
		if !e.Cursor.Follows(at) {
			t.Fatalf("stored %v after %v", e.Cursor, at)
		}
		at = e.Cursor
	}
	if at != c.disk.Cursor {
		t.Fatalf("the log ends at %v, the row says %v", at, c.disk.Cursor)
	}
}

// actions are all that may happen to the cluster, at any moment.
func (c *cluster) actions(rerun bool) map[string]func(*rapid.T) {
	when := func(possible bool, t *rapid.T) {
		if !possible {
			t.Skip("not now")
		}
	}
	// What nobody holds, anybody may change who has read it.
	mine := func() bool { return c.row.Holder != 0 || len(c.writes) == 0 }
	return map[string]func(*rapid.T){
		"start":  func(t *rapid.T) { when(c.row.State == Queued && c.row.Holder != 0, t); c.start() },
		"say":    func(t *rapid.T) { when(c.running, t); c.say(t) },
		"talk":   func(t *rapid.T) { when(c.running, t); c.say(t); c.say(t) },
		"commit": func(t *rapid.T) { when(len(c.writes) > 0, t); c.commit(t) },
		"flush": func(t *rapid.T) {
			when(len(c.unstored) > 0, t)
			c.decide(Step{Task: c.row, Guard: c.row.Guard()}, false)
		},
		"succeed": func(t *rapid.T) {
			when(c.running && rapid.IntRange(0, 3).Draw(t, "luck") == 0, t)
			c.running = false
			c.decide(ok(c.row.Succeed(c.now, nil)), false)
		},
		"fail": func(t *rapid.T) {
			when(c.running, t)
			c.running = false
			c.decide(ok(c.row.Fail(c.now, Failure{Retryable: true, Message: strconv.Itoa(c.spoken)}, 0.5)), false)
		},
		"hand back": func(t *rapid.T) {
			when(c.row.State == Running, t)
			c.running = false
			c.decide(ok(c.row.HandBack(c.now)), false)
		},
		"cancel": func(t *rapid.T) {
			when(!c.row.State.Terminal() && mine() && rapid.IntRange(0, 3).Draw(t, "luck") == 0, t)
			c.running = false
			c.decide(ok(c.row.Cancel(c.now, "")), false)
		},
		"due": func(t *rapid.T) {
			when(c.row.State == Scheduled && mine(), t)
			c.now = c.row.RunAt
			c.decide(ok(c.row.Due(c.now)), false)
		},
		"release": func(t *rapid.T) {
			when(c.row.Holder != 0 && (c.row.State == Queued || c.row.State == Scheduled), t)
			c.decide(c.row.Release(), false)
		},
		"claim": func(t *rapid.T) { when(c.disk.Holder == 0 && len(c.writes) == 0, t); c.claim() },
		"rerun": func(t *rapid.T) {
			when(rerun && (c.disk.State == Failed || c.disk.State == Cancelled), t)
			c.store(ok(c.disk.Rerun(c.now)))
			c.show(t)
			c.claim()
			c.deaths, c.postponed = 0, 0
		},
		"kill": func(t *rapid.T) {
			c.kill()
			c.bury(t, rapid.Float64Range(0, 0.999).Draw(t, "chance"))
		},
		"": func(t *rapid.T) {
			c.checkLog(t)
			if c.deaths > c.disk.MaxAttempts {
				t.Fatalf("%d nodes killed with %d attempts", c.deaths, c.disk.MaxAttempts)
			}
			if c.postponed > 1 {
				t.Fatalf("%d deaths before the start was on disk", c.postponed)
			}
		},
	}
}

func anyBudget(t *rapid.T) Spec {
	return specOf(func(s *Spec) { s.MaxAttempts = rapid.IntRange(1, 5).Draw(t, "max attempts") })
}

func TestCursorThatWasShownIsNeverUsedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t.Repeat(newCluster(anyBudget(t)).actions(true))
	})
}

// TestTaskKillsAtMostMaxAttemptsNodes tries every way in which a handler can
// kill its node each time it runs: before or after its start is on disk, with
// other nodes' deaths and ordinary failures in between.
func TestTaskKillsAtMostMaxAttemptsNodes(t *testing.T) {
	const length = 5
	type move func(c *cluster) (possible bool)
	kill := func(c *cluster) bool { c.kill(); c.bury(t, 0); return true }
	moves := []move{
		func(c *cluster) bool { // kills before its start is on disk, if it may
			c.start()
			return c.running && kill(c)
		},
		func(c *cluster) bool { // kills after
			c.start()
			c.commit(t)
			c.say(t)
			return kill(c)
		},
		func(c *cluster) bool { // its node dies while it waits, or for its start
			if c.row.MustStoreStart() {
				c.start()
			}
			return kill(c)
		},
		func(c *cluster) bool { // fails once, then kills before that is on disk
			c.start()
			if !c.running {
				return false
			}
			c.commit(t)
			c.running = false
			c.decide(ok(c.row.Fail(c.now, Failure{Retryable: true}, 0)), false)
			c.decide(ok(c.row.Due(c.row.RunAt)), false)
			c.start()
			return c.running && kill(c)
		},
		func(c *cluster) bool { // is handed back
			c.start()
			for len(c.writes) > 0 {
				c.commit(t)
			}
			c.running = false
			c.decide(ok(c.row.HandBack(c.now)), false)
			c.commit(t)
			c.claim()
			return true
		},
	}
	for budget := 1; budget <= 5; budget++ {
		most := 0
		for code := range pow(len(moves), length) {
			c := newCluster(specOf(func(s *Spec) { s.MaxAttempts = budget }))
			waited := true // never ran, or was never asked to
			for rest := code; c.disk.State != Failed; rest /= len(moves) {
				if c.disk.State == Scheduled {
					c.now = c.disk.RunAt
					c.store(ok(c.disk.Due(c.now)))
					c.row = c.disk
				}
				n := rest % len(moves)
				if rest == 0 {
					n = 1 // in the end it always kills, with its start stored
				}
				waited = waited && n == 2
				if !moves[n](c) {
					break // not possible here: another code covers it
				}
				if waited && (c.disk.State != Queued || c.disk.Counted() != 0) {
					t.Fatalf("it merely waited and became %v with %d attempts", c.disk.State, c.disk.Counted())
				}
				if c.deaths > budget {
					t.Fatalf("%d attempts, code %d: it killed %d nodes", budget, code, c.deaths)
				}
			}
			most = max(most, c.deaths)
		}
		if most != budget {
			t.Errorf("with %d attempts the worst task killed %d nodes: not all was tried, or too little is allowed", budget, most)
		}
	}
}

func pow(n, k int) int {
	p := 1
	for range k {
		p *= n
	}
	return p
}

func TestOnlyADeathThatMayBeItsOwnPutsATaskUnderSuspicion(t *testing.T) {
	spec := specOf(func(s *Spec) { s.MaxAttempts = 3 })
	waiting := New(spec, epoch, 1).Task
	if !waiting.Lost(epoch, CodeNodeLost, 0, mostCrashes).Task.Suspect {
		t.Error("it could have run, and is not suspected")
	}
	crashed := ok(waiting.Start(epoch, "n", "w")).Task.Lost(epoch, CodeNodeLost, 0, mostCrashes).Task
	for _, innocent := range []Task{
		New(specOf(func(s *Spec) { s.MaxAttempts = 1 }), epoch, 1).Task,
		ok(crashed.Due(crashed.RunAt)).Task,
	} {
		if innocent.Lost(epoch, CodeNodeLost, 0, mostCrashes).Task.Suspect {
			t.Error("it could not have run, and is suspected")
		}
	}
	// Neither its own death, which was seen, nor others' cost a second time.
	row := crashed
	for range 5 {
		row = row.Lost(epoch, CodeNodeLost, 0, mostCrashes).Task
	}
	row = ok(row.Due(row.RunAt)).Task
	if row = ok(row.Start(epoch, "n", "w")).Task.Lost(epoch, CodeNodeLost, 0, mostCrashes).Task; row.State != Scheduled {
		t.Errorf("after its second death of three: %v", row.State)
	}
}

func TestTaskThatMerelyWaitsSurvivesEveryDeath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := anyBudget(t)
		if rapid.Bool().Draw(t, "scheduled") {
			spec.RunAt = epoch.Add(time.Hour)
		}
		c := newCluster(spec)
		if rapid.Bool().Draw(t, "has failed once") && spec.RunAt.IsZero() && spec.MaxAttempts > 1 {
			c.start()
			c.running = false
			c.decide(ok(c.row.Fail(c.now, Failure{Retryable: true}, 0)), false)
			for len(c.writes) > 0 {
				c.commit(t)
			}
		}
		counted := c.disk.Counted()
		all := c.actions(false)
		t.Repeat(map[string]func(*rapid.T){
			"kill": all["kill"], "release": all["release"], "claim": all["claim"], "commit": all["commit"], "due": all["due"],
			"ask for its turn": func(t *rapid.T) { // the node dies while the start is on its way
				if c.row.State != Queued || !c.row.MustStoreStart() || c.row.Holder == 0 {
					t.Skip("it would run")
				}
				c.start()
				all["kill"](t)
			},
			"": func(t *rapid.T) {
				all[""](t)
				if c.disk.State != Queued && c.disk.State != Scheduled || c.disk.Crashes != 0 || c.disk.Counted() != counted {
					t.Fatalf("it merely waited and became %+v", c.disk)
				}
			},
		})
		// All its attempts are left, for failures of its own.
		left := 0
		for row := c.disk; !row.State.Terminal(); left++ {
			if row.State == Scheduled {
				row = ok(row.Due(row.RunAt)).Task
			}
			row = ok(ok(row.Start(c.now, "n", "w")).Task.Fail(c.now, Failure{Retryable: true}, 0)).Task
		}
		if left != spec.MaxAttempts-counted {
			t.Fatalf("%d attempts are left of %d, %d used", left, spec.MaxAttempts, counted)
		}
	})
}
