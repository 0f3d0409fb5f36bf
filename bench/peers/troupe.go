package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// library is Troupe in the caller's own process, as River and Asynq are. All settings
// are the defaults: 1,000 slots, and 10 connections to PostgreSQL.
type library struct {
	node  *runtime.Runtime
	store task.Store
}

func openLibrary(ctx context.Context, at place, l *ledger) (queue, error) {
	url := at.Postgres
	if url == "" {
		url = filepath.Join(at.Dir, "data")
	}
	store, err := persistence.Open(ctx, url, persistence.Options{})
	if err != nil {
		return nil, err
	}
	node, err := runtime.Open(ctx, runtime.WithStore(store))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	runtime.Handle(node, "job", func(_ context.Context, t *runtime.Task[job]) (any, error) {
		l.run(t.Payload.N)
		return nil, nil //nolint:nilnil // a job has no result
	})
	return &library{node: node, store: store}, nil
}

func (q *library) submit(ctx context.Context, jobs []job) error {
	subs := make([]task.Submission, len(jobs))
	for i, j := range jobs {
		payload, err := json.Marshal(j)
		if err != nil {
			return err
		}
		subs[i].Spec = task.Spec{Namespace: task.DefaultNamespace, Kind: "job", Payload: payload}
	}
	for _, answer := range q.node.Enqueue(ctx, subs) {
		if answer.Err != nil {
			return answer.Err
		}
	}
	return nil
}

func (q *library) ended(ctx context.Context) (int, error) {
	o, err := q.node.Overview(ctx, task.Scope{Namespace: task.DefaultNamespace})
	if err != nil {
		return 0, err
	}
	ended := 0
	for _, c := range o.Counts {
		if c.State == task.Succeeded {
			ended += int(c.Tasks)
		}
	}
	return ended, nil
}

func (q *library) close(ctx context.Context) error {
	return errors.Join(q.node.Close(ctx), q.store.Close())
}

// server is Troupe as a process of its own, spoken to by HTTP, with its default
// settings. It runs the jobs itself, as tasks of its kind demo.echo, which gives the
// payload back as the result: it writes twice the bytes that others do.
type server struct {
	process *process
	client  *client.Client
	kind    string

	mu  sync.Mutex
	ids map[int]string // of jobs submitted alone
}

// echoing is a server that runs the jobs itself.
type echoing struct{ *server }

// working is a server whose jobs a worker runs, over a WebSocket, as Faktory's do.
type working struct {
	*server
	stop context.CancelFunc
	over chan error
}

func openServer(ctx context.Context, at place, _ *ledger) (queue, error) {
	s, err := serve(ctx, at)
	if err != nil {
		return nil, err
	}
	s.kind = "demo.echo"
	return echoing{s}, nil
}

func openServerAndWorker(ctx context.Context, at place, l *ledger) (queue, error) {
	s, err := serve(ctx, at)
	if err != nil {
		return nil, err
	}
	s.kind = "job"
	worker := client.NewWorker(s.client, client.WorkerOptions{Name: "bench", Slots: callers})
	client.HandleWorker(worker, s.kind, func(_ context.Context, a *client.Attempt[job]) (any, error) {
		l.run(a.Payload.N)
		return nil, nil //nolint:nilnil // a job has no result
	})
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &working{server: s, stop: stop, over: make(chan error, 1)}
	go func() { w.over <- worker.Run(life) }()
	return w, nil
}

func serve(ctx context.Context, at place) (*server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--listen", address, "--log-level", "warn"}
	if at.Postgres != "" {
		args = append(args, "--store", at.Postgres)
	} else {
		args = append(args, "--data", filepath.Join(at.Dir, "data"))
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * callers}
	c, err := client.New("http://"+address, client.Options{HTTP: &http.Client{Transport: transport}})
	if err != nil {
		return nil, err
	}
	s := &server{client: c, ids: map[int]string{}}
	if s.process, err = start(ctx, at.Troupe, args...); err != nil {
		return nil, err
	}
	return s, s.process.await(ctx, c.Ready)
}

func (s *server) pids() []int { return []int{s.process.pid} }

func (s *server) submit(ctx context.Context, jobs []job) error {
	lines := make([]transport.Submission, len(jobs))
	for i, j := range jobs {
		payload, err := json.Marshal(j)
		if err != nil {
			return err
		}
		lines[i] = transport.Submission{Kind: s.kind, Payload: payload}
	}
	if len(lines) > 1 {
		return s.batch(ctx, lines)
	}
	t, _, err := s.client.Submit(ctx, lines[0])
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[jobs[0].N] = t.ID
	return nil
}

func (s *server) batch(ctx context.Context, lines []transport.Submission) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	for _, line := range lines {
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	sum, err := s.client.Batch(ctx, &body, func(transport.BatchLine) {})
	if err == nil && sum.Accepted != len(lines) {
		err = fmt.Errorf("%d of %d tasks accepted", sum.Accepted, len(lines))
	}
	return err
}

func (s *server) ended(ctx context.Context) (int, error) {
	stats, err := s.client.Stats(ctx)
	return int(stats.Counts[task.Succeeded.String()]), err
}

func (s echoing) startedAt(ctx context.Context, n int) (time.Time, error) {
	s.mu.Lock()
	id := s.ids[n]
	s.mu.Unlock()
	t, err := s.client.Get(ctx, id)
	if err != nil {
		return time.Time{}, err
	}
	if t.StartedAt == nil {
		return time.Time{}, fmt.Errorf("task %s is %s", id, t.State)
	}
	return time.Time(*t.StartedAt), nil
}

func (s echoing) close(context.Context) error {
	s.process.stop()
	return nil
}

func (w *working) close(context.Context) error {
	w.stop()
	err := <-w.over
	w.process.stop()
	return err
}
