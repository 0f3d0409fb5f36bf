package container

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// Config says where containers run, and which. A zero field is its default.
type Config struct {
	// Engine is the address of a Docker engine, unix:///var/run/docker.sock or
	// tcp://host:port. Whoever reaches an engine rules its machine.
	Engine string

	Images Images // that may be run; the zero value is none
	Pull   Pull   // [PullMissing]
	Limits Limits // what a task may ask for

	// Bridge lets tasks ask for the engine's bridge network, and so reach whatever
	// the engine's machine reaches.
	Bridge bool

	// Grace is how long a container may take to end when its attempt is cancelled
	// or times out, before it is killed; 5 seconds. The runtime waits 10 for a
	// handler.
	Grace time.Duration

	// Patience is how long the engine may be away while a container runs; 1 minute.
	Patience time.Duration

	Log *slog.Logger
}

// CheckEngine says what is wrong with what was said of an engine; nil if none was
// named.
func (c Config) CheckEngine() error {
	if c.Engine == "" {
		return nil
	}
	k, err := newKind(nil, c)
	if err != nil {
		return err
	}
	return k.engine.Close()
}

// Pull says when an image is asked for at its registry.
type Pull string

// The values of a Pull.
const (
	PullNever   Pull = "never"
	PullMissing Pull = "missing"
	PullAlways  Pull = "always"
)

// ParsePull reads one of them.
func ParsePull(s string) (Pull, error) {
	switch p := Pull(s); p {
	case PullNever, PullMissing, PullAlways:
		return p, nil
	default:
		return "", errors.New("must be never, missing or always")
	}
}

// Limits are the most that a container may have.
type Limits struct {
	Memory    int64         // bytes; 2 GiB. A task that says nothing gets 512 MiB
	CPU       task.Quantity // 2. A task that says nothing gets 1
	Processes int64         // and threads; 256
	Temp      int64         // bytes of /tmp, which count as memory; 64 MiB
}

const (
	defaultMemory = 512 << 20
	defaultCPU    = task.Quantity(1000)
	leastMemory   = 6 << 20 // the engine takes no less
	leastCPU      = task.Quantity(10)
)

// ParseLimits reads a list such as memory=4Gi, cpu=2, processes=256, tmp=64Mi.
func ParseLimits(list []string) (l Limits, err error) {
	for _, entry := range list {
		name, text, _ := strings.Cut(entry, "=")
		switch name {
		case "memory":
			l.Memory, err = parseBytes(text, leastMemory)
		case "tmp":
			l.Temp, err = parseBytes(text, 1<<10)
		case "cpu":
			if l.CPU, err = task.ParseQuantity(text); err == nil && l.CPU < leastCPU {
				err = fmt.Errorf("want at least %s", leastCPU)
			}
		case "processes":
			if l.Processes, err = strconv.ParseInt(text, 10, 32); err != nil || l.Processes < 1 {
				err = errors.New("want a number from 1 on")
			}
		default:
			err = errors.New("want memory=4Gi, cpu=2, processes=256 or tmp=64Mi")
		}
		if err != nil {
			return Limits{}, fmt.Errorf("%q: %w", entry, err)
		}
	}
	return l, nil
}

func parseBytes(s string, least int64) (int64, error) {
	q, err := task.ParseQuantity(s)
	if err != nil {
		return 0, err
	}
	if n := bytesOf(q); n >= least {
		return n, nil
	}
	return 0, fmt.Errorf("want at least %d bytes", least)
}

// bytesOf is a quantity in whole bytes.
func bytesOf(q task.Quantity) int64 { return int64(q) / 1000 }

func (c Config) withDefaults() Config {
	c.Pull = cmp.Or(c.Pull, PullMissing)
	c.Limits.Memory = cmp.Or(c.Limits.Memory, 2<<30)
	c.Limits.CPU = cmp.Or(c.Limits.CPU, 2000)
	c.Limits.Processes = cmp.Or(c.Limits.Processes, 256)
	c.Limits.Temp = cmp.Or(c.Limits.Temp, 64<<20)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
	c.Patience = cmp.Or(c.Patience, time.Minute)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
