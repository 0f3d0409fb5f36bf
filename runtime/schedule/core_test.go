package schedule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func id(n int) ID {
	var i ID
	binary.BigEndian.PutUint64(i[8:], uint64(n))
	return i
}

func TestDuplicateIsRefused(t *testing.T) {
	c := New(Config{})
	e := Entry{ID: id(1), Since: epoch}
	if err := c.Add(e); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(e); !errors.Is(err, ErrDuplicate) {
		t.Errorf("second add: %v", err)
	}
	if got, ok := c.Next(epoch); !ok || got.ID != e.ID {
		t.Error("an empty demand does not start")
	}
	if err := c.Add(e); !errors.Is(err, ErrDuplicate) {
		t.Errorf("add of a running one: %v", err)
	}
	if _, ok := c.Explain(e.ID, epoch); ok {
		t.Error("a running one waits")
	}
}

// Queues and shapes that come once and go leave nothing behind, though the node is
// never idle and nothing ends early, for which accounts are looked through.
func TestWhatIsGoneIsForgotten(t *testing.T) {
	for name, waits := range map[string]bool{"while nobody waits": false, "while one waits": true} {
		t.Run(name, func(t *testing.T) {
			c := New(Config{})
			c.SetCapacity("slots", 100_000)
			now, long := epoch, 1000*time.Hour
			add := func(e Entry) {
				if err := c.Add(e); err != nil {
					t.Fatal(err)
				}
			}
			add(Entry{ID: id(0), Namespace: "steady", Queue: "q", Since: now, Demand: slots(1), Expected: long})
			c.Next(now)
			if waits {
				add(Entry{ID: id(1), Namespace: "steady", Queue: "q", Since: now, Demand: slots(100_000), Expected: long})
			}
			for n := 2; n < 25_000; n++ {
				for k, e := range []Entry{
					{Namespace: fmt.Sprint("n", n/3), Queue: fmt.Sprint("q", n)},
					{Namespace: "steady", Queue: "q"},
				} {
					e.ID, e.Since, e.Demand, e.Expected = id(2*n+k), now, slots(int64(2+n)), time.Minute
					add(e)
					if got, ok := c.Next(now); !ok || got.ID != e.ID {
						t.Fatalf("%d does not start", n)
					}
				}
				now = now.Add(time.Minute)
				c.Release(id(2*n), now)
				c.Release(id(2*n+1), now)
			}
			if len(c.flows) > 2*mostIdle || len(c.tenants) > 2*mostIdle {
				t.Errorf("%d flows and %d tenants are known", len(c.flows), len(c.tenants))
			}
			a := c.flow(queueName{"steady", "q"}).account(0)
			if seats, stalls := len(a.seats), len(c.tenants["steady"].account(0).stalls); seats > 100 || stalls > 100 {
				t.Errorf("%d seats and %d stalls are kept", seats, stalls)
			}
		})
	}
}
