package transport

import "github.com/troupe-run/troupe/runtime/task"

// TaskList is a page of tasks, newest first. NextCursor is empty on the last
// page, and only there: a page may be shorter than was asked for.
type TaskList struct {
	Tasks      []Task `json:"tasks"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Give it as cursor to get the next page; empty on the last"`
}

// EventPage is a page of a task's log. Next is what to give as after to go on.
type EventPage struct {
	Events []Event `json:"events"`
	Next   string  `json:"next" doc:"The cursor to go on after"`
	Gap    *Gap    `json:"gap,omitempty" doc:"Set where retention has removed events after the given cursor"`
}

// Gap says that events are gone: the first one still there.
type Gap struct {
	First string `json:"first"`
}

// Batch is the body that submits many tasks, all or none of them.
type Batch struct {
	Tasks    []Submission `json:"tasks"`
	Callback *Submission  `json:"callback,omitempty" doc:"A task that runs when all of these have ended, whatever way; it is none of them"`
}

// BatchAccepted answers a Batch; the ids stand in the order of its tasks.
type BatchAccepted struct {
	BatchID  string   `json:"batch_id" format:"uuid"`
	IDs      []string `json:"ids"`
	Callback string   `json:"callback,omitempty" format:"uuid" doc:"The id of the callback"`
}

// BatchBegun is the first line of the answer to a batch that came as NDJSON.
type BatchBegun struct {
	BatchID string `json:"batch_id" format:"uuid"`
}

// BatchLine answers one line of a batch that came as NDJSON.
type BatchLine struct {
	Line     int      `json:"line" doc:"Counted from 1, blank lines too"`
	ID       string   `json:"id,omitempty" format:"uuid"`
	Existing bool     `json:"existing,omitempty" doc:"The task was there already"`
	Error    *Problem `json:"error,omitempty"`
}

// BatchSummary is the last line of such an answer. Error is set where the
// server stopped reading before the end of the lines.
type BatchSummary struct {
	BatchID  string   `json:"batch_id" format:"uuid"`
	Accepted int      `json:"accepted"`
	Refused  int      `json:"refused"`
	Error    *Problem `json:"error,omitempty"`
}

// BatchStatus is how far a batch has come.
type BatchStatus struct {
	BatchID string           `json:"batch_id" format:"uuid"`
	Total   int64            `json:"total"`
	Counts  map[string]int64 `json:"counts" doc:"Tasks by state; states without any are left out"`
	Done    bool             `json:"done" doc:"Every task has ended"`

	Progress float64 `json:"progress" minimum:"0" maximum:"1" doc:"The share of its tasks that have ended"`
	Callback string  `json:"callback,omitempty" format:"uuid" doc:"The task that runs when all have ended"`
}

// CountsOf is counts by the names of states.
func CountsOf(counts []task.Count) map[string]int64 {
	byState := make(map[string]int64, len(counts))
	for _, c := range counts {
		byState[c.State.String()] += c.Tasks
	}
	return byState
}

// BatchCancelled says how many tasks of a batch were cancelled.
type BatchCancelled struct {
	BatchID   string `json:"batch_id" format:"uuid"`
	Cancelled int    `json:"cancelled"`
}

