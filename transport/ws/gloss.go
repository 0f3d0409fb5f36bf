package ws

import (
	"encoding/json"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/spec"
)

const exampleToken = "k3Zr8w…" //nolint:gosec // of no attempt

func watcherAsks() map[string]gloss {
	topic := "task:" + spec.TaskID
	return map[string]gloss{
		"subscribe": {
			says: "Follow a task, a batch, a queue, or the tasks that a filter selects",
			params: []any{
				subscribeParams{Task: spec.TaskID},
				subscribeParams{Task: spec.TaskID, After: new("0.1")},
				subscribeParams{Batch: spec.BatchID},
				subscribeParams{Queue: spec.Queue},
				subscribeParams{Tasks: &filterParams{State: []task.State{task.Running}, Label: map[string]string{"customer": "7"}}},
			},
			result: subscribed{Subscription: topic, Task: new(spec.Running())},
		},
		"unsubscribe": {says: "End a subscription", params: []any{unsubscribeParams{Subscription: topic}}, result: nothing{}},
		"submit": {
			says:   "Submit a task, and follow it if asked to. The answer means that it is on disk. To follow takes tasks:read as well",
			params: []any{submitParams{Submission: spec.Submission()}, submitParams{Submission: transport.Submission{Kind: spec.Kind}, Follow: true}},
			result: submitted{Subscription: topic, Task: spec.Waiting()},
		},
		"get":    {says: "Get a task as it is", params: []any{getParams{Task: spec.TaskID}}, result: shown{Task: spec.Running()}},
		"cancel": {says: "Cancel a task", params: []any{cancelParams{Task: spec.TaskID, Reason: "no longer needed"}}, result: shown{Task: spec.Cancelled()}},
		"renew":  renewing(access.TasksRead),
		"ping":   {says: "Ask whether the server is there, besides the protocol's own pings", params: []any{nothing{}}, result: pong{At: spec.At(0)}},
	}
}

func renewing(scopes ...access.Scope) gloss {
	return gloss{
		says:   "Show another credential in place of the one the socket was opened with",
		params: []any{renewParams{Credential: "trp_9Xf2…"}}, //nolint:gosec // it opens nothing
		result: renewed{Scopes: scopes, ExpiresAt: new(spec.At(720 * time.Hour))},
	}
}

func watcherTold() map[string]gloss {
	topic := "task:" + spec.TaskID
	return map[string]gloss{
		"hello": {says: "First of all: how long the connection may be silent, and how much it may take", params: []any{helloParams{
			Session: "6f0c8d7e", Server: "troupe/v1", Heartbeat: "25s", Limits: limits{Message: 4 << 20, Batch: 100, Subscriptions: 1024},
		}}},
		"event":   {says: "An event of a topic", params: []any{eventParams{Subscription: topic, Event: spec.Progress()}}},
		"end":     {says: "Nothing more will come: the task has ended, or all of the batch have. The subscription is over", params: []any{endParams{Subscription: topic}}},
		"gap":     {says: "Retention has removed events behind the cursor that was given", params: []any{gapParams{Subscription: topic, First: "1.7"}}},
		"reset":   {says: "The watcher of a batch, queue or filter fell too far behind: this is the view now", params: []any{resetParams{Subscription: "queue:" + spec.Queue, Tasks: []transport.Task{spec.Running()}}}},
		"goodbye": {says: "The node goes: come back, to any other, after the delay", params: []any{goodbyeParams{Delay: "1.5s"}}},
	}
}

func workerAsks() map[string]gloss {
	return map[string]gloss{
		"register": {
			says: "Say what the worker is; first of all. With resume it takes up where a broken connection left off",
			params: []any{
				registerParams{Name: "renderer", Kinds: []string{spec.Kind}},
				registerParams{Name: "renderer", Kinds: []string{spec.Kind}, Slots: new(4), Resources: task.Resources{"gpu": 1000}, Labels: map[string]string{"zone": "a"}},
			},
			result: registered{Worker: "renderer-1", Session: "6f0c8d7e", Lease: "15s", Attempts: []attempt{}},
		},
		"progress": {says: "Say how far an attempt is", params: []any{progressParams{Token: exampleToken, Fraction: new(0.5), Message: "page 6 of 12"}}, result: nothing{}},
		"log": {
			says: "Add a line to the task's log", result: nothing{},
			params: []any{logParams{Token: exampleToken, Level: "warn", Message: "slow font", Fields: json.RawMessage(`{"font":"serif"}`)}},
		},
		"output": {
			says: "Stream a piece of what the task makes", result: nothing{},
			params: []any{
				outputParams{Token: exampleToken, Text: new("page 6\n")},
				outputParams{Token: exampleToken, Chunk: json.RawMessage(`{"page":6}`)},
				outputParams{Token: exampleToken, Base64: new("JVBERg==")},
			},
		},
		"checkpoint": {says: "Keep something for the next attempt, should this one fail", params: []any{checkpointParams{Token: exampleToken, Checkpoint: json.RawMessage(`{"page":6}`)}}, result: nothing{}},
		"step":       {says: "Keep the result of a step, which is then not done again; answered when it is on disk", params: []any{stepParams{Token: exampleToken, Name: "fetch", Result: json.RawMessage(`{"rows":9}`)}}, result: nothing{}},
		"sleep":      {says: "Sleep for long: the attempt gives its slot back, and the task runs again later", params: []any{sleepParams{Token: exampleToken, Name: "pause", For: "1h"}}, result: slept{}},
		"wait":       {says: "Wait for a signal in the same way", params: []any{waitParams{Token: exampleToken, Signal: "approved", Timeout: new("24h")}}, result: waited{Got: true, Signal: json.RawMessage(`{"by":"kim"}`)}},
		"succeed":    {says: "End an attempt well; answered when that is on disk", params: []any{succeedParams{Token: exampleToken, Result: json.RawMessage(`{"pages":12}`)}}, result: nothing{}},
		"fail": {
			says: "End an attempt badly; answered when that is on disk. It is tried again while attempts are left, unless retryable is false", result: nothing{},
			params: []any{failParams{Token: exampleToken, Error: failing{Code: "no_font", Message: "there is no such font", Retryable: new(false)}}},
		},
		"drain":     {says: "Ask for no more attempts", params: []any{nothing{}}, result: nothing{}},
		"renew":     renewing(access.Workers),
		"heartbeat": {says: "Say that the worker lives, if nothing else was said in a third of its lease", params: []any{nothing{}}, result: pong{At: spec.At(0)}},
	}
}

func workerTold() map[string]gloss {
	return map[string]gloss{
		"hello": {says: "First of all: how long the connection may be silent, and how much it may take", params: []any{helloParams{
			Session: "6f0c8d7e", Server: "troupe/v1", Heartbeat: "3.75s", Limits: limits{Message: 4 << 20, Batch: 100},
		}}},
		"run":       {says: "Run an attempt", params: []any{running{Task: spec.Running(), Attempt: 1, Token: exampleToken, Lease: "15s"}}},
		"cancel":    {says: "Stop an attempt", params: []any{cancelling{Task: spec.TaskID, Attempt: 1, Token: exampleToken, Reason: "cancelled"}}},
		"drain":     {says: "Take no more, finish what runs, then close", params: []any{draining{}}},
		"heartbeat": {says: "The server lives", params: []any{nothing{}}},
		"goodbye":   {says: "The node goes: finish, or come back elsewhere after the delay", params: []any{goodbyeParams{Delay: "1.5s"}}},
	}
}
