package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// guide gives the block of commands in docs/operations.md that has a word in it,
// so that what is tested is what it says.
func guide(t *testing.T, word string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(block[1], word) {
			return block[1]
		}
	}
	t.Fatalf("the guide has no commands with %s", word)
	return ""
}

// operator is whoever uses one node, and looks at it.
type operator struct {
	*client.Client
	ctx context.Context
	t   *testing.T
}

func operate(ctx context.Context, t *testing.T, v *victim) operator {
	t.Helper()
	c, err := client.New("http://"+v.address, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v.start(t)
	v.ready(ctx, t, c)
	return operator{c, ctx, t}
}

func (o operator) submit(s transport.Submission) string {
	o.t.Helper()
	s.Retry = &transport.RetrySubmission{Initial: "10ms", Max: "50ms"}
	v, _, err := o.Submit(o.ctx, s)
	if err != nil {
		o.t.Fatal(err)
	}
	return v.ID
}

// reaches waits until a task is in a state.
func (o operator) reaches(id string, states ...task.State) (v transport.Task) {
	o.t.Helper()
	await(o.ctx, o.t, "task "+id+" does not get to "+states[0].String(), func() bool {
		var err error
		if v, err = o.Get(o.ctx, id); err != nil {
			o.t.Fatal(err)
		}
		return slices.Contains(states, v.State)
	})
	return v
}

// runsAgain waits until a task that was interrupted runs, or has ended.
func (o operator) runsAgain(id string) (v transport.Task) {
	o.t.Helper()
	await(o.ctx, o.t, "task "+id+" does not run again", func() bool {
		v = o.reaches(id, task.Running, task.Succeeded, task.Failed)
		return v.State != task.Running || v.Attempt > 1
	})
	return v
}

func (o operator) log(v transport.Task) []happening {
	o.t.Helper()
	log, err := readLog(o.ctx, o.Server(), v.ID, v.Cursor)
	if err != nil {
		o.t.Fatal(err)
	}
	return log
}

// unchanged compares a task that had ended, and its log, with what they were.
func (o operator) unchanged(was transport.Task, log []happening) {
	o.t.Helper()
	is, err := o.Get(o.ctx, was.ID)
	if err != nil {
		o.t.Fatal(err)
	}
	before, err1 := json.Marshal(was)
	now, err2 := json.Marshal(is)
	if diff := cmp.Diff(string(before), string(now)); diff != "" || err1 != nil || err2 != nil {
		o.t.Errorf("a task that had ended: %v %v\n%s", err1, err2, diff)
	}
	if diff := cmp.Diff(log, o.log(is), cmp.AllowUnexported(happening{})); diff != "" {
		o.t.Errorf("the log of a task that had ended:\n%s", diff)
	}
}

func (o operator) pause(queue string, paused bool) {
	o.t.Helper()
	if _, err := o.SetQueue(o.ctx, queue, transport.QueueChange{Paused: &paused}); err != nil {
		o.t.Fatal(err)
	}
}

// keyed submits with an idempotency key.
func (o operator) keyed(key string) (id string) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.ctx, http.MethodPost, o.Server()+"/v1/tasks", bytes.NewReader([]byte(`{"kind":"demo.echo","payload":"keyed"}`)))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	var v transport.Task
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.ID == "" {
		o.t.Fatalf("%s: %v", resp.Status, err)
	}
	return v.ID
}

// incarnation is the highest there was.
func (o operator) incarnation() (most int64) {
	o.t.Helper()
	l, err := o.Nodes(o.ctx)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, n := range l.Nodes {
		most = max(most, n.Incarnation)
	}
	return most
}

// events reads behind a cursor with one request.
func (o operator) events(id, after string) (status int, page transport.EventPage) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.ctx, http.MethodGet, o.Server()+"/v1/tasks/"+id+"/events?limit=1000&after="+after, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, page
}

func echo(queue string) transport.Submission {
	return transport.Submission{Kind: "demo.echo", Queue: queue, Payload: json.RawMessage(`{"text":"` + strings.Repeat("x", 300) + `"}`)}
}

// streamOf speaks for longer than any test takes.
func streamOf(attempts int) transport.Submission {
	return transport.Submission{Kind: "demo.stream", Payload: json.RawMessage(`{"chunks":100000,"interval":"10ms","size":16}`), MaxAttempts: attempts}
}

