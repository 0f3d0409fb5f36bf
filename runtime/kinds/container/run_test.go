package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestTheRequestsToTheLetter(t *testing.T) {
	e := newEngine(t)
	followed := make(chan struct{})
	e.program = func(out, errs io.Writer, _, _ <-chan struct{}) int {
		<-followed
		return says("one\ntwo", "three\n", 0)(out, errs, nil, nil)
	}
	e.fault = func(_ http.ResponseWriter, _ *http.Request, path string) bool {
		if strings.HasSuffix(path, "/logs") {
			close(followed)
		}
		return false
	}
	k := kindOf(t, e, func(c *Config) { c.Bridge = true })
	r, got, err := run(t, k, `{"image":"alpine:3","command":["sh","-c","echo one"],"env":{"B":"2","A":"1 = one"},"workdir":"/src","user":"1000:app",
		"memory":"100Mi","cpu":"500m","network":"bridge"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got.ExitStatus != 0 || got.Truncated {
		t.Errorf("%+v", got)
	}
	if _, err := time.ParseDuration(got.Duration); err != nil {
		t.Error(err)
	}
	if r.output() != "one\ntwo" || len(r.logged) != 1 || r.logged[0] != "three" {
		t.Errorf("wrote %q, logged %q", r.output(), r.logged)
	}
	if diff := cmp.Diff([]string{"-1 starting docker.io/library/alpine:3"}, r.progress); diff != "" {
		t.Error(diff)
	}

	name := "/containers/troupe-" + taskID + "-2"
	requests := e.requests()
	want := []string{
		"HEAD /_ping",
		`GET /containers/json?all=1&filters={"label":{"troupe.task=` + taskID + `":true}}`,
		"GET /images/docker.io/library/alpine:3/json",
		"POST /containers/create?name=troupe-" + taskID + "-2",
		"POST " + name + "/start",
		"GET " + name + "/json",
		"GET " + name + "/logs?follow=1&stderr=1&stdout=1",
		"POST " + name + "/wait?condition=not-running",
		"DELETE " + name + "?force=1&v=1",
	}
	if len(requests) == len(want) {
		slices.Sort(requests[5:8]) // its output and its end are waited for at once
	}
	if diff := cmp.Diff(want, requests); diff != "" {
		t.Error(diff)
	}
	if left := e.left(); len(left) != 0 {
		t.Errorf("there are still %q", left)
	}

	var body map[string]any
	if err := json.Unmarshal([]byte(e.created[0]), &body); err != nil {
		t.Fatal(err)
	}
	for key, value := range asked {
		at := body
		if section, rest, nested := strings.Cut(key, "."); nested {
			at, key = at[section].(map[string]any), rest //nolint:forcetypeassert // the test fails either way
		}
		encoded, err := json.Marshal(at[key])
		if err != nil {
			t.Fatal(err)
		}
		if string(encoded) != value {
			t.Errorf("%s is %s, want %s", key, encoded, value)
		}
		delete(at, key)
	}
	// Nothing else is asked for: whatever is left is false, empty or nothing.
	if rest := meant(body); len(rest) != 0 {
		t.Errorf("it also asks for %v", rest)
	}
}

// asked is all that the engine is to hear of the container above.
var asked = map[string]string{
	"Image":                     `"docker.io/library/alpine:3"`,
	"Cmd":                       `["sh","-c","echo one"]`,
	"Env":                       `["A=1 = one","B=2"]`,
	"WorkingDir":                `"/src"`,
	"User":                      `"1000:app"`,
	"Labels":                    `{"troupe.attempt":"2","troupe.namespace":"acme","troupe.task":"` + taskID + `"}`,
	"AttachStdout":              "true",
	"AttachStderr":              "true",
	"Healthcheck":               `{"Test":["NONE"]}`,
	"HostConfig.NetworkMode":    `"bridge"`,
	"HostConfig.CapDrop":        `["ALL"]`,
	"HostConfig.CapAdd":         "null",
	"HostConfig.SecurityOpt":    `["no-new-privileges:true"]`,
	"HostConfig.ReadonlyRootfs": "true",
	"HostConfig.Privileged":     "false",
	"HostConfig.Tmpfs":          `{"/tmp":"rw,nosuid,nodev,mode=1777,size=67108864"}`,
	"HostConfig.IpcMode":        `"private"`,
	"HostConfig.CgroupnsMode":   `"private"`,
	"HostConfig.PidMode":        `""`,
	"HostConfig.UTSMode":        `""`,
	"HostConfig.UsernsMode":     `""`,
	"HostConfig.Binds":          "null",
	"HostConfig.Mounts":         "null",
	"HostConfig.Devices":        "null",
	"HostConfig.RestartPolicy":  `{"MaximumRetryCount":0,"Name":"no"}`,
	"HostConfig.LogConfig":      `{"Config":{"max-file":"2","max-size":"1g"},"Type":"json-file"}`,
	"HostConfig.Memory":         "104857600",
	"HostConfig.MemorySwap":     "104857600",
	"HostConfig.NanoCpus":       "500000000",
	"HostConfig.PidsLimit":      "256",
}

// meant are the names of what is neither false, nor zero, nor empty.
func meant(v map[string]any) (names []string) {
	for name, value := range v {
		switch value := value.(type) {
		case nil:
		case bool:
			if value {
				names = append(names, name)
			}
		case string:
			if value != "" {
				names = append(names, name)
			}
		case float64:
			if value != 0 {
				names = append(names, name)
			}
		case []any:
			if len(value) > 0 && name != "ConsoleSize" { // which is of zeros
				names = append(names, name)
			}
		case map[string]any:
			names = append(names, meant(value)...)
		}
	}
	return names
}

func TestStatusesAreTheCommands(t *testing.T) {
	e := newEngine(t)
	k := kindOf(t, e)
	for status, details := range map[int]string{1: `{"exit_status":1}`, 137: `{"exit_status":137}`, 255: `{"exit_status":255}`} {
		e.program = says("", "", status)
		_, _, err := run(t, k, `{"image":"alpine:3"}`)
		wantFailure(t, err, "exit_status", true, fmt.Sprintf("ended with status %d", status))
		if f, ok := errors.AsType[*task.Failure](err); !ok || string(f.Details) != details {
			t.Errorf("details of %v", err)
		}
	}
	e.program = func(_, _ io.Writer, _, _ <-chan struct{}) int {
		for _, c := range e.all() {
			c.mu.Lock()
			c.oom = true
			c.mu.Unlock()
		}
		return 137
	}
	_, _, err := run(t, k, `{"image":"alpine:3"}`)
	wantFailure(t, err, "out_of_memory", true, "more memory")
	if left := e.left(); len(left) != 0 {
		t.Errorf("there are still %q", left)
	}
}

func TestOutputArrivesWhileTheContainerRuns(t *testing.T) {
	e := newEngine(t)
	next := make(chan string)
	e.program = func(out, _ io.Writer, _, _ <-chan struct{}) int {
		for text := range next {
			_, _ = io.WriteString(out, text)
		}
		return 0
	}
	k := kindOf(t, e)
	r := newRecorder()
	ended := make(chan error, 1)
	go func() {
		_, err := k.run(t.Context(), r, own, json.RawMessage(`{"image":"alpine:3"}`))
		ended <- err
	}()
	for _, line := range []string{"one\n", "two\n"} {
		next <- line
		if got := <-r.heard; got != line {
			t.Errorf("heard %q, want %q", got, line)
		}
	}
	close(next)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAFullLogDoesNotStopTheContainer(t *testing.T) {
	e := newEngine(t)
	e.program = says(strings.Repeat("line\n", 50_000), "", 0)
	r := newRecorder()
	r.refuse = task.ErrLogFull
	got, err := kindOf(t, e).run(t.Context(), r, own, json.RawMessage(`{"image":"alpine:3"}`))
	if err != nil || !got.Truncated {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCancelStopsAndRemoves(t *testing.T) {
	why := errors.New("somebody cancelled it")
	e := newEngine(t)
	e.program = waits
	k := kindOf(t, e)
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRecorder()
	go func() { <-r.heard; cancel(why) }()
	if _, err := k.run(ctx, r, own, json.RawMessage(`{"image":"alpine:3"}`)); !errors.Is(err, why) {
		t.Errorf("ended with %v, want why its context ended", err)
	}
	if got := r.output(); got != "up\nbye\n" {
		t.Errorf("wrote %q", got)
	}
	name := "/containers/" + own.name()
	requests := strings.Join(e.requests(), "\n")
	if !strings.Contains(requests, "POST "+name+"/stop?t=5") || strings.Contains(requests, "/kill") || len(e.left()) != 0 {
		t.Errorf("%s\nthere are still %q", requests, e.left())
	}
}

func TestWhatDoesNotStopIsKilled(t *testing.T) {
	e := newEngine(t)
	e.program = func(out, _ io.Writer, _, kill <-chan struct{}) int {
		_, _ = io.WriteString(out, "up\n")
		<-kill
		return 137
	}
	e.fault = func(w http.ResponseWriter, _ *http.Request, path string) bool {
		if strings.HasSuffix(path, "/stop") {
			refuse(w, http.StatusInternalServerError, "tried to kill container, but did not receive an exit event")
			return true
		}
		return false
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := newRecorder()
	go func() { <-r.heard; cancel() }()
	if _, err := kindOf(t, e).run(ctx, r, own, json.RawMessage(`{"image":"alpine:3"}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if requests := strings.Join(e.requests(), "\n"); !strings.Contains(requests, "/kill?signal=SIGKILL") || len(e.left()) != 0 {
		t.Errorf("%s\nthere are still %q", requests, e.left())
	}
}

func TestThePayloadsTimeout(t *testing.T) {
	e := newEngine(t)
	e.program = waits
	_, _, err := run(t, kindOf(t, e), `{"image":"alpine:3","timeout":"300ms"}`)
	wantFailure(t, err, task.CodeTimeout, true, "longer than 300ms")
	if len(e.left()) != 0 {
		t.Errorf("there are still %q", e.left())
	}
}

func TestEndsOfTheEngine(t *testing.T) {
	breakOff := func(w http.ResponseWriter) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
		return true
	}
	status := func(code int, message string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool { refuse(w, code, message); return true }
	}
	tests := []struct {
		name, on, method string
		times            int64 // of which the fault comes
		fault            func(w http.ResponseWriter) bool
		code             string // "": it ends well
		retryable        bool
		says             string
	}{
		{"one is in the way", "/create", "POST", 1, status(409, "Conflict. The container name is already in use"), "", false, ""},
		{"it stays in the way", "/create", "POST", 9, status(409, "Conflict. in use"), "container_failed", false, "did not make it: Conflict. in use"},
		{"no such program", "/start", "POST", 9, status(400, `exec: "x": executable file not found in $PATH`), "container_failed", false, "did not start it: exec:"},
		{"a bad request", "/create", "POST", 9, status(400, strings.Repeat("long ", 1000)), "container_failed", false, "long long"},
		{"the image went away", "/create", "POST", 9, status(404, "No such image: alpine:3"), "container_failed", false, "No such image"},
		{"trouble with its secrets", "/create", "POST", 9, status(500, "/var/lib/secret is full"), "engine_failed", true, "did not make it: it is away or in trouble"},
		{"trouble at the start", "/start", "POST", 9, status(500, "/var/lib/secret is full"), "engine_failed", true, "did not start it"},
		{"trouble with lists", "/containers/json", "GET", 9, status(503, "not now"), "engine_failed", true, "did not say what is left"},
		{"trouble with images", "/json", "GET", 9, status(500, "not now"), "engine_failed", true, ""},
		{"an answer that is lost", "/create", "POST", 9, breakOff, "engine_failed", true, "did not make it"},
		{"a wait that breaks off", "/wait", "POST", 2, breakOff, "", false, ""},
		{"a wait that is refused", "/wait", "POST", 2, status(500, "oops"), "", false, ""},
		{"output that breaks off", "/logs", "GET", 2, breakOff, "", false, ""},
		{"output that is refused", "/logs", "GET", 2, status(500, "oops"), "", false, ""},
		{"what cannot be removed", "", "DELETE", 9, status(500, "device busy"), "", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t)
			e.program = says("one\ntwo\n", "", 0)
			var faults atomic.Int64
			e.fault = func(w http.ResponseWriter, r *http.Request, path string) bool {
				if r.Method != tt.method || !strings.HasSuffix(path, tt.on) || faults.Add(1) > tt.times {
					return false
				}
				return tt.fault(w)
			}
			r, got, err := run(t, kindOf(t, e), `{"image":"alpine:3"}`)
			if tt.code == "" {
				if err != nil || r.output() != "one\ntwo\n" || got.Truncated {
					t.Errorf("wrote %q, %+v, %v", r.output(), got, err)
				}
			} else {
				wantFailure(t, err, tt.code, tt.retryable, tt.says)
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("%v says too much", err)
				}
			}
			if left := e.left(); len(left) != 0 && tt.method != "DELETE" {
				t.Errorf("there are still %q", left)
			}
			if faults.Load() == 0 {
				t.Error("the fault did not come")
			}
		})
	}
}

