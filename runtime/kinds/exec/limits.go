package exec

import (
	"errors"
	"fmt"
	"math"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Limits are what the kernel lets each process of a command have; 0 is what the
// node itself may have. They are not shared: a command of ten processes may have
// ten times as much, but for Processes.
type Limits struct {
	CPU       time.Duration // of processor time, in whole seconds; then SIGXCPU, a second later SIGKILL
	Memory    uint64        // bytes of address space, of which a program mostly uses less
	Files     uint64        // open at once
	Processes uint64        // and threads of the node's user, the node's own and those of other commands with them
	FileSize  uint64        // bytes of any file it writes
}

// ParseLimits reads a list such as cpu=60s, memory=2Gi, files=256, processes=500,
// file-size=1Gi.
func ParseLimits(list []string) (l Limits, err error) {
	if len(list) > 0 && goruntime.GOOS != "linux" {
		return Limits{}, errors.New("limits are to be had on Linux only")
	}
	for _, entry := range list {
		name, text, _ := strings.Cut(entry, "=")
		switch name {
		case "cpu":
			l.CPU, err = time.ParseDuration(text)
			if err == nil && (l.CPU < time.Second || l.CPU%time.Second != 0) {
				err = errors.New("want whole seconds")
			}
		case "memory":
			l.Memory, err = parseBytes(text)
		case "file-size":
			l.FileSize, err = parseBytes(text)
		case "files":
			l.Files, err = parseCount(text)
		case "processes":
			l.Processes, err = parseCount(text)
			if err == nil && os.Geteuid() == 0 {
				err = errors.New("the kernel does not count those of root: run the node as another user")
			}
		default:
			err = errors.New("want cpu=60s, memory=2Gi, files=256, processes=500 or file-size=1Gi")
		}
		if err != nil {
			return Limits{}, fmt.Errorf("%q: %w", entry, err)
		}
	}
	return l, nil
}

func parseBytes(s string) (uint64, error) {
	q, err := task.ParseQuantity(s)
	if err != nil {
		return 0, err
	}
	if q <= 0 || q%1000 != 0 {
		return 0, errors.New("want a number of bytes, such as 512Mi")
	}
	return uint64(q) / 1000, nil
}

func parseCount(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("want a number from 1 to %d", uint32(math.MaxUint32))
	}
	return n, nil
}
