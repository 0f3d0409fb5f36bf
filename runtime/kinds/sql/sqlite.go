package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	lib "modernc.org/sqlite/lib"

	"github.com/troupe-run/troupe/runtime/task"
)

// sqlite is a data source that is a SQLite file. A task opens it for itself, which
// costs less than a millisecond: so it leaves nothing to the next.
type sqlite struct {
	file  string
	slots chan struct{} // as many as tasks may have it open
}

func openSQLite(file string, connections int) (*sqlite, error) {
	if file == "" || strings.ContainsRune(file, 0) {
		return nil, errUnfit
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	return &sqlite{file: absolute, slots: make(chan struct{}, connections)}, nil
}

func (*sqlite) close() {}

func (s *sqlite) query(ctx context.Context, q query, out *output) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c, err := openFile(s.file)
	if err != nil {
		return sqliteError(err)
	}
	defer c.close()
	defer c.interruptAfter(ctx)()
	wait := lockWait(ctx)
	defer wait.stop()

	st, err := c.prepare(q.text, wait)
	if err != nil {
		return sqliteError(err)
	}
	defer c.finalize(st)
	if len(st.columns) == 0 || !st.reads {
		return noRows()
	}
	if err := c.bind(st, q); err != nil {
		return err
	}
	more, err := c.step(st, wait)
	if err != nil {
		return sqliteError(err)
	}
	out.begin(st.columns)
	for ; more; more, err = c.step(st, wait) {
		if out.row(c.row(st)) != nil {
			return nil
		}
	}
	return sqliteError(err)
}

// bind gives each parameter of the statement its argument.
func (c *connection) bind(st statement, q query) error {
	used := make(map[string]bool, len(st.parameters))
	for i, parameter := range st.parameters {
		name, raw := q.argument(i, parameter)
		if raw == nil {
			return invalid("args: there is none for the parameter %.100q", parameter)
		}
		used[name] = true
		value, err := sqliteArgument(raw)
		if err != nil {
			return invalid("args.%s: %v", name, err)
		}
		if err := c.set(st, i+1, value); err != nil {
			return sqliteError(err)
		}
	}
	if given := len(q.args) + len(q.named); len(used) != given {
		return invalid("args: the statement wants %d, not %d", len(used), given)
	}
	return nil
}

// argument finds the one for the parameter at i, which the statement may call ?,
// ?3 or $3, all by number, or :name, @name or $name.
func (q query) argument(i int, parameter string) (name string, raw json.RawMessage) {
	if q.named != nil {
		if parameter != "" {
			name = parameter[1:]
		}
		return name, q.named[name]
	}
	if parameter != "" {
		n, err := strconv.ParseUint(parameter[1:], 10, 31)
		if err != nil || n == 0 {
			return parameter, nil
		}
		i = int(n) - 1
	}
	if i >= len(q.args) {
		return parameter, nil
	}
	return strconv.Itoa(i), q.args[i]
}

// sqliteArgument is an argument as int64, float64, string or nil. SQLite has no
// type for what else there is in JSON: a list or an object goes as its text.
func sqliteArgument(raw json.RawMessage) (any, error) {
	switch raw[0] {
	case 'n':
		return nil, nil
	case 't':
		return int64(1), nil
	case 'f':
		return int64(0), nil
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	case '[', '{':
		return string(raw), nil
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.Abs(f) >= 1<<63 && !strings.ContainsAny(string(raw), ".eE") {
		return nil, errors.New("has more than 64 bits; give it as text")
	}
	return f, nil
}

// row is the current row as JSON. One that is too long is cut off somewhere
// behind that length, and not taken for it.
func (c *connection) row(st statement) []byte {
	b := []byte{'['}
	for i, column := range st.columns {
		if i > 0 {
			b = append(b, ',')
		}
		if len(b) > maxRow {
			break
		}
		switch v := c.value(st, i).(type) {
		case nil:
			b = append(b, "null"...)
		case int64:
			b = strconv.AppendInt(b, v, 10)
		case float64:
			b = appendFloat(b, v)
		case string:
			if strings.HasPrefix(strings.ToUpper(column.Type), "JSON") && task.ValidJSON([]byte(v)) {
				b = append(b, encode(json.RawMessage(v))...)
			} else {
				b = append(b, encode(v)...)
			}
		default: // []byte
			b = append(b, encode(v)...)
		}
	}
	return append(b, ']')
}

func appendFloat(b []byte, f float64) []byte {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return append(b, encode(strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+")+"inity")...)
	}
	return append(b, encode(f)...)
}

// lockWait bounds how long a statement waits for those who write.
type patience struct {
	ctx  context.Context //nolint:containedctx // of one query, which it does not outlive
	stop context.CancelFunc
}

func lockWait(ctx context.Context) patience {
	ctx, stop := context.WithTimeout(ctx, lockTimeout)
	return patience{ctx, stop}
}

// retry does something again for as long as the file is locked.
func (p patience) retry(try func() error) error {
	for {
		err := try()
		if failed, ok := errors.AsType[*libraryError](err); !ok || failed.code&0xff != lib.SQLITE_BUSY {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.ctx.Done():
			return err
		}
	}
}

// sqliteError is why a statement failed.
func sqliteError(err error) error {
	failed, ok := errors.AsType[*libraryError](err)
	switch {
	case !ok:
		return err
	case failed.code&0xff == lib.SQLITE_INTERRUPT:
		return fmt.Errorf("%w: %w", errTimeout, err)
	case failed.code&0xff == lib.SQLITE_CANTOPEN:
		return unavailable("the database cannot be opened")
	case failed.code&0xff == lib.SQLITE_TOOBIG:
		return tooLarge(fmt.Sprintf("a value has more than %d bytes", maxMessage))
	}
	again := map[int32]bool{
		lib.SQLITE_BUSY: true, lib.SQLITE_LOCKED: true, lib.SQLITE_PROTOCOL: true, lib.SQLITE_IOERR: true, lib.SQLITE_NOMEM: true, lib.SQLITE_SCHEMA: true,
	}
	return sqlError(failed.message, again[failed.code&0xff], details{SQLite: codeName(failed.code)})
}