func TestAnEngineThatRestarts(t *testing.T) {
	e := newEngine(t)
	goOn := make(chan struct{})
	e.program = func(out, errs io.Writer, _, _ <-chan struct{}) int {
		_, _ = io.WriteString(out, "one\ntw")
		_, _ = io.WriteString(errs, "err\n")
		<-goOn
		_, _ = io.WriteString(out, "o\nthree\n")
		return 0
	}
	var away atomic.Bool
	e.fault = func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		if !away.Load() {
			return false
		}
		refuse(w, http.StatusServiceUnavailable, "starting")
		return true
	}
	k := kindOf(t, e)
	r := newRecorder()
	ended := make(chan error, 1)
	go func() {
		got, err := k.run(t.Context(), r, own, json.RawMessage(`{"image":"alpine:3"}`))
		if got.Truncated {
			err = errors.New("truncated")
		}
		ended <- err
	}()
	for heard := ""; heard != "one\ntw"; {
		heard += <-r.heard
	}
	away.Store(true)
	before := len(e.requests())
	e.CloseClientConnections()
	for len(e.requests()) < before+4 { // both what waits and what reads have asked in vain
		time.Sleep(10 * time.Millisecond)
	}
	away.Store(false)
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r.output() != "one\ntwo\nthree\n" || len(r.logged) != 1 {
		t.Errorf("wrote %q, logged %q", r.output(), r.logged)
	}
}