// Cancel is the body that cancels a task; it may be left out.
type Cancel struct {
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"For whoever reads the task's log"`
}

// Explanation says why a task is not running.
type Explanation struct {
	Task    Task     `json:"task"`
	Waiting *Waiting `json:"waiting,omitempty"`
	Message string   `json:"message" doc:"For people"`
}

// Queue is a queue's settings and what is in it.
type Queue struct {
	Name        string           `json:"name"`
	Paused      bool             `json:"paused"`
	Concurrency int              `json:"concurrency,omitempty" doc:"So many of its tasks run at once, in the whole cluster; 0: any number"`
	Rate        string           `json:"rate,omitempty" doc:"So often its tasks start, in the whole cluster" example:"100/s"`
	Burst       int              `json:"burst,omitempty" doc:"So many start at once after a rest; 0: a tenth of a second's worth of the rate"`
	Weight      float64          `json:"weight" doc:"Its share of the starts beside other queues"`
	Policy      string           `json:"policy" enum:"priority-fifo,shortest-area,deadline" doc:"The order in which its tasks start"`
	Placement   string           `json:"placement" enum:"spread,pack" doc:"How its tasks go to nodes"`
	MaxQueued   int              `json:"max_queued,omitempty" doc:"So many of its tasks may wait; 0: as many as the server lets"`
	Counts      map[string]int64 `json:"counts,omitempty" doc:"Tasks by state; states without any are left out"`
}

// QueueList is all queues.
type QueueList struct {
	Queues []Queue `json:"queues"`
}

// Worker is something that runs tasks.
type Worker struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Node    string            `json:"node"`
	Labels  map[string]string `json:"labels,omitempty" doc:"Its own, or those of its node"`
	Kinds   []string          `json:"kinds"`
	Slots   task.Quantity     `json:"slots"`
	Running int               `json:"running"`
	Since   task.Time         `json:"since"`
	State   string            `json:"state" enum:"connected,away,draining" doc:"away: its connection broke, and its attempts are kept for a while"`
}

// WorkerList is all workers.
type WorkerList struct {
	Workers []Worker `json:"workers"`
}

// Node is one process that runs tasks.
type Node struct {
	Name        string            `json:"name"`
	Incarnation int64             `json:"incarnation"`
	Address     string            `json:"address,omitempty"`
	Labels      map[string]string `json:"labels,omitempty" doc:"What tasks may require or prefer"`
	StartedAt   task.Time         `json:"started_at"`
	SeenAt      task.Time         `json:"seen_at"`
	Left        bool              `json:"left,omitempty"`
}

// NodeList is all nodes.
type NodeList struct {
	Nodes []Node `json:"nodes"`
}

// Resource is a resource's capacity and use: of all nodes together, of each, and
// where it is one of the whole cluster, of that.
type Resource struct {
	Name     string        `json:"name"`
	Capacity task.Quantity `json:"capacity"`
	Used     task.Quantity `json:"used"`
	Nodes    []Gauge       `json:"nodes"`
	Cluster  *Pool         `json:"cluster,omitempty" doc:"Set where it is a resource of the whole cluster; capacity and used are then of that"`
}

// Signalled says that a signal is kept.
type Signalled struct {
	Task   string `json:"task" format:"uuid"`
	Signal string `json:"signal"`
}

// Pool is how much there is of a resource in the whole cluster.
type Pool struct {
	Capacity task.Quantity `json:"capacity"`
	Used     task.Quantity `json:"used"`
}

// PoolChange sets how much there is of a resource in the whole cluster.
type PoolChange struct {
	Capacity *task.Quantity `json:"capacity" doc:"Nodes together use no more than this of it at once" example:"20"`
}

// Gauge is a resource's capacity and use on one node.
type Gauge struct {
	Node     string        `json:"node"`
	Capacity task.Quantity `json:"capacity"`
	Used     task.Quantity `json:"used"`
}

// ResourceList is all resources.
type ResourceList struct {
	Resources []Resource `json:"resources"`
}

// Stats is what there is now, and what all nodes that answer have counted, each since
// it started.
type Stats struct {
	Since     task.Time         `json:"since"`
	Counts    map[string]int64  `json:"counts" doc:"Tasks by state; states without any are left out"`
	Queues    []Queue           `json:"queues"`
	Submitted uint64            `json:"submitted"`
	Started   uint64            `json:"started" doc:"Attempts"`
	Ended     map[string]uint64 `json:"ended" doc:"Tasks by the state they ended in"`
	Retried   uint64            `json:"retried"`
	Held      int               `json:"held"`
	Waiting   int               `json:"waiting" doc:"Of the held ones, those that could run"`
	Running   int               `json:"running"`
	Watchers  int               `json:"watchers"`
	Usage     Usage             `json:"usage" doc:"What the namespace takes up, in the whole cluster"`
	Quota     Quota             `json:"quota" doc:"What it may"`
}
