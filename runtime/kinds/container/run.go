package container

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/troupe-run/troupe/runtime/kinds/lines"
)

// job is what this kind needs of the attempt it runs in.
type job interface {
	lines.Job
	Progress(fraction float64, message string) error
}

type result struct {
	ExitStatus int    `json:"exit_status"`
	Duration   string `json:"duration"`
	Truncated  bool   `json:"truncated,omitempty"`
}

func (k *Kind) run(ctx context.Context, j job, a attempt, raw json.RawMessage) (result, error) {
	s, err := k.config.parse(raw)
	if err != nil {
		return result{}, err
	}
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.timeout, errTimeout)
		defer cancel()
	}
	got, err := k.attempt(ctx, j, a, s)
	if ctx.Err() != nil {
		return result{}, over(ctx, s)
	}
	return got, err
}

func (k *Kind) attempt(ctx context.Context, j job, a attempt, s spec) (result, error) {
	if err := k.removeEarlier(ctx, a); err != nil {
		return result{}, refused("say what is left of", err)
	}
	if err := k.provide(ctx, j, s.image); err != nil {
		return result{}, err
	}
	if err := j.Progress(-1, "starting "+s.image.String()); err != nil {
		return result{}, err
	}
	// From here on there may be a container, whatever we hear.
	defer k.remove(context.WithoutCancel(ctx), a.name())
	if err := k.create(ctx, s, a); err != nil {
		return result{}, err
	}
	begin := time.Now()
	if _, err := k.engine.ContainerStart(ctx, a.name(), client.ContainerStartOptions{}); err != nil {
		return result{}, refused("start", err)
	}
	state, lost, err := k.follow(ctx, j, a.name())
	if err != nil {
		return result{}, err
	}
	if err := failed(state); err != nil {
		return result{}, err
	}
	return result{Duration: time.Since(begin).Round(time.Millisecond).String(), Truncated: lost}, nil
}

// create makes the container. One with its name is of a call whose answer was
// lost: nobody else gives that name.
func (k *Kind) create(ctx context.Context, s spec, a attempt) error {
	_, err := k.engine.ContainerCreate(ctx, k.config.options(s, a))
	if cerrdefs.IsConflict(err) {
		k.remove(ctx, a.name())
		_, err = k.engine.ContainerCreate(ctx, k.config.options(s, a))
	}
	if err != nil {
		return refused("make", err)
	}
	return nil
}

// follow returns when the container has ended, which it is made to when ctx ends:
// asked first, then killed. lost says that not all of its output was taken.
func (k *Kind) follow(ctx context.Context, j job, name string) (state *container.State, lost bool, err error) {
	out, err := k.openOutput(name)
	if err != nil {
		return nil, false, refused("follow", err)
	}
	defer out.close()
	finish := lines.Follow(j, out.stdout, out.stderr)
	// The output of a container that is stopped is wanted still.
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	exited, exit := context.WithCancel(context.WithoutCancel(ctx))
	defer exit()
	read := make(chan error, 1)
	go func() { read <- out.copy(reading, exited) }() // ends with reading, or when all is read

	state, err = k.await(ctx, name)
	if ctx.Err() != nil {
		k.stop(context.WithoutCancel(ctx), name)
	}
	exit()
	if err != nil || ctx.Err() != nil {
		// Nobody waits long for words of the dying, or of the lost.
		last := time.AfterFunc(lastWords, stopReading)
		defer last.Stop()
	}
	unread := <-read
	out.end()
	lost = finish()
	return state, lost || unread != nil, err
}

const (
	lastWords = time.Second
	soon      = 250 * time.Millisecond // after which an engine that was away is asked again
	answerIn  = 10 * time.Second       // by an engine that is there
)

// await returns how the container ended. The engine's answer to a wait may be cut
// off by the engine's end, which is not the container's.
func (k *Kind) await(ctx context.Context, name string) (*container.State, error) {
	var away time.Time // since when the engine is; zero: it is there
	for {
		wait := k.engine.ContainerWait(ctx, name, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select { // whatever it says: its state says more
		case <-wait.Result:
		case broken := <-wait.Error:
			k.config.Log.DebugContext(ctx, "end of a container was not heard", "container", name, "error", broken)
		}
		state, err := k.inspect(ctx, name)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, errGone):
			return nil, failure("container_lost", true, nil, "the container was removed, and nobody knows how it ended")
		case err == nil && !state.Running && !state.Restarting:
			return state, nil
		case err == nil:
			away = time.Time{}
		case away.IsZero():
			away = time.Now()
		case time.Since(away) > k.config.Patience:
			return nil, failure("engine_failed", true, nil, "the engine has been away for %s", k.config.Patience)
		}
		if err := pause(ctx, soon); err != nil {
			return nil, err
		}
	}
}

func (k *Kind) inspect(ctx context.Context, name string) (*container.State, error) {
	bounded, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	got, err := k.engine.ContainerInspect(bounded, name, client.ContainerInspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err):
		return nil, errGone
	case err != nil:
		return nil, err
	case got.Container.State == nil:
		return nil, errors.New("the engine says nothing of its state")
	}
	return got.Container.State, nil
}

// failed is why a container that ran did not succeed.
func failed(state *container.State) error {
	d := &details{ExitStatus: state.ExitCode}
	switch {
	case state.OOMKilled && state.ExitCode != 0:
		return failure("out_of_memory", true, d, "the container needed more memory than it may have")
	case state.ExitCode != 0:
		return failure("exit_status", true, d, "the container ended with status %d", state.ExitCode)
	}
	return nil
}

// stop has the container end: the engine sends SIGTERM, and SIGKILL after a while.
func (k *Kind) stop(ctx context.Context, name string) {
	bounded, cancel := context.WithTimeout(ctx, k.config.Grace+time.Second)
	defer cancel()
	seconds := max(1, int(k.config.Grace.Seconds()))
	_, err := k.engine.ContainerStop(bounded, name, client.ContainerStopOptions{Timeout: &seconds})
	if err == nil || cerrdefs.IsNotFound(err) {
		return
	}
	now, done := context.WithTimeout(ctx, time.Second)
	defer done()
	if _, err := k.engine.ContainerKill(now, name, client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil {
		k.config.Log.DebugContext(ctx, "container could not be killed", "container", name, "error", err)
	}
}

// remove takes away a container, running or not, with its volumes. What cannot be
// removed now is found again by its labels.
func (k *Kind) remove(ctx context.Context, name string) {
	bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := k.engine.ContainerRemove(bounded, name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !cerrdefs.IsNotFound(err) {
		k.config.Log.WarnContext(ctx, "container could not be removed", "container", name, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// removeEarlier removes what earlier attempts of the task have left: they are
// over, for this one has begun.
func (k *Kind) removeEarlier(ctx context.Context, a attempt) error {
	all, err := k.list(ctx, labelTask+"="+a.task)
	if err != nil {
		return err
	}
	for _, c := range all {
		if left, ok := attemptOf(c.Labels); ok && left.number < a.number {
			k.remove(ctx, left.name())
		}
	}
	return nil
}

func (k *Kind) list(ctx context.Context, label string) ([]container.Summary, error) {
	list, err := k.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", label)})
	return list.Items, err
}
