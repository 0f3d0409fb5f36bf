package container

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/moby/moby/client"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// Kind runs the containers of a node's tasks.
type Kind struct {
	config Config
	engine *client.Client
	tasks  tasks
}

// tasks is who knows whether an attempt is over.
type tasks interface {
	Task(ctx context.Context, namespace string, id task.ID) (task.Task, error)
}

// Register gives r the kind "container", if cfg names an engine. It does not call the engine yet: one that
// is away fails attempts, and not the start of the node. The caller runs the kind.
func Register(r *runtime.Runtime, cfg Config) (*Kind, error) {
	if cfg.Engine == "" {
		return &Kind{}, nil
	}
	k, err := newKind(r, cfg)
	if err != nil {
		return nil, err
	}
	// The payload stays raw, for parse is stricter than the runtime.
	runtime.Handle(r, "container", func(ctx context.Context, t *runtime.Task[json.RawMessage]) (result, error) {
		return k.run(ctx, t, attempt{namespace: t.Namespace, task: t.ID.String(), number: t.Attempt}, t.Payload)
	})
	return k, nil
}

func newKind(tasks tasks, cfg Config) (*Kind, error) {
	if cfg.Images.none() {
		return nil, errors.New("an engine is named, and no image that may run on it")
	}
	engine, err := connect(cfg.Engine)
	if err != nil {
		return nil, err
	}
	return &Kind{config: cfg.withDefaults(), engine: engine, tasks: tasks}, nil
}

const sweepEvery = time.Minute

// Run removes containers whose attempts are over, and which their node did not
// live to remove; now, and every minute until ctx ends.
func (k *Kind) Run(ctx context.Context) {
	if k.engine == nil {
		return
	}
	defer func() { _ = k.engine.Close() }()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := k.sweep(ctx); err != nil && ctx.Err() == nil {
			k.config.Log.WarnContext(ctx, "the container engine could not be asked what dead nodes have left", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (k *Kind) sweep(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, sweepEvery)
	defer cancel()
	all, err := k.list(bounded, labelTask)
	if err != nil {
		return err
	}
	for _, c := range all {
		if a, ok := attemptOf(c.Labels); ok && k.isOver(bounded, a) {
			k.remove(bounded, a.name())
		}
	}
	return nil
}

// isOver says whether an attempt certainly is. What the store says of a task may
// be late: that an attempt has begun is written after it has.
func (k *Kind) isOver(ctx context.Context, a attempt) bool {
	id, err := task.ParseID(a.task)
	if err != nil {
		return false
	}
	t, err := k.tasks.Task(ctx, a.namespace, id)
	if err != nil {
		return false
	}
	return t.State.Terminal() || t.Attempt > a.number || t.Attempt == a.number && t.State != task.Running
}
