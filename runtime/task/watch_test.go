package task

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	someNames  = rapid.SampledFrom([]string{"", "a", "b"})
	someIDs    = rapid.SampledFrom([]ID{{}, idA, idB})
	someLabels = rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "a=b", "a%3Db", "&label=a"}), rapid.SampledFrom([]string{"", "b", "b=c", "a=b"}), 0, 2)
	someStates = rapid.SliceOfN(rapid.SampledFrom(States()), 0, 3)
	someTimes  = rapid.SampledFrom([]time.Time{{}, epoch, epoch.Add(time.Microsecond), epoch.Add(time.Hour)})
)

func anyFilter(t *rapid.T) Filter {
	return Filter{
		Namespace: someNames.Draw(t, "namespace"), States: someStates.Draw(t, "states"), Kind: someNames.Draw(t, "kind"),
		Queue: someNames.Draw(t, "queue"), Labels: someLabels.Draw(t, "labels"), BatchID: someIDs.Draw(t, "batch"),
		CreatedAfter: someTimes.Draw(t, "after"), CreatedBefore: someTimes.Draw(t, "before"),
	}
}

func anyTask(t *rapid.T) Task {
	return Task{
		Spec: Spec{
			ID: someIDs.Draw(t, "id"), Namespace: someNames.Draw(t, "its namespace"), Kind: someNames.Draw(t, "its kind"),
			Queue: someNames.Draw(t, "its queue"), Labels: someLabels.Draw(t, "its labels"), BatchID: someIDs.Draw(t, "its batch"),
		},
		State: rapid.SampledFrom(States()).Draw(t, "its state"), Created: someTimes.Draw(t, "its creation"),
	}
}

// selects says the filter's rule word by word.
func selects(f Filter, t Task) bool {
	same := f.Namespace == t.Namespace
	for _, pair := range [][2]string{{f.Kind, t.Kind}, {f.Queue, t.Queue}} {
		same = same && (pair[0] == "" || pair[0] == pair[1])
	}
	if f.BatchID != (ID{}) {
		same = same && f.BatchID == t.BatchID
	}
	if len(f.States) > 0 {
		same = same && slices.Index(f.States, t.State) >= 0
	}
	all := maps.Clone(t.Labels)
	maps.Copy(all, f.Labels)
	same = same && maps.Equal(all, t.Labels)
	after := f.CreatedAfter.IsZero() || f.CreatedAfter.UnixNano() < t.Created.UnixNano()
	before := f.CreatedBefore.IsZero() || t.Created.UnixNano() < f.CreatedBefore.UnixNano()
	return same && after && before
}

func TestFilterSelectsWhatItSays(t *testing.T) {
	hits := 0
	rapid.Check(t, func(t *rapid.T) {
		f, u := anyFilter(t), anyTask(t)
		if rapid.Bool().Draw(t, "likely") { // else hardly anything matches
			f = Filter{
				Namespace: u.Namespace, Kind: f.Kind, States: append(f.States, u.State), Labels: map[string]string{},
				CreatedBefore: f.CreatedBefore,
			}
			maps.Copy(f.Labels, u.Labels)
			if rapid.Bool().Draw(t, "one more label") {
				maps.Copy(f.Labels, someLabels.Draw(t, "more labels"))
			}
		}
		if f.Match(u) != selects(f, u) {
			t.Fatalf("Match is %v", f.Match(u))
		}
		if f.Match(u) {
			hits++
		}
	})
	if hits == 0 {
		t.Error("nothing ever matched")
	}
}

func anyTopic(t *rapid.T) Topic {
	topic := Topic{Namespace: someNames.Draw(t, "topic's namespace")}
	switch rapid.IntRange(0, 4).Draw(t, "topic") {
	case 0:
		topic.Task = rapid.SampledFrom([]ID{idA, idB}).Draw(t, "task")
	case 1:
		topic.Batch = rapid.SampledFrom([]ID{idA, idB}).Draw(t, "topic's batch")
	case 2:
		topic.Queue = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic's queue")
	case 3:
		f := anyFilter(t)
		topic.Filter = &f
	}
	return topic
}

func TestTopicIsAboutTheTasksItLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topic, u := anyTopic(t), anyTask(t)
		want := topic.Namespace == u.Namespace
		switch {
		case topic.Task != ID{}:
			want = want && topic.Task == u.ID
		case topic.Batch != ID{}:
			want = want && topic.Batch == u.BatchID
		case topic.Queue != "":
			want = want && topic.Queue == u.Queue
		case topic.Filter != nil:
			f := *topic.Filter
			f.Namespace = topic.Namespace // nobody watches another's tasks by naming them
			want = selects(f, u)
		}
		if topic.Match(u) != want {
			t.Fatalf("Match is %v", topic.Match(u))
		}
		if topic.Task.IsZero() && topic.Select().Match(u) != want {
			t.Fatal("its list and its feed are not about the same tasks")
		}
	})
}

func TestTopicsHaveEqualNamesOnlyIfTheyAreEqual(t *testing.T) {
	// words spells a filter without any encoding.
	words := func(topic Topic) string {
		f := topic.Select()
		slices.Sort(f.States)
		if topic.Queue != "" || !topic.Batch.IsZero() || !topic.Task.IsZero() {
			return fmt.Sprintf("%v %v %q", topic.Task, topic.Batch, topic.Queue)
		}
		return fmt.Sprintf("filter %v %q %q %q %v %d %d", slices.Compact(f.States), f.Kind, f.Queue, f.Labels, f.BatchID,
			f.CreatedAfter.UnixMicro(), f.CreatedBefore.UnixMicro())
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyTopic(t), anyTopic(t)
		if rapid.Bool().Draw(t, "same filter") && a.Filter != nil {
			f := *a.Filter
			f.States = slices.Clone(f.States)
			slices.Reverse(f.States)
			f.Labels = maps.Clone(f.Labels)
			f.CreatedAfter = f.CreatedAfter.In(time.FixedZone("", 3600))
			f.Limit, f.After, f.Namespace = 7, Place{ID: idA}, "other"
			b = Topic{Filter: &f}
			if rapid.Bool().Draw(t, "but other labels") {
				f.Labels = someLabels.Draw(t, "other labels")
			}
		}
		if (a.Name() == b.Name()) != (words(a) == words(b)) {
			t.Fatalf("%s and %s", a.Name(), b.Name())
		}
	})
}

func TestFilterOfTimesLeavesTheBoundsOut(t *testing.T) {
	f := Filter{CreatedAfter: epoch, CreatedBefore: epoch.Add(2)}
	for created, want := range map[time.Time]bool{
		epoch.Add(-1): false, epoch: false, epoch.Add(1): true, epoch.Add(2): false, epoch.Add(3): false,
	} {
		if f.Match(Task{Created: created}) != want {
			t.Errorf("created at %v: want %v", created, want)
		}
	}
}

func TestLabelsOfATopicCannotBeMistaken(t *testing.T) {
	name := func(labels map[string]string) string { return Topic{Filter: &Filter{Labels: labels}}.Name() }
	different := []map[string]string{
		{"a=b": "c"}, {"a": "b=c"}, {"a%3Db": "c"}, {"a": "b", "c": "d"}, {"a": "b&label=c=d"}, {"a": "b\x00c=d"}, {"a": ""}, {"": "a"}, {},
	}
	names := map[string]bool{}
	for _, labels := range different {
		names[name(labels)] = true
	}
	if len(names) != len(different) {
		t.Errorf("%d filters have %d names: %v", len(different), len(names), names)
	}
	for range 50 { // a map has no order
		if got := name(map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}); got != "tasks:label=a%3D1&label=b%3D2&label=c%3D3&label=d%3D4" {
			t.Fatal(got)
		}
	}
}

func TestFilterCannotLookIntoAnotherNamespace(t *testing.T) {
	topic := Topic{Namespace: "mine", Filter: &Filter{Namespace: "theirs"}}
	for namespace, want := range map[string]bool{"mine": true, "theirs": false, "": false} {
		u := Task{Spec: Spec{Namespace: namespace}}
		if topic.Match(u) != want || topic.Select().Match(u) != want {
			t.Errorf("namespace %q: want %v", namespace, want)
		}
	}
	if topic.Filter.Namespace != "theirs" {
		t.Error("the caller's filter was written to")
	}
}

