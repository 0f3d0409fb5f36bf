// Package task is the core of Troupe: what a task is and how it may change.
//
// It is pure. No goroutine, no I/O, no clock: time and chance are arguments,
// and everything a caller must do is a returned value. The actors, the stores
// and the front door execute its decisions; none of them decides anything
// about a task by itself. It imports the standard library alone.
//
// # A task's life
//
//	            ┌───────────┐  due   ┌────────┐ start ┌─────────┐
//	submit ───► │ scheduled │ ─────► │ queued │ ────► │ running │
//	   │        └───────────┘        └────────┘       └─────────┘
//	   │              ▲  backoff          ▲  handed back   │
//	   │              └───────────────────┴────────────────┤
//	   └──────────────────────────────────┘                ▼
//	                                     succeeded | failed | cancelled
//
// Nothing leaves a terminal state, but for a retry somebody asks for.
//
// # Attempts and cursors
//
// Every task has one ordered event log. A [Cursor] is (attempt, number); within
// an attempt the numbers are 1, 2, 3 … without a hole. Live events go out
// before they are stored, so an attempt that died with its node may have shown
// numbers the store never heard of. Such an attempt is never continued:
// whatever is said after its death is numbered under the next attempt
// ([Task.Lost]), and so no cursor that anybody has seen is used again.
//
// An attempt is counted when its start is stored. Attempts that must not cost
// the task anything (a drained node handed it back, somebody asked for a retry)
// are Forgiven: the attempt's number stays used, the budget does not shrink.
//
// # Decisions are steps
//
// A decision returns a [Step]: the row as it shall be, the guard that must
// still hold of the row as it is, and the events to append in the same
// transaction. The caller stores it, and only then believes and acts.
package task
