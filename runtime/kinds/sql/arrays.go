package sql

import (
	"bytes"
	"encoding/json"
)

// appendArray adds an array of PostgreSQL, such as {{1,NULL},{"a b",3}}, as JSON
// lists; false if it is not written as expected.
func appendArray(b []byte, of uint32, text []byte) ([]byte, bool) {
	if len(text) > 0 && text[0] == '[' { // [0:2]={…}: its indexes do not begin at 1
		_, after, ok := bytes.Cut(text, []byte("="))
		if !ok {
			return b, false
		}
		text = after
	}
	r := arrayReader{text: text, of: of}
	b, ok := r.list(b, 0)
	return b, ok && len(r.text) == 0
}

type arrayReader struct {
	text []byte // what is left
	of   uint32
}

// maxDimensions is as many as PostgreSQL's arrays may have.
const maxDimensions = 6

func (r *arrayReader) list(b []byte, depth int) ([]byte, bool) {
	if !r.take('{') || depth == maxDimensions {
		return b, false
	}
	b = append(b, '[')
	if r.take('}') {
		return append(b, ']'), true
	}
	for {
		var ok bool
		if len(r.text) > 0 && r.text[0] == '{' {
			b, ok = r.list(b, depth+1)
		} else {
			b, ok = r.element(b)
		}
		switch {
		case !ok:
			return b, false
		case r.take('}'):
			return append(b, ']'), true
		case !r.take(','):
			return b, false
		}
		b = append(b, ',')
	}
}

func (r *arrayReader) take(c byte) bool {
	if len(r.text) == 0 || r.text[0] != c {
		return false
	}
	r.text = r.text[1:]
	return true
}

func (r *arrayReader) element(b []byte) ([]byte, bool) {
	if r.take('"') {
		value := []byte{}
		for i := 0; i < len(r.text); i++ {
			switch c := r.text[i]; {
			case c == '\\' && i+1 < len(r.text):
				i++
				value = append(value, r.text[i])
			case c == '"':
				r.text = r.text[i+1:]
				return appendValue(b, r.of, value), true
			default:
				value = append(value, c)
			}
		}
		return b, false
	}
	end := bytes.IndexAny(r.text, ",}")
	if end < 1 {
		return b, false
	}
	value := r.text[:end]
	r.text = r.text[end:]
	if string(value) == "NULL" {
		value = nil
	}
	return appendValue(b, r.of, value), true
}

// arrayLiteral writes a JSON list as an array of PostgreSQL.
func arrayLiteral(raw json.RawMessage, of uint32) ([]byte, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	b := []byte{'{'}
	for i, item := range items {
		if i > 0 {
			b = append(b, ',')
		}
		if item[0] == '[' {
			inner, err := arrayLiteral(item, of)
			if err != nil {
				return nil, err
			}
			b = append(b, inner...)
			continue
		}
		value, err := encodeArgument(item, of)
		if err != nil {
			return nil, err
		}
		if value == nil {
			b = append(b, "NULL"...)
			continue
		}
		b = append(b, '"')
		for _, c := range value {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
		b = append(b, '"')
	}
	return append(b, '}'), nil
}
