package ws

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// Workers is what the workers' sockets need of the runtime.
type Workers interface {
	// RegisterWorker takes a worker, whose attempts come over link.
	RegisterWorker(ctx context.Context, reg task.Registration, link task.WorkerLink) (task.WorkerSession, error)
}

// worker is who speaks the workers' protocol. It is a [task.WorkerLink].
type worker struct {
	*conn

	workers Workers
	session task.WorkerSession // nil until it has registered; of the reader
}

func (w *worker) limits(*limits) {}
func (w *worker) beat()          { w.notify("heartbeat", nothing{}) }
func (w *worker) drained()       {}

func (w *worker) ended(silent bool) {
	if w.session != nil {
		w.session.Ended(silent)
	}
}

// Run implements [task.WorkerLink].
func (w *worker) Run(a task.Assignment) {
	run := running{
		Task: transport.View(a.Row), Attempt: a.Attempt, Token: a.Token, Lease: a.Lease.String(), Checkpoint: a.Row.Checkpoint,
	}
	for _, m := range a.Steps {
		run.Steps = append(run.Steps, step{Name: m.Name, Result: m.Data})
	}
	w.notify("run", run)
}

// Cancel implements [task.WorkerLink].
func (w *worker) Cancel(a task.AttemptRef, reason string) {
	w.notify("cancel", cancelling{Task: a.Task.String(), Attempt: a.Attempt, Token: a.Token, Reason: reason})
}

// Drain implements [task.WorkerLink].
func (w *worker) Drain(reason string) {
	w.notify("drain", draining{Reason: reason})
}

// Goodbye implements [task.WorkerLink].
func (w *worker) Goodbye(delay time.Duration) { w.goodbye(delay) }

