package schedule

import (
	"testing"
	"time"
)

const probe = "probe"

// probe adds an entry to a node that is flooded, again and again as soon as it has
// started, and says how long it waited at most. The bound is asked for when it comes.
func (p *plant) probe(e func() Entry, bound func(Entry) time.Duration) (worst time.Duration, probes int) {
	p.t.Helper()
	for range 200 {
		p.step()
	}
	for n := 0; n < *steps/4; {
		came := p.now
		x := e()
		x.Kind = probe
		most := bound(x)
		i := p.add(x)
		for p.c.IsWaiting(i) {
			if p.now.Sub(came) > most {
				p.t.Fatalf("probe %d has waited %v, and was to wait %v at most", probes, p.now.Sub(came), most)
			}
			p.step()
			n++
		}
		worst = max(worst, p.now.Sub(came))
		probes++
		for range p.r.IntN(20) {
			p.step()
		}
	}
	return worst, probes
}

func slots(n int64) Demand { return NewDemand(map[string]int64{"slots": n}) }

// A step of priority is made up for by one ageing: however many more urgent entries
// come, in other queues or its own.
func TestALowPriorityWaitsForItsAgeing(t *testing.T) {
	const longest = 10 * time.Second
	p := newPlant(t, map[string]int64{"slots": 8})
	flood := func(queue string) func() Entry {
		return func() Entry {
			return Entry{Namespace: "m", Queue: queue, Demand: slots(1), Expected: time.Duration(1+p.r.IntN(10)) * time.Second}
		}
	}
	p.flood(40, flood("a"))
	p.flood(40, flood("b"))
	for name, queue := range map[string]string{"its own queue": "a", "another": "c"} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			// Those that came before it, in both queues, take their time: 80 entries of
			// 5.5 s on average on 8 slots.
			const backlog = 60 * time.Second
			worst, n := p.probe(func() Entry {
				return Entry{Namespace: "m", Queue: queue, Priority: -1 - p.r.IntN(5), Demand: slots(1), Expected: longest}
			}, func(e Entry) time.Duration { return time.Duration(1-e.Priority)*ageing + backlog + longest })
			t.Logf("%d probes waited %v at most; an ageing is %v", n, worst, ageing)
		})
	}
}

// An entry that needs the whole node starts when all that ran as it became its turn
// has ended, whoever could use what comes free meanwhile.
func TestABigOneIsNotStarved(t *testing.T) {
	p := newPlant(t, map[string]int64{"slots": 8})
	small := func(namespace string, most int) func() Entry {
		return func() Entry {
			return Entry{Namespace: namespace, Queue: "q", Demand: slots(1), Expected: time.Duration(1+p.r.IntN(most)) * time.Second}
		}
	}
	p.flood(20, small("m", 2)) // its own ones, that often fit beside the reservation
	p.flood(20, small("n", 20))
	// It is the turn of its queue at once, or after the queue has paid for what it had;
	// before it are twenty of its own, on half of the node.
	const longest, own = 20 * time.Second, 30 * time.Second
	big := func() Entry { return Entry{Namespace: "m", Queue: "q", Demand: slots(8), Expected: 5 * time.Second} }
	worst, n := p.probe(big, func(Entry) time.Duration { return longest + 2*own })
	t.Logf("%d probes waited %v at most; others run up to %v", n, worst, longest)
}

// In a queue that does not go by arrival an entry that always comes last waits for
// patience times what is ahead of it, and then for what runs and for others that have
// run out of patience. By area, it is patience times what going by arrival would have
// meant of late, on a node that is not always full, and then what is ahead of it.
func TestPatienceHasAnEnd(t *testing.T) {
	for _, policy := range []Policy{ShortestArea, Deadline} {
		t.Run(string(policy), func(t *testing.T) {
			const longest = 40 * time.Second
			p := newPlant(t, map[string]int64{"slots": 8})
			p.c.SetPolicy("m", "q", policy)
			p.flood(100, func() Entry {
				return Entry{
					Namespace: "m", Queue: "q", Demand: slots(1 + int64(p.r.IntN(2))), Deadline: p.now.Add(time.Second),
					Expected: time.Duration(1+p.r.IntN(10)) * time.Second,
				}
			})
			worst, n := p.probe(func() Entry {
				return Entry{Namespace: "m", Queue: "q", Demand: slots(4), Expected: longest}
			}, func(e Entry) time.Duration {
				ahead := 0.0
				for _, i := range p.c.items {
					if i.group != nil {
						ahead += p.share(i.Demand) * i.Expected.Seconds()
					} else {
						ahead += p.share(i.Demand) * i.end.Sub(p.now).Seconds()
					}
				}
				fifo := time.Duration(ahead * float64(time.Second))
				if policy == ShortestArea {
					return 3*fifo + longest
				}
				return max(fifo*5/4, 2*ageing) + longest + 20*time.Second
			})
			t.Logf("%d probes waited %v at most", n, worst)
		})
	}
}
