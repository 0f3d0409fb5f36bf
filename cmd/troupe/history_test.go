package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What clients saw of a server that was killed again and again, and what it says
// in the end, in words of the contract alone: nothing here is the server's code.
type (
	history struct {
		sent    []sent             // by number, which is the task's label too
		acked   map[string]int     // id → number: the server said it is on disk
		tasks   map[string]outlast // by id: all there are in the end
		watches []watched
		feeds   [][]happening  // one for each connection of a watcher of everything
		limits  map[string]int // how many tasks that name one may run at once
	}
	sent struct {
		id, kind, payload string // id only if the client chose it
		maxAttempts       int
		limits            []string
	}
	// outlast is a task in the end.
	outlast struct {
		number               int
		kind, payload, state string
		result               string
		attempt, maxAttempts int
		log                  []happening
	}
	happening struct{ task, cursor, kind, at, data string }
	watched   struct {
		task  string
		seen  []happening
		gaps  []string // first cursors of announced gaps; nothing is swept here
		err   string   // why it ended, unless with its task
		ended bool
	}
	violation struct{ rule, text string }
)

// The rules.
const (
	lost       = "acknowledged tasks exist"
	unended    = "every task ends"
	other      = "a task is what was submitted"
	doubled    = "one submission is one task"
	ends       = "a task ends once, last"
	cursors    = "cursors go on without hole or repeat"
	reused     = "attempts increase"
	tooMany    = "attempts are bounded"
	unseen     = "a watcher sees the whole log"
	content    = "what was seen is what is stored"
	vanished   = "only a dead attempt loses events, and never a state"
	chunks     = "a stream's last attempt is whole"
	wrong      = "echo returns its payload"
	interrupts = "a watcher ends with its task"
	overrun    = "no more run at once than a limit lets"
)

// place is a cursor.
type place struct{ attempt, seq int }

func parsePlace(s string) (p place, ok bool) {
	a, b, _ := strings.Cut(s, ".")
	var err1, err2 error
	p.attempt, err1 = strconv.Atoi(a)
	p.seq, err2 = strconv.Atoi(b)
	return p, err1 == nil && err2 == nil && p.seq >= 1 && p.attempt >= 0
}

// follows says that p may come right behind q: an attempt may be cut short, but
// every attempt starts at its first event.
func (p place) follows(q place) bool {
	return p.attempt == q.attempt && p.seq == q.seq+1 || p.attempt > q.attempt && p.seq == 1
}

// check lists everything that breaks a promise.
func check(h history) []violation {
	c := &checker{h: h}
	for id, number := range h.acked {
		t, ok := h.tasks[id]
		if !ok {
			c.bad(lost, "task %s (submission %d) was acknowledged and is not there", id, number)
		} else if t.number != number {
			c.bad(other, "task %s was acknowledged for submission %d and is of %d", id, number, t.number)
		}
	}
	owners := map[int]string{}
	for id, t := range h.tasks {
		if before, ok := owners[t.number]; ok {
			c.bad(doubled, "submission %d is task %s and task %s", t.number, before, id)
		}
		owners[t.number] = id
		c.task(id, t)
	}
	for _, w := range h.watches {
		c.watch(w)
	}
	for _, feed := range h.feeds {
		c.feed(feed)
	}
	for limit, most := range h.limits {
		c.limit(limit, most)
	}
	return c.found
}

type checker struct {
	h     history
	found []violation
}

func (c *checker) bad(rule, format string, args ...any) {
	c.found = append(c.found, violation{rule, fmt.Sprintf(format, args...)})
}

// stateData is what a state event says.
type stateData struct {
	State   string
	Attempt int
	Result  json.RawMessage
}

