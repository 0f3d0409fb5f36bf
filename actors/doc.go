// Package actors does the work of a node. Package runtime starts it and speaks
// for it; nobody else imports it. What a task may do is decided in package task
// and what runs next in package schedule: the actors carry messages to these
// rules and results from them. An actor's step is always: decide, store,
// believe, act.
//
//	node ─┬─ holder ──── task …       one per task this node holds, but those that only wait
//	      ├─ workers ─── worker …     one per attempt under way
//	      ├─ remotes ─── remote …     one per worker elsewhere that is connected
//	      ├─ sessions ── session …    one per watcher
//	      ├─ feeds                    who follows which batch, queue or filter
//	      ├─ peers ───── farWatcher … the other nodes; one per task here that one there follows
//	      ├─ journal                  the one that writes
//	      ├─ scheduler                ready queues and resource tokens
//	      ├─ claimer                  what this node holds
//	      ├─ schedules                what is submitted by the clock
//	      └─ sweeper                  what may be forgotten
//
// # The way of a task
//
//	caller ─admit─► claimer ─submit─► journal ═══ store
//	                                     │ hold
//	                                  holder ──readies──► scheduler
//	                                     ▲◄─────starts───────┘
//	                                gone │ adopt             ▲ release
//	                                     ▼                   │
//	                                    task ────────────────┘
//	                                     │ run     ▲ said, finished
//	                                  workers ─► worker
//
//	                                    task ─write─► journal ═══ store
//	                                     │ frames
//	                                  session ─► outbox
//
// # What happens after a crash
//
// A panic is logged with its stack, counted, and costs the actor that panicked
// and nobody else:
//
//	actor      then                     rebuilt from
//	journal    restarted                its ledger, which outlives the instance
//	scheduler  restarted                the tasks, which are asked (census)
//	claimer    restarted                the scheduler's count, the store
//	task       restarted                its row; a running attempt is over, counted
//	worker     restarted                nothing; its attempt fails (worker_crashed)
//	session    restarted                nothing; the watcher is told to come back
//	remote     restarted                nothing; its attempts fail, the worker registers anew
//	schedules  restarted                nothing; it looks
//	sweeper    restarted                nothing
//	holder, workers, remotes, sessions, feeds, peers
//	           resumed                  their map, which each message leaves whole
//	farWatcher restarted                nothing; it asks the task anew
//
// A panic of a handler is a failed attempt and no crash of anything.
//
// # Workers elsewhere
//
// A worker of another process is an actor from when it registers until it has gone. An
// attempt that goes to it is run as any other, by a worker actor and a goroutine; that
// one's handler is the remote worker's desk, which sends the attempt over the connection
// and does what comes back:
//
//	scheduler ─start(worker)─► task ─run─► workers ─► worker ── desk ═══ connection
//	                                                    ▲                    │
//	                                                    └─ progress, step, succeed, fail
//
// The scheduler has the slots: see package schedule. The roster is what the others read
// of who serves what.
//
// # Goroutines
//
// Messages are handled one at a time, so nothing in an actor is locked. What
// may block runs in [Node.work] and comes back as a message. What actors share
// lies in [Node]: collaborators that never change, and a few counters.
package actors
