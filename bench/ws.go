package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

// watching says what ws is to do.
type watching struct {
	sessions []int
	rate     int // events a second that reach watchers, of all sessions together
	lasts    time.Duration
}

func bindWS(flags *flag.FlagSet) measurement {
	o := watching{sessions: []int{500, 2000, 10_000}}
	flags.Func("sessions", "numbers of WebSocket sessions (default 500,2000,10000)", listOf(&o.sessions))
	flags.IntVar(&o.rate, "events", 5000, "events a second that reach all watchers together")
	flags.DurationVar(&o.lasts, "lasts", 10*time.Second, "how long each stream lasts")
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
		err := l.with(ctx, func(s *server) error {
			return l.profile(ctx, s, func() error { return o.own(ctx, l, s, to, n) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// own has each session follow a stream of its own.
func (o *watching) own(ctx context.Context, l *lab, s *server, to *sheet, n int) error {
	all, err := dialMany(ctx, s.url, n)
	if err != nil {
		return err
	}
	defer all.close()
	st := o.stream(n)
	total := &seen{}
	before := l.cost(s)
	err = all.each(ctx, func(ctx context.Context, i int, session session) error {
		// The sessions begin one after the other, within the time between two events.
		if err := pause(ctx, max(st.interval, time.Second)*time.Duration(i)/time.Duration(n)); err != nil {
			return err
		}
		seen, err := session.followOwn(st)
		if err == nil {
			total.add(seen)
		}
		return err
	})
	if err != nil {
		return err
	}
	of := fmt.Sprintf("%d sessions, own tasks", n)
	to.addDelays(of, "output to watcher", total.output)
	to.addDelays(of, "state to watcher, with its commit", total.state)
	to.addDelays(of, "submit to first event", total.first)
	l.addCost(to, of, "an event", s, before, len(total.output)+len(total.state))
	return nil
}
