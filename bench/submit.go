package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/transport"
)

const echo = `{"kind":"demo.echo","payload":{"n":1,"text":"about a hundred bytes of payload, so that it is not nothing at all"}}`

func (s *server) post(ctx context.Context, path, contentType string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s", path, resp.Status, text)
	}
	return resp, nil
}

func (s *server) submit(ctx context.Context) error {
	resp, err := s.post(ctx, "/v1/tasks", "application/json", bytes.NewReader([]byte(echo)))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return err
}

// ended is how many tasks the server counts as succeeded.
func (s *server) ended(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/stats", nil)
	if err != nil {
		return 0, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var stats struct {
		Counts map[string]int `json:"counts"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		return 0, fmt.Errorf("read the stats: %w", err)
	}
	return stats.Counts["succeeded"], nil
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
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// load submits n tasks by so many callers, who are spread over the nodes, and
// tells how long each call took.
func load(ctx context.Context, nodes []*server, callers, n int) ([]time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	var all []time.Duration
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range callers {
		s := nodes[i%len(nodes)]
		group.Go(func() error {
			var mine []time.Duration
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := s.submit(groupCtx); err != nil {
					return err
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			return nil
		})
	}
	err := group.Wait()
	return all, err
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
	resp, err := s.post(ctx, "/v1/batches", "application/x-ndjson", bytes.NewReader(bytes.Repeat([]byte(echo+"\n"), n)))
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

// inFlight measures the answers of POST /v1/tasks with so many requests at once.
func inFlight(ctx context.Context, nodes []*server, callers, n int) (spread, error) {
	all, err := load(ctx, nodes, callers, n)
	return spreadOf(all), err
}

// probe submits tasks one after the other, each to the idle server it is told, and
// tells when they started, by the server's own times, and ended.
func probe(ctx context.Context, next func() *server, n int) (probed, error) {
	var starts, ends []time.Duration
	for range n {
		began := time.Now()
		resp, err := next().wait(ctx)
		if err != nil {
			return probed{}, err
		}
		var t transport.Task
		err = json.NewDecoder(resp.Body).Decode(&t)
		_ = resp.Body.Close()
		if err != nil {
			return probed{}, fmt.Errorf("decode the task: %w", err)
		}
		if t.StartedAt == nil || t.FinishedAt == nil {
			return probed{}, fmt.Errorf("task %s is %s", t.ID, t.State)
		}
		ends = append(ends, time.Since(began))
		starts = append(starts, time.Time(*t.StartedAt).Sub(time.Time(t.CreatedAt)))
	}
	return probed{Start: spreadOf(starts), End: spreadOf(ends)}, nil
}

func (s *server) wait(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/tasks", bytes.NewReader([]byte(echo)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Prefer", "wait=30")
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("submit and wait: %s", resp.Status)
	}
	return resp, nil
}
