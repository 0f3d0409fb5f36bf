// Package exec is the kind "exec": it runs a command of the node's machine.
//
// Payload; there is no shell, so nothing in an argument is special:
//
//	{
//	  "command": ["go", "test", "./..."],   program and arguments
//	  "dir":     "/src/troupe",             absolute; default: where the node runs
//	  "env":     {"CGO_ENABLED": "0"},      on top of the environment below
//	  "stdin":   "text"                     default: nothing to read
//	}
//
// Standard output becomes `output` events {"text": line}, standard error `log`
// events at level info with the fields {"stream":"stderr"}; see package lines. The
// text of all output events in a row is exactly what the command wrote; between
// the two streams there is no order. What is not UTF-8 comes as {"base64"}.
//
// Result of a command that ends with status 0:
//
//	{"exit_status": 0, "duration": "1.234s"}
//
// and "truncated": true when the task's log had no room for all of its output.
// Failures, all but the last with {"exit_status": N} as details:
//
//	exit_status       ended with another status; may be retried
//	signal            ended by a signal, {"signal": "killed", "exit_status": 137}; may be retried
//	exec_not_found    there is no such program, status 127
//	exec_not_allowed  [Config].Programs does not have it, status 126
//	exec_failed       it could not be started, status 126; may be retried if the machine was short of something
//	invalid_payload   the payload is wrong
//
// # What an attempt leaves behind
//
// Nothing, as long as the command means no harm. It runs in a session and
// process group of its own, without a terminal. When the attempt is cancelled or
// times out, the group gets SIGTERM, and SIGKILL after [Config].Grace. Whatever
// is left of the group when the command ends is killed with it. When the node dies,
// even by SIGKILL, the kernel (on Linux) kills the command at once, and the warden
// of warden.go the rest of its group, if there is a [Config].Helper.
//
// One thing gets away: a process that leaves the session on purpose (a daemon).
//
// # What a command may have
//
// [Config].Programs and [Config].Limits make it less than what the node's user may
// do. Limits are set by a process that then becomes the command, see
// child_linux.go. Of the node a command inherits no open file but its standard
// streams, and where the node does not share its environment it is kept from
// reading the node's environment and memory in /proc, unless both are root's.
//
// # Environment
//
// The command gets PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_*, TZ and TMPDIR of
// the node and nothing else of it, for the rest may hold the node's secrets;
// unless [Config].InheritEnv says that the node and the command are the same
// person's. The program is looked for in the PATH that the command gets.
//
// Whoever may submit this kind may do all that the node's user may. It is not
// registered unless [Config].Allow is set.
package exec
