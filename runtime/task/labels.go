package task

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func validLabel(key string) bool {
	return key != "" && len(key) <= maxName && ValidText(key) && !strings.ContainsAny(key, "=,")
}

// CheckNodeLabels says what is wrong with the labels of a node.
func CheckNodeLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels of a node, more than the %d allowed: %w", len(labels), maxLabels, ErrInvalid)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !validLabel(key) {
			return fmt.Errorf("label %q of a node: its key must be 1 to %d bytes of printable UTF-8 without = and ,: %w", clip(key, maxName), maxName, ErrInvalid)
		}
		if v := labels[key]; v == "" || len(v) > maxLabel || !ValidText(v) {
			return fmt.Errorf("label %s of a node: its value must be 1 to %d bytes of printable UTF-8: %w", key, maxLabel, ErrInvalid)
		}
	}
	return nil
}