func (c *checker) task(id string, t outlast) {
	if t.number < 0 || t.number >= len(c.h.sent) {
		c.bad(other, "task %s has number %d, which nobody sent", id, t.number)
	} else if s := c.h.sent[t.number]; s.kind != t.kind || s.payload != t.payload || s.maxAttempts != t.maxAttempts || s.id != "" && s.id != id {
		c.bad(other, "task %s is %s %s of %d attempts, and was sent as %s %s %s of %d", id, t.kind, t.payload, t.maxAttempts, s.id, s.kind, s.payload, s.maxAttempts)
	}
	if !hasEnded(t.state) {
		c.bad(unended, "task %s is %s", id, t.state)
	}
	var at place
	ended, last, runs, ran := 0, "", 0, 0
	for i, e := range t.log {
		p, ok := parsePlace(e.cursor)
		if !ok || !p.follows(at) || i == 0 && p != (place{0, 1}) {
			c.bad(cursors, "task %s: event %q stands behind %v", id, e.cursor, at)
		}
		at = p
		if e.kind != "state" {
			continue
		}
		var d stateData
		if err := json.Unmarshal([]byte(e.data), &d); err != nil {
			c.bad(other, "task %s: event %s says %s", id, e.cursor, e.data)
			continue
		}
		switch {
		case d.State == "running":
			if d.Attempt <= runs || d.Attempt != p.attempt {
				c.bad(reused, "task %s: attempt %d begins at %s, behind attempt %d", id, d.Attempt, e.cursor, runs)
			}
			runs = d.Attempt
			ran++
		case hasEnded(d.State):
			ended, last = ended+1, d.State
			if i != len(t.log)-1 {
				c.bad(ends, "task %s goes on behind its end at %s", id, e.cursor)
			}
			if string(d.Result) != t.result {
				c.bad(content, "task %s has result %s and ended with %s", id, t.result, d.Result)
			}
		}
	}
	if ended != 1 || last != t.state {
		c.bad(ends, "task %s is %s; its log has %d ends, the last of them %q", id, t.state, ended, last)
	}
	if ran > t.maxAttempts || t.attempt > t.maxAttempts {
		c.bad(tooMany, "task %s ran %d times, is in attempt %d and may have %d", id, ran, t.attempt, t.maxAttempts)
	}
	if t.state != "succeeded" {
		return
	}
	switch t.kind {
	case "demo.echo":
		if t.result != t.payload {
			c.bad(wrong, "task %s returned %s for %s", id, t.result, t.payload)
		}
	case "demo.stream":
		c.stream(id, t, at.attempt)
	}
}

func hasEnded(state string) bool {
	return state == "succeeded" || state == "failed" || state == "cancelled"
}

// stream wants every chunk of the last attempt, once and in order.
func (c *checker) stream(id string, t outlast, last int) {
	var want struct{ Chunks int }
	if err := json.Unmarshal([]byte(t.payload), &want); err != nil {
		c.bad(other, "task %s: payload %s", id, t.payload)
	}
	var got []int
	for _, e := range t.log {
		var d struct{ Chunk struct{ I int } }
		if p, _ := parsePlace(e.cursor); p.attempt != last || e.kind != "output" || json.Unmarshal([]byte(e.data), &d) != nil {
			continue
		}
		got = append(got, d.Chunk.I)
	}
	for i, chunk := range got {
		if chunk != i {
			c.bad(chunks, "task %s: chunk %d stands where %d belongs", id, chunk, i)
			return
		}
	}
	if len(got) != want.Chunks {
		c.bad(chunks, "task %s: %d chunks of %d", id, len(got), want.Chunks)
	}
}

// compare holds an event that was seen against the log. An attempt that died
// with its node may have shown more than was stored, but then it is not the last
// one, and states are stored before anyone sees them.
func (c *checker) compare(who string, e happening, log map[string]happening, last int) {
	stored, ok := log[e.cursor]
	p, _ := parsePlace(e.cursor)
	switch {
	case ok && stored != e:
		c.bad(content, "%s of %s saw %v, and the log has %v", who, e.task, e, stored)
	case !ok && (p.attempt >= last || e.kind == "state"):
		c.bad(vanished, "%s of %s saw %v, which is not in the log; its last attempt is %d", who, e.task, e, last)
	}
}

// index gives a task's log by cursor, and the attempt it ends in.
func (t outlast) index() (log map[string]happening, last int) {
	log = make(map[string]happening, len(t.log))
	for _, e := range t.log {
		log[e.cursor] = e
		p, _ := parsePlace(e.cursor)
		last = max(last, p.attempt)
	}
	return log, last
}

func (c *checker) watch(w watched) {
	t, ok := c.h.tasks[w.task]
	if !ok {
		c.bad(lost, "task %s was watched and is not there", w.task)
		return
	}
	if w.err != "" || !w.ended || len(w.gaps) > 0 {
		c.bad(interrupts, "the watcher of %s: ended %v, gaps %v, %s", w.task, w.ended, w.gaps, w.err)
	}
	log, last := t.index()
	seen := make(map[string]bool, len(w.seen))
	var at place
	for _, e := range w.seen {
		if e.task != w.task {
			c.bad(content, "the watcher of %s was told of %s", w.task, e.task)
			continue
		}
		p, ok := parsePlace(e.cursor)
		if !ok || !p.follows(at) {
			c.bad(cursors, "the watcher of %s saw %q behind %v", w.task, e.cursor, at)
		}
		at, seen[e.cursor] = p, true
		c.compare("the watcher", e, log, last)
	}
	for _, e := range t.log {
		if !seen[e.cursor] {
			c.bad(unseen, "the watcher of %s never saw %s", w.task, e.cursor)
			return
		}
	}
}

