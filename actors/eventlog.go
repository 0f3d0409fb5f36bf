package actors

import (
	"encoding/json"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/runtime/task"
)

// How much of a task's log is kept in memory for watchers who come or come
// back; older events are read from the store.
const (
	ringEvents = 512
	ringBytes  = 256 << 10
)

// eventLog is the newest part of a task's log as its actor has it: what is not
// stored yet, and some of what is. Live events may be shown at once, but none
// may overtake a state event that is not on disk.
type eventLog struct {
	events []logged
	bytes  int
	base   task.Cursor   // the event in front of them; zero: none
	shown  task.Cursor   // watchers have seen up to here
	safe   task.Cursor   // stored up to here
	hidden []task.Cursor // state events not stored yet, in order
}

// logged is an event and, from when somebody was shown it, its frame, which all share.
// Most tasks have nobody who watches them.
type logged struct {
	task.Event

	frame *task.Frame
}

// keepEvents is for how many events an empty log keeps its memory.
const keepEvents = 16

// anew is the log of a task whose newest event is at, all of it stored. It may take over
// the memory of l, which was another's.
func (l *eventLog) anew(at task.Cursor) eventLog {
	next := eventLog{base: at, shown: at, safe: at, hidden: l.hidden[:0]}
	if cap(l.events) <= keepEvents {
		clear(l.events)
		next.events = l.events[:0]
	}
	return next
}

func (l *eventLog) add(e task.Event) {
	l.events = append(l.events, logged{Event: e})
	l.bytes += len(e.Data)
	l.trim()
}

func (l *eventLog) hide(c task.Cursor) { l.hidden = append(l.hidden, c) }

// stored notes that everything up to c is on disk.
func (l *eventLog) stored(c task.Cursor) {
	l.safe = c
	for len(l.hidden) > 0 && !c.Before(l.hidden[0]) {
		l.hidden = slices.Delete(l.hidden, 0, 1)
	}
	l.trim()
}

// trim drops the oldest events beyond the bounds, but none that is not stored
// and shown. It waits until there are some to drop.
func (l *eventLog) trim() {
	if len(l.events) <= ringEvents*5/4 && l.bytes <= ringBytes*5/4 {
		return
	}
	drop := 0
	for len(l.events)-drop > ringEvents || l.bytes > ringBytes {
		if drop == len(l.events) || l.safe.Before(l.events[drop].Cursor) || l.shown.Before(l.events[drop].Cursor) {
			break
		}
		l.bytes -= len(l.events[drop].Data)
		l.base = l.events[drop].Cursor
		drop++
	}
	l.events = slices.Delete(l.events, 0, drop)
}

// fresh returns what may be shown now and has not been, and notes it as shown.
func (l *eventLog) fresh() []logged {
	out := l.between(l.shown)
	if len(out) > 0 {
		l.shown = out[len(out)-1].Cursor
	}
	return out
}

// between returns the events behind after that may be shown; they are the log's own, and
// the next message may change them.
func (l *eventLog) between(after task.Cursor) []logged {
	first := len(l.events)
	for first > 0 && after.Before(l.events[first-1].Cursor) {
		first--
	}
	last := len(l.events)
	if len(l.hidden) > 0 {
		for last > first && !l.events[last-1].Cursor.Before(l.hidden[0]) {
			last--
		}
	}
	return l.events[first:last]
}

// sharedFrames gives the frames of events, which are the same for everybody.
func sharedFrames(events []logged) []*task.Frame {
	frames := make([]*task.Frame, len(events))
	for i := range events {
		e := &events[i]
		if e.frame == nil {
			e.frame = frameOf(e.Event)
		}
		frames[i] = e.frame
	}
	return frames
}

// covers says whether everything behind after is here.
func (l *eventLog) covers(after task.Cursor) bool { return !after.Before(l.base) }

// precede puts the log's first event in front, which is on disk and was seen by who saw
// anything.
func (l *eventLog) precede(e task.Event) {
	l.events = slices.Insert(l.events, 0, logged{Event: e})
	l.bytes += len(e.Data)
	l.base = task.Cursor{}
}

func frameOf(e task.Event) *task.Frame {
	return &task.Frame{Kind: task.Happened, Topic: "task:" + e.Task.String(), Event: e}
}

// show sends what may be seen now to everybody who watches.
func (a *taskActor) show(ctx actor.Context) {
	if fresh := a.log.fresh(); len(fresh) > 0 && len(a.watchers) > 0 {
		all := sharedFrames(fresh)
		for _, w := range a.watchers {
			ctx.Send(w.pid, frames{gen: w.gen, frames: all})
		}
	}
	a.log.trim()
}

// watch lets a session follow from a cursor, if all behind it is in memory;
// else the session reads the log first and comes again. Of a task that was new as it came
// here nothing needs to be read.
func (a *taskActor) watch(ctx actor.Context, msg watch) {
	switch {
	case msg.namespace != a.row.Namespace:
		ctx.Respond(watching{gen: msg.gen, err: task.ErrNotFound})
	case a.restarted || a.left, a.leaving && a.row.Cursor.Before(msg.after):
		ctx.Respond(notHeld{gen: msg.gen}) // it may have gone on without this actor
	case a.row.Cursor.Before(msg.after):
		ctx.Respond(watching{gen: msg.gen, err: task.ErrCursorAhead})
	case !a.log.covers(msg.after) && !a.bear():
		ctx.Respond(watching{gen: msg.gen, task: a.visible()})
	default:
		if a.watchers == nil {
			a.watchers = map[string]watcher{}
		}
		a.watchers[ctx.Sender().GetId()] = watcher{pid: ctx.Sender(), gen: msg.gen}
		ctx.Respond(watching{gen: msg.gen, task: a.visible(), live: true, frames: sharedFrames(a.log.between(msg.after))})
		if len(a.log.hidden) > 0 {
			ctx.Send(a.node.journal, hurry{id: a.row.ID})
		}
	}
}

// bear has the log begin with the task's first event, if that can be told from the row.
func (a *taskActor) bear() bool {
	birth, ok := a.role.task.Birth()
	if ok = ok && a.log.base == birth.Cursor; ok {
		a.log.precede(birth)
	}
	return ok
}

// visible is the row as a watcher may see it: as it is on disk, with the
// progress and the place in the log that have been shown live.
func (a *taskActor) visible() task.Task {
	t := *a.disk
	if t.Attempt == a.row.Attempt && t.State == task.Running {
		t.Progress = a.row.Progress
	}
	t.Cursor = a.log.shown
	return t
}

func progressOf(e task.Event) *task.Progress {
	var d task.ProgressData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return nil
	}
	return &task.Progress{Fraction: d.Fraction, Message: d.Message, At: e.At}
}
