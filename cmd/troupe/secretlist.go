package main

import (
	"fmt"
	"strings"

	"github.com/troupe-run/troupe/runtime/task"
)

// spaced are the lists with spaces between their values, which hold commas.
var spaced = []string{"sql-source", "llm-provider", "llm-key"}

// spacedFlag joins repeated values by spaces.
type spacedFlag string

func (l *spacedFlag) String() string { return string(*l) }
func (l *spacedFlag) Type() string   { return "string" }
func (l *spacedFlag) Set(v string) error {
	*l = spacedFlag(strings.TrimSpace(string(*l) + " " + v))
	return nil
}

// parseNamed reads name=value, with spaces between. A value that begins with
// file: stands in that file. No error repeats a value, which may be a secret.
func parseNamed(s string) (map[string]string, error) {
	all := map[string]string{}
	for i, part := range strings.Fields(s) {
		name, value, ok := strings.Cut(part, "=")
		if !ok || !task.ValidName(name) || value == "" {
			return nil, fmt.Errorf("number %d: want name=value", i+1)
		}
		if _, twice := all[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		if path, inFile := strings.CutPrefix(value, "file:"); inFile {
			var err error
			if value, err = readSecret(path); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		all[name] = value
	}
	return all, nil
}

// maskedList shows the names in a list of secrets.
func maskedList(s string) string {
	parts := strings.Fields(s)
	for i, part := range parts {
		name, value, _ := strings.Cut(part, "=")
		if parts[i] = name + "=***"; strings.HasPrefix(value, "file:") {
			parts[i] = part
		}
	}
	return strings.Join(parts, " ")
}
