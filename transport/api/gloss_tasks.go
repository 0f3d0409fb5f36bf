package api

import (
	"encoding/json"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/spec"
)

func taskGlosses() map[string]gloss {
	one := params{"id": spec.TaskID}
	return map[string]gloss{
		"submit-task": {
			refuses: also(ofSubmits, "idempotency_key_reused", "too_many_streams"),
			params:  params{"Idempotency-Key": "report-7", "Prefer": "wait=1"},
			body: map[string]any{
				"no more than it takes": transport.Submission{Kind: spec.Kind},
				"a task with settings":  spec.Submission(),
				"a task for later": transport.Submission{
					Kind: spec.Kind, Delay: "30s", UniqueKey: "report-7",
					Retry: &transport.RetrySubmission{Initial: "5s", Factor: 2, Max: "10m"}, Resources: task.Resources{"slots": 1000},
				},
			},
			answers: map[int]any{200: spec.Running(), 201: spec.Waiting()},
		},
		"list-tasks": {
			says:   "Without filters, all tasks. The answer's next_cursor leads to the next page; it is not there on the last.",
			params: params{"state": []string{"queued", "running"}, "kind": spec.Kind, "queue": spec.Queue, "label": []string{"customer=7"}, "batch_id": spec.BatchID, "created_after": spec.At(-time.Hour), "created_before": spec.At(time.Hour), "limit": 10, "cursor": formatPlace(task.Place{Created: time.Time(spec.At(0)), ID: exampleID(spec.TaskID)})},
			answers: map[int]any{200: transport.TaskList{
				Tasks:      []transport.Task{spec.Running()},
				NextCursor: formatPlace(task.Place{Created: time.Time(spec.At(0)), ID: exampleID(spec.TaskID)}),
			}},
		},
		"get-task":    {refuses: ofReads, params: one, answers: map[int]any{200: spec.Succeeded()}},
		"delete-task": {refuses: also(ofTasks, "task_not_ended"), params: one},
		"get-result": {
			says:    "The answer is the result alone, as the handler gave it. A task that has not ended after the wait is answered with 202.",
			refuses: also(ofReads, "task_cancelled", "task_failed", "too_many_streams"),
			params:  params{"id": spec.TaskID, "wait": "1s"},
			answers: map[int]any{200: json.RawMessage(`{"pages":12}`), 202: spec.Running()},
		},
		"cancel-task": {
			says:    "Of a task that runs, the attempt is told to stop; the answer does not wait until it has. A task that was cancelled before is answered as it is.",
			refuses: also(ofTasks, "task_ended"), params: one,
			body:    map[string]any{"with a reason": transport.Cancel{Reason: "no longer needed"}},
			answers: map[int]any{200: spec.Cancelled()},
		},
		"retry-task": {refuses: also(ofTasks, "task_not_ended", "queue_full"), params: one, answers: map[int]any{200: spec.Waiting()}},
		"explain-task": {says: "In a word for programs, with what they need to know about it, and in a sentence for people.", refuses: ofReads, params: one, answers: map[int]any{200: transport.Explanation{
			Task: spec.Waiting(), Message: "It waits for a slot: one is needed, none is free, and two tasks go before it.",
			Waiting: &transport.Waiting{Reason: "resources", Resource: "slots", Needed: new(task.Quantity(1000)), Free: new(task.Quantity(0)), Position: 3},
		}}},
		"get-events": {
			refuses: also(ofReads, "cursor_ahead", "too_many_streams"), params: params{"id": spec.TaskID, "limit": 100},
			answers: map[int]any{200: transport.EventPage{Events: []transport.Event{spec.Progress(), spec.Output()}, Next: spec.Output().Cursor}},
		},
		"signal-task": {
			refuses: also(ofTasks, "task_ended", "too_many_signals", "idempotency_key_reused"), params: params{"id": spec.TaskID, "name": "approved", "Idempotency-Key": "approval-7"},
			body:    map[string]any{"with a payload": map[string]any{"by": "kim"}},
			answers: map[int]any{202: transport.Signalled{Task: spec.TaskID, Signal: "approved"}},
		},
	}
}

