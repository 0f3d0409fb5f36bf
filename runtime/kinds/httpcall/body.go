package httpcall

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/troupe-run/troupe/runtime/task"
)

const pieceSize = 32 << 10 // escaped as JSON it fits an event still

// relay gives an answer on to the task's watchers and keeps its beginning.
type relay struct {
	job     job
	keep    int // how much of the body
	kept    []byte
	bytes   int64
	logFull bool // the watchers get no more of it, the result still does
}

// emit is asked for each event; a full log is no reason to fail the task.
func (r *relay) emit(say func() error) error {
	if r.logFull {
		return nil
	}
	err := say()
	if errors.Is(err, task.ErrLogFull) {
		r.logFull = true
		return nil
	}
	return err
}

// emitError marks an error of the task's log, which is not the server's fault.
type emitError struct{ error }

func (e emitError) Unwrap() error { return e.error }

// stream passes on the body, in the pieces it comes in, and stops at limit;
// whole says whether the body ended before that.
func (r *relay) stream(body io.Reader, limit int64) (whole bool, err error) {
	buffer := make([]byte, pieceSize)
	held := 0 // the first bytes of a character whose other bytes are still to come
	for {
		room := min(int64(len(buffer)-held), limit-r.bytes+1) // one more, to see whether there is more
		n, err := body.Read(buffer[held : int64(held)+room])
		over := r.bytes+int64(n) > limit
		if over {
			n = int(limit - r.bytes)
		}
		r.bytes += int64(n)
		r.kept = append(r.kept, buffer[held : held+n][:min(n, r.keep-len(r.kept))]...)
		held += n
		size := characters(buffer[:held])
		if over || err != nil {
			size = held
		}
		if size > 0 {
			if err := r.emit(func() error { return r.job.EmitBytes(buffer[:size]) }); err != nil {
				return false, emitError{err}
			}
		}
		held = copy(buffer, buffer[size:held])
		switch {
		case over:
			return false, nil
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// characters is how much of b can be cut off without cutting one in two.
func characters(b []byte) int {
	for i := 1; i <= min(utf8.UTFMax, len(b)); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return len(b)
			}
			return len(b) - i
		}
	}
	return len(b)
}

// body is what the result says of it: as JSON if it is all there and called so,
// as text if it is UTF-8, else as base64; at most limit bytes, encoded.
func (r *relay) body(contentType string, whole bool, limit int) (encoded json.RawMessage, encoding string, truncated bool) {
	truncated = !whole || int64(len(r.kept)) < r.bytes
	if !truncated && isJSON(contentType) && json.Valid(r.kept) {
		if encoded := encode(json.RawMessage(r.kept)); len(encoded) <= limit {
			return encoded, "json", false
		}
	}
	text := r.kept
	if truncated {
		text = text[:characters(text)]
	}
	if !utf8.Valid(text) {
		most := max(0, limit-2) / 4 * 3
		return encode(r.kept[:min(len(r.kept), most)]), "base64", truncated || len(r.kept) > most
	}
	encoded = encode(string(text))
	for len(encoded) > limit && len(text) > 0 {
		// Escapes are spread unevenly, so this may not be short enough yet.
		text = text[:len(text)*limit/len(encoded)]
		text, truncated = text[:characters(text)], true
		encoded = encode(string(text))
	}
	return encoded, "text", truncated
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // text, bytes or what was found to be JSON
	}
	return b
}
