package task

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxDependencies is how many tasks one may wait for.
const maxDependencies = 10_000

// OnFailure is what becomes of a task when one that it depends on fails or is
// cancelled.
type OnFailure string

// The ways.
const (
	CancelOnFailure OnFailure = "cancel" // where nothing is said
	RunOnFailure    OnFailure = "run"    // as if it had succeeded
)

// CodeDependency is the failure of a task that was cancelled because one it depends
// on did not succeed; its details name that one.
const CodeDependency = "dependency_failed"

// MissingError says that a task is to depend on one that is not there, and in which
// field it names it, where that is known. It is [ErrInvalid].
type MissingError struct {
	Task  ID
	Field string
}

// Error names the task.
func (e *MissingError) Error() string {
	return "depends on a task that is not there: " + e.Task.String()
}

// Is makes every MissingError an [ErrInvalid].
func (e *MissingError) Is(target error) bool { return target == ErrInvalid }

// CycleError says that tasks are to wait for each other: each for the next, and the
// last for the first. It is [ErrInvalid].
type CycleError []ID

// Error names the cycle.
func (e CycleError) Error() string { return "tasks depend on each other in a circle: " + e.String() }

// String is "a → b → a".
func (e CycleError) String() string {
	const shown = 20
	var names []string
	for _, id := range e[:min(len(e), shown)] {
		names = append(names, id.String())
	}
	if len(e) > shown {
		names = append(names, "…")
	}
	return strings.Join(append(names, e[0].String()), " → ")
}

// Is makes every CycleError an [ErrInvalid].
func (e CycleError) Is(target error) bool { return target == ErrInvalid }

// depends says whether a task of this spec waits for others at first.
func (s Spec) depends() bool { return len(s.DependsOn) > 0 || !s.AfterBatch.IsZero() }

func (s Spec) checkDependencies(refuse refusal) OnFailure {
	way := s.OnDependencyFailure
	switch way {
	case "":
		if len(s.DependsOn) > 0 {
			way = CancelOnFailure
		}
	case CancelOnFailure, RunOnFailure:
		if len(s.DependsOn) == 0 {
			refuse("on_dependency_failure", "belongs to depends_on")
		}
	default:
		refuse("on_dependency_failure", "must be %q or %q", CancelOnFailure, RunOnFailure)
	}
	if len(s.DependsOn) > 0 && !s.AfterBatch.IsZero() {
		refuse("depends_on", "is not for a batch's callback")
	}
	if len(s.DependsOn) > maxDependencies {
		refuse("depends_on", "are %d tasks, more than the %d allowed", len(s.DependsOn), maxDependencies)
		return way
	}
	seen := make(map[ID]bool, len(s.DependsOn))
	for i, id := range s.DependsOn {
		switch {
		case id.IsZero():
			refuse(fmt.Sprintf("depends_on[%d]", i), "must be the id of a task")
		case id == s.ID:
			refuse(fmt.Sprintf("depends_on[%d]", i), "is the task itself")
		case seen[id]:
			refuse(fmt.Sprintf("depends_on[%d]", i), "is there twice")
		}
		seen[id] = true
	}
	return way
}

// InOrder gives the places of specs so that each comes after those it depends on,
// as far as they are among them, or the [CycleError] that stands in the way.
// Otherwise the order stays.
func InOrder(specs []Spec) ([]int, error) {
	at := make(map[ID]int, len(specs))
	needed := false
	for i, s := range specs {
		at[s.ID] = i
		needed = needed || len(s.DependsOn) > 0
	}
	order := make([]int, 0, len(specs))
	if !needed {
		for i := range specs {
			order = append(order, i)
		}
		return order, nil
	}
	const (
		untouched = iota
		open
		done
	)
	state := make([]uint8, len(specs))
	type visit struct{ spec, next int }
	for i := range specs {
		if state[i] != untouched {
			continue
		}
		state[i] = open
		for path := []visit{{spec: i}}; len(path) > 0; { // in place of recursion, which may go as deep as there are specs
			v := &path[len(path)-1]
			parents := specs[v.spec].DependsOn
			if v.next == len(parents) {
				state[v.spec] = done
				order = append(order, v.spec)
				path = path[:len(path)-1]
				continue
			}
			parent, here := at[parents[v.next]]
			v.next++
			switch {
			case !here || state[parent] == done:
			case state[parent] == open:
				from := slices.IndexFunc(path, func(o visit) bool { return o.spec == parent })
				var cycle CycleError
				for _, o := range path[from:] {
					cycle = append(cycle, specs[o.spec].ID)
				}
				return nil, cycle
			default:
				state[parent] = open
				path = append(path, visit{spec: parent})
			}
		}
	}
	return order, nil
}

// Settled says whether an edge from a task in a state holds its child up no more,
// and whether the child is to be given up.
func Settled(parent State, way OnFailure) (done, failed bool) {
	return parent.Terminal(), parent.Terminal() && parent != Succeeded && way != RunOnFailure
}

// Unblocked is a task whose dependencies have been settled: all of them or, with
// Failed, one that it cannot do without. Or it waits for a signal that is there, or
// for a batch of which all tasks have ended.
type Unblocked struct {
	Task   Task
	Failed ID
}

// Step is what becomes of it now.
func (u Unblocked) Step(now time.Time) (Step, error) {
	t := u.Task
	switch {
	case t.State != Blocked:
		return Step{}, ErrStale
	case t.Awaits != "":
		return t.Signalled(now)
	}
	if !u.Failed.IsZero() {
		f := Failure{
			Code: CodeDependency, Message: "task " + u.Failed.String() + ", which it depends on, did not succeed",
			Details: json.RawMessage(`{"task":"` + u.Failed.String() + `"}`),
		}
		to := t.ended(Cancelled, now)
		to.Failure = &f
		return t.step(to, now, StateData{State: Cancelled, Attempt: t.Attempt, Reason: CodeDependency, Error: &f}), nil
	}
	to := t
	to.State, to.Ready = Queued, now
	data := StateData{State: Queued, Attempt: t.Attempt, Reason: WaitsForOthers}
	if !t.AfterBatch.IsZero() {
		data.Reason = WaitsForBatch
	}
	if t.RunAt.After(now) {
		to.State, to.Ready = Scheduled, t.RunAt
		data.State, data.RunAt = Scheduled, (*Time)(&to.RunAt)
	}
	return t.step(to, now, data), nil
}

// CompareIDs orders ids, as all do who lock more than one task.
func CompareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }
