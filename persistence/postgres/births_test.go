package postgres_test

import (
	neturl "net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime/task"
)

// A plan that is kept is made while nothing is in the tables yet, when one way is as good
// as another: it must know no bad one.
func TestKeptPlansGoByKeys(t *testing.T) {
	plans, err := open(t, server.Database(t)).KeptPlans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{
		"saveLive": {"live_id", "live_held"}, "saveEnd": {"live_id", "live_held"}, "whyRefused": {"live_id", "ended_id"},
		"dropEdges": {"edges_pkey", "edges_done"}, "markEdges": {"edges_parent"},
		"callbacksDone": {"callbacks_task_key", "callbacks_waiting"}, "callbacksWait": {"callbacks_waiting"}, "sign": {"writers_pkey"},
	}
	using := regexp.MustCompile(`(?:using|Bitmap Index Scan on) (\w+)`)
	for name, plan := range plans {
		if strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s scans a table:\n%s", name, plan)
		}
		if strings.Count(plan, "Index Cond") < len(using.FindAllString(plan, -1)) {
			t.Errorf("%s reads all of an index:\n%s", name, plan)
		}
		for _, index := range using.FindAllStringSubmatch(plan, -1) {
			if !slices.Contains(keys[name], index[1]) {
				t.Errorf("%s goes by %s:\n%s", name, index[1], plan)
			}
		}
	}
}

// A URL may ask for the driver's modes that do not ask the server for types.
func TestAnyModeOfTheDriverStores(t *testing.T) {
	url := server.Database(t)
	for i, mode := range []string{"exec", "simple_protocol", "describe_exec", "cache_describe", "cache_statement"} {
		at, err := neturl.Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		query := at.Query()
		query.Set("default_query_exec_mode", mode)
		at.RawQuery = query.Encode()
		s := open(t, at.String())
		tasks, ms := births(10*i, 2, 1)
		mustAppend(t, s, ms)
		mustAppend(t, s, endsOf(t, tasks))
	}
}

// What seems fresh and is not has all of its batch written the careful way.
func TestFreshTasksThatAreThere(t *testing.T) {
	s := open(t, server.Database(t))
	tasks, ms := births(1, 3, 1)
	for i := range ms {
		ms[i].Fresh = true
	}
	mustAppend(t, s, ms[:1])
	out, err := s.Append(t.Context(), ms)
	if err != nil {
		t.Fatal(err)
	}
	if out[0].Existing == nil || out[1].Err != nil || out[1].Existing != nil || out[2].Existing != nil {
		t.Errorf("one of three was there: %+v", out)
	}
	for _, want := range tasks {
		if _, err := s.Task(t.Context(), want.Namespace, want.ID); err != nil {
			t.Error(err)
		}
	}
	o, err := s.Overview(t.Context(), task.Scope{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Counts) != 1 || o.Counts[0].Tasks != 3 {
		t.Errorf("%+v, want three tasks counted", o.Counts)
	}
}
