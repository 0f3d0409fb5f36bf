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
}

const defaultGrace = 5 * time.Second
