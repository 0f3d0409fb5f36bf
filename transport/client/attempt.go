package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// Attempt is one attempt of a task, as a worker's handler sees it, with the payload
// decoded into In. Its methods may be called from any goroutine until the handler
// returns.
type Attempt[In any] struct {
	ID      string
	Attempt int // from 1
	Labels  map[string]string
	Payload In

	*attempt
}

// attempt is an attempt under way. It outlives a connection.
type attempt struct {
	worker     *Worker
	token      string
	task       transport.Task
	number     int
	checkpoint json.RawMessage
	ctx        context.Context //nolint:containedctx // the attempt's own; an attempt lives exactly as long
	cancel     context.CancelCauseFunc
	window     chan struct{} // a place for each call that is not answered

	mu     sync.Mutex
	failed error                      // of a call nobody waited for
	steps  map[string]json.RawMessage // done in earlier attempts and this one
	used   map[string]int
}

// callsAhead is how many calls of an attempt may be on their way. Beyond, it waits: the
// server is no faster.
const callsAhead = 64

// run calls the handler and tells the server how it ended.
func (a *attempt) run(ctx context.Context) {
	result, err := a.handle(ctx)
	if errors.Is(err, ErrSuspended) {
		return // the server has ended it
	}
	if err == nil {
		_, err = a.ask(ctx, "succeed", map[string]any{"result": result})
		if err == nil || errors.Is(err, ErrLost) {
			return
		}
	}
	failure := &task.Failure{Code: task.CodeError, Message: err.Error(), Retryable: true}
	if f, ok := errors.AsType[*task.Failure](err); ok {
		failure = f
	} else if p, ok := errors.AsType[*transport.Problem](err); ok {
		failure = &task.Failure{Code: p.Code, Message: p.Error()} // the server would say it again
	}
	_, _ = a.ask(ctx, "fail", map[string]any{"error": failure})
}

func (a *attempt) handle(ctx context.Context) (result json.RawMessage, err error) {
	defer func() {
		if r := recover(); r != nil {
			_ = a.Log(slog.LevelError, fmt.Sprintf("panic: %v", r), "stack", string(debug.Stack()))
			err = &task.Failure{Code: task.CodePanic, Message: fmt.Sprint(r), Retryable: true}
		}
	}()
	h := a.worker.kinds[a.task.Kind]
	if h == nil {
		return nil, fmt.Errorf("this worker does not serve the kind %q", a.task.Kind)
	}
	return h(ctx, a)
}

// ask makes a call and waits for its answer, also where the attempt's context has
// ended: the server says what comes of it.
func (a *attempt) ask(_ context.Context, method string, params map[string]any) (json.RawMessage, error) {
	c := a.call(method, params)
	if c == nil {
		return nil, ErrLost
	}
	answer := <-c.done
	return answer.result, answer.err
}

// call puts a call in line; nil: the attempt is not this worker's any more.
func (a *attempt) call(method string, params map[string]any) *workerCall {
	params["token"] = a.token
	c := &workerCall{Method: method, Params: params, token: a.token, done: make(chan workerAnswer, 1)}
	a.worker.mu.Lock()
	own := a.worker.attempts[a.token] == a
	a.worker.mu.Unlock()
	if !own {
		return nil
	}
	a.worker.enqueue(c)
	return c
}

