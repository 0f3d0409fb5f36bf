package task

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Affinity says on which nodes a task runs, by their labels.
type Affinity struct {
	Require Selector // no other node holds or starts it
	Prefer  Selector // others leave it alone for a while
}

// Selector asks something of a node's labels: for each of its keys, one of some
// values. It is its own canonical text, so those that ask for the same are equal;
// the empty one asks for nothing. [Select] makes one.
type Selector string

// Bounds of a selector. Its text is part of a lane, which is indexed.
const (
	maxTerms    = 16
	maxSelector = 512
)

// Select makes a selector of the values that each key may have.
func Select(terms map[string][]string) Selector {
	if len(terms) == 0 {
		return ""
	}
	sorted := make(map[string][]string, len(terms))
	for key, values := range terms {
		sorted[key] = slices.Compact(slices.Sorted(slices.Values(values)))
	}
	return Selector(mustJSON(sorted)) // which has keys in order
}

// Terms is what the selector was made of. One that cannot be read asks for what no
// node has.
func (s Selector) Terms() map[string][]string {
	if s == "" {
		return nil
	}
	var terms map[string][]string
	if err := json.Unmarshal([]byte(s), &terms); err != nil {
		return map[string][]string{"": nil}
	}
	return terms
}

// Matches says whether a node with these labels is what s asks for.
func (s Selector) Matches(labels map[string]string) bool { return Match(s.Terms(), labels) }

// Match says whether labels have for each key one of its values.
func Match(terms map[string][]string, labels map[string]string) bool {
	for key, values := range terms {
		if value, there := labels[key]; !there || !slices.Contains(values, value) {
			return false
		}
	}
	return true
}

// Words says s for people: "gpu=a100, zone=a or b".
func (s Selector) Words() string {
	terms := s.Terms()
	parts := make([]string, 0, len(terms))
	for _, key := range slices.Sorted(maps.Keys(terms)) {
		parts = append(parts, key+"="+strings.Join(terms[key], " or "))
	}
	return strings.Join(parts, ", ")
}

func (a Affinity) check(refuse refusal) Affinity {
	return Affinity{Require: a.Require.check("placement.require", refuse), Prefer: a.Prefer.check("placement.prefer", refuse)}
}

// check says what is wrong with a selector, and gives it in its canonical form.
func (s Selector) check(field string, refuse refusal) Selector {
	if s == "" {
		return s
	}
	terms := s.Terms()
	if len(terms) > maxTerms {
		refuse(field, "names %d labels, more than the %d allowed", len(terms), maxTerms)
		return s
	}
	for _, key := range slices.Sorted(maps.Keys(terms)) {
		if !validLabel(key) {
			refuse(field, "a key must be 1 to %d bytes of printable UTF-8 without = and ,", maxName)
			continue
		}
		at := field + "." + clip(key, maxName)
		if len(terms[key]) == 0 {
			refuse(at, "must name at least one value")
		}
		for _, v := range terms[key] {
			if v == "" || len(v) > maxLabel || !ValidText(v) {
				refuse(at, "a value must be 1 to %d bytes of printable UTF-8", maxLabel)
			}
		}
	}
	if s = Select(terms); len(s) > maxSelector {
		refuse(field, "is %d bytes as JSON, more than the %d allowed", len(s), maxSelector)
	}
	return s
}
