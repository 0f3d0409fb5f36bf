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
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// load submits n tasks by so many callers and tells how long each call took.
func (s *server) load(ctx context.Context, callers, n int) ([]time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	var all []time.Duration
	group, groupCtx := errgroup.WithContext(ctx)
	for range callers {
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
	return all, group.Wait()
}

func oneByOne(ctx context.Context, s *server, callers, n int) (throughput, error) {
	before, err := s.ended(ctx)
	if err != nil {
		return throughput{}, err
	}
	began := time.Now()
	if _, err := s.load(ctx, callers, n); err != nil {
		return throughput{}, err
	}
	accepted := time.Since(began)
	if err := s.awaitEnded(ctx, before, n); err != nil {
		return throughput{}, err
	}
	return rates(n, accepted, time.Since(began)), nil
}

func rates(n int, accepted, ended time.Duration) throughput {
	return throughput{Tasks: n, Accepted: float64(n) / accepted.Seconds(), Ended: float64(n) / ended.Seconds()}
}

// batches streams n tasks as NDJSON and counts the answers.
func batches(ctx context.Context, s *server, n int) (throughput, error) {
	before, err := s.ended(ctx)
	if err != nil {
		return throughput{}, err
	}
	began := time.Now()
	resp, err := s.post(ctx, "/v1/batches", "application/x-ndjson", bytes.NewReader(bytes.Repeat([]byte(echo+"\n"), n)))
	if err != nil {
		return throughput{}, err
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
			return throughput{}, fmt.Errorf("decode %q: %w", lines.Bytes(), err)
		}
		if line.Error != nil {
			return throughput{}, fmt.Errorf("a line was refused: %s", line.Error)
		}
		if line.ID != "" {
			answers++
		}
	}
	if err := lines.Err(); err != nil {
		return throughput{}, err
	}
	if answers != n {
		return throughput{}, fmt.Errorf("%d answers for %d lines", answers, n)
	}
	accepted := time.Since(began)
	if err := s.awaitEnded(ctx, before, n); err != nil {
		return throughput{}, err
	}
	return rates(n, accepted, time.Since(began)), nil
}

// inFlight measures the answers of POST /v1/tasks with so many requests at once.
func inFlight(ctx context.Context, s *server, callers, n int) (spread, error) {
	all, err := s.load(ctx, callers, n)
	return spreadOf(all), err
}

// probe submits tasks one after the other to an idle server and tells when each
// started and ended, by the server's own times.
func probe(ctx context.Context, s *server, n int) (probed, error) {
	var starts, ends []time.Duration
	for range n {
		began := time.Now()
		resp, err := s.wait(ctx)
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
