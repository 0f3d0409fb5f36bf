package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// history is what clients saw of a server that was killed again and again, and
// what it says in the end. check judges it by the contract alone.
type history struct {
	acked   map[string]transport.Submission // by id: the server said it is on disk
	final   map[string]transport.Task       // as each is in the end
	logs    map[string][]transport.Event    // each task's whole log in the end
	watched [][]transport.Event             // what each watcher saw of its one task, in order
}

// check lists everything that breaks a promise.
func (h *history) check() (violations []string) {
	bad := func(format string, args ...any) { violations = append(violations, fmt.Sprintf(format, args...)) }
	for id := range h.acked {
		if _, ok := h.final[id]; !ok {
			bad("task %s was acknowledged and is lost", id)
		}
	}
	for id, t := range h.final {
		h.checkTask(id, t, bad)
	}
	for _, seen := range h.watched {
		h.checkWatched(seen, bad)
	}
	return violations
}

func (h *history) checkTask(id string, t transport.Task, bad func(string, ...any)) {
	log := h.logs[id]
	if !t.State.Terminal() {
		bad("task %s is %s in the end", id, t.State)
		return
	}
	if t.Attempt > t.MaxAttempts {
		bad("task %s was tried %d times of %d", id, t.Attempt, t.MaxAttempts)
	}
	var at task.Cursor
	ends, runs := 0, 0
	for i, e := range log {
		at = follows(id, at, e, bad)
		if e.Type != task.EventState {
			continue
		}
		var d task.StateData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			bad("task %s: event %s: %v", id, e.Cursor, err)
			continue
		}
		switch {
		case d.State == task.Running && d.Attempt <= runs:
			bad("task %s: attempt %d began behind attempt %d", id, d.Attempt, runs)
		case d.State == task.Running:
			runs = d.Attempt
		case d.State.Terminal():
			ends++
			if i != len(log)-1 {
				bad("task %s goes on behind its end", id)
			}
		}
	}
	if ends != 1 {
		bad("task %s ended %d times", id, ends)
	}
	if runs != t.Attempt {
		bad("task %s shows attempt %d and is in attempt %d", id, runs, t.Attempt)
	}
	if t.Kind == "demo.echo" && string(t.Result) != string(t.Payload) {
		bad("task %s returned %s for %s", id, t.Result, t.Payload)
	}
	if t.Kind == "demo.stream" && t.State == task.Succeeded {
		checkStream(id, t, log, bad)
	}
}

// follows checks that e comes right behind at, and returns where e is.
func follows(id string, at task.Cursor, e transport.Event, bad func(string, ...any)) task.Cursor {
	now, err := task.ParseCursor(e.Cursor)
	if err != nil {
		bad("task %s: cursor %q", id, e.Cursor)
		return at
	}
	inOrder := now.Attempt == at.Attempt && now.Seq == at.Seq+1 || now.Attempt > at.Attempt && now.Seq == 1
	if !inOrder {
		bad("task %s: event %s stands behind %s", id, now, at)
	}
	return now
}

// checkStream wants every chunk of the last attempt, once and in order.
func checkStream(id string, t transport.Task, log []transport.Event, bad func(string, ...any)) {
	var want struct{ Chunks int }
	if err := json.Unmarshal(t.Payload, &want); err != nil {
		bad("task %s: payload %s", id, t.Payload)
	}
	next := 0
	for _, e := range log {
		at, _ := task.ParseCursor(e.Cursor)
		var d struct{ Chunk struct{ I int } }
		if at.Attempt != t.Attempt || e.Type != task.EventOutput || json.Unmarshal(e.Data, &d) != nil {
			continue
		}
		if d.Chunk.I != next {
			bad("task %s: chunk %d where %d belongs", id, d.Chunk.I, next)
		}
		next++
	}
	if next != want.Chunks {
		bad("task %s: %d chunks of %d", id, next, want.Chunks)
	}
}

// checkWatched holds what one watcher saw against the log: nothing twice, no
// hole, the same content. An attempt that died with its node may have shown more
// than the log kept, but then it is not the last one.
func (h *history) checkWatched(seen []transport.Event, bad func(string, ...any)) {
	if len(seen) == 0 {
		return
	}
	id := seen[0].Task
	kept := map[string]transport.Event{}
	for _, e := range h.logs[id] {
		kept[e.Cursor] = e
	}
	var at task.Cursor
	for _, e := range seen {
		at = follows("watched "+id, at, e, bad)
		k, ok := kept[e.Cursor]
		switch {
		case !ok && at.Attempt >= h.final[id].Attempt:
			bad("task %s: event %s was seen and is not in the log", id, e.Cursor)
		case ok && (k.Type != e.Type || string(k.Data) != string(e.Data)):
			bad("task %s: event %s was %s when it was seen and is %s now", id, e.Cursor, e.Data, k.Data)
		}
	}
	if last := h.logs[id]; len(last) > 0 && seen[len(seen)-1].Cursor != last[len(last)-1].Cursor {
		bad("task %s: the watcher never saw its end", id)
	}
}

