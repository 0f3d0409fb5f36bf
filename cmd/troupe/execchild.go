package main

import (
	"os"
	goruntime "runtime"

	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/runtime/kinds/exec"
)

// execChild is the name under which a node starts itself anew, for the kind exec.
const execChild = "exec-child"

func execChildCommand() *cobra.Command {
	return &cobra.Command{
		Use: execChild, Hidden: true, Short: "What a node starts for its commands",
		RunE: func(_ *cobra.Command, args []string) error { return exec.Child(args) },
	}
}

// execHelper is the command line of that, or nil where this program cannot be
// found. On Linux an upgrade that replaces its file does not matter.
func execHelper() []string {
	if goruntime.GOOS == "linux" {
		return []string{"/proc/self/exe", execChild}
	}
	program, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{program, execChild}
}
