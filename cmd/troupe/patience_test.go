package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// How long a test waits for what has to come, and for all of it. A machine may stand
// still for many seconds, and one is ten times slower than another: neither is a
// fault of ours, and so both matter only where it never comes.
const (
	patience = 3 * time.Minute
	longest  = 12 * time.Minute
)

// noDeath is the lease of nodes that no test kills: one that stood still with its
// machine does not lose what it holds.
const noDeath = "30m"

// within is a context for all of a test.
func within(t *testing.T, more ...time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	all := longest
	for _, d := range more {
		all += d
	}
	return context.WithTimeout(t.Context(), all)
}

// comes polls for as long as patience lasts.
func comes(ctx context.Context, done func() bool) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// await polls, and ends the test if it is in vain.
func await(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	if !comes(ctx, done) {
		t.Fatal(what)
	}
}

// insist asks until somebody listens: a node that stood still past its lease
// refuses for a moment. What is refused for its own sake ends the test.
func insist(ctx context.Context, t *testing.T, ask func() error) {
	t.Helper()
	var err error
	listened := comes(ctx, func() bool {
		err = ask()
		p, ok := errors.AsType[*transport.Problem](err)
		return err == nil || ok && p.Status < http.StatusInternalServerError
	})
	if !listened || err != nil {
		t.Fatalf("nobody does it: %v", err)
	}
}

// outcomeOf waits for a task's result.
func outcomeOf(ctx context.Context, t *testing.T, c *client.Client, id string) (result json.RawMessage) {
	t.Helper()
	insist(ctx, t, func() (err error) {
		if result, err = c.Result(ctx, id, time.Minute); err == nil && result == nil {
			err = fmt.Errorf("task %s does not end", id)
		}
		return err
	})
	return result
}

// lookAt reads a task.
func lookAt(ctx context.Context, t *testing.T, c *client.Client, id string) (v transport.Task) {
	t.Helper()
	insist(ctx, t, func() (err error) {
		v, err = c.Get(ctx, id)
		return err
	})
	return v
}

// oneOf has a round played again that the machine may have spoilt. A fault of ours
// spoils them all.
func oneOf(t *testing.T, rounds int, play func() error) {
	t.Helper()
	var errs []error
	for range rounds {
		err := play()
		if err == nil {
			return
		}
		t.Log(err)
		errs = append(errs, err)
	}
	t.Errorf("in none of %d rounds: %v", rounds, errs)
}

// standstill tells how long this process got no time at all.
type standstill struct {
	mu   sync.Mutex
	lost time.Duration
}

func watchStandstill(t *testing.T) *standstill {
	t.Helper()
	const beat = 50 * time.Millisecond
	s := &standstill{}
	ctx, end := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	t.Cleanup(watching.Wait)
	t.Cleanup(end)
	watching.Go(func() {
		again := time.NewTicker(beat)
		defer again.Stop()
		for last := time.Now(); ; {
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
			now := time.Now()
			s.mu.Lock()
			s.lost += max(0, now.Sub(last)-2*beat)
			s.mu.Unlock()
			last = now
		}
	})
	return s
}

// sum is all there was so far.
func (s *standstill) sum() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// What tests share, made when the first one asks for it.
var shared struct {
	mu     sync.Mutex
	dir    string
	db     *pgtest.Server
	given  map[string]bool
	binary func() (string, error)
}

func init() { //nolint:gochecknoinits // a program is built once for all tests
	shared.given = map[string]bool{}
	shared.binary = sync.OnceValues(build)
}

// closeShared removes it all.
func closeShared() (err error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.db != nil {
		err = shared.db.Close()
	}
	return errors.Join(err, os.RemoveAll(shared.dir))
}

// sharedDir is a directory that outlives a test.
func sharedDir() (string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var err error
	if shared.dir == "" {
		shared.dir, err = os.MkdirTemp("", "troupe-test-")
	}
	return shared.dir, err
}

// ownAddress is one where nothing but the server of this test is ever found, also
// while that is down: whoever connects comes from another address, other processes
// have others, and no other test here is given it.
func ownAddress(tb testing.TB) string {
	tb.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	pid := os.Getpid()
	ip := fmt.Sprintf("127.%d.%d.%d", 64+pid>>16&63, pid>>8&255, pid&255)
	for {
		l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			tb.Fatal(err)
		}
		address := l.Addr().String()
		if err := l.Close(); err != nil {
			tb.Fatal(err)
		}
		if !shared.given[address] {
			shared.given[address] = true
			return address
		}
	}
}

// database gives an empty one on the server that tests share. Who kills the server,
// or looks at all of it, has one of its own.
func database(t *testing.T) (url string) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.db == nil {
		db, err := pgtest.Start("max_connections=500")
		if err != nil {
			t.Fatal(err)
		}
		shared.db = db
	}
	return shared.db.Database(t)
}

// soleNode is held while a node of a shared store runs in this process: the library of
// the actors sets, whenever one starts, the logger that all of gRPC has in common.
var soleNode sync.Mutex

// nodeHere lets no other test run such a node before this one has ended.
func nodeHere(t *testing.T) {
	t.Helper()
	soleNode.Lock()
	t.Cleanup(soleNode.Unlock)
}

// ask runs SQL in a database that tests share.
func ask(t *testing.T, url, sql string) string {
	t.Helper()
	name, _, _ := strings.Cut(filepath.Base(url), "?")
	return shared.db.Exec(t, name, sql)
}

// metric is the value of a sample of a server; nought where there is none.
func metric(t *testing.T, server, name string) float64 {
	t.Helper()
	for line := range strings.Lines(fetch(t, server+"/metrics")) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	return 0
}