// feed checks what one connection was told of all tasks: it starts anywhere in
// their logs, and skips nothing but the end of an attempt that died.
func (c *checker) feed(events []happening) {
	type known struct {
		log  map[string]happening
		last int
		at   place
	}
	tasks := map[string]*known{}
	for _, e := range events {
		k := tasks[e.task]
		if k == nil {
			t, ok := c.h.tasks[e.task]
			if !ok {
				c.bad(lost, "a feed told of task %s, which is not there", e.task)
				continue
			}
			k = new(known)
			k.log, k.last = t.index()
			tasks[e.task] = k
		}
		p, ok := parsePlace(e.cursor)
		if !ok || p.attempt < k.at.attempt || p.attempt == k.at.attempt && p.seq <= k.at.seq {
			c.bad(cursors, "a feed told of %s of task %s behind %v", e.cursor, e.task, k.at)
		}
		k.at = p
		c.compare("a feed", e, k.log, k.last)
	}
}

// Of an attempt it is known that it ran from its first word to its last: it was
// allowed to before, and gave back what it had behind that. The clocks of nodes go
// alike but for their doubt.
type stay struct {
	from, until time.Time
	who         string
}

const clockDoubt = 10 * time.Millisecond

// stays lists the attempts of a task by what they said.
func (c *checker) stays(id string, t outlast) []stay {
	var all []stay
	runs, spoke := 0, 0 // the attempt that began last, and the one that said something last
	for _, e := range t.log {
		p, _ := parsePlace(e.cursor)
		at, err := time.Parse(`"`+time.RFC3339Nano+`"`, e.at)
		if err != nil {
			c.bad(other, "task %s: event %s is of the time %s", id, e.cursor, e.at)
			return nil
		}
		var d stateData
		if e.kind == "state" && json.Unmarshal([]byte(e.data), &d) == nil && d.State == "running" {
			runs = p.attempt
			continue
		}
		switch {
		case p.attempt == 0 || p.attempt != runs: // it has not begun
		case p.attempt != spoke:
			spoke = p.attempt
			all = append(all, stay{at, at, fmt.Sprintf("%s/%d", id, spoke)})
		default:
			all[len(all)-1].until = at.Add(-clockDoubt)
		}
	}
	return all
}

// limit counts who ran at once of those under one limit.
func (c *checker) limit(limit string, most int) {
	var all []stay
	for id, t := range c.h.tasks {
		if t.number >= 0 && t.number < len(c.h.sent) && slices.Contains(c.h.sent[t.number].limits, limit) {
			all = append(all, c.stays(id, t)...)
		}
	}
	slices.SortFunc(all, func(a, b stay) int { return a.from.Compare(b.from) })
	var now []stay
	for _, s := range all {
		now = append(slices.DeleteFunc(now, func(o stay) bool { return !o.until.After(s.from) }), s)
		if len(now) > most {
			c.bad(overrun, "%d ran at once under %s, of which %d may: %v", len(now), limit, most, now)
		}
	}
}

// sound is a history without a fault: a stream that was interrupted once, and
// an echo.
func sound() history {
	of := func(task string) func(cursor, kind, data string) happening {
		return func(cursor, kind, data string) happening { return happening{task, cursor, kind, "now", data} }
	}
	a, b := of("a"), of("b")
	log := []happening{
		a("0.1", "state", `{"state":"queued","attempt":0}`),
		a("1.1", "state", `{"state":"running","attempt":1}`),
		a("1.2", "output", `{"chunk":{"i":0}}`),
		a("2.1", "state", `{"state":"queued","attempt":1,"reason":"node_lost"}`),
		a("2.2", "state", `{"state":"running","attempt":2}`),
		a("2.3", "output", `{"chunk":{"i":0}}`),
		a("2.4", "output", `{"chunk":{"i":1}}`),
		a("2.5", "state", `{"state":"succeeded","attempt":2,"result":{"chunks":2}}`),
	}
	echo := []happening{
		b("0.1", "state", `{"state":"queued","attempt":0}`),
		b("1.1", "state", `{"state":"running","attempt":1}`),
		b("1.2", "state", `{"state":"succeeded","attempt":1,"result":7}`),
	}
	seen := slices.Concat(log[:3], []happening{a("1.3", "output", `{"chunk":{"i":1}}`)}, log[3:]) // 1.3 died with its node
	return history{
		sent:  []sent{{kind: "demo.stream", payload: `{"chunks":2}`, maxAttempts: 3}, {id: "b", kind: "demo.echo", payload: "7", maxAttempts: 1}},
		acked: map[string]int{"a": 0}, // the answer about b was lost
		tasks: map[string]outlast{
			"a": {0, "demo.stream", `{"chunks":2}`, "succeeded", `{"chunks":2}`, 2, 3, log},
			"b": {1, "demo.echo", "7", "succeeded", "7", 1, 1, echo},
		},
		watches: []watched{{task: "a", seen: seen, ended: true}},
		feeds:   [][]happening{{log[1], echo[1], echo[2]}, {log[4], log[7]}},
	}
}