func TestAnEngineThatStaysAway(t *testing.T) {
	e := newEngine(t)
	e.program = waits
	var away atomic.Bool
	e.fault = func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		if away.Load() {
			refuse(w, http.StatusServiceUnavailable, "gone fishing")
		}
		return away.Load()
	}
	k := kindOf(t, e, func(c *Config) { c.Patience = time.Millisecond })
	r := newRecorder()
	go func() { <-r.heard; away.Store(true); e.CloseClientConnections() }()
	_, err := k.run(t.Context(), r, own, json.RawMessage(`{"image":"alpine:3"}`))
	wantFailure(t, err, "engine_failed", true, "has been away for 1ms")
	if left := e.left(); len(left) != 1 {
		t.Errorf("left: %q", left)
	}

	// Its next attempt removes what this one could not.
	away.Store(false)
	e.program = says("", "", 0)
	next := own
	next.number++
	if _, err := k.run(t.Context(), newRecorder(), next, json.RawMessage(`{"image":"alpine:3"}`)); err != nil {
		t.Error(err)
	}
	if left := e.left(); len(left) != 0 {
		t.Errorf("there are still %q", left)
	}
}

func TestPatienceBeginsWithTheTrouble(t *testing.T) {
	e := newEngine(t)
	var waits, states atomic.Int64
	e.fault = func(w http.ResponseWriter, _ *http.Request, path string) bool {
		switch {
		case strings.HasSuffix(path, "/wait") && waits.Add(1) == 1:
			time.Sleep(50 * time.Millisecond) // longer than there is patience
		case strings.HasPrefix(path, "/containers/troupe-") && strings.HasSuffix(path, "/json") && states.Add(1) == 1:
		default:
			return false
		}
		refuse(w, http.StatusServiceUnavailable, "one moment")
		return true
	}
	if _, _, err := run(t, kindOf(t, e, func(c *Config) { c.Patience = time.Millisecond }), `{"image":"alpine:3"}`); err != nil {
		t.Error(err)
	}
	if states.Load() < 2 {
		t.Error("the trouble did not come")
	}
}

