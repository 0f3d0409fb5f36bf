package lines

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	longest   = 32 << 10               // a longer line comes in pieces; escaped as JSON it fits an event still
	quiet     = 100 * time.Millisecond // after which an unfinished line is shown: it may be a prompt
	lastWords = 1 << 20                // greatest size of a pipe, and so of what a dead group left in it
)

// stream is one of a command's.
type stream struct {
	pipe *os.File
	emit func(piece []byte) error

	mu    sync.Mutex
	ended bool // the command has; what is in the pipe is all that will come
}

// run reads until nothing will come any more. The first piece that emit refuses
// is the last one given to it, so that there is no hole; reading goes on, for
// otherwise the command would stand still. It returns why emit refused.
func (s *stream) run() error {
	var (
		buffer   = make([]byte, longest)
		from, to int   // what of buffer was read and not given on yet
		late     int   // bytes read since the command ended
		refused  error // by emit
	)
	give := func(n int) {
		if n > 0 && refused == nil {
			refused = s.emit(buffer[from : from+n])
		}
		from += n
	}
	for {
		from, to = 0, copy(buffer, buffer[from:to])
		final := s.arm(whole(buffer[:to]) > 0)
		n, err := s.pipe.Read(buffer[to:])
		to += n
		if final {
			late += n
		}
		for newline := 0; newline >= 0; {
			newline = bytes.IndexByte(buffer[from:to], '\n')
			give(newline + 1)
		}
		hushed := errors.Is(err, os.ErrDeadlineExceeded) && !final
		switch {
		case hushed, to-from == len(buffer):
			give(whole(buffer[from:to]))
		case err != nil, late >= lastWords:
			give(to - from)
			return refused
		}
	}
}

// arm sets how long the next read may wait: for ever, unless an unfinished line
// is to be shown or the command has ended, which it returns.
func (s *stream) arm(unfinished bool) (final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var deadline time.Time
	if unfinished || s.ended {
		deadline = time.Now().Add(quiet)
	}
	// It fails only where the pipe is closed, and then so does the read.
	_ = s.pipe.SetReadDeadline(deadline)
	return s.ended
}

// end says that the command and its group are gone. The pipe's end follows at
// once, unless a process that left the group holds it: nobody waits for that.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	_ = s.pipe.SetReadDeadline(time.Now()) // see arm
}

// whole is how much of b can be cut off without cutting a character in two.
func whole(b []byte) int {
	for i := 1; i <= min(utf8.UTFMax, len(b)); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return len(b)
			}
			return len(b) - i
		}
	}
	return len(b)
}
