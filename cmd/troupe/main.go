// Command troupe runs a node and talks to one. Every command lives in a file of
// its own; serve.go is the wiring of a node, config.go the only reader of flags
// and environment.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// version is set by the linker.
var version = ""

func main() {
	os.Exit(run(context.Background(), os.Args[1:], stdio()))
}

// terminal is where a command reads and writes, and whether a person is there.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	inTTY    bool
	outTTY   bool
	errTTY   bool
	width    func() int
	env      func(string) string
	environ  []string
}

func stdio() terminal {
	is := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	return terminal{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		inTTY: is(os.Stdin), outTTY: is(os.Stdout), errTTY: is(os.Stderr),
		width: func() int {
			if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 20 {
				return w
			}
			return 80
		},
		env: os.Getenv, environ: os.Environ(),
	}
}

// Exit statuses of every command.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// exitError ends the command with a status, and a message unless it is empty.
type exitError struct {
	status  int
	message string
}

func (e *exitError) Error() string { return e.message }

// run is the whole program: what main does, for tests too.
func run(ctx context.Context, args []string, t terminal) int {
	root := newRoot(t) //nolint:contextcheck // cobra hands each command its context
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		if exit.message != "" {
			fmt.Fprintln(t.err, "troupe: "+exit.message)
		}
		return exit.status
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	fmt.Fprintln(t.err, "troupe: "+describe(err))
	return exitFailed
}

// usage marks an error as the caller's wrong use of the command.
func usage(format string, args ...any) error {
	return &exitError{status: exitUsage, message: fmt.Sprintf(format, args...)}
}

func newRoot(t terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "troupe",
		Short: "Run durable tasks and watch them live",
		Long: `Run durable tasks and watch them live.

  troupe serve                                     start a node in ./troupe-data
  troupe run -- make test                          run a command as a task and follow it
  troupe submit demo.sleep '{"duration":"5s"}' --follow
  troupe watch                                     follow everything that happens`,
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("there is no command %q; see: troupe --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.SetVersionTemplate("troupe {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%s; see: %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		serveCommand(t), migrateCommand(t), clusterCommand(t),
		submitCommand(t), runCommand(t), watchCommand(t), batchCommand(t),
		schedulesCommand(t), execChildCommand(), keysCommand(t), namespacesCommand(t), auditCommand(t),
		lsCommand(t), showCommand(t), explainCommand(t), signalCommand(t), cancelCommand(t), retryCommand(t), rmCommand(t),
		queuesCommand(t), kindsCommand(t), workersCommand(t), nodesCommand(t), resourcesCommand(t), healthCommand(t),
	)
	return root
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
}

// exactly refuses another number of arguments as wrong usage.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("want %s; see: %s --help", what, cmd.CommandPath())
		}
		return nil
	}
}

func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usage("want %s; see: %s --help", what, cmd.CommandPath())
		}
		return nil
	}
}