func batchGlosses() map[string]gloss {
	one := params{"id": spec.BatchID}
	accepted := transport.BatchAccepted{BatchID: spec.BatchID, IDs: []string{spec.TaskID, spec.NextID}}
	return map[string]gloss{
		"submit-batch": {
			refuses: also(ofSubmits, "dependency_cycle", "callback_exists", "too_many_streams"), params: params{"batch_id": spec.BatchID},
			body: map[string]any{
				"two tasks, one behind the other": transport.Batch{Tasks: []transport.Submission{
					{ID: spec.TaskID, Kind: spec.Kind}, {ID: spec.NextID, Kind: spec.Kind, DependsOn: []string{spec.TaskID}},
				}},
				"with a callback": transport.Batch{Tasks: []transport.Submission{{Kind: spec.Kind}}, Callback: &transport.Submission{Kind: spec.Kind}},
				"one line":        spec.Submission(),
			},
			answers: map[int]any{201: accepted},
		},
		"get-batch": {
			says: "States that none of its tasks is in are left out.", refuses: ofBatches, params: one,
			answers: map[int]any{200: transport.BatchStatus{
				BatchID: spec.BatchID, Total: 2, Counts: map[string]int64{"running": 1, "succeeded": 1}, Progress: 0.5,
			}},
		},
		"set-batch-callback": {
			says:    "It is no task of the batch. A batch has one callback, and keeps it.",
			refuses: also(ofSubmits, "batch_not_found", "callback_exists"), params: one,
			body:    map[string]any{"a task": transport.Submission{Kind: spec.Kind}},
			answers: map[int]any{201: afterBatch()},
		},
		"cancel-batch": {
			says: "Those that run are told to stop.", refuses: also(ofBatches, "outcome_unknown", "node_unreachable"), params: one,
			answers: map[int]any{200: transport.BatchCancelled{BatchID: spec.BatchID, Cancelled: 1}},
		},
	}
}

func afterBatch() transport.Task {
	t := spec.Waiting()
	t.State, t.AfterBatch = task.Blocked, spec.BatchID
	return t
}

func scheduleGlosses() map[string]gloss {
	one := params{"name": "weekday-report"}
	body := map[string]any{
		"by cron":   transport.ScheduleBody{Name: "weekday-report", Cron: "0 9 * * MON-FRI", TimeZone: "Europe/Berlin", Task: transport.Submission{Kind: spec.Kind}},
		"by period": transport.ScheduleBody{Name: "weekday-report", Every: "15m", Task: transport.Submission{Kind: spec.Kind}, CatchUp: "skip", Overlap: "skip"},
	}
	made := transport.Schedule{
		Name: "weekday-report", Cron: "0 9 * * MON-FRI", TimeZone: "Europe/Berlin", Task: transport.Submission{Kind: spec.Kind},
		CatchUp: "one", Overlap: "allow", CreatedAt: spec.At(0), NextAt: new(spec.At(20 * time.Hour)),
	}
	shown := map[int]any{200: made}
	paused := made
	paused.Paused, paused.NextAt = true, nil
	there := also(ofChange, "schedule_not_found")
	return map[string]gloss{
		"create-schedule": {says: "Its name must be new.", refuses: also(ofSettings, "schedule_exists"), body: body, answers: map[int]any{201: made}},
		"list-schedules": {
			says:    "The answer's next_cursor leads to the next page; it is not there on the last.",
			params:  params{"limit": 10, "cursor": "weekday"},
			answers: map[int]any{200: transport.ScheduleList{Schedules: []transport.Schedule{made}}},
		},
		"get-schedule": {says: "With when it fires next, and what it submitted last.", refuses: []string{"schedule_not_found"}, params: one, answers: shown},
		"set-schedule": {says: "All that the body leaves out is as in a new one.", refuses: ofChange, params: one, body: body, answers: shown},
		"change-schedule": {
			says: "What the body leaves out stays as it is.", refuses: there, params: one,
			body:    map[string]any{"another time": transport.ScheduleChange{Cron: new("0 7 * * *")}, "an end": transport.ScheduleChange{EndsAt: new(spec.At(1e5 * time.Hour))}},
			answers: shown,
		},
		"delete-schedule":  {says: "One that is not there any more is an error.", refuses: also(ofSettings, "schedule_not_found"), params: one},
		"pause-schedule":   {says: "It has no ticks until it is resumed.", refuses: there, params: one, answers: map[int]any{200: paused}},
		"resume-schedule":  {says: "The ticks of the time it was paused are not made up for.", refuses: there, params: one, answers: shown},
		"trigger-schedule": {says: "A paused one too.", refuses: also(ofSubmits, "schedule_not_found"), params: one, answers: map[int]any{201: spec.Waiting()}},
		"next-ticks": {
			says: "Those from now on, whether it is paused or not.", refuses: []string{"schedule_not_found"}, params: params{"name": "weekday-report", "count": 2},
			answers: map[int]any{200: transport.Ticks{Ticks: []task.Time{spec.At(20 * time.Hour), spec.At(92 * time.Hour)}}},
		},
	}
}
