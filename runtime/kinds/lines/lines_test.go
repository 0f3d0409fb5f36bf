package lines

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recorder keeps what was said; heard gets each piece of output when it comes.
type recorder struct {
	mu     sync.Mutex
	logged []string
	heard  chan string
	refuse error
}

func (r *recorder) EmitBytes(b []byte) error {
	r.heard <- string(b)
	return r.refuse
}

func (r *recorder) Log(level slog.Level, message string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logged = append(r.logged, strings.TrimSpace(fmt.Sprintln(append([]any{level, message}, args...)...)))
	return r.refuse
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func write(t *testing.T, w *os.File, text string) {
	t.Helper()
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestLinesComeAtOnceAndPromptsSoon(t *testing.T) {
	r := &recorder{heard: make(chan string, 100)}
	out, toOut := pipe(t)
	errs, toErrs := pipe(t)
	finish := Follow(r, out, errs)
	for _, piece := range []string{"one\n", "Name? ", "two\n"} {
		write(t, toOut, piece)
		if got := <-r.heard; got != piece {
			t.Errorf("heard %q, want %q", got, piece)
		}
	}
	write(t, toErrs, "a\n\nb")
	_, _ = toOut.Close(), toErrs.Close()
	if finish() {
		t.Error("something was lost")
	}
	want := []string{"INFO a stream stderr", "INFO  stream stderr", "INFO b stream stderr partial true"}
	if !slices.Equal(r.logged, want) {
		t.Errorf("logged %q", r.logged)
	}
}

func TestNobodyWaitsForWhoKeepsThePipe(t *testing.T) {
	r := &recorder{heard: make(chan string, 100)}
	out, toOut := pipe(t)
	errs, _ := pipe(t)
	write(t, toOut, "left\nover")
	if Follow(r, out, errs)() { // returns, though both are open
		t.Error("something was lost")
	}
	if got := <-r.heard + <-r.heard; got != "left\nover" {
		t.Errorf("heard %q", got)
	}
}

func TestWhatIsRefusedIsLost(t *testing.T) {
	for _, toOutput := range []bool{true, false} {
		r := &recorder{heard: make(chan string, 100), refuse: errors.New("full")}
		out, toOut := pipe(t)
		errs, toErrs := pipe(t)
		if toOutput {
			write(t, toOut, "one\ntwo\n")
		} else {
			write(t, toErrs, "one\ntwo\n")
		}
		_, _ = toOut.Close(), toErrs.Close()
		if !Follow(r, out, errs)() {
			t.Error("nothing was lost")
		}
		if n := len(r.heard) + len(r.logged); n != 1 {
			t.Errorf("it went on after it was refused: %d", n)
		}
	}
}

func TestWholeCutsBetweenCharacters(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "a": 1, "é": 2, "a\xc3": 1, "a\xe2\x82": 1, "a\xf0\x9f\x98": 1, "a😀": 5,
		"a\xff": 2, "\x80\x80\x80\x80\x80": 5, "\xe2\x82": 0, "a\n": 2,
	} {
		if got := whole([]byte(in)); got != want {
			t.Errorf("whole(%q) = %d, want %d", in, got, want)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo"), 3)
	f.Add([]byte("\xe2\x82\xac\n\n\xff"), 1)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		step = max(1, step%(64<<10))
		go func() {
			defer w.Close()
			for b := in; len(b) > 0; {
				n := min(step, len(b))
				if _, err := w.Write(b[:n]); err != nil {
					return
				}
				b = b[n:]
			}
		}()
		var got []byte
		s := &stream{pipe: r, emit: func(piece []byte) error {
			if len(piece) == 0 || len(piece) > longest {
				return errors.New("size")
			}
			if i := strings.IndexByte(string(piece), '\n'); i >= 0 && i != len(piece)-1 {
				return errors.New("newline inside")
			}
			got = append(got, piece...)
			return nil
		}}
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		if string(got) != string(in) {
			t.Errorf("got %q of %q", got, in)
		}
	})
}
