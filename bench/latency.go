package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"time"
)

// pacing says what latency is to do.
type pacing struct {
	rates    []int
	lasts    time.Duration
	sessions int
	inFlight int // of each session, to find the capacity
	share    float64
}

func bindLatency(flags *flag.FlagSet) measurement {
	o := pacing{rates: []int{100}}
	flags.Func("rates", "tasks a second (default 100)", listOf(&o.rates))
	flags.Float64Var(&o.share, "share", 0.5, "share of the measured capacity that is measured as well; 0 for none")
	flags.DurationVar(&o.lasts, "lasts", 10*time.Second, "how long each rate is kept")
	flags.IntVar(&o.sessions, "sessions", 16, "WebSocket sessions that submit and watch")
	flags.IntVar(&o.inFlight, "in-flight", 16, "tasks of each session under way while the capacity is measured")
	return o.turn
}

func (o *pacing) turn(ctx context.Context, l *lab, to *sheet) error {
	if min(o.sessions, o.inFlight) < 1 || o.share < 0 || o.lasts <= 0 {
		return errors.New("want at least one session, and no negative number")
	}
	return l.with(ctx, func(s *server) error {
		rates := o.rates
		if o.share > 0 {
			capacity, err := o.capacity(ctx, s)
			if err != nil {
				return fmt.Errorf("capacity: %w", err)
			}
			to.add("closed loop", "ended", "/s", capacity)
			rates = append(slices.Clip(rates), max(1, int(capacity*o.share)))
		}
		for i, rate := range rates {
			of := fmt.Sprintf("%d a second", rate)
			if i == len(o.rates) {
				of = fmt.Sprintf("%g of the capacity", o.share)
			}
			if rate < 1 {
				return errors.New("want at least one task a second")
			}
			if err := l.profile(ctx, s, func() error { return o.paced(ctx, l, s, to, of, rate) }); err != nil {
				return fmt.Errorf("%s: %w", of, err)
			}
		}
		return nil
	})
}

// capacity is how many tasks a second end while every session submits another for
// each that ends.
func (o *pacing) capacity(ctx context.Context, s *server) (float64, error) {
	all, err := dialMany(ctx, s.url, o.sessions)
	if err != nil {
		return 0, err
	}
	defer all.close()
	each := max(o.inFlight, int(o.lasts.Seconds()*50)) // some seconds where there is anything to measure
	began := time.Now()
	err = all.each(ctx, func(_ context.Context, _ int, session session) error {
		sent := 0
		for ; sent < min(o.inFlight, each); sent++ {
			if err := session.submitEcho(sent); err != nil {
				return err
			}
		}
		return session.readLives(each, nil, func(life) error {
			if sent == each {
				return nil
			}
			sent++
			return session.submitEcho(sent)
		})
	})
	return float64(each*o.sessions) / time.Since(began).Seconds(), err
}

// paced submits at a steady rate, however long the answers take. All is counted from
// when a task was due, so that a server that stalls is not asked less.
func (o *pacing) paced(ctx context.Context, l *lab, s *server, to *sheet, of string, rate int) error {
	all, err := dialMany(ctx, s.url, o.sessions)
	if err != nil {
		return err
	}
	defer all.close()
	n := max(o.sessions, int(o.lasts.Seconds()*float64(rate)))
	before, began := l.cost(s), time.Now()
	due := func(i int) time.Time { return began.Add(time.Duration(float64(i) / float64(rate) * 1e9)) }
	lives := make([]life, n)
	err = all.each(ctx, func(ctx context.Context, k int, session session) error {
		mine := (n - k + o.sessions - 1) / o.sessions
		sender := make(chan error, 1)
		go func() {
			var err error
			for i := k; i < n && err == nil; i += o.sessions {
				if err = pause(ctx, time.Until(due(i))); err == nil {
					err = session.submitEcho(i)
				}
			}
			if err != nil {
				_ = session.conn.Close() // for the reader not to wait for what does not come
			}
			sender <- err
		}()
		err := session.readLives(mine, due, func(got life) error { lives[got.number] = got; return nil })
		return errors.Join(err, <-sender)
	})
	if err != nil {
		return err
	}
	for _, row := range []struct {
		what string
		of   func(life) time.Duration
	}{
		{"submit to answer", func(f life) time.Duration { return f.answered }},
		{"submit to start", func(f life) time.Duration { return f.started }},
		{"submit to end", func(f life) time.Duration { return f.ended }},
		{"submit to end at the watcher", func(f life) time.Duration { return f.seen }},
		{"end to watcher, with its commit", func(f life) time.Duration { return f.seen - f.ended }},
	} {
		ds := make([]time.Duration, n)
		for i, f := range lives {
			ds[i] = row.of(f)
		}
		to.addDelays(of, row.what, ds)
	}
	l.addCost(to, of, "a task", s, before, n)
	return nil
}

// life is when things happened to a task, from when it was due.
type life struct {
	number                         int
	answered, started, ended, seen time.Duration
}

func (s session) submitEcho(number int) error {
	return s.request(number, "submit", map[string]any{"kind": "demo.echo", "follow": true, "payload": map[string]any{"n": number}})
}

// readLives reads what becomes of n tasks and gives each to ended.
func (s session) readLives(n int, due func(number int) time.Time, ended func(life) error) error {
	lives := map[string]*life{} // by subscription
	since := func(number int, at time.Time) time.Duration {
		if due == nil {
			return 0
		}
		return at.Sub(due(number))
	}
	for n > 0 {
		m, now, err := s.next()
		if err != nil {
			return err
		}
		if m.ID != nil {
			var answer struct{ Subscription string }
			if err := json.Unmarshal(m.Result, &answer); err != nil {
				return fmt.Errorf("decode an answer: %w", err)
			}
			lives[answer.Subscription] = &life{number: *m.ID, answered: since(*m.ID, now)}
			continue
		}
		f := lives[m.Params.Subscription]
		switch e := m.Params.Event; {
		case f == nil: // such as hello
		case m.Method == "end":
			delete(lives, m.Params.Subscription)
			n--
			if err := ended(*f); err != nil {
				return err
			}
		case e.Cursor == "1.1":
			f.started = since(f.number, time.Time(e.At))
		case e.Type == "state":
			f.ended, f.seen = since(f.number, time.Time(e.At)), since(f.number, now)
		}
	}
	return nil
}
