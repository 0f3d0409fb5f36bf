package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func TestListPages(t *testing.T) {
	f := newFront(Config{})
	for range 5 {
		f.tasks.add(task.Spec{Kind: "k"})
	}
	var seen []string
	query := "?limit=2"
	for {
		page := as[transport.TaskList](t, f.do(t, "GET", "/v1/tasks"+query, "").want(t, 200))
		for _, one := range page.Tasks {
			seen = append(seen, one.ID)
		}
		if page.NextCursor == "" {
			break
		}
		query = "?limit=2&cursor=" + page.NextCursor
	}
	var want []string
	for n := 5; n > 0; n-- {
		want = append(want, id(n).String())
	}
	if !slices.Equal(seen, want) {
		t.Errorf("got %q", seen)
	}
	empty := f.do(t, "GET", "/v1/tasks?kind=none", "").want(t, 200)
	if got := string(empty.body); got != "{\"tasks\":[]}\n" {
		t.Errorf("no tasks: %s", got)
	}
}

func TestPlaceGoesOutAndComesBack(t *testing.T) {
	place := task.Place{Created: epoch, ID: id(7)}
	text := formatPlace(place)
	got, ok := parsePlace(text)
	if !ok || !got.Created.Equal(epoch) || got.ID != place.ID {
		t.Fatalf("%v, %t", got, ok)
	}
	for i := range text { // whatever one character becomes
		for _, c := range "A_" {
			changed := text[:i] + string(c) + text[i+1:]
			if _, ok := parsePlace(changed); ok && changed != text {
				t.Errorf("took %s", changed)
			}
		}
	}
	for _, bad := range []string{"A", "!", text[1:], text + "AAAA", url.QueryEscape(text + "=")} {
		if _, ok := parsePlace(bad); ok {
			t.Errorf("took %s", bad)
		}
	}
}

func TestFilterIsReadWhole(t *testing.T) {
	in := listInput{
		State: []string{"queued,running", "failed"}, Kind: "k", Queue: "q", Label: []string{"a=1", "b=x=y", "a=1"},
		BatchID: id(3).String(), CreatedAfter: "2026-01-01T00:00:00Z", CreatedBefore: "2026-02-01T00:00:00.5+01:00",
		Limit: 7, Cursor: formatPlace(task.Place{Created: epoch, ID: id(1)}),
	}
	got, err := in.filter()
	if err != nil {
		t.Fatal(err)
	}
	want := task.Filter{
		States: []task.State{task.Queued, task.Running, task.Failed}, Kind: "k", Queue: "q",
		Labels: map[string]string{"a": "1", "b": "x=y"}, BatchID: id(3),
		CreatedAfter:  time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		CreatedBefore: time.Date(2026, 1, 31, 23, 0, 0, 5e8, time.UTC),
		After:         task.Place{Created: epoch, ID: id(1)}, Limit: 7,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFaultOfAFilterIsNamed(t *testing.T) {
	f := newFront(Config{})
	r := f.do(t, "GET", "/v1/tasks?state=queued,gone&label=a&label=b%3D1&label=b%3D2&batch_id=7&created_after=now&created_before=then&cursor=x&kind=K&queue=Q", "").want(t, 422)
	got := r.paths(t)
	slices.Sort(got)
	want := []string{"batch_id", "created_after", "created_before", "cursor", "kind", "label", "label", "queue", "state"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	var many strings.Builder
	for i := range 101 {
		fmt.Fprintf(&many, "&label=k%d%%3Dv", i)
	}
	f.do(t, "GET", "/v1/tasks?"+many.String()[1:], "").want(t, 422)
	for _, limit := range []string{"0", "1001", "-1", "x"} {
		if got := f.do(t, "GET", "/v1/tasks?limit="+limit, "").want(t, 422).paths(t); !slices.Equal(got, []string{"limit"}) {
			t.Errorf("limit %s: %q", limit, got)
		}
	}
}

func TestTaskSaysWhyItWaits(t *testing.T) {
	f := newFront(Config{})
	f.tasks.add(task.Spec{Kind: "k"})
	f.tasks.explain = &task.Waiting{Reason: task.WaitsForResource, Resource: "gpu", Needed: 1000, Position: 3}
	path := "/v1/tasks/" + id(1).String()
	f.do(t, "GET", path, "").want(t, 200).golden(t, "waiting.json")
	f.do(t, "GET", path+"/explain", "").want(t, 200).golden(t, "explain.json")
	f.tasks.start(id(1))
	if got := as[transport.Task](t, f.do(t, "GET", path, "").want(t, 200)); got.Waiting != nil {
		t.Errorf("a running task waits: %+v", got.Waiting)
	}
}

func TestLifeOfATask(t *testing.T) {
	f := newFront(Config{})
	f.tasks.add(task.Spec{Kind: "k"})
	path := "/v1/tasks/" + id(1).String()
	r := f.do(t, "POST", path+"/cancel", `{"reason":"enough"}`).want(t, 200)
	if got := as[transport.Task](t, r); got.State != task.Cancelled {
		t.Errorf("state %s", got.State)
	}
	r = f.do(t, "POST", path+"/retry", "").want(t, 200)
	if got := as[transport.Task](t, r); got.State != task.Queued {
		t.Errorf("state %s", got.State)
	}
	f.do(t, "POST", path+"/cancel", " ").want(t, 200)
	if r = f.do(t, "DELETE", path, "").want(t, 204); len(r.body) != 0 {
		t.Errorf("204 with %q", r.body)
	}
	f.do(t, "GET", path, "").want(t, 404)
}

func TestCluster(t *testing.T) {
	f := newFront(Config{})
	f.tasks.add(task.Spec{Kind: "k"})
	f.tasks.add(task.Spec{Kind: "k", Queue: "other"})
	f.do(t, "PATCH", "/v1/queues/idle", `{"paused":true}`).want(t, 200).golden(t, "queue.json")
	f.do(t, "PATCH", "/v1/kinds/report", `{"concurrency":3}`).want(t, 200).golden(t, "kind.json")
	f.do(t, "GET", "/v1/kinds", "").want(t, 200).golden(t, "kinds.json")
	f.do(t, "PATCH", "/v1/queues/other", `{"concurrency":3,"rate":"100/s"}`).want(t, 200).golden(t, "queue_limits.json")
	f.do(t, "PUT", "/v1/resources/openai", `{"capacity":"20"}`).want(t, 200).golden(t, "resource.json")
	f.do(t, "PUT", "/v1/resources/gone", `{"capacity":1}`).want(t, 200)
	f.do(t, "DELETE", "/v1/resources/gone", "").want(t, 204)
	f.do(t, "GET", "/v1/queues", "").want(t, 200).golden(t, "queues.json")
	f.do(t, "GET", "/v1/workers", "").want(t, 200).golden(t, "workers.json")
	f.do(t, "GET", "/v1/nodes", "").want(t, 200).golden(t, "nodes.json")
	f.do(t, "GET", "/v1/resources", "").want(t, 200).golden(t, "resources.json")
	f.do(t, "GET", "/v1/stats", "").want(t, 200).golden(t, "stats.json")
	for path, status := range map[string]string{"/livez": "alive", "/readyz": "ready"} {
		if got := string(f.do(t, "GET", path, "").want(t, 200).body); got != `{"status":"`+status+"\"}\n" {
			t.Errorf("%s: %s", path, got)
		}
	}
}
