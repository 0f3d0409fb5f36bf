package ws

import (
	"encoding/json"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// The parameters and results of all that is said on the sockets. The description in
// asyncapi.go is made of them.

// nothing is an empty object.
type nothing struct{}

type pong struct {
	At task.Time `json:"at" doc:"The server's time"`
}

// helloParams is what the server says first.
type helloParams struct {
	Session   string `json:"session"`
	Server    string `json:"server" doc:"Its name and version"`
	Heartbeat string `json:"heartbeat" doc:"Between pings, a Go duration"`
	Limits    limits `json:"limits"`
}

type limits struct {
	Message       int64 `json:"message" doc:"Bytes of one message of yours"`
	Batch         int   `json:"batch" doc:"Requests in one array"`
	Subscriptions int   `json:"subscriptions,omitempty" doc:"Of one connection"`
}

type goodbyeParams struct {
	Delay string `json:"delay" doc:"The connection is closed after this, a Go duration"`
}

type renewParams struct {
	Credential string `json:"credential" doc:"Of the same namespace"`
}

type renewed struct {
	Scopes    []access.Scope `json:"scopes"`
	ExpiresAt *task.Time     `json:"expires_at,omitempty"`
}

// subscribeParams names one topic. After is for a task only.
type subscribeParams struct {
	Task  string        `json:"task,omitempty" format:"uuid" doc:"Give one of task, batch, queue and tasks"`
	After *string       `json:"after,omitempty" doc:"The last cursor seen, of a task"`
	Batch string        `json:"batch,omitempty" format:"uuid"`
	Queue string        `json:"queue,omitempty"`
	Tasks *filterParams `json:"tasks,omitempty"`
}

// filterParams selects tasks, as the query of GET /v1/tasks does.
type filterParams struct {
	State         []task.State      `json:"state,omitempty"`
	Kind          string            `json:"kind,omitempty"`
	Queue         string            `json:"queue,omitempty"`
	Label         map[string]string `json:"label,omitempty" doc:"All must be there"`
	BatchID       string            `json:"batch_id,omitempty" format:"uuid"`
	CreatedAfter  *task.Time        `json:"created_after,omitempty"`
	CreatedBefore *task.Time        `json:"created_before,omitempty"`
}

type subscribed struct {
	Subscription string            `json:"subscription" doc:"The topic's own name"`
	Task         *transport.Task   `json:"task,omitempty" doc:"Of a task's subscription: the task as it is"`
	Tasks        *[]transport.Task `json:"tasks,omitempty" doc:"Of any other: the tasks there are, the newest"`
}

type unsubscribeParams struct {
	Subscription string `json:"subscription"`
}

// submitParams is a submission, and whether to follow the task.
type submitParams struct {
	transport.Submission

	Follow bool `json:"follow,omitempty" doc:"Subscribe to the task as well"`
}

type submitted struct {
	Subscription string         `json:"subscription,omitempty" doc:"With follow"`
	Task         transport.Task `json:"task"`
}

type getParams struct {
	Task string `json:"task" format:"uuid"`
}

type cancelParams struct {
	Task   string `json:"task" format:"uuid"`
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"For whoever reads the task's log"`
}

type shown struct {
	Task transport.Task `json:"task"`
}

type eventParams struct {
	Subscription string          `json:"subscription"`
	Event        transport.Event `json:"event"`
}

type endParams struct {
	Subscription string            `json:"subscription"`
	Counts       *map[string]int64 `json:"counts,omitempty" doc:"Of a batch: its tasks by state"`
}

type gapParams struct {
	Subscription string `json:"subscription"`
	First        string `json:"first" doc:"The first cursor still there"`
}

type resetParams struct {
	Subscription string           `json:"subscription"`
	Tasks        []transport.Task `json:"tasks" doc:"The view as it is now"`
}

// registerParams is what a worker says of itself.
type registerParams struct {
	Name      string            `json:"name"`
	Kinds     []string          `json:"kinds" doc:"1 to 1000"`
	Slots     *int              `json:"slots,omitempty" minimum:"1" maximum:"10000" default:"1" doc:"So many attempts at once"`
	Resources task.Resources    `json:"resources,omitempty" doc:"What there is for them"`
	Labels    map[string]string `json:"labels,omitempty"`
	Resume    string            `json:"resume,omitempty" doc:"The session of a connection that broke"`
	Running   []string          `json:"running,omitempty" doc:"The tokens of the attempts that still run, of a session that is resumed"`
}

type registered struct {
	Worker   string    `json:"worker"`
	Session  string    `json:"session" doc:"To resume, should the connection break"`
	Lease    string    `json:"lease" doc:"For how long the worker may be silent, a Go duration"`
	Attempts []attempt `json:"attempts" doc:"Those of the resumed session that are still its own"`
}

// attempt is one that a worker runs.
type attempt struct {
	Task    string `json:"task" format:"uuid"`
	Attempt int    `json:"attempt"`
	Token   string `json:"token"`
}

// running is an attempt to run.
type running struct {
	Task       transport.Task  `json:"task"`
	Attempt    int             `json:"attempt"`
	Token      string          `json:"token" doc:"For all that is said about the attempt"`
	Lease      string          `json:"lease"`
	Checkpoint json.RawMessage `json:"checkpoint,omitempty" doc:"What an attempt before left"`
	Steps      []step          `json:"steps,omitempty" doc:"What attempts before have done"`
}

type step struct {
	Name   string          `json:"name"`
	Result json.RawMessage `json:"result"`
}

type cancelling struct {
	Task    string `json:"task" format:"uuid"`
	Attempt int    `json:"attempt"`
	Token   string `json:"token"`
	Reason  string `json:"reason"`
}

type draining struct {
	Reason string `json:"reason,omitempty"`
}

type progressParams struct {
	Token    string   `json:"token"`
	Fraction *float64 `json:"fraction,omitempty" minimum:"0" maximum:"1"`
	Message  string   `json:"message,omitempty"`
}

type logParams struct {
	Token   string          `json:"token"`
	Level   string          `json:"level,omitempty" enum:"debug,info,warn,error" default:"info"`
	Message string          `json:"message"`
	Fields  json.RawMessage `json:"fields,omitempty" doc:"An object"`
}

type outputParams struct {
	Token  string          `json:"token"`
	Chunk  json.RawMessage `json:"chunk,omitempty" doc:"Give one of chunk, text and base64"`
	Text   *string         `json:"text,omitempty"`
	Base64 *string         `json:"base64,omitempty"`
}

type checkpointParams struct {
	Token      string          `json:"token"`
	Checkpoint json.RawMessage `json:"checkpoint"`
}

type stepParams struct {
	Token  string          `json:"token"`
	Name   string          `json:"name"`
	Result json.RawMessage `json:"result"`
}

type sleepParams struct {
	Token string `json:"token"`
	Name  string `json:"name" doc:"Of the sleep, so that it is slept once"`
	For   string `json:"for" doc:"A Go duration"`
}

type slept struct {
	Woken bool `json:"woken" doc:"False: the attempt is suspended, and over"`
}

type waitParams struct {
	Token   string  `json:"token"`
	Name    string  `json:"name,omitempty" doc:"Of the wait, so that it is waited once"`
	Signal  string  `json:"signal"`
	Timeout *string `json:"timeout,omitempty" doc:"A Go duration"`
}

type waited struct {
	Got       bool            `json:"got"`
	Signal    json.RawMessage `json:"signal,omitempty" doc:"Its payload"`
	Timeout   bool            `json:"timeout,omitempty"`
	Suspended bool            `json:"suspended,omitempty" doc:"The attempt is suspended, and over"`
}

type succeedParams struct {
	Token  string          `json:"token"`
	Result json.RawMessage `json:"result,omitempty"`
}

type failParams struct {
	Token string  `json:"token"`
	Error failing `json:"error"`
}

type failing struct {
	Code      string          `json:"code,omitempty"`
	Message   string          `json:"message"`
	Retryable *bool           `json:"retryable,omitempty" default:"true"`
	Details   json.RawMessage `json:"details,omitempty"`
}
