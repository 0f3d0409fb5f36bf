package simulate

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSVGIsWellFormedAndShowsEveryJob(t *testing.T) {
	w := generate(t, Model{Jobs: 300, Procs: 64, Users: 12, Load: 0.9, Seed: 5})
	for _, byUser := range []bool{false, true} {
		r, err := Play(w.Jobs, w.Procs, "shortest-area", Options{})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := SVG(&b, `a <b> & "c"`, r, w.Procs, byUser); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for dec := xml.NewDecoder(&b); ; {
			token, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch e := token.(type) {
			case xml.StartElement:
				count[e.Name.Local]++
			case xml.CharData:
				if string(e) == `a <b> & "c"` {
					count["heading"]++
				}
			}
		}
		if count["title"] != len(w.Jobs) || count["rect"] <= len(w.Jobs) || count["heading"] != 1 || count["text"] < 15 {
			t.Errorf("by user %v: %v", byUser, count)
		}
	}
}

func TestPlaceGivesNoProcessorTwice(t *testing.T) {
	w := generate(t, Model{Jobs: 500, Procs: 32, Load: 1.1, Seed: 6})
	r, err := Play(w.Jobs, w.Procs, "fcfs", Options{})
	if err != nil {
		t.Fatal(err)
	}
	busy := map[int][]int{} // processor: jobs
	for i, spans := range r.place(w.Procs) {
		n := 0
		for _, s := range spans {
			for k := s.from; k < s.to; k++ {
				for _, o := range busy[k] {
					if r.Starts[o] < r.Starts[i]+w.Jobs[i].Run && r.Starts[i] < r.Starts[o]+w.Jobs[o].Run {
						t.Fatalf("jobs %d and %d are both on processor %d", o, i, k)
					}
				}
				busy[k] = append(busy[k], i)
				n++
			}
		}
		if n != w.Jobs[i].Procs {
			t.Fatalf("job %d is on %d processors, want %d", i, n, w.Jobs[i].Procs)
		}
	}
}

func TestSVGOfAnInstant(t *testing.T) {
	r, err := Play(jobs([3]int{0, 1, 1}), 1, "fcfs", Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := SVG(&b, "one", r, 1, true); err != nil || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
