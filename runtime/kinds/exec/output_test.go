//go:build unix

package exec

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestLinesArriveWhileTheCommandRuns(t *testing.T) {
	pipe := fifo(t)
	r := newRecorder()
	end := begin(t.Context(), Config{}, r, shell(`echo one; echo two; cat `+pipe+`; echo end`))
	if got := <-r.heard + <-r.heard; got != "one\ntwo\n" {
		t.Errorf("heard %q", got)
	}
	// It waits for us, so it is still there.
	if err := os.WriteFile(pipe, []byte("three\n"), 0); err != nil {
		t.Fatal(err)
	}
	if got := <-r.heard + <-r.heard; got != "three\nend\n" {
		t.Errorf("heard %q", got)
	}
	if _, err := end(); err != nil {
		t.Error(err)
	}
}

func TestAPromptIsShown(t *testing.T) {
	pipe := fifo(t)
	r := newRecorder()
	end := begin(t.Context(), Config{}, r, shell(`printf 'Name? \303'; cat `+pipe+`; echo .`))
	if got := <-r.heard; got != "Name? " {
		t.Errorf("heard %q, want the prompt without the half of a character after it", got)
	}
	if err := os.WriteFile(pipe, []byte("\xa9"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := end(); err != nil {
		t.Error(err)
	}
	if got := r.output(); got != "Name? é.\n" {
		t.Errorf("wrote %q", got)
	}
}

func TestEveryLineIsAPiece(t *testing.T) {
	r := newRecorder()
	if _, err := newRunner(Config{}).run(t.Context(), r, command("seq", "10000")); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 10_000 {
		fmt.Fprintln(&want, i+1)
	}
	if got := r.output(); got != want.String() {
		t.Errorf("got %d bytes, want %d", len(got), want.Len())
	}
	// A machine that stalls for longer than quiet in the middle of a line may cut it.
	if n := len(r.of("output")); n < 10_000 || n > 10_010 {
		t.Errorf("got %d pieces", n)
	}
}

const longest = 32 << 10 // of a piece

func TestOutputIsKeptAsItIs(t *testing.T) {
	long := strings.Repeat("é€😀", 20_000) // 180 KB in one line
	tests := []struct{ name, written string }{
		{"line ends of elsewhere", "a\r\nb\rc\n"},
		{"empty lines", "\n\n\n"},
		{"no end", "a\nb"},
		{"nothing", ""},
		{"a long line", long + "\n"},
		{"a long line without an end", long},
		{"not UTF-8", "a\xff\xfe\nb\n"},
		{"NUL", "a\x00b\n"},
		{"half a character at the end", "a\xe2\x82"},
		{"continuation bytes alone", strings.Repeat("\x80", 100_000)},
		{"exactly one piece", strings.Repeat("x", longest)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecorder()
			file := t.TempDir() + "/file"
			if err := os.WriteFile(file, []byte(tt.written), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := newRunner(Config{}).run(t.Context(), r, command("cat", file)); err != nil {
				t.Fatal(err)
			}
			if got := r.output(); got != tt.written {
				t.Errorf("got %.100q of %d bytes, want %.100q of %d", got, len(got), tt.written, len(tt.written))
			}
			for _, e := range r.of("output") {
				if len(e.text) > longest || e.text == "" {
					t.Errorf("a piece of %d bytes", len(e.text))
				}
				if utf8.ValidString(tt.written) && !utf8.ValidString(e.text) {
					t.Errorf("a piece is cut in a character: %.20q", e.text)
				}
			}
		})
	}
}

func TestStandardErrorIsLogged(t *testing.T) {
	r := newRecorder()
	if _, err := newRunner(Config{}).run(t.Context(), r, shell(`printf 'one\n\ntwo' >&2; echo out`)); err != nil {
		t.Fatal(err)
	}
	want := []said{
		{"INFO", "one", "stream stderr"},
		{"INFO", "", "stream stderr"},
		{"INFO", "two", "stream stderr partial true"},
	}
	if diff := cmp.Diff(want, r.of("INFO"), cmp.AllowUnexported(said{})); diff != "" {
		t.Error(diff)
	}
	if got := r.output(); got != "out\n" {
		t.Errorf("wrote %q", got)
	}
}

func TestAFullLogDoesNotStopTheCommand(t *testing.T) {
	r := newRecorder()
	left := 3
	r.emit = func() error {
		if left--; left < 0 {
			return fmt.Errorf("output: %w", task.ErrLogFull)
		}
		return nil
	}
	got, err := newRunner(Config{}).run(t.Context(), r, shell(`seq 100000; exit 0`))
	if err != nil || !got.Truncated {
		t.Errorf("%+v, %v", got, err)
	}
	if out := r.output(); out != "1\n2\n3\n" {
		t.Errorf("wrote %q", out)
	}
	if left != -1 {
		t.Errorf("it went on writing %d times after it was refused", -left-1)
	}
}
