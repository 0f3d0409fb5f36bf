//go:build unix && !linux

package exec

import (
	"os"
	"syscall"
)

// dieWithParent cannot be had here: a command outlives a node that is killed.
func dieWithParent(*syscall.SysProcAttr) {}

// awaitEnd cannot tell, portably.
func awaitEnd(*os.Process) bool { return false }
