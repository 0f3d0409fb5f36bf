package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// resuming says what resume is to do.
type resuming struct {
	watchers, tasks int
	stream          stream
	after           time.Duration
}

func bindResume(flags *flag.FlagSet) measurement {
	var o resuming
	flags.IntVar(&o.watchers, "watchers", 10_000, "WebSocket sessions that come back at once")
	flags.IntVar(&o.tasks, "tasks", 100, "demo.stream tasks that they watch")
	flags.IntVar(&o.stream.chunks, "chunks", 20, "output events of each task")
	flags.DurationVar(&o.stream.interval, "interval", time.Second, "time between two of them")
	flags.DurationVar(&o.after, "kill-after", 5*time.Second, "how long all watch before the server is killed")
	return o.turn
}

func (o *resuming) turn(ctx context.Context, l *lab, to *sheet) error {
	if min(o.watchers, o.tasks, o.stream.chunks) < 1 || o.stream.interval <= 0 {
		return errors.New("want at least 1 of everything")
	}
	if err := allowFiles(o.watchers + 500); err != nil {
		return err
	}
	return l.with(ctx, func(s *server) error { return o.killed(ctx, l, s, to) })
}

// follower is a watcher of one task that remembers where it was.
type follower struct {
	task      string
	last      task.Cursor
	caughtUp  time.Time // when it had seen all that was there when it came back
	came      time.Time
	connected session
}

func (o *resuming) killed(ctx context.Context, l *lab, s *server, to *sheet) error {
	ids, err := o.submit(ctx, s)
	if err != nil {
		return err
	}
	all, err := dialMany(ctx, s.url, o.watchers)
	if err != nil {
		return err
	}
	defer all.close()
	followers := make([]*follower, o.watchers)
	for i := range followers {
		followers[i] = &follower{task: ids[i%len(ids)], connected: all[i]}
	}
	l.say("%d watchers watch", o.watchers)
	killed := make(chan struct{})
	kill := time.AfterFunc(o.after, func() { s.kill(); close(killed) })
	_, err = inTurns(ctx, o.watchers, o.watchers, func(_ context.Context, i int) error { return followers[i].untilLost() })
	if kill.Stop() || err != nil {
		return errors.Join(errors.New("before the server was killed"), err)
	}
	<-killed
	return o.back(ctx, l, s, to, followers)
}

// back starts the server again and has all watchers come at once, and read to the end.
func (o *resuming) back(ctx context.Context, l *lab, s *server, to *sheet, followers []*follower) error {
	of := fmt.Sprintf("%d watchers of %d tasks", o.watchers, o.tasks)
	restart := time.Now()
	if err := s.begin(ctx); err != nil {
		return err
	}
	ready := time.Now()
	to.add(of, "restart to ready", "s", ready.Sub(restart).Seconds())
	l.say("they come back")
	err := l.profile(ctx, s, func() error {
		_, err := inTurns(ctx, o.watchers, o.watchers, func(ctx context.Context, i int) error {
			if err := followers[i].comeBack(ctx, s.url); err != nil {
				return fmt.Errorf("watcher %d of %s behind %s: %w", i, followers[i].task, followers[i].last, err)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	var came, caughtUp []time.Duration
	for _, f := range followers {
		came, caughtUp = append(came, f.came.Sub(ready)), append(caughtUp, f.caughtUp.Sub(ready))
	}
	to.addDelays(of, "ready to subscribed", came)
	to.addDelays(of, "ready to caught up", caughtUp)
	to.add(of, "restart to the last caught up", "s", ready.Sub(restart).Seconds()+quantile(caughtUp, 1)/1000)
	to.add(of, "server's memory", "MiB", s.usage().memory)
	return nil
}

func (o *resuming) submit(ctx context.Context, s *server) ([]string, error) {
	one := fmt.Sprintf(`{"kind":"demo.stream","payload":{"chunks":%d,"interval":"%s","size":64}}`, o.stream.chunks, o.stream.interval)
	var made struct{ IDs []string }
	err := s.send(ctx, http.MethodPost, "/v1/batches", `{"tasks":[`+strings.Repeat(one+",", o.tasks-1)+one+`]}`, &made)
	return made.IDs, err
}

// untilLost reads until the connection is lost.
func (f *follower) untilLost() error {
	if err := f.connected.request(1, "subscribe", map[string]any{"task": f.task}); err != nil {
		return nil //nolint:nilerr // lost
	}
	for {
		m, _, err := f.connected.next()
		if err != nil {
			_ = f.connected.conn.Close()
			if f.last == (task.Cursor{}) {
				return fmt.Errorf("it saw nothing: %w", err)
			}
			return nil
		}
		if m.Method == "end" {
			return errors.New("its task ended")
		}
		if err := f.saw(m); err != nil {
			return err
		}
	}
}

// saw checks that an event is the next one: no gap, no repeat.
func (f *follower) saw(m message) error {
	if m.Method == "gap" {
		return errors.New("there is a gap")
	}
	if m.Method != "event" {
		return nil
	}
	at, err := task.ParseCursor(m.Params.Event.Cursor)
	if err != nil {
		return err
	}
	next := at.Attempt == f.last.Attempt && at.Seq == f.last.Seq+1
	if newer := at.Attempt > f.last.Attempt && at.Seq == 1; !next && !newer {
		return fmt.Errorf("%s came behind %s", at, f.last)
	}
	f.last = at
	return nil
}

// comeBack goes on behind the last event that was seen, to the end of the task.
func (f *follower) comeBack(ctx context.Context, url string) error {
	s, err := dial(ctx, url)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer func() {
		stop()
		_ = s.conn.Close()
	}()
	there, err := f.again(ctx, s)
	if err != nil {
		return err
	}
	for {
		if f.caughtUp.IsZero() && !f.last.Before(there) {
			f.caughtUp = time.Now()
		}
		m, _, err := s.next()
		if err != nil {
			return err
		}
		if err := f.saw(m); err != nil {
			return err
		}
		if m.Method == "end" {
			if f.caughtUp.IsZero() {
				return fmt.Errorf("it ended in front of %s", there)
			}
			return nil
		}
	}
}

// again subscribes behind what was seen, and returns up to where there is something. What
// was shown and not stored before the server died is ahead of the log until the task's
// next attempt begins: then it is asked again.
func (f *follower) again(ctx context.Context, s session) (there task.Cursor, err error) {
	for {
		if err := s.request(1, "subscribe", map[string]any{"task": f.task, "after": f.last.String()}); err != nil {
			return there, err
		}
		answer, refused, err := s.answer()
		if err != nil {
			return there, err
		}
		if refused == "" {
			f.came = time.Now()
			var at struct{ Task struct{ Cursor string } }
			if err := json.Unmarshal(answer, &at); err != nil {
				return there, err
			}
			return task.ParseCursor(at.Task.Cursor)
		}
		if !strings.Contains(refused, "cursor_ahead") {
			return there, errors.New(refused)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return there, err
		}
	}
}
