package sql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

type payload struct {
	Source  string          `json:"source"`
	Query   string          `json:"query"`
	Args    json.RawMessage `json:"args"`
	Timeout string          `json:"timeout"`
	MaxRows *int            `json:"max_rows"`
	Write   bool            `json:"write"`
}

// query is a payload that was found to be right.
type query struct {
	source  string
	text    string
	args    []json.RawMessage          // or
	named   map[string]json.RawMessage // nil unless the arguments have names
	timeout time.Duration
	maxRows int
}

func (c Config) parse(raw json.RawMessage) (query, error) {
	var p payload
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return query{}, invalid("want an object, got %s", wrong.Value)
		}
		return query{}, invalid("%s: cannot be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return query{}, invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return c.check(p)
}

func (c Config) check(p payload) (q query, err error) {
	switch {
	case p.Source == "":
		return q, invalid("source: want the name of a data source")
	case strings.TrimSpace(p.Query) == "":
		return q, invalid("query: want a statement")
	case strings.ContainsRune(p.Query, 0):
		return q, invalid("query: has a NUL character")
	case p.Write:
		return q, invalid("write: this kind only reads")
	}
	q.source, q.text = p.Source, p.Query
	q.timeout = min(defaultTimeout, c.MaxTimeout)
	if p.Timeout != "" {
		q.timeout, err = time.ParseDuration(p.Timeout)
		if err != nil || q.timeout < time.Millisecond || q.timeout > c.MaxTimeout {
			return q, invalid(`timeout: want a duration such as "1.5s", at most %s`, c.MaxTimeout)
		}
	}
	q.maxRows = min(defaultRows, c.MaxRows)
	if p.MaxRows != nil {
		if q.maxRows = *p.MaxRows; q.maxRows < 1 || q.maxRows > c.MaxRows {
			return q, invalid("max_rows: want 1 to %d", c.MaxRows)
		}
	}
	q.args, q.named, err = arguments(p.Args)
	return q, err
}

// arguments are a list, or an object if they have names.
func arguments(raw json.RawMessage) (list []json.RawMessage, named map[string]json.RawMessage, err error) {
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case raw[0] == '[':
		err = json.Unmarshal(raw, &list)
	case raw[0] == '{':
		err = json.Unmarshal(raw, &named)
	default:
		err = errors.New("want a list, or an object for arguments with names")
	}
	if err != nil {
		return nil, nil, invalid("args: %v", err)
	}
	if n := len(list) + len(named); n > maxArguments {
		return nil, nil, invalid("args: want at most %d", maxArguments)
	}
	for name := range named {
		if !isArgumentName(name) {
			return nil, nil, invalid("args: %.50q cannot be the name of one", name)
		}
	}
	return list, named, nil
}

// isArgumentName keeps to names that every database takes.
func isArgumentName(s string) bool {
	for i, r := range s {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

func invalid(format string, args ...any) error {
	return &task.Failure{Code: task.CodeInvalidPayload, Message: fmt.Sprintf(format, args...)}
}
