package container

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

const maxArguments = 4096

type payload struct {
	Image   string            `json:"image"`
	Command []string          `json:"command"`
	Env     map[string]string `json:"env"`
	Workdir string            `json:"workdir"`
	User    string            `json:"user"`
	Memory  task.Quantity     `json:"memory"`
	CPU     task.Quantity     `json:"cpu"`
	Network string            `json:"network"`
	Timeout string            `json:"timeout"`
}

// spec is a payload that was found to be right.
type spec struct {
	image         image
	command, env  []string
	workdir, user string
	memory        int64
	cpu           task.Quantity
	network       string
	timeout       time.Duration // 0: none of its own
}

func (c Config) parse(raw json.RawMessage) (spec, error) {
	var p payload
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return spec{}, invalid("want an object, got %s", wrong.Value)
		}
		return spec{}, invalid("%s: cannot be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return spec{}, invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return c.check(p)
}

// userName is a user and a group of the image, by name or number.
var userName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31}(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31})?$`)

func (c Config) check(p payload) (s spec, err error) {
	if s.image, err = parseImage(p.Image); err != nil {
		return s, invalid(`image: want one such as "alpine:3" or "ghcr.io/acme/report@sha256:…"`)
	}
	if !c.Images.allow(s.image) {
		return s, failure("image_not_allowed", false, nil, "tasks may not run the image %s on this node", s.image)
	}
	s.command, s.workdir, s.user = p.Command, p.Workdir, p.User
	switch {
	case len(p.Command) > maxArguments:
		return s, invalid("command: want at most %d arguments", maxArguments)
	case slices.ContainsFunc(p.Command, hasNUL):
		return s, invalid("command: has a NUL character")
	case p.Workdir != "" && (!path.IsAbs(p.Workdir) || hasNUL(p.Workdir)):
		return s, invalid("workdir: want an absolute path")
	case p.User != "" && !userName.MatchString(p.User):
		return s, invalid(`user: want a name or number, such as "1000" or "app:app"`)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return s, invalid("env: %q cannot be a name", name)
		}
		if hasNUL(p.Env[name]) {
			return s, invalid("env.%s: has a NUL character", name)
		}
		s.env = append(s.env, name+"="+p.Env[name])
	}
	if err := c.checkShare(p, &s); err != nil {
		return s, err
	}
	if s.network = cmp.Or(p.Network, networkNone); s.network != networkNone && s.network != networkBridge {
		return s, invalid("network: want none or bridge")
	}
	if s.network == networkBridge && !c.Bridge {
		return s, invalid("network: containers have none on this node")
	}
	if p.Timeout != "" {
		if s.timeout, err = time.ParseDuration(p.Timeout); err != nil || s.timeout <= 0 {
			return s, invalid(`timeout: want a duration such as "10m"`)
		}
	}
	return s, nil
}

const (
	networkNone   = "none"
	networkBridge = "bridge"
)

// checkShare is about what the container may have of the machine.
func (c Config) checkShare(p payload, s *spec) error {
	s.memory, s.cpu = min(defaultMemory, c.Limits.Memory), min(defaultCPU, c.Limits.CPU)
	if p.Memory != 0 {
		s.memory = bytesOf(p.Memory)
	}
	if p.CPU != 0 {
		s.cpu = p.CPU
	}
	if s.memory < leastMemory || s.memory > c.Limits.Memory {
		return invalid("memory: want from %d to %d bytes", int64(leastMemory), c.Limits.Memory)
	}
	if s.cpu < leastCPU || s.cpu > c.Limits.CPU {
		return invalid("cpu: want from %s to %s", leastCPU, c.Limits.CPU)
	}
	return nil
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }

func invalid(format string, args ...any) error {
	return &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf(format, args...)}
}
