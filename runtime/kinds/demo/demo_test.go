package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := leaked(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// leaked is what is left running when the tests are over. A node's dead letters
// keep a goroutine of the actor library for a second, longer than one look takes.
func leaked() (err error) {
	for range 5 {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	return err
}

// recorder keeps what a handler said, with when it did.
type recorder struct {
	start  time.Time
	events []string
	cost   time.Duration // how long the runtime takes an event
	refuse error
}

func (r *recorder) say(format string, args ...any) error {
	time.Sleep(r.cost)
	if r.refuse != nil {
		return r.refuse
	}
	r.events = append(r.events, fmt.Sprintf("%s "+format, append([]any{time.Since(r.start)}, args...)...))
	return nil
}

func (r *recorder) Progress(fraction float64, message string) error {
	return r.say("%v %s", fraction, message)
}

func (r *recorder) Emit(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.say("%s", b)
}

func TestEchoKeepsNumbersAsTheyWereWritten(t *testing.T) {
	for _, payload := range []string{`{"n":12345678901234567890.10,"e":1e400}`, `null`, `[]`, `"é"`} {
		got, err := echo(json.RawMessage(payload))
		if err != nil || string(got) != payload {
			t.Errorf("echo(%s) = %s, %v", payload, got, err)
		}
	}
}

func TestSleepTellsItsProgressAtEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{start: time.Now()}
		got, err := sleep(t.Context(), r, json.RawMessage(`{"duration":"3s","steps":4}`))
		if err != nil || got.Slept != "3s" {
			t.Errorf("sleep = %v, %v", got, err)
		}
		want := []string{"750ms 0.25 step 1 of 4", "1.5s 0.5 step 2 of 4", "2.25s 0.75 step 3 of 4", "3s 1 step 4 of 4"}
		if diff := cmp.Diff(want, r.events); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStreamKeepsToItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{start: time.Now(), cost: 3 * time.Millisecond}
		got, err := stream(t.Context(), r, json.RawMessage(`{"chunks":3,"interval":"5ms","size":18}`))
		if err != nil || got.Chunks != 3 {
			t.Errorf("stream = %v, %v", got, err)
		}
		// Each event costs 3 ms, and still they leave 5 ms apart.
		want := []string{
			`3ms {"i":0,"data":"0123456789abcdef01"}`,
			`8ms {"i":1,"data":"0123456789abcdef01"}`,
			`13ms {"i":2,"data":"0123456789abcdef01"}`,
		}
		if diff := cmp.Diff(want, r.events); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStreamWithoutIntervalWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{start: time.Now()}
		if _, err := stream(t.Context(), r, json.RawMessage(`{"chunks":1000,"interval":"0s","size":0}`)); err != nil {
			t.Fatal(err)
		}
		if len(r.events) != 1000 || r.events[999] != `0s {"i":999,"data":""}` {
			t.Errorf("got %d events, the last %q", len(r.events), r.events[len(r.events)-1])
		}
	})
}

func TestDefaultsNeedNoPayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{start: time.Now()}
		if got, err := sleep(t.Context(), r, json.RawMessage("null")); err != nil || got.Slept != "1s" || len(r.events) != 10 {
			t.Errorf("sleep = %v, %v, with %d events", got, err, len(r.events))
		}
		if got, err := stream(t.Context(), r, json.RawMessage("{}")); err != nil || got.Chunks != 100 {
			t.Errorf("stream = %v, %v", got, err)
		}
		if _, err := flaky(1, json.RawMessage("null")); err == nil {
			t.Error("the first attempt of demo.flaky succeeded")
		}
	})
}

func TestHandlersStopAtOnce(t *testing.T) {
	why := errors.New("somebody cancelled it")
	for name, handler := range map[string]func(context.Context, job) error{
		"sleep": func(ctx context.Context, j job) error {
			_, err := sleep(ctx, j, json.RawMessage(`{"duration":"1h","steps":1}`))
			return err
		},
		"stream": func(ctx context.Context, j job) error {
			_, err := stream(ctx, j, json.RawMessage(`{"interval":"1m"}`))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				start := time.Now()
				time.AfterFunc(time.Second, func() { cancel(why) })
				if err := handler(ctx, &recorder{start: start}); !errors.Is(err, why) {
					t.Errorf("ended with %v, want the reason why its context ended", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("ended after %s, 1s was when it was told to", took)
				}
			})
		})
	}
}

