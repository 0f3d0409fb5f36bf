package transport

import (
	"bytes"
	"encoding/json"
	"iter"
)

// members yields the members of an object in valid JSON, in order: the key's
// text, and the value without space around it.
func members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for i := space(object, 1); object[i] != '}'; {
			end := valueEnd(object, i)
			key := text(object[i:end])
			i = space(object, space(object, end)+1) // over the colon
			end = valueEnd(object, i)
			if !yield(key, object[i:end]) {
				return
			}
			if i = space(object, end); object[i] == ',' {
				i = space(object, i+1)
			}
		}
	}
}

// elements yields the elements of a list in valid JSON.
func elements(list []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := space(list, 1); list[i] != ']'; {
			end := valueEnd(list, i)
			if !yield(list[i:end]) {
				return
			}
			if i = space(list, end); list[i] == ',' {
				i = space(list, i+1)
			}
		}
	}
}

// space gives the index of the first byte from i on that is no white space.
func space(data []byte, i int) int {
	for data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r' {
		i++
	}
	return i
}

// valueEnd gives the index behind the value that starts at i.
func valueEnd(data []byte, i int) int {
	switch data[i] {
	case '"':
		return stringEnd(data, i)
	case '{', '[':
		depth := 0
		for {
			switch data[i] {
			case '"':
				i = stringEnd(data, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	default:
		for i < len(data) && bytes.IndexByte([]byte(",]} \n\t\r"), data[i]) < 0 {
			i++
		}
		return i
	}
}

func stringEnd(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// text is what a JSON string says.
func text(literal []byte) string {
	if bytes.IndexByte(literal, '\\') < 0 {
		return string(literal[1 : len(literal)-1])
	}
	var s string
	_ = json.Unmarshal(literal, &s) // it is valid
	return s
}
