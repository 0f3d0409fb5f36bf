package exec

import "time"

// Config says who may run what, and how.
type Config struct {
	// Allow is whether there is this kind at all. Whoever may submit tasks to a
	// node that allows it may do all that the node's user may.
	Allow bool

	// InheritEnv gives commands the whole environment of the node. Right where
	// the node was started by the person whose commands it runs; elsewhere it
	// shows the node's secrets to its users.
	InheritEnv bool

	// Grace is how long a command may take to end when its attempt is cancelled
	// or times out, before it is killed; 5 seconds. The runtime waits 10 for a
	// handler, then fails the attempt while its command may still be there.
	Grace time.Duration

	// Programs are those that may be run, and Limits what each process of a
	// command may have.
	Programs Programs
	Limits   Limits

	// Helper is the command line of a program that calls [Child] with what stands
	// behind it, and does nothing else. Limits need it. With it commands end with
	// all that they have started when the node is killed; without, the first
	// process of each does, and on Linux only.
	Helper []string
}

const defaultGrace = 5 * time.Second
