package main

import "context"

// channel is the floor: what the harness itself costs, and goroutines that wait at a
// channel. As many as the tuned rivals have workers at most.
type channel struct {
	jobs chan job
	led  *ledger
}

func openChannel(_ context.Context, _ place, l *ledger) (queue, error) {
	c := &channel{jobs: make(chan job), led: l}
	for range 64 {
		go func() {
			for j := range c.jobs {
				l.run(j.N)
			}
		}()
	}
	return c, nil
}

func (c *channel) submit(_ context.Context, jobs []job) error {
	for _, j := range jobs {
		c.jobs <- j
	}
	return nil
}

func (c *channel) ended(context.Context) (int, error) { return int(c.led.ran.Load()), nil }

func (c *channel) close(context.Context) error {
	close(c.jobs)
	return nil
}
