package sql

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// This file speaks to SQLite itself. Its driver for database/sql runs all the
// statements of a text, and does not stop one that is on its way to a later row.

// connection is an open file, for one goroutine.
type connection struct {
	tls *libc.TLS
	db  uintptr
}

type libraryError struct {
	code    int32
	message string
}

func (e *libraryError) Error() string { return e.message }

// openFile opens a database that nothing can be written to: neither the file,
// nor another one beside it.
func openFile(file string) (*connection, error) {
	c := &connection{tls: libc.NewTLS()}
	name := c.text("file:" + (&url.URL{Path: file}).EscapedPath() + "?mode=ro")
	defer libc.Xfree(c.tls, name)
	out := c.pointer()
	defer libc.Xfree(c.tls, out)
	const flags = lib.SQLITE_OPEN_READONLY | lib.SQLITE_OPEN_URI | lib.SQLITE_OPEN_FULLMUTEX
	rc := lib.Xsqlite3_open_v2(c.tls, name, out, flags, 0)
	c.db = at(out)
	if rc != lib.SQLITE_OK {
		err := &libraryError{code: lib.SQLITE_CANTOPEN, message: "the database cannot be opened"}
		c.close()
		return nil, err
	}
	lib.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	for id, most := range map[int32]int32{
		lib.SQLITE_LIMIT_ATTACHED: 0, lib.SQLITE_LIMIT_LENGTH: maxMessage, lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
		lib.SQLITE_LIMIT_WORKER_THREADS: 0,
	} {
		lib.Xsqlite3_limit(c.tls, c.db, id, most)
	}
	pragmas := c.text("pragma query_only = on; pragma trusted_schema = off; pragma cell_size_check = on")
	defer libc.Xfree(c.tls, pragmas)
	if rc := lib.Xsqlite3_exec(c.tls, c.db, pragmas, 0, 0, 0); rc != lib.SQLITE_OK {
		err := c.failed(rc)
		c.close()
		return nil, err
	}
	lib.Xsqlite3_set_authorizer(c.tls, c.db, function(authorize), 0)
	return c, nil
}

func (c *connection) close() {
	if c.db != 0 {
		lib.Xsqlite3_close_v2(c.tls, c.db)
	}
	c.tls.Close()
}

// describing are the pragmas that say what there is, and change nothing.
var describing = []string{
	"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
}

// authorize is asked about every thing that a statement would do, while SQLite
// compiles it: a statement may read tables and describe them.
func authorize(_ *libc.TLS, _ uintptr, action int32, first, second, _, _ uintptr) int32 {
	var allowed bool
	switch driver.AuthorizerActionCode(action) {
	case driver.AuthSelect, driver.AuthRead, driver.AuthRecursive:
		allowed = true
	case driver.AuthFunction:
		allowed = !strings.EqualFold(libc.GoString(second), "load_extension")
	case driver.AuthPragma: // also where it is a function of a FROM
		allowed = slices.Contains(describing, strings.ToLower(libc.GoString(first)))
	default:
		allowed = false
	}
	if allowed {
		return lib.SQLITE_OK
	}
	return lib.SQLITE_DENY
}

// interruptAfter stops what the connection does once ctx ends, until the function
// that it returns is called. An interrupt that comes before a statement has
// begun is lost, so one does not do.
func (c *connection) interruptAfter(ctx context.Context) (stop func()) {
	over, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-over:
			return
		case <-ctx.Done():
		}
		tls := libc.NewTLS() // the connection's is for its goroutine alone
		defer tls.Close()
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			lib.Xsqlite3_interrupt(tls, c.db)
			select {
			case <-over:
				return
			case <-again.C:
			}
		}
	}()
	return func() {
		close(over)
		<-gone
	}
}

type statement struct {
	raw        uintptr
	columns    []column
	parameters []string // what the statement calls them: ?1, :name, or nothing
	reads      bool
}

// prepare compiles a text that has to be one statement.
func (c *connection) prepare(text string, wait patience) (st statement, err error) {
	source := c.text(text)
	defer libc.Xfree(c.tls, source)
	var rest uintptr
	err = wait.retry(func() (err error) {
		st.raw, rest, err = c.compile(source)
		return err
	})
	if err != nil {
		return st, err
	}
	for libc.GoString(rest) != "" {
		var second uintptr
		second, rest, err = c.compile(rest)
		if second != 0 || err != nil {
			lib.Xsqlite3_finalize(c.tls, second)
			c.finalize(st)
			return st, &libraryError{code: lib.SQLITE_ERROR, message: "there is more than one statement"}
		}
	}
	if st.raw == 0 {
		return st, nil // nothing but a comment
	}
	st.reads = lib.Xsqlite3_stmt_readonly(c.tls, st.raw) != 0
	for i := range lib.Xsqlite3_column_count(c.tls, st.raw) {
		st.columns = append(st.columns, column{
			Name: libc.GoString(lib.Xsqlite3_column_name(c.tls, st.raw, i)),
			Type: libc.GoString(lib.Xsqlite3_column_decltype(c.tls, st.raw, i)),
		})
	}
	for i := range lib.Xsqlite3_bind_parameter_count(c.tls, st.raw) {
		st.parameters = append(st.parameters, libc.GoString(lib.Xsqlite3_bind_parameter_name(c.tls, st.raw, i+1)))
	}
	return st, nil
}

