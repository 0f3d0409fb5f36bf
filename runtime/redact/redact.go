// Package redact puts "[redacted]" in place of values that paths name, in JSON that
// otherwise stays as it is written: the order of members, numbers, and space.
//
// A path is one of RFC 9535 (JSONPath), made of these: $ is the whole, .name or
// ['name'] a member, .* or [*] every member or element, and ..name a member at any
// depth, as in $.password, $..token, $.headers.authorization, $.items[*].secret.
// Names are compared without regard to case, unlike there: a secret is one however its
// name is written.
//
// It computes and does nothing else; a [Paths] may be used by many goroutines.
package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// Redacted is what stands in the place of a value.
const Redacted = `"[redacted]"`

// Bounds of what is looked at.
const (
	maxSteps = 256  // of all paths together
	maxDepth = 1000 // what is nested deeper is redacted whole
)

// ErrPath says that a text is no path we know.
var ErrPath = errors.New("no path such as $.password, $..token or $.items[*].secret")

// step is one step of a path.
type step struct {
	name []byte // of the member; with any, it does not matter
	any  bool
	deep bool // at any depth
	last bool
}

// Paths are paths that were understood.
type Paths struct {
	steps []step // of one path after the other
	begin marks
}

// marks are steps that may come next, by their places in Paths.
type marks [maxSteps / 64]uint64

func (m *marks) set(i int) { m[i/64] |= 1 << (i % 64) }

// New understands paths, or says which of them it does not.
func New(paths ...string) (*Paths, error) {
	p := &Paths{}
	for _, path := range paths {
		steps, err := parse(path)
		if err != nil {
			return nil, err
		}
		if len(p.steps)+len(steps) > maxSteps {
			return nil, fmt.Errorf("the paths have more than %d steps in all", maxSteps)
		}
		p.begin.set(len(p.steps))
		p.steps = append(p.steps, steps...)
	}
	return p, nil
}

// parse takes a path apart. It has at least one step: what is asked for is not all.
func parse(path string) ([]step, error) {
	refuse := func() ([]step, error) { return nil, fmt.Errorf("path %q: %w", path, ErrPath) }
	rest, found := strings.CutPrefix(path, "$")
	if !found {
		return refuse()
	}
	var steps []step
	for rest != "" {
		var s step
		var name string
		var ok bool
		if rest, s.deep = strings.CutPrefix(rest, ".."); s.deep && !strings.HasPrefix(rest, "[") {
			rest = "." + rest
		}
		if name, s.any, rest, ok = parseStep(rest); !ok {
			return refuse()
		}
		s.name = []byte(name)
		steps = append(steps, s)
	}
	if len(steps) == 0 {
		return refuse()
	}
	steps[len(steps)-1].last = true
	return steps, nil
}

func parseStep(path string) (name string, any bool, rest string, ok bool) {
	switch {
	case strings.HasPrefix(path, "[*]"):
		return "", true, path[len("[*]"):], true
	case strings.HasPrefix(path, "['"):
		name, rest, ok = strings.Cut(path[len("['"):], "']")
		return name, false, rest, ok && !strings.ContainsAny(name, `'\`)
	case strings.HasPrefix(path, "."):
		end := strings.IndexAny(path[1:], ".[")
		if end < 0 {
			end = len(path) - 1
		}
		name, rest = path[1:1+end], path[1+end:]
		return name, name == "*", rest, name == "*" || name != "" && !strings.ContainsAny(name, " \t]*'\"\\,$@?()")
	}
	return "", false, "", false
}

// JSON gives raw without what the paths name: raw itself where they name nothing in
// it, or where it is no JSON.
func (p *Paths) JSON(raw json.RawMessage) json.RawMessage {
	if len(p.steps) == 0 || !json.Valid(raw) {
		return raw
	}
	s := scan{paths: p, text: raw}
	s.value(0, p.begin, 0)
	if s.out == nil {
		return raw
	}
	return append(s.out, raw[s.copied:]...)
}

// scan goes once through valid JSON.
type scan struct {
	paths  *Paths
	text   []byte
	out    []byte
	copied int // so much of text is in out
}

// value looks through the value at a place, given which steps may come next, and says
// where it ends.
func (s *scan) value(at int, next marks, depth int) int {
	at = s.space(at)
	if depth > maxDepth {
		end := s.skip(at)
		s.redact(at, end)
		return end
	}
	if next == (marks{}) {
		return s.skip(at)
	}
	switch s.text[at] {
	case '{':
		for at = s.space(at + 1); s.text[at] != '}'; at = s.behindComma(at) {
			name := at
			at = s.quoted(at)
			at = s.child(s.space(at)+1, next, depth, s.text[name:at])
		}
		return at + 1
	case '[':
		for at = s.space(at + 1); s.text[at] != ']'; at = s.behindComma(at) {
			at = s.child(at, next, depth, nil)
		}
		return at + 1
	}
	return s.skip(at)
}

// child looks at a member, or without a name at an element.
func (s *scan) child(at int, next marks, depth int, name []byte) int {
	after, named := s.paths.take(next, name)
	if !named {
		return s.value(at, after, depth+1)
	}
	at = s.space(at)
	end := s.skip(at)
	s.redact(at, end)
	return end
}

// take says which steps may come next behind a member or an element, or that it is
// what a path names.
func (p *Paths) take(next marks, quoted []byte) (after marks, named bool) {
	var name []byte
	if quoted != nil {
		name = unquoted(quoted)
	}
	for word, bit := range next {
		for ; bit != 0; bit &= bit - 1 {
			i := word*64 + bits.TrailingZeros64(bit)
			step := &p.steps[i]
			if step.deep {
				after.set(i)
			}
			switch {
			case !step.any && (quoted == nil || !bytes.EqualFold(name, step.name)):
			case step.last:
				return after, true
			default:
				after.set(i + 1)
			}
		}
	}
	return after, false
}

// unquoted reads a name, which may be spelt with escapes.
func unquoted(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var name string
	_ = json.Unmarshal(quoted, &name) // it is valid
	return []byte(name)
}

// redact leaves out a value.
func (s *scan) redact(from, to int) {
	if s.out == nil {
		s.out = make([]byte, 0, len(s.text)+len(Redacted))
	}
	s.out = append(append(s.out, s.text[s.copied:from]...), Redacted...)
	s.copied = to
}

// skip says where the value at a place ends.
func (s *scan) skip(at int) int {
	switch s.text[at] {
	case '"':
		return s.quoted(at)
	case '{', '[':
		for open := 0; ; {
			switch s.text[at] {
			case '"':
				at = s.quoted(at)
				continue
			case '{', '[':
				open++
			case '}', ']':
				open--
			}
			if at++; open == 0 {
				return at
			}
		}
	}
	if n := bytes.IndexAny(s.text[at:], " \t\r\n,]}"); n >= 0 {
		return at + n
	}
	return len(s.text)
}

func (s *scan) quoted(at int) int {
	for at++; s.text[at] != '"'; at++ {
		if s.text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

func (s *scan) space(at int) int {
	for s.text[at] == ' ' || s.text[at] == '\t' || s.text[at] == '\r' || s.text[at] == '\n' {
		at++
	}
	return at
}

// behindComma is where the next member or element begins, or the end is.
func (s *scan) behindComma(at int) int {
	at = s.space(at)
	if s.text[at] == ',' {
		at = s.space(at + 1)
	}
	return at
}