func TestTopicsAreCalledAsTheContractSays(t *testing.T) {
	for want, topic := range map[string]Topic{
		"task:" + idA.String():  {Task: idA},
		"batch:" + idB.String(): {Batch: idB},
		"queue:mail":            {Queue: "mail"},
		"tasks:":                {},
		"tasks:kind=a&label=x%3Dy&queue=q&state=failed&state=queued": {Filter: &Filter{
			Kind: "a", Queue: "q", States: []State{Queued, Failed}, Labels: map[string]string{"x": "y"},
		}},
		"tasks:batch_id=" + idA.String() + "&created_after=1772366400000000": {Filter: &Filter{BatchID: idA, CreatedAfter: epoch}},
	} {
		if got := topic.Name(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if !(Place{}).IsZero() || (Place{ID: idA}).IsZero() {
		t.Error("a place is where an id is")
	}
}

func TestFrameIsEncodedOnceForAllWatchers(t *testing.T) {
	var f Frame
	var calls atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			got := f.Encoded(func(*Frame) any { return calls.Add(1) })
			if got != int32(1) {
				t.Errorf("got encoding %v", got)
			}
		})
	}
	all.Wait()
	if calls.Load() != 1 {
		t.Errorf("encoded %d times", calls.Load())
	}
}

func TestMutationThatMakesNoSenseIsRefused(t *testing.T) {
	row := New(specOf(nil), epoch, 1)
	event := func(attempt, seq int) Event { return Event{Task: idA, Cursor: Cursor{attempt, seq}} }
	with := func(change func(*Mutation)) Mutation {
		m := row.Mutation()
		change(&m)
		return m
	}
	for _, tt := range []struct {
		name string
		m    Mutation
		want error
	}{
		{"save", row.Mutation(), nil},
		{"insert", with(func(m *Mutation) { m.Op = Insert }), nil},
		{"no op", with(func(m *Mutation) { m.Op = 0 }), ErrInvalid},
		{"other op", with(func(m *Mutation) { m.Op = SetPool + 1 }), ErrInvalid},
		{"no id", with(func(m *Mutation) { m.Task.ID = ID{} }), ErrInvalid},
		{"no namespace", with(func(m *Mutation) { m.Task.Namespace = "" }), ErrInvalid},
		{"no state", with(func(m *Mutation) { m.Task.State = 0 }), ErrInvalid},
		{"other state", with(func(m *Mutation) { m.Task.State = Cancelled + 1 }), ErrInvalid},
		{"runs unheld", with(func(m *Mutation) { m.Task.State, m.Task.Holder = Running, 0 }), ErrInvalid},
		{"ended and held", with(func(m *Mutation) { m.Task.State = Failed }), ErrInvalid},
		{"ended", with(func(m *Mutation) { m.Task.State, m.Task.Holder = Failed, 0 }), nil},
		{"queue", Mutation{Op: SetQueue, Queue: QueueChange{Namespace: "n", Name: "q"}}, nil},
		{"queue without name", Mutation{Op: SetQueue, Queue: QueueChange{Namespace: "n"}}, ErrInvalid},
		{"queue without namespace", Mutation{Op: SetQueue, Queue: QueueChange{Name: "q"}}, ErrInvalid},
		{"delete", Mutation{Op: Delete, Task: Task{Spec: row.Task.Spec}, Guard: Guard{State: Succeeded}}, nil},
		{"delete a live one", Mutation{Op: Delete, Task: Task{Spec: row.Task.Spec}, Guard: Guard{State: Running}}, ErrNotTerminal},
		{"no events", with(func(m *Mutation) { m.Events = nil }), nil},
		{"events in order", with(func(m *Mutation) { m.Events = []Event{event(2, 5), event(2, 6), event(2, 7)} }), nil},
		{"a hole", with(func(m *Mutation) { m.Events = []Event{event(2, 5), event(2, 7)} }), ErrInvalid},
		{"a repeat", with(func(m *Mutation) { m.Events = []Event{event(2, 5), event(2, 5)} }), ErrInvalid},
		{"two attempts", with(func(m *Mutation) { m.Events = []Event{event(2, 5), event(3, 1)} }), ErrInvalid},
		{"number 0", with(func(m *Mutation) { m.Events = []Event{event(2, 0)} }), ErrInvalid},
		{"another's event", with(func(m *Mutation) { m.Events = []Event{{Task: idB, Cursor: Cursor{0, 1}}} }), ErrInvalid},
	} {
		if err := tt.m.Check(); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
