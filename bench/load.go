package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/transport"
)

const echo = `{"kind":"demo.echo","payload":{"n":1,"text":"about a hundred bytes of payload, so that it is not nothing at all"}}`

// do makes a request; an answer of more than 2xx is an error.
func (s *server) do(ctx context.Context, method, path string, body io.Reader, headers ...[2]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		req.Header.Set(h[0], h[1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return resp, nil
}

// send makes a request and decodes the answer, unless into is nil.
func (s *server) send(ctx context.Context, method, path, body string, into any, headers ...[2]string) error {
	resp, err := s.do(ctx, method, path, strings.NewReader(body), headers...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	return nil
}

func (s *server) submit(ctx context.Context) error {
	return s.send(ctx, http.MethodPost, "/v1/tasks", echo, nil)
}

// ended is how many tasks the server counts as succeeded.
func (s *server) ended(ctx context.Context) (int, error) {
	var stats struct {
		Counts map[string]int `json:"counts"`
	}
	err := s.send(ctx, http.MethodGet, "/v1/stats", "", &stats)
	return stats.Counts["succeeded"], err
}

// lookEvery is how exact the last end is known. Looking more often would load what
// is measured.
const lookEvery = 10 * time.Millisecond

// awaitEnded waits until n more tasks than before have ended.
func (s *server) awaitEnded(ctx context.Context, before, n int) error {
	for {
		now, err := s.ended(ctx)
		if err != nil {
			return err
		}
		if now-before >= n {
			return nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// inTurns has n calls made by so many callers, each with the number of the call, and
// tells how long each took.
func inTurns(ctx context.Context, callers, n int, call func(ctx context.Context, i int) error) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	var next atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	for range callers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				began := time.Now()
				if err := call(groupCtx, i); err != nil {
					return err
				}
				took[i] = time.Since(began)
			}
			return nil
		})
	}
	err := group.Wait()
	return took, err
}

// load submits n tasks one by one, by callers that take the nodes in turn.
func load(ctx context.Context, nodes []*server, callers, n int) ([]time.Duration, error) {
	return inTurns(ctx, callers, n, func(ctx context.Context, i int) error { return nodes[i%len(nodes)].submit(ctx) })
}

func oneByOne(ctx context.Context, nodes []*server, callers, n int) (throughput, error) {
	return untilEnded(ctx, nodes, n, func() error {
		_, err := load(ctx, nodes, callers, n)
		return err
	})
}

// batches streams n tasks as NDJSON, a share to each node.
func batches(ctx context.Context, nodes []*server, n int) (throughput, error) {
	return untilEnded(ctx, nodes, n, func() error {
		group, groupCtx := errgroup.WithContext(ctx)
		for i, s := range nodes {
			share := n*(i+1)/len(nodes) - n*i/len(nodes)
			group.Go(func() error { return s.batch(groupCtx, share) })
		}
		return group.Wait()
	})
}

// untilEnded has n tasks submitted and tells how soon they were accepted, and ended.
func untilEnded(ctx context.Context, nodes []*server, n int, submit func() error) (throughput, error) {
	before, err := nodes[0].ended(ctx)
	if err != nil {
		return throughput{}, err
	}
	began := time.Now()
	if err := submit(); err != nil {
		return throughput{}, err
	}
	accepted := time.Since(began)
	if err := nodes[0].awaitEnded(ctx, before, n); err != nil {
		return throughput{}, err
	}
	ended := time.Since(began)
	return throughput{Tasks: n, Accepted: float64(n) / accepted.Seconds(), Ended: float64(n) / ended.Seconds()}, nil
}

// batch streams n tasks as NDJSON and counts the answers.
func (s *server) batch(ctx context.Context, n int) error {
	resp, err := s.do(ctx, http.MethodPost, "/v1/batches", bytes.NewReader(bytes.Repeat([]byte(echo+"\n"), n)), [2]string{"Content-Type", "application/x-ndjson"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answers := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var line struct {
			ID    string          `json:"id"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("decode %q: %w", lines.Bytes(), err)
		}
		if line.Error != nil {
			return fmt.Errorf("a line was refused: %s", line.Error)
		}
		if line.ID != "" {
			answers++
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if answers != n {
		return fmt.Errorf("%d answers for %d lines", answers, n)
	}
	return nil
}

// submitBatches submits n tasks in JSON batches and tells how long each call took.
func (s *server) submitBatches(ctx context.Context, task string, n, batch, callers int) ([]time.Duration, error) {
	return inTurns(ctx, callers, (n+batch-1)/batch, func(ctx context.Context, i int) error {
		size := min(batch, n-i*batch)
		body := `{"tasks":[` + strings.Repeat(task+",", size-1) + task + `]}`
		return s.send(ctx, http.MethodPost, "/v1/batches", body, nil)
	})
}

func (s *server) pauseQueue(ctx context.Context, name string, paused bool) error {
	return s.send(ctx, http.MethodPatch, "/v1/queues/"+name, fmt.Sprintf(`{"paused":%v}`, paused), nil)
}

// probed is how long tasks took to start, by the server's own times, and to end.
type probed struct{ starts, ends []time.Duration }

// probeWith submits a task again and again, each when the one before has ended, to the
// server it is told.
func probeWith(ctx context.Context, task string, next func() *server, n int) (p probed, err error) {
	for range n {
		began := time.Now()
		var t transport.Task
		if err := next().send(ctx, http.MethodPost, "/v1/tasks", task, &t, [2]string{"Prefer", "wait=30"}); err != nil {
			return p, err
		}
		if t.StartedAt == nil || t.FinishedAt == nil {
			return p, fmt.Errorf("task %s is %s", t.ID, t.State)
		}
		p.ends = append(p.ends, time.Since(began))
		p.starts = append(p.starts, time.Time(*t.StartedAt).Sub(time.Time(t.CreatedAt)))
	}
	return p, nil
}

type throughput struct {
	Tasks    int     `json:"tasks"`
	Accepted float64 `json:"accepted_per_second"`
	Ended    float64 `json:"ended_per_second"` // from the first submit to the last end
}
