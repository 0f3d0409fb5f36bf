package simulate

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestReadSWF(t *testing.T) {
	const text = `; Version: 2.2
; MaxNodes: 64
; MaxProcs: 128

  1 30 5 100.5 4 -1 -1 4 200 -1 1 7 1 3 1 1 -1 -1
  2 10 -1 60 -1 -1 -1 8 -1 -1 1 -1 -1 -1 -1 -1 -1 -1
  3 20 -1 -1 8 -1 -1 8 60 -1 5 -1 -1 -1 -1 -1 -1 -1
  4 20 -1 60 -1 -1 -1 -1 60 -1 5 -1 -1 -1 -1 -1 -1 -1
`
	w, err := ReadSWF(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if w.Procs != 128 || w.LeftOut != 2 || len(w.Jobs) != 2 {
		t.Fatalf("%d processors, %d left out, %d jobs", w.Procs, w.LeftOut, len(w.Jobs))
	}
	first := Job{Number: 2, Submit: 10 * time.Second, Run: time.Minute, Procs: 8, User: -1, Kind: -1}
	if w.Jobs[0] != first { // by when they come, and with the processors it asked for
		t.Errorf("first is %+v, want %+v", w.Jobs[0], first)
	}
	second := Job{
		Number: 1, Submit: 30 * time.Second, Run: 100*time.Second + 500*time.Millisecond, Procs: 4,
		Asked: 200 * time.Second, User: 7, Kind: 3,
	}
	if w.Jobs[1] != second {
		t.Errorf("second is %+v, want %+v", w.Jobs[1], second)
	}
	if on := w.On(4); len(on.Jobs) != 1 || on.LeftOut != 3 || on.Procs != 4 {
		t.Errorf("on four processors: %+v", on)
	}
}

func TestReadSWFRefusesNonsense(t *testing.T) {
	const good = "1 0 -1 1 1 -1 -1 1 -1 -1 1 -1 -1 -1 -1 -1 -1 -1\n"
	for name, line := range map[string]string{
		"too few fields":           "1 2 3\n",
		"too many fields":          strings.TrimSpace(good) + " 5\n",
		"no number":                strings.Replace(good, " 1 1 ", " one 1 ", 1),
		"not a number at all":      strings.Replace(good, " 1 1 ", " NaN 1 ", 1),
		"a run time of a lifetime": strings.Replace(good, " 1 1 ", " 1e12 1 ", 1),
		"no job at all":            strings.Replace(good, "1 0", "-1 0", 1),
		"a run time of years":      strings.Replace(good, "1 0 -1 1 ", "2 0 -1 200000000 ", 1),
		"a job that is known":      good,
		"before the beginning":     strings.Replace(good, "1 0", "1 -5", 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadSWF(strings.NewReader("; comment\n" + good + line))
			if err == nil || !strings.Contains(err.Error(), "line 3") {
				t.Errorf("got %v, want an error that names line 3", err)
			}
		})
	}
	if _, err := ReadSWF(strings.NewReader(strings.Repeat("1", 2<<20))); err == nil {
		t.Error("a line of two megabytes was read")
	}
}

func TestWriteSWFIsReadAgain(t *testing.T) {
	want := Workload{Name: "two", Procs: 8, Jobs: []Job{
		{Number: 1, Run: time.Second, Procs: 1, Asked: time.Minute, User: 1, Kind: 2},
		{Number: 2, Submit: time.Hour, Run: time.Minute, Procs: 8, User: -1, Kind: -1},
	}}
	var b bytes.Buffer
	if err := WriteSWF(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSWF(&b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Procs != want.Procs || len(got.Jobs) != 2 || got.Jobs[0] != want.Jobs[0] || got.Jobs[1] != want.Jobs[1] {
		t.Errorf("read %+v, want %+v", got, want)
	}
}
