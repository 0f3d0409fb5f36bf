package exec

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	goruntime "runtime"
	"time"

	"github.com/troupe-run/troupe/runtime/kinds/lines"
)

// job is what this kind needs of the attempt it runs in.
type job = lines.Job

type result struct {
	ExitStatus int    `json:"exit_status"`
	Duration   string `json:"duration"`
	Truncated  bool   `json:"truncated,omitempty"`
}

// runner runs the commands of all tasks.
type runner struct {
	config Config
	warden warden
}

func newRunner(cfg Config) *runner {
	return &runner{config: cfg, warden: warden{helper: cfg.Helper}}
}

func (r *runner) run(ctx context.Context, j job, raw json.RawMessage) (result, error) {
	p, err := parse(raw)
	if err != nil {
		return result{}, err
	}
	if err := r.config.Programs.checkEnv(p.Env); err != nil {
		return result{}, err
	}
	streams, err := openPipes(p.Stdin != "")
	if err != nil {
		return result{}, notStarted(p.Command[0], err)
	}
	defer streams.close()
	r.warden.ready()

	// The kernel would kill the command if the thread that starts it ended, and
	// a thread of ours may end at any time unless a goroutine is locked to it.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	begin := time.Now()
	command, err := r.start(p, streams)
	if err != nil {
		return result{}, err
	}
	command.watched(&r.warden)
	streams.closeTheirs()

	follow := follow(j, streams, p.Stdin)
	state, err := r.await(ctx, command)
	lost := follow()
	if ctx.Err() != nil {
		return result{}, context.Cause(ctx)
	}
	if err != nil {
		return result{}, fmt.Errorf("wait for %s: %w", p.Command[0], err)
	}
	if status, signal := ended(state); status != 0 {
		return result{}, failed(p.Command[0], status, signal)
	}
	return result{Duration: time.Since(begin).Round(time.Millisecond).String(), Truncated: lost}, nil
}

func (r *runner) start(p payload, streams *pipes) (*group, error) {
	if p.Dir != "" {
		// The kernel's answer would not say which of the two it did not find.
		if info, err := os.Stat(p.Dir); err != nil || !info.IsDir() {
			return nil, notThere(p.Dir)
		}
	}
	env := environment(os.Environ(), r.config.InheritEnv, p)
	program, err := r.look(p.Command[0], env)
	if err != nil {
		return nil, err
	}
	attributes := &os.ProcAttr{Dir: p.Dir, Env: env, Files: streams.theirs}
	var g *group
	if r.config.Limits == (Limits{}) {
		g, err = start(program, p.Command, attributes)
	} else {
		g, err = startLimited(r.config.Helper, request{Program: program, Argv: p.Command, Env: env, Limits: r.config.Limits}, attributes)
	}
	if err != nil {
		return nil, notStarted(p.Command[0], err)
	}
	return g, nil
}

// look is the file of the program that a command names.
func (r *runner) look(name string, env []string) (string, error) {
	if !r.config.Programs.any() {
		return r.config.Programs.look(name)
	}
	program, err := look(name, env)
	if err != nil {
		return "", notStarted(name, err)
	}
	return program, nil
}

// await returns when the command has ended, which it is made to when ctx ends:
// asked first, then killed.
func (r *runner) await(ctx context.Context, command *group) (state *os.ProcessState, err error) {
	end := make(chan struct{})
	go func() { // ends with the command
		defer close(end)
		state, err = command.wait()
	}()
	select {
	case <-end:
		return state, err
	case <-ctx.Done():
	}
	command.terminate()
	grace := time.NewTimer(cmp.Or(r.config.Grace, defaultGrace))
	defer grace.Stop()
	select {
	case <-end:
	case <-grace.C:
		command.kill()
		<-end
	}
	return state, err
}

// follow gives on what the command writes while it writes it, and gives it what
// it reads. The function it returns is called when the command has ended, and
// says whether the task's log refused some of it.
func follow(j job, streams *pipes, stdin string) (finish func() (lost bool)) {
	last := lines.Follow(j, streams.stdout, streams.stderr)
	if streams.stdin == nil {
		return last
	}
	fed := make(chan struct{})
	go func() { defer close(fed); streams.feed(stdin) }()
	return func() bool {
		lost := last()
		_ = streams.stdin.Close()
		<-fed
		return lost
	}
}
