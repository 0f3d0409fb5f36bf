package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/troupe-run/troupe/runtime/task"
)

// A few bytes of JSON can make a large list or map: hence these bounds. The
// last is how much is said about one bad input.
const (
	maxElements    = 10_000
	maxMembers     = 1000
	maxFieldErrors = 100
)

// Decode reads JSON into one of this package's shapes, more strictly than
// encoding/json: a field that is unknown, given twice or spelled in another
// case is refused, and so is text that is not UTF-8. Whatever is any JSON, such
// as a payload, is kept byte for byte. A field that is null counts as left out.
// Its error is a [Problem] that names every field that is wrong.
func Decode(data []byte, into any) error {
	data = bytes.TrimSpace(data)
	if !utf8.Valid(data) {
		return NewProblem(http.StatusBadRequest, "malformed_json", "The text is not valid UTF-8.")
	}
	if !json.Valid(data) {
		return NewProblem(http.StatusBadRequest, "malformed_json", syntaxError(data))
	}
	var d decoder
	d.value(data, reflect.ValueOf(into).Elem())
	if d.errors == nil {
		return nil
	}
	p := NewProblem(http.StatusUnprocessableEntity, "invalid_request", "The request is not valid.")
	p.Errors = d.errors
	return p
}

func syntaxError(data []byte) string {
	if len(data) == 0 {
		return "There is no JSON where some was expected."
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		return fmt.Sprintf("The text is not valid JSON: %s at byte %d.", syntax, syntax.Offset)
	}
	return "The text is not valid JSON."
}

// decoder walks valid JSON and the value it goes into side by side.
type decoder struct {
	path   []string
	errors []FieldError
}

func (d *decoder) refuse(message string) {
	if len(d.errors) < maxFieldErrors {
		d.errors = append(d.errors, FieldError{Path: strings.Join(d.path, ""), Message: message})
	}
}

func (d *decoder) push(name string) {
	if len(d.path) > 0 && !strings.HasPrefix(name, "[") {
		name = "." + name
	}
	d.path = append(d.path, name)
}

func (d *decoder) pop() { d.path = d.path[:len(d.path)-1] }

var (
	rawType         = reflect.TypeFor[json.RawMessage]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// value decodes raw, one JSON value without space around it, into v.
func (d *decoder) value(raw []byte, v reflect.Value) {
	switch {
	case v.Type() == rawType:
		v.SetBytes(bytes.Clone(raw))
		return
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(raw, v.Elem())
		return
	case reflect.PointerTo(v.Type()).Implements(unmarshalerType):
		d.scalar(raw, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(raw, v)
	case reflect.Map:
		d.mapping(raw, v)
	case reflect.Slice:
		d.list(raw, v)
	default:
		d.scalar(raw, v)
	}
}

func (d *decoder) object(raw []byte, v reflect.Value) {
	if raw[0] != '{' {
		d.refuse("must be an object")
		return
	}
	fields := fieldsOf(v.Type())
	var seen uint64 // our shapes have less than 64 fields
	for key, value := range members(raw) {
		d.push(clip(key))
		f, known := fields[key]
		switch {
		case !known:
			d.refuse("is not known")
		case seen&(1<<f.number) != 0:
			d.refuse("is given twice")
		case string(value) != "null" || v.FieldByIndex(f.index).Type() == rawType:
			d.value(value, v.FieldByIndex(f.index))
		}
		if known {
			seen |= 1 << f.number
		}
		d.pop()
	}
}

func (d *decoder) mapping(raw []byte, v reflect.Value) {
	if raw[0] != '{' {
		d.refuse("must be an object")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, value := range members(raw) {
		if v.Len() == maxMembers {
			d.refuse("has more than " + strconv.Itoa(maxMembers) + " members")
			return
		}
		d.push(clip(key))
		k := reflect.ValueOf(key)
		if v.MapIndex(k).IsValid() {
			d.refuse("is given twice")
		} else {
			element := reflect.New(v.Type().Elem()).Elem()
			d.value(value, element)
			v.SetMapIndex(k, element)
		}
		d.pop()
	}
}

func (d *decoder) list(raw []byte, v reflect.Value) {
	if raw[0] != '[' {
		d.refuse("must be a list")
		return
	}
	for value := range elements(raw) {
		if v.Len() == maxElements {
			d.refuse("has more than " + strconv.Itoa(maxElements) + " elements")
			return
		}
		d.push("[" + strconv.Itoa(v.Len()) + "]")
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(value, element)
		v.Set(reflect.Append(v, element))
		d.pop()
	}
}

func (d *decoder) scalar(raw []byte, v reflect.Value) {
	if v.Kind() == reflect.String && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		v.SetString(string(raw[1 : len(raw)-1]))
		return
	}
	// null would leave a scalar as it is without an error.
	if string(raw) != "null" && json.Unmarshal(raw, v.Addr().Interface()) == nil {
		return
	}
	switch v.Addr().Interface().(type) {
	case *task.Time:
		d.refuse(`must be a time such as "2006-01-02T15:04:05Z"`)
	case *task.Quantity:
		d.refuse(`must be a quantity such as 2, "500m" or "512Mi"`)
	case *Values:
		d.refuse("must be a string or a list of strings")
	case *string:
		d.refuse("must be a string")
	case *bool:
		d.refuse("must be true or false")
	case *float64:
		d.refuse("must be a number")
	default:
		d.refuse("must be a whole number")
	}
}

var fieldCache sync.Map // of reflect.Type to map[string]field

// field is where a member of an object goes.
type field struct {
	index  []int // through embedded structs
	number int   // counts the struct's fields
}

// fieldsOf gives every field of a struct, those of embedded ones too, by its
// name in JSON.
func fieldsOf(t reflect.Type) map[string]field {
	if known, ok := fieldCache.Load(t); ok {
		return known.(map[string]field)
	}
	fields := make(map[string]field, t.NumField())
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			fields[name] = field{index: f.Index, number: len(fields)}
		}
	}
	fieldCache.Store(t, fields)
	return fields
}

// clip keeps a client's own name short enough to repeat it to them.
func clip(s string) string {
	const longest = 100
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}