// tell makes a call and does not wait for its answer, unless many are on their way. The
// error may be that of an earlier one.
func (a *attempt) tell(method string, params map[string]any) error {
	select {
	case a.window <- struct{}{}:
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
	c := a.call(method, params)
	if c == nil {
		<-a.window
		return ErrLost
	}
	go func() {
		answer := <-c.done
		<-a.window
		if answer.err != nil {
			a.mu.Lock()
			a.failed = answer.err
			a.mu.Unlock()
		}
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.failed
	a.failed = nil
	return err
}

// Progress says how far the attempt has come, as a fraction of 1; less than 0 means
// that nobody can tell.
func (a *attempt) Progress(fraction float64, message string) error {
	p := map[string]any{"fraction": nil, "message": message}
	if fraction >= 0 {
		p["fraction"] = fraction
	}
	return a.tell("progress", p)
}

// Log adds a line to the task's log; args are key-value pairs as in slog.
func (a *attempt) Log(level slog.Level, message string, args ...any) error {
	p := map[string]any{"level": levelName(level), "message": message}
	if len(args) > 0 {
		record := slog.Record{}
		record.Add(args...)
		fields := make(map[string]any, record.NumAttrs())
		record.Attrs(func(at slog.Attr) bool {
			v := at.Value.Resolve().Any()
			if err, ok := v.(error); ok {
				v = err.Error()
			}
			fields[at.Key] = v
			return true
		})
		p["fields"] = fields
	}
	if _, err := json.Marshal(p); err != nil {
		return fmt.Errorf("encode log fields: %w", err)
	}
	return a.tell("log", p)
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

// Emit streams a piece of the result to whoever watches; any value that encodes to
// JSON.
func (a *attempt) Emit(chunk any) error {
	raw, err := json.Marshal(chunk)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return a.tell("output", map[string]any{"chunk": json.RawMessage(raw)})
}

// EmitText streams a piece of text.
func (a *attempt) EmitText(text string) error {
	return a.tell("output", map[string]any{"text": text})
}

// EmitBytes streams bytes.
func (a *attempt) EmitBytes(b []byte) error {
	return a.tell("output", map[string]any{"base64": b})
}

// Checkpoint keeps v for the task's next attempt, which gets it from Restore.
func (a *attempt) Checkpoint(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	return a.tell("checkpoint", map[string]any{"checkpoint": json.RawMessage(raw)})
}

// Restore decodes into v what the last attempt kept with Checkpoint, and says whether
// there was anything.
func (a *attempt) Restore(v any) (bool, error) {
	if a.checkpoint == nil {
		return false, nil
	}
	if err := json.Unmarshal(a.checkpoint, v); err != nil {
		return false, fmt.Errorf("decode checkpoint: %w", err)
	}
	return true, nil
}

// Step calls fn once in the life of the task, over all its attempts, and decodes into
// out what fn gave then; out may be nil. When it returns, the result is on disk. The
// same name again in one attempt is a step of its own, with a number. See [StepOf].
func (a *attempt) Step(ctx context.Context, name string, fn func(context.Context) (any, error), out any) error {
	name = a.numbered("step:", name)
	a.mu.Lock()
	raw, done := a.steps[name]
	a.mu.Unlock()
	if !done {
		made, err := fn(ctx)
		if err != nil {
			return err
		}
		if raw, err = json.Marshal(made); err != nil {
			return &task.Failure{Code: task.CodeError, Message: fmt.Sprintf("encode the result of step %q: %v", name, err)}
		}
		if _, err := a.ask(ctx, "step", map[string]any{"name": name, "result": raw}); err != nil {
			return err
		}
		a.mu.Lock()
		a.steps[name] = raw
		a.mu.Unlock()
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return &task.Failure{Code: task.CodeError, Message: fmt.Sprintf("decode the result of step %q: %v", name, err)}
	}
	return nil
}

// StepOf is [Attempt.Step] for a result of a type.
func StepOf[Out, In any](ctx context.Context, a *Attempt[In], name string, fn func(context.Context) (Out, error)) (out Out, err error) {
	err = a.Step(ctx, name, func(ctx context.Context) (any, error) { return fn(ctx) }, &out)
	return out, err
}

// numbered gives a name its number, where it is not used for the first time.
func (a *attempt) numbered(of, name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		a.used[of+name]++
		n := a.used[of+name]
		if n == 1 {
			return name
		}
		if other := name + "#" + strconv.Itoa(n); a.used[of+other] == 0 {
			a.used[of+other]++
			return other
		}
	}
}

// Sleep returns nil when d has passed since the task first came here. Unless that is in
// a moment, it gives [ErrSuspended] for the handler to return.
func (a *attempt) Sleep(ctx context.Context, d time.Duration) error {
	raw, err := a.ask(ctx, "sleep", map[string]any{"name": a.numbered("sleep:", "sleep"), "for": d.String()})
	if err != nil {
		return err
	}
	var answer struct {
		Woken bool `json:"woken"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("read the answer to sleep: %w", err)
	}
	if !answer.Woken {
		return ErrSuspended
	}
	return nil
}

// WaitFor takes the next signal of a name that the task was sent, and decodes it into
// out. If there is none it gives [ErrSuspended] for the handler to return. With a
// timeout, got is false where none came in time; a negative one is none.
func (a *attempt) WaitFor(ctx context.Context, signal string, timeout time.Duration, out any) (got bool, err error) {
	params := map[string]any{"signal": signal, "name": a.numbered("wait:", signal)}
	if timeout >= 0 {
		params["timeout"] = timeout.String()
	}
	raw, err := a.ask(ctx, "wait", params)
	if err != nil {
		return false, err
	}
	var answer struct {
		Got       bool            `json:"got"`
		Suspended bool            `json:"suspended"`
		Signal    json.RawMessage `json:"signal"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return false, fmt.Errorf("read the answer to wait: %w", err)
	}
	switch {
	case answer.Suspended:
		return false, ErrSuspended
	case !answer.Got || out == nil:
		return answer.Got, nil
	}
	if err := json.Unmarshal(answer.Signal, out); err != nil {
		return true, &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf("decode the signal %q: %v", signal, err)}
	}
	return true, nil
}
