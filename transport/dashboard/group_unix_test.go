//go:build unix

package dashboard_test

import (
	"os/exec"
	"syscall"
)

// ownGroup has the whole browser end with its first process: the others would
// keep the pipes and the profile.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
