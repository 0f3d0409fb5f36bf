//go:build !unix

package dashboard_test

import "os/exec"

func ownGroup(*exec.Cmd) {}