// Reached implements [task.WorkerLink].
func (w *worker) Reached() time.Time {
	if at := w.reached.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Close implements [task.WorkerLink].
func (w *worker) Close() { w.close(closeGoingAway, "another connection has taken its place") }

func workerMethods() []method {
	return []method{
		asked("register", access.Workers, (*worker).register),
		said[nothing]("progress", readProgress),
		said[nothing]("log", readLog),
		said[nothing]("output", readOutput),
		said[nothing]("checkpoint", readCheckpoint),
		said[nothing]("step", readStep),
		said[slept]("sleep", readSleep),
		said[waited]("wait", readWait),
		said[nothing]("succeed", readSucceed),
		said[nothing]("fail", readFail),
		asked("drain", access.Workers, (*worker).drain),
		asked("renew", Anyone, (*worker).renew),
		asked("heartbeat", access.Workers, (*worker).ping),
	}
}

// said is a method about an attempt, which answers it. read makes the core's shape of
// its parameters.
func said[R, P any](name string, read func(P) (token string, c task.WorkerCall, err error)) method {
	return asked(name, access.Workers, func(w *worker, _ context.Context, p P, to *call) (none R, _ error) {
		token, c, err := read(p)
		if err != nil {
			return none, err
		}
		return none, w.pass(token, c, to)
	})
}

func (w *worker) register(ctx context.Context, p registerParams, to *call) (registered, error) {
	if w.session != nil {
		return registered{}, transport.NewProblem(http.StatusConflict, "already_registered", "This connection has a worker already.")
	}
	slots := 1
	if p.Slots != nil {
		if slots = *p.Slots; slots == 0 {
			slots = -1 // which is refused, as it was said
		}
	}
	s, err := w.workers.RegisterWorker(ctx, task.Registration{
		Namespace: w.who.Namespace, Name: p.Name, Kinds: p.Kinds, Slots: slots, Resources: p.Resources, Labels: p.Labels,
		Resume: p.Resume, Running: p.Running,
	}, w)
	if err != nil {
		return registered{}, aboutRegistration(err)
	}
	w.session = s
	r := s.Registered()
	answer := registered{Worker: r.Worker, Session: r.Session, Lease: r.Lease.String(), Attempts: make([]attempt, len(r.Attempts))}
	for i, a := range r.Attempts {
		answer.Attempts[i] = attempt{Task: a.Task.String(), Attempt: a.Attempt, Token: a.Token}
	}
	w.answer(to, answer, nil)
	s.Begin()
	return registered{}, errLater
}

// aboutRegistration says of what is wrong with a worker that it is no task.
func aboutRegistration(err error) error {
	bad, ok := errors.AsType[task.InvalidError](err)
	if !ok {
		return err
	}
	p := transport.NewProblem(http.StatusUnprocessableEntity, "invalid_params", "The registration is not valid.")
	for _, v := range bad {
		p.Errors = append(p.Errors, transport.FieldError{Path: v.Field, Message: v.Message})
	}
	return p
}

func (w *worker) drain(context.Context, nothing, *call) (nothing, error) {
	if w.session == nil {
		return nothing{}, errNotRegistered()
	}
	w.session.Drain()
	return nothing{}, nil
}

func errNotRegistered() error {
	return transport.NewProblem(http.StatusConflict, "not_registered", "A worker registers first.")
}

// pass hands a call to the attempt it is about, which answers it.
func (w *worker) pass(token string, c task.WorkerCall, to *call) error {
	if w.session == nil {
		return errNotRegistered()
	}
	w.session.Call(token, c, func(a task.WorkerAnswer, err error) {
		if err != nil {
			w.answer(to, nil, aboutAttempt(err))
			return
		}
		w.answer(to, answerTo(c, a), nil)
	})
	return errLater
}

// answerTo is what a call's answer says.
func answerTo(c task.WorkerCall, a task.WorkerAnswer) any {
	switch c.(type) {
	case task.SleepFor:
		return slept{Woken: a.Woken}
	case task.AwaitSignal:
		switch {
		case a.Got:
			return waited{Got: true, Signal: orNull(a.Signal)}
		case a.TimedOut:
			return waited{Timeout: true}
		}
		return waited{Suspended: true}
	default:
		return nothing{}
	}
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// aboutAttempt says why a call about an attempt came to nothing.
func aboutAttempt(err error) error {
	if f, ok := errors.AsType[*task.Failure](err); ok {
		return transport.NewProblem(http.StatusUnprocessableEntity, f.Code, f.Message)
	}
	switch {
	case errors.Is(err, task.ErrStale):
		return transport.NewProblem(http.StatusConflict, "stale_attempt", "The attempt is over, or was never this worker's.")
	case errors.Is(err, task.ErrLogFull):
		return transport.NewProblem(http.StatusTooManyRequests, "log_full", "The event log of this attempt is full; further events are not kept.")
	case errors.Is(err, task.ErrInvalid):
		return transport.NewProblem(http.StatusUnprocessableEntity, "invalid_params", "What was said is not valid JSON for this call, or is larger than allowed.")
	}
	return err
}

func readProgress(p progressParams) (string, task.WorkerCall, error) {
	return p.Token, task.SayProgress{Fraction: p.Fraction, Message: p.Message}, nil
}

func readLog(p logParams) (string, task.WorkerCall, error) {
	switch p.Level {
	case "":
		p.Level = "info"
	case "debug", "info", "warn", "error":
	default:
		return "", nil, invalid("level must be debug, info, warn or error.")
	}
	if len(p.Fields) > 0 && p.Fields[0] != '{' && string(p.Fields) != "null" {
		return "", nil, invalid("fields must be an object.")
	}
	return p.Token, task.SayLog{Level: p.Level, Message: p.Message, Fields: p.Fields}, nil
}

func readOutput(p outputParams) (string, task.WorkerCall, error) {
	out := task.SayOutput{Chunk: p.Chunk, Text: p.Text}
	named := 0
	for _, is := range []bool{p.Chunk != nil, p.Text != nil, p.Base64 != nil} {
		if is {
			named++
		}
	}
	if named != 1 {
		return "", nil, invalid("Give exactly one of chunk, text and base64.")
	}
	if p.Base64 != nil {
		bytes, err := base64.StdEncoding.DecodeString(*p.Base64)
		if err != nil {
			return "", nil, invalid("base64 must be base64.")
		}
		out.Base64 = bytes
	}
	return p.Token, out, nil
}

func readCheckpoint(p checkpointParams) (string, task.WorkerCall, error) {
	if p.Checkpoint == nil {
		return "", nil, invalid("checkpoint is required.")
	}
	return p.Token, task.SayCheckpoint{Value: p.Checkpoint}, nil
}

func readStep(p stepParams) (string, task.WorkerCall, error) {
	return p.Token, task.KeepStep{Name: p.Name, Result: p.Result}, nil
}

func readSleep(p sleepParams) (string, task.WorkerCall, error) {
	d, err := duration("for", p.For)
	return p.Token, task.SleepFor{Name: p.Name, For: d}, err
}

func readWait(p waitParams) (string, task.WorkerCall, error) {
	c := task.AwaitSignal{Name: p.Name, Signal: p.Signal, Timeout: -1}
	if p.Timeout == nil {
		return p.Token, c, nil
	}
	var err error
	c.Timeout, err = duration("timeout", *p.Timeout)
	return p.Token, c, err
}

func duration(field, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, invalid(field + ` must be a duration such as "1.5s" or "30m".`)
	}
	return d, nil
}

func readSucceed(p succeedParams) (string, task.WorkerCall, error) {
	return p.Token, task.Succeed{Result: p.Result}, nil
}

func readFail(p failParams) (string, task.WorkerCall, error) {
	f := task.Failure{Code: p.Error.Code, Message: p.Error.Message, Retryable: true, Details: p.Error.Details}
	if p.Error.Retryable != nil {
		f.Retryable = *p.Error.Retryable
	}
	return p.Token, task.FailWith{Failure: f}, nil
}