func TestStreamWithoutIntervalStopsToo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &recorder{}
	if _, err := stream(ctx, r, json.RawMessage(`{"chunks":1000000,"interval":"0s"}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestARefusedEventEndsTheAttempt(t *testing.T) {
	gone := errors.New("the attempt is over")
	if _, err := sleep(t.Context(), &recorder{refuse: gone}, json.RawMessage(`{"duration":"0s"}`)); !errors.Is(err, gone) {
		t.Errorf("sleep ended with %v", err)
	}
	if _, err := stream(t.Context(), &recorder{refuse: gone}, json.RawMessage(`{}`)); !errors.Is(err, gone) {
		t.Errorf("stream ended with %v", err)
	}
	_, err := stream(t.Context(), &recorder{refuse: task.ErrLogFull}, json.RawMessage(`{}`))
	if f, ok := errors.AsType[*task.Failure](err); !ok || f.Code != "log_full" || f.Retryable {
		t.Errorf("a full log ended the stream with %v", err)
	}
}

func TestFlakyFailsAsOftenAsAsked(t *testing.T) {
	for attempt := 1; attempt <= 3; attempt++ {
		got, err := flaky(attempt, json.RawMessage(`{"failures":2}`))
		if attempt == 3 {
			if err != nil || got.Attempts != 3 {
				t.Errorf("attempt 3: %v, %v", got, err)
			}
			continue
		}
		if f, ok := errors.AsType[*task.Failure](err); !ok || f.Code != "flaky" || !f.Retryable {
			t.Errorf("attempt %d: %v", attempt, err)
		}
	}
}

func TestPanicPanics(t *testing.T) {
	defer func() {
		if r := recover(); r != "boo" {
			t.Errorf("recovered %v", r)
		}
	}()
	err := panics(json.RawMessage(`{"message":"boo"}`))
	t.Errorf("returned %v", err)
}

func TestAWrongPayloadIsNotTriedAgain(t *testing.T) {
	handlers := map[string]func(json.RawMessage) error{
		"sleep":  func(p json.RawMessage) error { _, err := sleep(t.Context(), &recorder{}, p); return err },
		"stream": func(p json.RawMessage) error { _, err := stream(t.Context(), &recorder{}, p); return err },
		"flaky":  func(p json.RawMessage) error { _, err := flaky(1, p); return err },
		"panic":  panics,
	}
	tests := []struct{ kind, payload, message string }{
		{"sleep", `{"seconds":5}`, `unknown field "seconds"`},
		{"sleep", `{"duration":5}`, "duration: cannot be a number"},
		{"sleep", `{"duration":"soon"}`, `duration: want a duration such as "1.5s"`},
		{"sleep", `{"duration":"-1s"}`, "duration: want a duration between 0 and 24h0m0s"},
		{"sleep", `{"duration":"25h"}`, "duration: want a duration between 0 and 24h0m0s"},
		{"sleep", `{"steps":0}`, "steps: want a number from 1 to 10000"},
		{"sleep", `{"steps":1.5}`, "steps: cannot be a number 1.5"},
		{"sleep", `"5s"`, "want an object, got string"},
		{"stream", `{"chunks":-1}`, "chunks: want a number from 0 to 1000000"},
		{"stream", `{"size":65537}`, "size: want a number from 0 to 65536"},
		{"stream", `{"interval":"2m"}`, "interval: want a duration between 0 and 1m0s"},
		{"stream", `{"loud":true}`, `unknown field "loud"`},
		{"flaky", `{"failures":1001}`, "failures: want a number from 0 to 1000"},
		{"flaky", `[]`, "want an object, got array"},
		{"panic", `{"massage":"x"}`, `unknown field "massage"`},
		{"panic", `{"message":"` + strings.Repeat("x", 1025) + `"}`, "message: want at most 1024 bytes"},
	}
	for _, tt := range tests {
		err := handlers[tt.kind](json.RawMessage(tt.payload))
		f, ok := errors.AsType[*task.Failure](err)
		if !ok {
			t.Errorf("%s %s: %v", tt.kind, tt.payload, err)
			continue
		}
		if f.Code != task.CodeInvalidPayload || f.Retryable || f.Message != tt.message {
			t.Errorf("%s %s: %+v, want %q", tt.kind, tt.payload, f, tt.message)
		}
	}
}
