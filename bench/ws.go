package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// watching says what ws is to do.
type watching struct {
	sessions []int
	rate     int // events a second that reach watchers, of all sessions together
	lasts    time.Duration
	lean     bool
}

func bindWS(flags *flag.FlagSet) measurement {
	o := watching{sessions: []int{500, 2000, 10_000}}
	flags.Func("sessions", "numbers of WebSocket sessions (default 500,2000,10000)", listOf(&o.sessions))
	flags.IntVar(&o.rate, "events", 5000, "events a second that reach all watchers together")
	flags.DurationVar(&o.lasts, "lasts", 10*time.Second, "how long each stream lasts")
	flags.BoolVar(&o.lean, "lean", true, "measure a bare WebSocket server as well")
	return o.turn
}

// stream is what so many watchers see, for there to be as many events however many there are.
func (o *watching) stream(sessions int) stream {
	interval := time.Second * time.Duration(sessions) / time.Duration(o.rate)
	return stream{chunks: max(3, int(o.lasts/interval)), interval: interval}
}

func (o *watching) turn(ctx context.Context, l *lab, to *sheet) error {
	if o.rate < 1 || o.lasts < time.Second {
		return errors.New("want at least one event a second, for a second")
	}
	for _, n := range o.sessions {
		if n < 1 {
			return errors.New("want at least one session")
		}
		if err := allowFiles(n + 500); err != nil {
			return err
		}
		l.say("%d sessions", n)
		for _, shared := range []bool{false, true} {
			if err := o.pair(ctx, l, to, n, shared); err != nil {
				return fmt.Errorf("%d sessions: %w", n, err)
			}
		}
	}
	return nil
}

// pair measures Troupe, and the bare server beside it.
func (o *watching) pair(ctx context.Context, l *lab, to *sheet, n int, shared bool) error {
	of := fmt.Sprintf("%d, own tasks", n)
	if shared {
		of = fmt.Sprintf("%d, one task", n)
	}
	err := l.with(ctx, func(s *server) error {
		if !shared {
			if err := idle(ctx, s, to, of, n, s.delayed); err != nil {
				return fmt.Errorf("idle: %w", err)
			}
		}
		return l.profile(ctx, s, func() error { return o.follow(ctx, l, s, to, of, n, shared, s.held) })
	})
	if err != nil || !o.lean {
		return err
	}
	bare, err := launchLean(ctx)
	if err != nil {
		return err
	}
	of = "bare: " + of
	if !shared {
		err = idle(ctx, bare, to, of, n, func(context.Context, int) ([]string, error) { return make([]string, n), nil })
	}
	if err == nil {
		err = o.follow(ctx, l, bare, to, of, n, shared, bare.leanFeed)
	}
	return errors.Join(err, bare.stop())
}

// follow has all sessions follow streams, one each or one for all, to the end.
func (o *watching) follow(ctx context.Context, l *lab, s *server, to *sheet, of string, n int, shared bool, held holding) error {
	all, err := dialMany(ctx, s.url, n)
	if err != nil {
		return err
	}
	defer all.close()
	st := o.stream(n)
	ways := o.own
	if shared {
		if ways, err = o.together(ctx, all, st, held); err != nil {
			return err
		}
	}
	total := &seen{}
	before := l.cost(s)
	err = all.each(ctx, func(ctx context.Context, i int, session session) error {
		seen, err := ways(ctx, i, n, session, st)
		if err == nil {
			total.add(seen)
		}
		return err
	})
	if err != nil {
		return err
	}
	to.addDelays(of, "output to watcher", total.output)
	to.addDelays(of, "state to watcher, with its commit", total.state)
	if !shared {
		to.addDelays(of, "submit to first event", total.first)
	}
	l.addCost(to, of, "an event", s, before, len(total.output)+len(total.state))
	return nil
}

// way is how one of n sessions gets at its stream.
type way func(ctx context.Context, i, n int, s session, st stream) (*seen, error)

// own has a session submit its own. They begin one after the other, within the time
// between two events.
func (o *watching) own(ctx context.Context, i, n int, s session, st stream) (*seen, error) {
	if err := pause(ctx, max(st.interval, time.Second)*time.Duration(i)/time.Duration(n)); err != nil {
		return nil, err
	}
	return s.followOwn(st)
}

// holding makes a stream that does not begin before it is released.
type holding func(ctx context.Context, st stream) (id string, release func() error, err error)

// together has all sessions subscribe to one stream before it begins.
func (o *watching) together(ctx context.Context, all crowd, st stream, held holding) (way, error) {
	id, release, err := held(ctx, st)
	if err != nil {
		return nil, err
	}
	if err := all.subscribe(ctx, func(int) string { return id }); err != nil {
		return nil, err
	}
	return func(_ context.Context, i, _ int, s session, st stream) (*seen, error) {
		if i == 0 {
			if err := release(); err != nil {
				return nil, err
			}
		}
		return s.follow(st, time.Now())
	}, nil
}

// held keeps a stream back by pausing its queue.
func (s *server) held(ctx context.Context, st stream) (string, func() error, error) {
	if err := s.pauseQueue(ctx, "default", true); err != nil {
		return "", nil, err
	}
	var task struct{ ID string }
	body := fmt.Sprintf(`{"kind":"demo.stream","payload":{"chunks":%d,"interval":"%s","size":64}}`, st.chunks, st.interval)
	err := s.send(ctx, http.MethodPost, "/v1/tasks", body, &task)
	return task.ID, func() error { return s.pauseQueue(ctx, "default", false) }, err
}

func (s *server) leanFeed(ctx context.Context, st stream) (string, func() error, error) {
	return "", func() error {
		return s.send(ctx, http.MethodPost, fmt.Sprintf("/feed?chunks=%d&interval=%s", st.chunks, st.interval), "", nil)
	}, nil
}

// delayed submits tasks that will not run while we are here.
func (s *server) delayed(ctx context.Context, n int) ([]string, error) {
	const batch = 1000
	task := strings.TrimSuffix(echo, "}") + `,"delay":"1h"}`
	var ids []string
	for len(ids) < n {
		var made struct{ IDs []string }
		size := min(batch, n-len(ids))
		body := `{"tasks":[` + strings.Repeat(task+",", size-1) + task + `]}`
		if err := s.send(ctx, http.MethodPost, "/v1/batches", body, &made); err != nil {
			return nil, err
		}
		ids = append(ids, made.IDs...)
	}
	return ids, nil
}

// idle tells what a session takes of the server's memory that watches a task to which
// nothing happens.
func idle(ctx context.Context, s *server, to *sheet, of string, n int, tasks func(context.Context, int) ([]string, error)) error {
	ids, err := tasks(ctx, n)
	if err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	before := s.usage().memory
	all, err := dialMany(ctx, s.url, n)
	if err != nil {
		return err
	}
	defer all.close()
	if err := all.subscribe(ctx, func(i int) string { return ids[i] }); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	to.add(of, "server's memory an idle session", "KiB", (s.usage().memory-before)*1024/float64(n))
	return nil
}
