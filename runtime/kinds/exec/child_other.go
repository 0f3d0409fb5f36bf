//go:build !linux

package exec

import (
	"errors"
	"os"
)

type request struct {
	Program   string
	Argv, Env []string
	Limits    Limits
}

// startLimited cannot be had here; [ParseLimits] says so first.
func startLimited([]string, request, *os.ProcAttr) (*group, error) { return nil, errors.ErrUnsupported }

func becomeCommand() error { return errors.ErrUnsupported }

// hide has nothing to do where there is no /proc.
func hide() {}

// keepFiles cannot be had in one way everywhere.
func keepFiles() {}