// TestRestoredDatabaseGoesOn dumps the database of a node at work, kills all that
// was there, and has another node go on with the dump on another server. The
// leases of the old nodes are long, so that nothing waits for their end.
func TestRestoredDatabaseGoesOn(t *testing.T) {
	t.Parallel()
	first, second := pgtest.New(t), pgtest.New(t)
	address, dir, binary := first.Database(t), t.TempDir(), buildTroupe(t)
	ctx, cancel := within(t)
	defer cancel()
	a := newVictim(t, binary, "--store", address, "--lease", "10m", "--name", "a", "--resource", "slots=3")
	o := operate(ctx, t, a)

	// One of everything.
	var ended []transport.Task
	for range 20 {
		ended = append(ended, o.reaches(o.submit(echo("")), task.Succeeded))
	}
	ended = append(ended, o.reaches(o.submit(transport.Submission{Kind: "demo.flaky", Payload: json.RawMessage(`{"failures":9}`), MaxAttempts: 1}), task.Failed))
	later := echo("")
	later.Delay = "1h"
	cancelled, scheduled := o.submit(later), o.submit(later)
	if _, err := o.Cancel(ctx, cancelled, "enough"); err != nil {
		t.Fatal(err)
	}
	ended = append(ended, o.reaches(cancelled, task.Cancelled))
	logs := map[string][]happening{}
	for _, v := range ended {
		logs[v.ID] = o.log(v)
	}
	keyed := o.keyed("once")
	o.reaches(keyed, task.Succeeded)
	o.pause("resting", true)
	resting := o.submit(echo("resting"))
	patient, hasty := []string{o.submit(streamOf(3)), o.submit(streamOf(3))}, o.submit(streamOf(1))
	for _, id := range append(slices.Clone(patient), hasty) {
		o.reaches(id, task.Running)
	}
	var backlog []string
	for range 30 {
		backlog = append(backlog, o.submit(echo("")))
	}
	var seen transport.EventPage // by a watcher before the dump
	await(ctx, t, "a stream that does not speak", func() bool {
		_, seen = o.events(patient[0], "0.1")
		return len(seen.Events) > 20
	})

	first.Shell(t, dir, address, guide(t, "pg_dump"))

	// What comes after the dump is lost: another node, and the end of a task.
	b := newVictim(t, binary, "--store", address, "--lease", "10m", "--name", "b")
	operate(ctx, t, b)
	o.pause("resting", false)
	over := o.reaches(resting, task.Succeeded)
	unknown := o.submit(echo(""))
	before := o.incarnation()
	a.mustKill(t)
	b.mustKill(t)
	first.Kill()

	address = second.Database(t)
	second.Shell(t, dir, address, guide(t, "pg_restore"))
	if same := second.Exec(t, "test1", "SELECT (SELECT count(*) FROM troupe.tasks) = (SELECT sum(n) FROM troupe.counts)"); same != "t" {
		t.Error("the counts are not those of the tasks")
	}
	o = operate(ctx, t, newVictim(t, binary, "--store", address, "--lease", "10m", "--name", "n"))

	for _, was := range ended {
		o.unchanged(was, logs[was.ID])
	}
	for _, id := range patient {
		if v := o.runsAgain(id); v.Attempt != 2 {
			t.Errorf("an attempt that ran at the dump was not counted, or not tried again: %v in attempt %d", v.State, v.Attempt)
		}
	}
	if v := o.reaches(hasty, task.Failed); v.Error == nil || v.Error.Code != task.CodeNodeLost || v.Attempt != 1 {
		t.Errorf("the last attempt of a task ran at the dump: %+v", v)
	}
	for _, id := range backlog {
		if v := o.reaches(id, task.Succeeded); v.Attempt != 1 {
			t.Errorf("a task that waited is in attempt %d", v.Attempt)
		}
	}
	o.reaches(scheduled, task.Scheduled)
	if again := o.keyed("once"); again != keyed {
		t.Errorf("an idempotency key led to %s, and now to %s", keyed, again)
	}
	if now := o.incarnation(); now <= before {
		t.Errorf("incarnation %d, and the old cluster had %d", now, before)
	}

	// A cursor from before the dump goes on; one from after it is ahead.
	last := seen.Events[len(seen.Events)-1]
	var status int
	var page transport.EventPage
	await(ctx, t, "a stream that says nothing behind "+last.Cursor, func() bool {
		status, page = o.events(patient[0], last.Cursor)
		return status != http.StatusOK || len(page.Events) > 0 || page.Gap != nil
	})
	if status != http.StatusOK || page.Gap != nil {
		t.Errorf("behind %s: %d with %d events", last.Cursor, status, len(page.Events))
	} else if p, ok := parsePlace(page.Events[0].Cursor); !ok || !p.follows(mustPlace(t, last.Cursor)) {
		t.Errorf("behind %s comes %s", last.Cursor, page.Events[0].Cursor)
	}
	if status, _ := o.events(resting, over.Cursor); status != http.StatusConflict {
		t.Errorf("a cursor that is ahead: %d", status)
	}
	var p *transport.Problem
	if _, err := o.Get(ctx, unknown); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("a task from after the dump: %v", err)
	}
	o.reaches(resting, task.Queued)
	o.pause("resting", false)
	o.reaches(resting, task.Succeeded)
}

func mustPlace(t *testing.T, cursor string) place {
	t.Helper()
	p, ok := parsePlace(cursor)
	if !ok {
		t.Fatal(cursor)
	}
	return p
}

// TestCopyOfARunningStoreGoesOn does so with the embedded store.
func TestCopyOfARunningStoreGoesOn(t *testing.T) {
	t.Parallel()
	binary, dir := buildTroupe(t), t.TempDir()
	ctx, cancel := within(t)
	defer cancel()
	v := newVictim(t, binary)
	o := operate(ctx, t, v)
	done := o.reaches(o.submit(echo("")), task.Succeeded)
	log := o.log(done)
	running := o.submit(streamOf(3))
	o.reaches(running, task.Running)

	// Any program that speaks to SQLite will do; the guide names its own.
	command := regexp.MustCompile(`sqlite3 -readonly .*/troupe.db "(.*)"`).FindStringSubmatch(guide(t, "sqlite3"))
	if command == nil {
		t.Fatal("the guide's command is another")
	}
	from, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(v.data, "troupe.db"), RawQuery: "mode=ro"}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if _, err := from.ExecContext(ctx, strings.Replace(command[1], "copy.db", filepath.Join(dir, "troupe.db"), 1)); err != nil {
		t.Fatal(err)
	}
	v.mustKill(t)

	restored := newVictim(t, binary, "--data", dir)
	restored.data = dir
	o = operate(ctx, t, restored)
	o.unchanged(done, log)
	if r := o.runsAgain(running); r.Attempt != 2 {
		t.Errorf("a stream that ran: %s in attempt %d", r.State, r.Attempt)
	}
	restored.kill()
	restored.integrity(ctx, t)
}
