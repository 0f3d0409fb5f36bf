package ws

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// dispatch carries out one request.
func (c *conn) dispatch(ctx context.Context, r request, to *call) {
	var result any
	var err error
	switch r.Method {
	case "subscribe":
		if err = c.subscribe(r.Params, to); err == nil {
			return // the session answers
		}
	case "unsubscribe":
		result, err = c.unsubscribe(r.Params)
	case "submit":
		if result, err = c.submit(ctx, r.Params, to); err == nil && result == nil {
			return
		}
	case "cancel":
		result, err = c.cancel(ctx, r.Params)
	case "get": //nolint:usestdlibvars // the method of the protocol, not of HTTP
		result, err = c.get(ctx, r.Params)
	case "ping":
		result = map[string]task.Time{"at": task.Time(time.Now())}
	default:
		err = &rpcError{Code: codeMethod, Message: "no such method"}
	}
	c.answer(to, result, err)
}

// params reads a method's parameters; none is the same as an empty object.
func params(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	return transport.Decode(raw, into)
}

func invalid(detail string) error {
	return transport.NewProblem(http.StatusUnprocessableEntity, "invalid_params", detail)
}

// subscribeParams names one topic. After is for a task only.
type subscribeParams struct {
	Task  string        `json:"task,omitempty"`
	After *string       `json:"after,omitempty"`
	Batch string        `json:"batch,omitempty"`
	Queue string        `json:"queue,omitempty"`
	Tasks *filterParams `json:"tasks,omitempty"`
}

// filterParams selects tasks, as the query of GET /v1/tasks does.
type filterParams struct {
	State         []task.State      `json:"state,omitempty"`
	Kind          string            `json:"kind,omitempty"`
	Queue         string            `json:"queue,omitempty"`
	Label         map[string]string `json:"label,omitempty"`
	BatchID       string            `json:"batch_id,omitempty"`
	CreatedAfter  *task.Time        `json:"created_after,omitempty"`
	CreatedBefore *task.Time        `json:"created_before,omitempty"`
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

func parseID(field, text string) (task.ID, error) {
	id, err := task.ParseID(text)
	if err != nil || id.IsZero() {
		return task.ID{}, invalid(field + " must be a UUID.")
	}
	return id, nil
}

func (c *conn) subscribe(raw json.RawMessage, to *call) error {
	var p subscribeParams
	if err := params(raw, &p); err != nil {
		return err
	}
	topic, after, err := p.topic()
	if err != nil {
		return err
	}
	return c.follow(topic, after, to)
}

// follow hands a subscription to the session, which answers it.
func (c *conn) follow(topic task.Topic, after *task.Cursor, to *call) error {
	name := topic.Name()
	c.mu.Lock()
	full := !c.topics[name] && len(c.topics) >= c.handler.bounds.Subscriptions
	if !full {
		c.topics[name] = true
	}
	c.mu.Unlock()
	if full {
		return transport.NewProblem(http.StatusTooManyRequests, "too_many_subscriptions", "This connection follows as much as it may.")
	}
	c.session.Subscribe(topic, after, to)
	return nil
}

// answerSubscribe passes the session's answer on.
func (c *conn) answerSubscribe(f *task.Frame) {
	to, ok := f.Tag.(*call)
	if !ok {
		return
	}
	if f.Kind == task.Refused {
		c.mu.Lock()
		delete(c.topics, f.Topic)
		c.mu.Unlock()
		c.answer(to, nil, f.Err)
		return
	}
	result := map[string]any{"subscription": f.Topic}
	switch {
	case to.task != nil:
		result["task"] = transport.View(*to.task)
	case f.Task != nil:
		result["task"] = transport.View(*f.Task)
	default:
		result["tasks"] = views(f.Tasks)
	}
	c.answer(to, result, nil)
}

func (c *conn) unsubscribe(raw json.RawMessage) (any, error) {
	var p struct {
		Subscription string `json:"subscription"`
	}
	if err := params(raw, &p); err != nil {
		return nil, err
	}
	c.mu.Lock()
	known := c.topics[p.Subscription]
	delete(c.topics, p.Subscription)
	c.mu.Unlock()
	if !known {
		return nil, transport.NewProblem(http.StatusNotFound, "subscription_not_found", "There is no such subscription.")
	}
	c.session.Unsubscribe(p.Subscription)
	return struct{}{}, nil
}

// submitParams is a submission, and whether to follow the task.
type submitParams struct {
	transport.Submission
	Follow bool `json:"follow,omitempty"`
}

// submit stores a task. With follow the session's answer is the call's, and
// result is nil.
func (c *conn) submit(ctx context.Context, raw json.RawMessage, to *call) (any, error) {
	var p submitParams
	if err := params(raw, &p); err != nil {
		return nil, err
	}
	spec, err := p.Spec(c.namespace, time.Now())
	if err != nil {
		return nil, err
	}
	answer := c.handler.tasks.Enqueue(ctx, []task.Submission{{Spec: spec}})[0]
	if answer.Err != nil {
		return nil, answer.Err
	}
	if !p.Follow {
		return map[string]any{"task": transport.View(answer.Task)}, nil
	}
	to.task = &answer.Task
	return nil, c.follow(task.Topic{Task: answer.Task.ID}, nil, to)
}

func (c *conn) get(ctx context.Context, raw json.RawMessage) (any, error) {
	var p struct {
		Task string `json:"task"`
	}
	if err := params(raw, &p); err != nil {
		return nil, err
	}
	id, err := parseID("task", p.Task)
	if err != nil {
		return nil, err
	}
	t, err := c.handler.tasks.Task(ctx, c.namespace, id)
	if err != nil {
		return nil, err
	}
	return map[string]any{"task": transport.View(t)}, nil
}

func (c *conn) cancel(ctx context.Context, raw json.RawMessage) (any, error) {
	var p struct {
		Task   string `json:"task"`
		Reason string `json:"reason,omitempty"`
	}
	if err := params(raw, &p); err != nil {
		return nil, err
	}
	id, err := parseID("task", p.Task)
	if err != nil {
		return nil, err
	}
	if len(p.Reason) > 1000 || !task.ValidText(p.Reason) {
		return nil, invalid("reason must be at most 1000 bytes of printable UTF-8.")
	}
	t, err := c.handler.tasks.Cancel(ctx, c.namespace, id, p.Reason)
	if err != nil {
		return nil, err
	}
	return map[string]any{"task": transport.View(t)}, nil
}