func TestCheckFindsEveryFault(t *testing.T) {
	if found := check(sound()); len(found) > 0 {
		t.Fatalf("a sound history: %v", found)
	}
	edit := func(id string, change func(*outlast)) func(*history) {
		return func(h *history) {
			v := h.tasks[id]
			v.log = slices.Clone(v.log)
			change(&v)
			h.tasks[id] = v
		}
	}
	relog := func(change func(log []happening) []happening) func(*history) {
		return edit("a", func(v *outlast) { v.log = change(v.log) })
	}
	resee := func(change func(seen []happening) []happening) func(*history) {
		return func(h *history) { h.watches[0].seen = change(h.watches[0].seen) }
	}
	without := func(i int) func([]happening) []happening {
		return func(l []happening) []happening { return slices.Delete(l, i, i+1) }
	}
	twice := func(i int) func([]happening) []happening {
		return func(l []happening) []happening { return slices.Insert(l, i, l[i]) }
	}
	says := func(i int, data string) func([]happening) []happening {
		return func(l []happening) []happening { l[i].data = data; return l }
	}
	for _, fault := range []struct {
		name, rule string
		spoil      func(*history)
	}{
		{"a lost task", lost, func(h *history) { delete(h.tasks, "a"); h.watches, h.feeds = nil, nil }},
		{"a task in two", doubled, func(h *history) { h.tasks["c"] = h.tasks["b"] }},
		{"another's answer", other, func(h *history) { h.acked = map[string]int{"a": 1} }},
		{"another payload", other, edit("a", func(v *outlast) { v.payload = `{"chunks":2 }` })},
		{"another id", other, func(h *history) { h.tasks["c"] = h.tasks["b"]; delete(h.tasks, "b"); h.feeds = nil }},
		{"a task nobody sent", other, edit("b", func(v *outlast) { v.number = 9 })},
		{"a task that never ends", unended, edit("a", func(v *outlast) { v.state = "running" })},
		{"two ends", ends, relog(func(l []happening) []happening {
			return append(l, happening{"a", "2.6", "state", "now", `{"state":"failed","attempt":2}`})
		})},
		{"no end", ends, relog(func(l []happening) []happening { return l[:7] })},
		{"two ends in two attempts", ends, relog(says(3, `{"state":"failed","attempt":1}`))},
		{"an event behind the end", ends, relog(func(l []happening) []happening {
			return append(l, happening{"a", "2.6", "output", "now", `{}`})
		})},
		{"a state that is not the log's", ends, edit("b", func(v *outlast) { v.state = "failed" })},
		{"a hole", cursors, relog(without(5))},
		{"an attempt without its beginning", cursors, relog(without(3))},
		{"a log without its beginning", cursors, relog(without(0))},
		{"a repeat", cursors, relog(twice(5))},
		{"an older attempt", cursors, relog(func(l []happening) []happening { l[3], l[1] = l[1], l[3]; return l })},
		{"an attempt reused", reused, relog(says(4, `{"state":"running","attempt":1}`))},
		{"an attempt under another's cursor", reused, relog(says(4, `{"state":"running","attempt":3}`))},
		{"too many attempts", tooMany, edit("a", func(v *outlast) { v.maxAttempts = 1 })},
		{"too high an attempt", tooMany, edit("a", func(v *outlast) { v.attempt = 4 })},
		{"a chunk twice", chunks, relog(says(6, `{"chunk":{"i":0}}`))},
		{"a chunk too few", chunks, func(h *history) {
			edit("a", func(v *outlast) { v.payload = `{"chunks":3}` })(h)
			h.sent[0].payload = `{"chunks":3}`
		}},
		{"a wrong result", wrong, edit("b", func(v *outlast) { v.result = "8" })},
		{"a result that is not the log's", content, edit("a", func(v *outlast) { v.result = `{"chunks":1}` })},
		{"watched: a hole", cursors, resee(without(2))},
		{"watched: a repeat", cursors, resee(twice(6))},
		{"watched: an attempt from its middle", cursors, resee(without(4))},
		{"watched: other content", content, resee(says(2, `{"chunk":{"i":9}}`))},
		{"watched: another's event", content, resee(func(l []happening) []happening { l[2].task = "b"; return l })},
		{"watched: an attempt not to its stored end", unseen, resee(func(l []happening) []happening { return slices.Delete(l, 2, 4) })},
		{"watched: not the end", unseen, resee(func(l []happening) []happening { return l[:8] })},
		{"watched: lost of the last attempt", vanished, func(h *history) {
			resee(func(l []happening) []happening {
				return append(l, happening{"a", "2.6", "output", "now", `{}`})
			})(h)
		}},
		{"watched: a state that was lost", vanished, resee(func(l []happening) []happening {
			return slices.Insert(l, 4, happening{"a", "1.4", "state", "now", `{"state":"queued","attempt":1}`})
		})},
		{"watched: a gap", interrupts, func(h *history) { h.watches[0].gaps = []string{"1.2"} }},
		{"watched: an error", interrupts, func(h *history) { h.watches[0].err = "refused" }},
		{"watched: never told of the end", interrupts, func(h *history) { h.watches[0].ended = false }},
		{"watched: no such task", lost, func(h *history) { h.watches[0].task = "z" }},
		{"fed: a repeat", cursors, func(h *history) { h.feeds[0] = append(h.feeds[0], h.feeds[0][0]) }},
		{"fed: other content", content, func(h *history) { h.feeds[0][0].data = `{"state":"running","attempt":7}` }},
		{"fed: a state that was lost", vanished, func(h *history) { h.feeds[0][0].cursor = "1.9" }},
		{"fed: no such task", lost, func(h *history) { h.feeds[0][0].task = "z" }},
	} {
		h := sound()
		for id, v := range h.tasks { // logs, watches and feeds share their events
			v.log = slices.Clone(v.log)
			h.tasks[id] = v
		}
		fault.spoil(&h)
		if found := check(h); !slices.ContainsFunc(found, func(v violation) bool { return v.rule == fault.rule }) {
			t.Errorf("%s: found %v, and nothing under %q", fault.name, found, fault.rule)
		}
	}
}

