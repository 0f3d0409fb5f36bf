package exec

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Child is the whole of the process that [Config].Helper starts, and returns only
// if it could not do its work. Without arguments it becomes a command, within its
// limits; with "watch" it waits until the node is gone and ends what that left.
func Child(args []string) error {
	switch {
	case len(args) == 0:
		return becomeCommand()
	case len(args) == 1 && args[0] == watching:
		signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // those may be meant for the node, and hit all
		return watch(os.Stdin)
	}
	return errNotForPeople
}

const watching = "watch"

var errNotForPeople = errors.New("only a node starts this")
