package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/troupe-run/troupe/runtime/task"
)

const maxArguments = 4096

type payload struct {
	Command []string          `json:"command"`
	Dir     string            `json:"dir"`
	Env     map[string]string `json:"env"`
	Stdin   string            `json:"stdin"`
}

func parse(raw json.RawMessage) (payload, error) {
	var p payload
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return p, invalid("want an object, got %s", wrong.Value)
		}
		return p, invalid("%s: cannot be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return p, invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return p, p.check()
}

func (p payload) check() error {
	switch {
	case len(p.Command) == 0 || p.Command[0] == "":
		return invalid(`command: want a program and its arguments, such as ["ls", "-l"]`)
	case len(p.Command) > maxArguments:
		return invalid("command: want at most %d arguments", maxArguments)
	case p.Dir != "" && !filepath.IsAbs(p.Dir):
		return invalid("dir: want an absolute path")
	case strings.ContainsRune(p.Dir, 0):
		return invalid("dir: has a NUL character")
	}
	for i, arg := range p.Command {
		if strings.ContainsRune(arg, 0) {
			return invalid("command[%d]: has a NUL character", i)
		}
	}
	for name, value := range p.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return invalid("env: %q cannot be a name", name)
		}
		if strings.ContainsRune(value, 0) {
			return invalid("env.%s: has a NUL character", name)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf(format, args...)}
}