func TestPlaces(t *testing.T) {
	for _, s := range []string{"", "1", "1.0", "-1.1", "a.b", "1.2.3"} {
		if p, ok := parsePlace(s); ok {
			t.Errorf("%q is read as %v", s, p)
		}
	}
	if p, ok := parsePlace("12.34"); !ok || p != (place{12, 34}) {
		t.Errorf("got %v", p)
	}
}

func TestCheckCountsWhoRunsAtOnce(t *testing.T) {
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	// Each task speaks for a span, in milliseconds, in its second attempt; the
	// first died with its node.
	runs := func(limits []string, spans ...[2]int) history {
		h := history{tasks: map[string]outlast{}, limits: map[string]int{"k": 2}}
		for n, span := range spans {
			id := strconv.Itoa(n)
			at := func(ms int, cursor, kind, data string) happening {
				return happening{id, cursor, kind, epoch.Add(time.Duration(ms) * time.Millisecond).Format(`"` + time.RFC3339Nano + `"`), data}
			}
			h.sent = append(h.sent, sent{limits: limits})
			h.tasks[id] = outlast{number: n, log: []happening{
				at(0, "0.1", "state", `{"state":"queued"}`),
				at(1, "1.1", "state", `{"state":"running","attempt":1}`),
				at(50*n, "1.2", "output", `{}`), at(50*n+40, "1.3", "output", `{}`),
				at(900, "2.1", "state", `{"state":"scheduled","attempt":1}`), // by who found the node dead
				at(901, "2.2", "state", `{"state":"queued","attempt":1}`),
				at(902, "2.3", "state", `{"state":"running","attempt":2}`),
				at(span[0], "2.4", "output", `{}`), at(span[1], "2.5", "output", `{}`),
			}}
		}
		return h
	}
	count := func(h history) int {
		c := &checker{h: h}
		c.limit("k", 2)
		return len(c.found)
	}
	if n := count(runs([]string{"k"}, [2]int{1000, 1100}, [2]int{1050, 1200}, [2]int{1100, 1300})); n != 0 {
		t.Errorf("two at once: %d found", n)
	}
	if n := count(runs([]string{"k"}, [2]int{1000, 1100}, [2]int{1050, 1200}, [2]int{1060, 1300})); n == 0 {
		t.Error("three at once were not found")
	}
	if n := count(runs(nil, [2]int{1000, 1100}, [2]int{1050, 1200}, [2]int{1060, 1300})); n != 0 {
		t.Error("others were counted")
	}
}