func TestAContainerThatVanishes(t *testing.T) {
	e := newEngine(t)
	e.program = waits
	r := newRecorder()
	go func() {
		<-r.heard
		e.mu.Lock()
		c := e.containers[own.name()]
		delete(e.containers, own.name())
		e.mu.Unlock()
		c.killOnce.Do(func() { close(c.kill) })
	}()
	_, err := kindOf(t, e).run(t.Context(), r, own, json.RawMessage(`{"image":"alpine:3"}`))
	wantFailure(t, err, "container_lost", true, "nobody knows how it ended")
}

func TestOutputThatNeverComes(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"garbage":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x07garbage and more") },
		"half a head": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x01\x00") },
		"half a frame": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "\x01\x00\x00\x00\xff\xff\xff\xffhel")
		},
		"a lasting sigh": func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusInternalServerError, "oh") },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			e.fault = func(w http.ResponseWriter, r *http.Request, path string) bool {
				if strings.HasSuffix(path, "/logs") {
					fault(w, r)
					return true
				}
				return false
			}
			_, got, err := run(t, kindOf(t, e), `{"image":"alpine:3"}`)
			if err != nil || !got.Truncated {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestAStreamThatNeverEndsIsReadAnew(t *testing.T) {
	e := newEngine(t)
	e.fault = func(w http.ResponseWriter, r *http.Request, path string) bool {
		if strings.HasSuffix(path, "/logs") && r.URL.Query().Get("follow") == "1" {
			_, _ = w.Write(frame(1, []byte("hel")))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		}
		return false
	}
	r, got, err := run(t, kindOf(t, e), `{"image":"alpine:3"}`)
	if err != nil || got.Truncated || r.output() != "hello\n" {
		t.Errorf("wrote %q, %+v, %v", r.output(), got, err)
	}
}

func TestSweepRemovesWhatIsOver(t *testing.T) {
	id, err := task.ParseID(taskID)
	if err != nil {
		t.Fatal(err)
	}
	at := func(number int) attempt { return attempt{"acme", taskID, number} }
	tests := []struct {
		name string
		row  task.Task
		gone bool
	}{
		{"running", task.Task{Attempt: 2, State: task.Running}, false},
		{"not yet written that it runs", task.Task{Attempt: 1, State: task.Queued}, false},
		{"failed and to be tried again", task.Task{Attempt: 2, State: task.Scheduled}, true},
		{"a later attempt runs", task.Task{Attempt: 3, State: task.Running}, true},
		{"ended", task.Task{Attempt: 2, State: task.Succeeded}, true},
		{"cancelled before it was written", task.Task{Attempt: 1, State: task.Cancelled}, true},
	}
	for _, tt := range tests {
		e := newEngine(t)
		k := kindOf(t, e)
		k.tasks = book{"acme/" + id.String(): tt.row}
		e.add(at(2))
		e.add(attempt{"acme", "01890a5d-ac96-774b-bcce-b302099a8058", 1}) // of a task nobody knows
		e.add(attempt{"acme", "no-id", 1})
		e.add(attempt{"", taskID, 1})
		if err := k.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := 4
		if tt.gone {
			want = 3
		}
		if left := e.left(); slices.Contains(left, at(2).name()) == tt.gone || len(left) != want {
			t.Errorf("%s: there are %q", tt.name, left)
		}
	}
}

func TestRunSweepsUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Nobody listens there: it goes on asking.
		images, err := ParseImages([]string{"alpine"})
		if err != nil {
			t.Fatal(err)
		}
		var log lockedBuilder
		k, err := newKind(book{}, Config{Engine: "unix:///no/such/socket", Images: images, Log: log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*sweepEvery+time.Second)
		defer cancel()
		k.Run(ctx)
		if n := strings.Count(log.String(), "what dead nodes have left"); n != 4 {
			t.Errorf("it asked %d times:\n%s", n, log.String())
		}
	})
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuilder) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
