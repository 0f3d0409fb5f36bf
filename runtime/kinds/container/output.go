package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/moby/moby/client"
)

// output brings what a container writes, as the engine has logged it, to two
// pipes. The engine's stream may break: then it is read again from the beginning,
// without what was had before.
type output struct {
	open           func(ctx context.Context, follow bool) (io.ReadCloser, error)
	stdout, stderr *os.File    // the ends to read
	pipes          [2]*os.File // the ends to write, of standard output and error
	had            [2]int64    // bytes of each
}

func (k *Kind) openOutput(name string) (o *output, err error) {
	o = &output{open: func(ctx context.Context, follow bool) (io.ReadCloser, error) {
		return k.engine.ContainerLogs(ctx, name, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow})
	}}
	if o.stdout, o.pipes[0], err = os.Pipe(); err != nil {
		return nil, err
	}
	if o.stderr, o.pipes[1], err = os.Pipe(); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// end says that nothing more will be written.
func (o *output) end() {
	for _, f := range o.pipes {
		_ = f.Close()
	}
}

func (o *output) close() {
	for _, f := range []*os.File{o.stdout, o.stderr, o.pipes[0], o.pipes[1]} {
		if f != nil {
			_ = f.Close() // a second time for some
		}
	}
}

const (
	behind  = time.Second // how long the engine may take to say the last of a container that has exited
	retries = 5           // of reading the output of a container that has exited
)

// copy returns when all output of the container is had, and nil only then. exited
// ends when the container has.
func (o *output) copy(ctx, exited context.Context) error {
	for failures := 0; ; {
		over := isOver(exited, 0)
		before := o.had
		err := o.read(ctx, exited, !over)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// A stream that follows the container ends when it exits, of which we are to
		// hear soon.
		if err == nil && (over || isOver(exited, behind)) {
			return nil
		}
		if !over || before != o.had {
			failures = 0
		} else if failures++; failures == retries {
			return err
		}
		if err := pause(ctx, soon); err != nil {
			return err
		}
	}
}

// isOver says whether ctx has ended, or does within some time.
func isOver(ctx context.Context, within time.Duration) bool {
	if within == 0 {
		return ctx.Err() != nil
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-timer.C:
		return false
	}
}

// errCut says that the engine kept a stream open for longer than its container.
var errCut = errors.New("the engine is behind")

// read copies the engine's stream once. One that follows the container is cut off
// a moment after that has exited, for then there is a stream that ends by itself.
func (o *output) read(ctx, exited context.Context, follow bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if follow {
		defer context.AfterFunc(exited, func() {
			if pause(ctx, behind) == nil {
				cancel(errCut)
			}
		})()
	}
	stream, err := o.open(ctx, follow)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	if err := o.split(stream); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// split reads frames: a head of eight bytes, which says which stream they are of
// and how many follow.
func (o *output) split(stream io.Reader) error {
	var at [2]int64 // in each stream
	for {
		var head [8]byte
		if _, err := io.ReadFull(stream, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the head of a frame: %w", err)
		}
		kind, size := head[0], int64(binary.BigEndian.Uint32(head[4:]))
		if kind != 1 && kind != 2 {
			return fmt.Errorf("a frame of no stream: %d", kind)
		}
		i := kind - 1
		known := min(size, max(0, o.had[i]-at[i]))
		if _, err := io.CopyN(io.Discard, stream, known); err != nil {
			return fmt.Errorf("read a frame again: %w", err)
		}
		n, err := io.CopyN(o.pipes[i], stream, size-known)
		at[i] += known + n
		o.had[i] = max(o.had[i], at[i])
		if err != nil {
			return fmt.Errorf("read a frame: %w", err)
		}
	}
}
