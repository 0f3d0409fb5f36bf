package api

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func TestScheduleIsSetChangedAndShown(t *testing.T) {
	f := newFront(Config{})
	f.do(t, "POST", "/v1/schedules", `{"name":"report","cron":"0 9 * * MON-FRI","time_zone":"Europe/Berlin","overlap":"skip",
		"task":{"kind":"report","payload":{"team":"data"},"priority":3,"timeout":"5m","cache":{"ttl":"1h"}}}`).want(t, 201).golden(t, "schedule.json")
	f.do(t, "PUT", "/v1/schedules/beat", `{"every":"15m","catch_up":"all","task":{"kind":"beat"}}`).want(t, 200)
	f.do(t, "PATCH", "/v1/schedules/beat", `{"catch_up":"one","every":"30m","ends_at":"2027-01-01T00:00:00Z"}`).want(t, 200)
	f.do(t, "POST", "/v1/schedules/report/pause", "").want(t, 200)
	f.do(t, "POST", "/v1/schedules/report/resume", "").want(t, 200)
	f.do(t, "POST", "/v1/schedules/report/trigger", "").want(t, 201).golden(t, "scheduled_task.json")
	f.do(t, "GET", "/v1/schedules", "").want(t, 200).golden(t, "schedules.json")
	f.do(t, "GET", "/v1/schedules/report/next?count=2", "").want(t, 200).golden(t, "ticks.json")
	var page transport.ScheduleList
	if err := json.Unmarshal(f.do(t, "GET", "/v1/schedules?limit=1&cursor=beat", "").want(t, 200).body, &page); err != nil ||
		len(page.Schedules) != 1 || page.Schedules[0].Name != "report" || page.NextCursor != "report" {
		t.Errorf("%+v, %v", page, err)
	}
	f.do(t, "DELETE", "/v1/schedules/beat", "").want(t, 204)
	f.do(t, "GET", "/v1/schedules/beat", "").want(t, 404)
}

// What a schedule shows as its task can be sent back, and means the same, whatever
// fields a submission has.
func TestScheduleComesBackAsItWasShown(t *testing.T) {
	var sent transport.Submission
	if err := json.Unmarshal([]byte(`{"kind":"k","queue":"q","priority":3,"payload":{"a":1},"resources":{"cpu":"500m"},"labels":{"a":"b"},
		"timeout":"1m","max_attempts":7,"retry":{"initial":"2s","jitter":0},"unique_key":"u","concurrency_key":"c","concurrency_limit":2,
		"rate_key":"r","rate":"5/s","rate_burst":3,"placement":{"require":{"gpu":"a100"}},"sticky_key":"s","cache":{"key":"x","ttl":"1h"}}`), &sent); err != nil {
		t.Fatal(err)
	}
	single := map[string]bool{"ID": true, "RunAt": true, "Delay": true, "Deadline": true, "Late": true, "DependsOn": true, "OnDependencyFailure": true}
	for i, v := 0, reflect.ValueOf(sent); i < v.NumField(); i++ {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != single[name] {
			t.Errorf("%s is not looked at", name)
		}
	}
	checked := func(s transport.Submission) task.Spec {
		t.Helper()
		spec, err := s.Spec(task.DefaultNamespace, epoch)
		if err == nil {
			spec, err = task.Limits{}.Check(spec, epoch)
		}
		if err != nil {
			t.Fatal(err)
		}
		return spec
	}
	spec := checked(sent)
	if diff := cmp.Diff(spec, checked(transport.SubmissionOf(spec))); diff != "" {
		t.Error(diff)
	}
}
