package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"
)

// asynqDefault is Asynq as it comes: as many workers as CPUs, a look at an empty queue
// each second. asynqTuned looks every 10 ms, and has workers enough that their trips to
// Redis overlap; its documentation warns of going lower.
var (
	asynqDefault = asynq.Config{}
	asynqTuned   = asynq.Config{Concurrency: 64, TaskCheckInterval: 10 * time.Millisecond}
)

// asynqQueue is Asynq in this process, over a Redis of its own. It has no call for a
// batch, so that one is as many calls at once as one by one.
type asynqQueue struct {
	redis  *process
	client *asynq.Client
	server *asynq.Server
	books  *asynq.Inspector
}

func openAsynq(fsync string, config asynq.Config) func(context.Context, place, *ledger) (queue, error) {
	return func(ctx context.Context, at place, l *ledger) (queue, error) {
		redis, address, err := startRedis(ctx, filepath.Join(at.Dir, "redis"), fsync)
		if err != nil {
			return nil, err
		}
		opt := asynq.RedisClientOpt{Addr: address, PoolSize: 2 * callers}
		config.LogLevel = asynq.FatalLevel
		q := &asynqQueue{redis: redis, client: asynq.NewClient(opt), server: asynq.NewServer(opt, config), books: asynq.NewInspector(opt)}
		return q, q.server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
			var j job
			if err := json.Unmarshal(t.Payload(), &j); err != nil {
				return err
			}
			l.run(j.N)
			return nil
		}))
	}
}

func (q *asynqQueue) submit(ctx context.Context, jobs []job) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(callers / submitters)
	for _, j := range jobs {
		group.Go(func() error {
			payload, err := json.Marshal(j)
			if err == nil {
				_, err = q.client.EnqueueContext(ctx, asynq.NewTask("job", payload))
			}
			return err
		})
	}
	return group.Wait()
}

func (q *asynqQueue) ended(context.Context) (int, error) {
	info, err := q.books.GetQueueInfo("default")
	if err != nil {
		return 0, err
	}
	return info.ProcessedTotal, nil
}

func (q *asynqQueue) pids() []int { return []int{q.redis.pid} }

func (q *asynqQueue) close(context.Context) error {
	q.server.Shutdown()
	err := errors.Join(q.client.Close(), q.books.Close())
	q.redis.stop()
	return err
}
