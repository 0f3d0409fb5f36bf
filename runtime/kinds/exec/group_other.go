//go:build !unix

package exec

import (
	"errors"
	"io"
	"os"
)

// group cannot be had on a system without process groups: a cancelled command
// would leave its children behind.
type group struct{}

func start(string, []string, *os.ProcAttr) (*group, error) {
	return nil, errors.New("commands run on Linux, macOS and other Unix systems only")
}

func (*group) watched(*warden)                 {}
func (*group) wait() (*os.ProcessState, error) { return nil, errors.ErrUnsupported }
func (*group) terminate()                      {}
func (*group) kill()                           {}

func ended(*os.ProcessState) (status int, signal string) { return 0, "" }

var scarce []error

// warden has nothing to watch.
type warden struct{ helper []string }

func (*warden) ready()     {}
func (*warden) add(int)    {}
func (*warden) remove(int) {}

func watch(io.Reader) error { return errors.ErrUnsupported }
