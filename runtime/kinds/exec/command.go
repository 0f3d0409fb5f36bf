package exec

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	goruntime "runtime"
	"sync"
	"time"
)

// job is what this kind needs of the attempt it runs in.
type job interface {
	Log(level slog.Level, message string, args ...any) error
	EmitBytes(b []byte) error
}

type result struct {
	ExitStatus int    `json:"exit_status"`
	Duration   string `json:"duration"`
	Truncated  bool   `json:"truncated,omitempty"`
}

func (c Config) run(ctx context.Context, j job, raw json.RawMessage) (result, error) {
	p, err := parse(raw)
	if err != nil {
		return result{}, err
	}
	streams, err := openPipes(p.Stdin != "")
	if err != nil {
		return result{}, notStarted(p.Command[0], err)
	}
	defer streams.close()

	// The kernel would kill the command if the thread that starts it ended, and
	// a thread of ours may end at any time unless a goroutine is locked to it.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	begin := time.Now()
	command, err := c.start(p, streams)
	if err != nil {
		return result{}, err
	}
	streams.closeTheirs()

	follow := follow(j, streams, p.Stdin)
	state, err := c.await(ctx, command)
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

func (c Config) start(p payload, streams *pipes) (*group, error) {
	if p.Dir != "" {
		// The kernel's answer would not say which of the two it did not find.
		if info, err := os.Stat(p.Dir); err != nil || !info.IsDir() {
			return nil, notThere(p.Dir)
		}
	}
	env := environment(os.Environ(), c.InheritEnv, p)
	program, err := look(p.Command[0], env)
	if err != nil {
		return nil, notStarted(p.Command[0], err)
	}
	g, err := start(program, p.Command, &os.ProcAttr{Dir: p.Dir, Env: env, Files: streams.theirs})
	if err != nil {
		return nil, notStarted(p.Command[0], err)
	}
	return g, nil
}

// await returns when the command has ended, which it is made to when ctx ends:
// asked first, then killed.
func (c Config) await(ctx context.Context, command *group) (state *os.ProcessState, err error) {
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
	grace := time.NewTimer(cmp.Or(c.Grace, defaultGrace))
	defer grace.Stop()
	select {
	case <-end:
	case <-grace.C:
		command.kill()
		<-end
	}
	return state, err
}

// follow gives on what the command writes while it writes it. The function it
// returns is called when the command has ended, and says whether the task's log
// refused some of it.
func follow(j job, streams *pipes, stdin string) (finish func() (lost bool)) {
	stdout := &lines{pipe: streams.stdout, emit: j.EmitBytes}
	stderr := &lines{pipe: streams.stderr, emit: func(piece []byte) error {
		line, finished := bytes.CutSuffix(piece, []byte("\n"))
		if !finished {
			return j.Log(slog.LevelInfo, string(line), "stream", "stderr", "partial", true)
		}
		return j.Log(slog.LevelInfo, string(line), "stream", "stderr")
	}}
	var (
		all     sync.WaitGroup
		refused [2]error
	)
	for i, stream := range []*lines{stdout, stderr} {
		all.Go(func() { refused[i] = stream.run() })
	}
	if streams.stdin != nil {
		all.Go(func() { streams.feed(stdin) })
	}
	return func() bool {
		stdout.end()
		stderr.end()
		if streams.stdin != nil {
			_ = streams.stdin.Close()
		}
		all.Wait()
		return refused[0] != nil || refused[1] != nil
	}
}