// compile compiles the first statement of a text and says where the next begins.
func (c *connection) compile(source uintptr) (raw, rest uintptr, err error) {
	out, tail := c.pointer(), c.pointer()
	defer libc.Xfree(c.tls, out)
	defer libc.Xfree(c.tls, tail)
	if rc := lib.Xsqlite3_prepare_v2(c.tls, c.db, source, -1, out, tail); rc != lib.SQLITE_OK {
		return 0, 0, c.failed(rc)
	}
	return at(out), at(tail), nil
}

func (c *connection) finalize(st statement) { lib.Xsqlite3_finalize(c.tls, st.raw) }

// set gives the parameter of a number, from 1 on, its value.
func (c *connection) set(st statement, number int, value any) error {
	n, rc := int32(number), int32(0) //nolint:gosec // at most 32766
	switch v := value.(type) {
	case nil:
		rc = lib.Xsqlite3_bind_null(c.tls, st.raw, n)
	case int64:
		rc = lib.Xsqlite3_bind_int64(c.tls, st.raw, n, v)
	case float64:
		rc = lib.Xsqlite3_bind_double(c.tls, st.raw, n, v)
	case string:
		p := c.text(v)
		defer libc.Xfree(c.tls, p)
		rc = lib.Xsqlite3_bind_text(c.tls, st.raw, n, p, int32(len(v)), lib.SQLITE_TRANSIENT) //nolint:gosec // part of a payload
	}
	if rc != lib.SQLITE_OK {
		return c.failed(rc)
	}
	return nil
}

// step goes to the next row and says whether there is one.
func (c *connection) step(st statement, wait patience) (more bool, err error) {
	err = wait.retry(func() error {
		switch rc := lib.Xsqlite3_step(c.tls, st.raw); rc {
		case lib.SQLITE_ROW:
			more = true
			return nil
		case lib.SQLITE_DONE:
			return nil
		default:
			return c.failed(rc)
		}
	})
	return more, err
}

// value is that of a column, from 0 on, of the current row: int64, float64,
// string, []byte or nil.
func (c *connection) value(st statement, number int) any {
	i := int32(number) //nolint:gosec // at most 32767
	switch lib.Xsqlite3_column_type(c.tls, st.raw, i) {
	case lib.SQLITE_INTEGER:
		return lib.Xsqlite3_column_int64(c.tls, st.raw, i)
	case lib.SQLITE_FLOAT:
		return lib.Xsqlite3_column_double(c.tls, st.raw, i)
	case lib.SQLITE_TEXT:
		p := lib.Xsqlite3_column_text(c.tls, st.raw, i)
		return string(libc.GoBytes(p, int(lib.Xsqlite3_column_bytes(c.tls, st.raw, i))))
	case lib.SQLITE_BLOB:
		p := lib.Xsqlite3_column_blob(c.tls, st.raw, i)
		return append([]byte{}, libc.GoBytes(p, int(lib.Xsqlite3_column_bytes(c.tls, st.raw, i)))...)
	default:
		return nil
	}
}

// failed is what SQLite says of the last call.
func (c *connection) failed(rc int32) error {
	return &libraryError{code: rc, message: libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db))}
}

// codeName is what SQLite's documentation calls an error.
func codeName(code int32) string {
	names := map[int32]string{
		lib.SQLITE_ERROR: "SQLITE_ERROR", lib.SQLITE_BUSY: "SQLITE_BUSY", lib.SQLITE_LOCKED: "SQLITE_LOCKED",
		lib.SQLITE_NOMEM: "SQLITE_NOMEM", lib.SQLITE_READONLY: "SQLITE_READONLY", lib.SQLITE_IOERR: "SQLITE_IOERR",
		lib.SQLITE_CORRUPT: "SQLITE_CORRUPT", lib.SQLITE_SCHEMA: "SQLITE_SCHEMA", lib.SQLITE_MISMATCH: "SQLITE_MISMATCH",
		lib.SQLITE_AUTH: "SQLITE_AUTH", lib.SQLITE_RANGE: "SQLITE_RANGE", lib.SQLITE_NOTADB: "SQLITE_NOTADB",
	}
	if name, ok := names[code&0xff]; ok {
		return name
	}
	return strconv.Itoa(int(code))
}

// text puts a string where C finds it, with the NUL that it looks for.
func (c *connection) text(s string) uintptr {
	p := libc.Xmalloc(c.tls, types.Size_t(len(s)+1))
	if p == 0 {
		panic("out of memory")
	}
	copy(libc.GoBytes(p, len(s)+1), s+"\x00")
	return p
}

// pointer is room for one, which a function of C fills in; at reads it.
func (c *connection) pointer() uintptr {
	return c.text(strings.Repeat("\x00", int(unsafe.Sizeof(uintptr(0)))))
}

func at(p uintptr) uintptr {
	return *(*uintptr)(unsafe.Pointer(unsafe.SliceData(libc.GoBytes(p, int(unsafe.Sizeof(p)))))) //nolint:gosec // C's memory, which does not move
}

// function is what C calls a pointer to f, as the library's own code has it: a Go
// function value is a pointer to what holds the code's address.
func function[F any](f F) uintptr {
	return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) //nolint:gosec // f is a function of this package, which does not move
}
