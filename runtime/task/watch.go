package task

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Topic is what a watcher follows: one task, or every task of a batch, of a
// queue or under a filter. One of the last four fields is set; with none it is
// every task of the namespace.
type Topic struct {
	Namespace string
	Task      ID
	Batch     ID
	Queue     string
	Filter    *Filter
}

// Name is the topic's own name within its namespace, the same for every
// watcher: "task:ID", "batch:ID", "queue:NAME" or "tasks:" and the filter as a
// query string.
func (t Topic) Name() string {
	switch {
	case !t.Task.IsZero():
		return "task:" + t.Task.String()
	case !t.Batch.IsZero():
		return "batch:" + t.Batch.String()
	case t.Queue != "":
		return "queue:" + t.Queue
	default:
		return "tasks:" + t.Select().query()
	}
}

// Match says whether the topic is about task u.
func (t Topic) Match(u Task) bool {
	switch {
	case t.Namespace != u.Namespace:
		return false
	case !t.Task.IsZero():
		return t.Task == u.ID
	case !t.Batch.IsZero():
		return t.Batch == u.BatchID
	case t.Queue != "":
		return t.Queue == u.Queue
	default:
		return t.Select().Match(u)
	}
}

// Select is the filter that lists the topic's tasks. A topic of one task has
// none: its task is read by id.
func (t Topic) Select() Filter {
	switch {
	case !t.Batch.IsZero():
		return Filter{Namespace: t.Namespace, BatchID: t.Batch}
	case t.Queue != "":
		return Filter{Namespace: t.Namespace, Queue: t.Queue}
	case t.Filter != nil:
		f := *t.Filter
		f.Namespace = t.Namespace
		return f
	default:
		return Filter{Namespace: t.Namespace}
	}
}

// labelKeys keeps a key with an equals sign apart from its value.
var labelKeys = strings.NewReplacer("%", "%25", "=", "%3D")

// query spells the filter canonically, without its namespace, page and limit:
// filters that select the same by the same words have equal texts, others not.
func (f Filter) query() string {
	q := url.Values{}
	set := func(k, v string) {
		if v != "" {
			q.Set(k, v)
		}
	}
	for _, s := range f.States {
		q.Add("state", s.String())
	}
	if len(f.States) > 0 {
		slices.Sort(q["state"])
		q["state"] = slices.Compact(q["state"])
	}
	for k, v := range f.Labels {
		q.Add("label", labelKeys.Replace(k)+"="+v)
	}
	slices.Sort(q["label"])
	set("kind", f.Kind)
	set("queue", f.Queue)
	if !f.BatchID.IsZero() {
		set("batch_id", f.BatchID.String())
	}
	if !f.CreatedAfter.IsZero() {
		set("created_after", strconv.FormatInt(f.CreatedAfter.UnixMicro(), 10))
	}
	if !f.CreatedBefore.IsZero() {
		set("created_before", strconv.FormatInt(f.CreatedBefore.UnixMicro(), 10))
	}
	return q.Encode()
}

// FrameKind says what a frame is.
type FrameKind uint8

// The kinds of frames.
const (
	Subscribed FrameKind = iota + 1 // answers a subscription: Task, or Tasks for a feed
	Refused                         // answers a subscription: Err
	Happened                        // Event
	Ended                           // the watched task's terminal event has been shown, or all tasks of the batch have ended
	Gap                             // events are gone; First is the first still there
	Reset                           // a feed could not keep up: Tasks is the newest view
	Goodbye                         // the node is going away; come back after Delay
)

// Frame is one thing to show a watcher. Frames of kind Happened and Ended are
// the same for every watcher of a topic and shared between them, so that each
// is encoded once: see [Frame.Encoded].
type Frame struct {
	Kind  FrameKind
	Topic string // its name
	Tag   any    // Subscribed, Refused: what the subscriber called this request
	Event Event
	First Cursor // Gap: the first event there is
	Task  *Task
	Tasks []Task
	Err   error
	Delay time.Duration
	// Counts, of Ended: how many of the batch's tasks ended in which state.
	Counts []Count

	once    sync.Once
	encoded any
}

// Encoded returns what encode makes of the frame, calling it only the first
// time. All users of a program pass the same encode.
func (f *Frame) Encoded(encode func(*Frame) any) any {
	f.once.Do(func() { f.encoded = encode(f) })
	return f.encoded
}

// Outbox is where a session puts what its watcher shall see. Offer never
// blocks. It must take frames of the kinds that answer a request, and Goodbye;
// any other it may refuse when it is full, and then says so to its session
// (Session.Drained) once it has emptied, and is offered what it missed.
type Outbox interface {
	Offer(f *Frame) (taken bool)
}

// Session is one watcher with its subscriptions. Its methods return at once;
// what comes of them is offered to the watcher's [Outbox], in order.
type Session interface {
	// Subscribe follows a topic; a task's from behind after, where after nil
	// means from the beginning of its log. The answer is a frame with the tag.
	Subscribe(t Topic, after *Cursor, tag any)
	Unsubscribe(topic string)
	// Drained says that the outbox has room again.
	Drained()
	Close()
}
