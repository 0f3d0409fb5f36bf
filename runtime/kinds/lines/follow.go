package lines

import (
	"bytes"
	"log/slog"
	"os"
	"sync"
)

// Job is the attempt that hears of what is written.
type Job interface {
	Log(level slog.Level, message string, args ...any) error
	EmitBytes(b []byte) error
}

// Follow gives on what is written to two pipes while it is written. The function
// it returns is called when the command has ended, and takes what is left in the
// pipes: all of it where no other process holds them still. It says whether the
// task's log refused some of it.
func Follow(j Job, stdout, stderr *os.File) (finish func() (lost bool)) {
	out := &stream{pipe: stdout, emit: j.EmitBytes}
	errs := &stream{pipe: stderr, emit: func(piece []byte) error {
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
	for i, s := range []*stream{out, errs} {
		all.Go(func() { refused[i] = s.run() })
	}
	return func() bool {
		out.end()
		errs.end()
		all.Wait()
		return refused[0] != nil || refused[1] != nil
	}
}