// event is one of task "a".
func event(cursor string, kind task.EventType, data string) transport.Event {
	return transport.Event{Task: "a", Cursor: cursor, Type: kind, Data: json.RawMessage(data)}
}

// good is a history without a fault: one task, interrupted once.
func good() *history {
	log := []transport.Event{
		event("0.1", "state", `{"state":"queued"}`),
		event("1.1", "state", `{"state":"running","attempt":1}`),
		event("1.2", "output", `{"chunk":{"i":0}}`),
		event("2.1", "state", `{"state":"queued","attempt":1}`),
		event("2.2", "state", `{"state":"running","attempt":2}`),
		event("2.3", "output", `{"chunk":{"i":0}}`),
		event("2.4", "output", `{"chunk":{"i":1}}`),
		event("2.5", "state", `{"state":"succeeded","attempt":2}`),
	}
	seen := append([]transport.Event{}, log[:3]...)
	seen = append(seen, event("1.3", "output", `{"chunk":{"i":1}}`)) // shown live, lost with its node
	seen = append(seen, log[3:]...)
	return &history{
		acked:   map[string]transport.Submission{"a": {}},
		final:   map[string]transport.Task{"a": {ID: "a", Kind: "demo.stream", State: task.Succeeded, Attempt: 2, MaxAttempts: 3, Payload: json.RawMessage(`{"chunks":2}`)}},
		logs:    map[string][]transport.Event{"a": log},
		watched: [][]transport.Event{seen},
	}
}

func TestCheckerFindsEveryFault(t *testing.T) {
	if v := good().check(); len(v) > 0 {
		t.Fatalf("a good history: %v", v)
	}
	edit := func(change func(*transport.Task)) func(*history) {
		return func(h *history) {
			one := h.final["a"]
			change(&one)
			h.final["a"] = one
		}
	}
	for name, spoil := range map[string]func(*history){
		"a lost task":            func(h *history) { delete(h.final, "a"); h.watched = nil },
		"a task that never ends": edit(func(v *transport.Task) { v.State = task.Running }),
		"too many attempts":      edit(func(v *transport.Task) { v.MaxAttempts = 1 }),
		"an attempt not counted": edit(func(v *transport.Task) { v.Attempt = 1 }),
		"a wrong result":         edit(func(v *transport.Task) { v.Kind, v.Result = "demo.echo", json.RawMessage("1") }),
		"two ends":               func(h *history) { h.logs["a"] = append(h.logs["a"], event("2.6", "state", `{"state":"failed"}`)) },
		"no end":                 func(h *history) { h.logs["a"] = h.logs["a"][:7]; h.watched = nil },
		"a hole":                 func(h *history) { h.logs["a"] = append(h.logs["a"][:5:5], h.logs["a"][6:]...); h.watched = nil },
		"an attempt again": func(h *history) {
			h.logs["a"][4].Data = json.RawMessage(`{"state":"running","attempt":1}`)
			h.watched = nil
		},
		"a chunk twice":          func(h *history) { h.logs["a"][6].Data = h.logs["a"][5].Data; h.watched = nil },
		"watched: a hole":        func(h *history) { h.watched[0] = append(h.watched[0][:6:6], h.watched[0][7:]...) },
		"watched: a repeat":      func(h *history) { h.watched[0] = append(h.watched[0][:7:7], h.watched[0][6:]...) },
		"watched: other content": func(h *history) { h.watched[0][2].Data = json.RawMessage(`{"chunk":{"i":9}}`) },
		"watched: never stored": func(h *history) {
			h.logs["a"] = append(h.logs["a"][:6:6], event("2.4", "state", `{"state":"succeeded","attempt":2}`))
		},
		"watched: no end": func(h *history) { h.watched[0] = h.watched[0][:8] },
	} {
		h := good()
		spoil(h)
		if len(h.check()) == 0 {
			t.Errorf("%s is not found", name)
		}
	}
}
