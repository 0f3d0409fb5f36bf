package ws

import (
	"context"
	"net/http"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// watcher is who speaks the watchers' protocol.
type watcher struct {
	*conn

	tasks   Tasks
	session task.Session
	topics  map[string]bool // under the connection's lock
}

func newWatcher(t Tasks, c *conn) *watcher {
	w := &watcher{conn: c, tasks: t, topics: map[string]bool{}}
	w.session = t.OpenSession(c.who.Namespace, w)
	return w
}

func (w *watcher) limits(l *limits) { l.Subscriptions = w.handler.bounds.Subscriptions }
func (w *watcher) beat()            {}
func (w *watcher) drained()         { w.session.Drained() }
func (w *watcher) ended(bool)       { w.session.Close() }

// Offer implements [task.Outbox].
func (w *watcher) Offer(f *task.Frame) bool {
	switch f.Kind {
	case task.Happened, task.Ended, task.Gap, task.Reset:
		frame, _ := f.Encoded(encodeFrame).([]byte)
		return w.offer(frame, func() {
			if f.Kind == task.Ended {
				delete(w.topics, f.Topic)
			}
		})
	case task.Subscribed, task.Refused:
		w.answerSubscribe(f)
	case task.Goodbye:
		w.goodbye(f.Delay)
	}
	return true
}

func watcherMethods() []method {
	return []method{
		asked("subscribe", access.TasksRead, (*watcher).subscribe),
		asked("unsubscribe", Anyone, (*watcher).unsubscribe),
		asked("submit", access.TasksWrite, (*watcher).submit),
		asked("get", access.TasksRead, (*watcher).get),
		asked("cancel", access.TasksWrite, (*watcher).cancel),
		asked("renew", Anyone, (*watcher).renew),
		asked("ping", Anyone, (*watcher).ping),
	}
}

func (p subscribeParams) topic() (t task.Topic, after *task.Cursor, err error) {
	named := 0
	for _, is := range []bool{p.Task != "", p.Batch != "", p.Queue != "", p.Tasks != nil} {
		if is {
			named++
		}
	}
	if named != 1 {
		return t, nil, invalid("Name exactly one of task, batch, queue and tasks.")
	}
	if p.After != nil && p.Task == "" {
		return t, nil, invalid("Only a task has a cursor.")
	}
	switch {
	case p.Task != "":
		if t.Task, err = parseID("task", p.Task); err == nil && p.After != nil {
			var at task.Cursor
			if at, err = task.ParseCursor(*p.After); err != nil {
				err = invalid("after must be a cursor: ATTEMPT.SEQ.")
			}
			after = &at
		}
	case p.Batch != "":
		t.Batch, err = parseID("batch", p.Batch)
	case p.Queue != "":
		if t.Queue = p.Queue; !task.ValidName(p.Queue) {
			err = invalid("queue must be the name of a queue.")
		}
	default:
		t.Filter, err = p.Tasks.filter()
	}
	return t, after, err
}

func (p *filterParams) filter() (*task.Filter, error) {
	f := &task.Filter{States: p.State, Kind: p.Kind, Queue: p.Queue, Labels: p.Label}
	if len(p.State) > len(task.States()) || len(p.Label) > 16 {
		return nil, invalid("The filter has too many conditions.")
	}
	if p.Kind != "" && !task.ValidName(p.Kind) || p.Queue != "" && !task.ValidName(p.Queue) {
		return nil, invalid("kind and queue must be names.")
	}
	if p.BatchID != "" {
		id, err := parseID("batch_id", p.BatchID)
		if err != nil {
			return nil, err
		}
		f.BatchID = id
	}
	if p.CreatedAfter != nil {
		f.CreatedAfter = time.Time(*p.CreatedAfter)
	}
	if p.CreatedBefore != nil {
		f.CreatedBefore = time.Time(*p.CreatedBefore)
	}
	return f, nil
}

func (w *watcher) subscribe(_ context.Context, p subscribeParams, to *call) (subscribed, error) {
	topic, after, err := p.topic()
	if err != nil {
		return subscribed{}, err
	}
	return subscribed{}, w.follow(topic, after, to)
}

// follow hands a subscription to the session, which answers it: there is no other error
// than why it does not, and errLater.
func (w *watcher) follow(topic task.Topic, after *task.Cursor, to *call) error {
	name := topic.Name()
	w.mu.Lock()
	full := !w.topics[name] && len(w.topics) >= w.handler.bounds.Subscriptions
	if !full {
		w.topics[name] = true
	}
	w.mu.Unlock()
	if full {
		return transport.NewProblem(http.StatusTooManyRequests, "too_many_subscriptions", "This connection follows as much as it may.")
	}
	w.session.Subscribe(topic, after, to)
	return errLater
}

// answerSubscribe passes the session's answer on.
func (w *watcher) answerSubscribe(f *task.Frame) {
	to, ok := f.Tag.(*call)
	if !ok {
		return
	}
	if f.Kind == task.Refused {
		w.mu.Lock()
		delete(w.topics, f.Topic)
		w.mu.Unlock()
		w.answer(to, nil, f.Err)
		return
	}
	result := subscribed{Subscription: f.Topic}
	switch {
	case to.task != nil:
		result.Task = new(transport.View(*to.task))
		to.task = nil // the session keeps to
	case f.Task != nil:
		result.Task = new(transport.View(*f.Task))
	default:
		result.Tasks = new(views(f.Tasks))
	}
	w.answer(to, result, nil)
}

func (w *watcher) unsubscribe(_ context.Context, p unsubscribeParams, _ *call) (nothing, error) {
	w.mu.Lock()
	known := w.topics[p.Subscription]
	delete(w.topics, p.Subscription)
	w.mu.Unlock()
	if !known {
		return nothing{}, transport.NewProblem(http.StatusNotFound, "subscription_not_found", "There is no such subscription.")
	}
	w.session.Unsubscribe(p.Subscription)
	return nothing{}, nil
}

// submit stores a task. With follow the session's answer is the call's; that shows the
// task, so it takes what reading does.
func (w *watcher) submit(ctx context.Context, p submitParams, to *call) (submitted, error) {
	if p.Follow {
		if err := w.may(access.TasksRead); err != nil {
			return submitted{}, err
		}
	}
	sub, err := p.Submit(w.who.Namespace, time.Now())
	if err != nil {
		return submitted{}, err
	}
	answer := w.tasks.Enqueue(ctx, []task.Submission{sub})[0]
	if answer.Err != nil {
		return submitted{}, answer.Err
	}
	if !p.Follow {
		return submitted{Task: transport.View(answer.Task)}, nil
	}
	to.task = &answer.Task
	return submitted{}, w.follow(task.Topic{Task: answer.Task.ID}, nil, to)
}

func (w *watcher) get(ctx context.Context, p getParams, _ *call) (shown, error) {
	id, err := parseID("task", p.Task)
	if err != nil {
		return shown{}, err
	}
	t, err := w.tasks.Task(ctx, w.who.Namespace, id)
	if err != nil {
		return shown{}, err
	}
	return shown{Task: transport.View(t)}, nil
}

func (w *watcher) cancel(ctx context.Context, p cancelParams, _ *call) (shown, error) {
	id, err := parseID("task", p.Task)
	if err != nil {
		return shown{}, err
	}
	if len(p.Reason) > 1000 || !task.ValidText(p.Reason) {
		return shown{}, invalid("reason must be at most 1000 bytes of printable UTF-8.")
	}
	t, err := w.tasks.Cancel(ctx, w.who.Namespace, id, p.Reason)
	if err != nil {
		return shown{}, err
	}
	return shown{Task: transport.View(t)}, nil
}
