package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	driverlib "modernc.org/sqlite"

	"github.com/troupe-run/troupe/runtime/task"
)

// conn is one connection with its prepared statements, used by one goroutine at
// a time. It speaks to the driver without database/sql between: a pool would do
// nothing for us that the two channels of Store do not, and costs as much a
// statement as a small statement itself.
type conn struct {
	raw        driver.Conn
	statements map[string]*statement
}

type statement struct {
	raw  driver.Stmt
	args []driver.NamedValue
}

// row is one row of an answer, valid until the next.
type row []driver.Value

// connector opens the database file. The name goes into a URI, where a question
// mark or a hash in a directory's name would end it.
func connector(file string) (driver.Connector, error) {
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	return driverlib.NewConnector("file:" + (&url.URL{Path: absolute}).EscapedPath())
}

// dial opens a connection and makes it what the pragmas say.
func dial(ctx context.Context, file string, pragmas []string) (*conn, error) {
	source, err := connector(file)
	if err != nil {
		return nil, err
	}
	raw, err := source.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, statements: map[string]*statement{}}
	for _, p := range pragmas {
		if err := c.query(ctx, p, nil, ignore); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", p, err), c.close())
		}
	}
	return c, nil
}

func ignore(row) error { return nil }

// close gives up the connection; what was not committed is rolled back.
func (c *conn) close() error {
	var all []error
	for _, s := range c.statements {
		all = append(all, s.raw.Close())
	}
	return errors.Join(append(all, c.raw.Close())...)
}

// prepared finds a statement by its text and binds the arguments. The texts are
// constants of this package, so there are only so many.
func (c *conn) prepared(text string, args []any) (*statement, error) {
	s, ok := c.statements[text]
	if !ok {
		raw, err := c.raw.Prepare(text)
		if err != nil {
			return nil, err
		}
		s = &statement{raw: raw}
		c.statements[text] = s
	}
	s.args = s.args[:0]
	for i, a := range args {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return s, nil
}

// exec runs a statement that gives no rows and says how many it changed.
// Arguments are int64, float64, string, []byte or nil.
func (c *conn) exec(ctx context.Context, text string, args ...any) (int64, error) {
	s, err := c.prepared(text, args)
	if err != nil {
		return 0, err
	}
	result, err := s.raw.(driver.StmtExecContext).ExecContext(ctx, s.args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// errEnough ends a query early.
var errEnough = errors.New("enough")

func isEnough(err error) bool { return errors.Is(err, errEnough) }

// query runs a statement and gives each row to f, until f has enough.
func (c *conn) query(ctx context.Context, text string, args []any, f func(row) error) (err error) {
	s, err := c.prepared(text, args)
	if err != nil {
		return err
	}
	rows, err := s.raw.(driver.StmtQueryContext).QueryContext(ctx, s.args)
	if err != nil {
		return err
	}
	defer func() {
		// An error at the end of a statement that had its effect (a full disk at
		// the end of UPDATE … RETURNING) shows here at the latest.
		if closing := rows.Close(); err == nil {
			err = closing
		}
	}()
	r := make(row, len(rows.Columns()))
	for {
		switch err := rows.Next(r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		switch err := f(r); {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return err
		}
	}
}

func (r row) int(i int) int64 {
	n, _ := r[i].(int64)
	return n
}

func (r row) float(i int) float64 {
	f, _ := r[i].(float64)
	return f
}

// state reads a state; the core has seven.
func (r row) state(i int) task.State { return task.State(r.int(i) & 7) }

func (r row) text(i int) string {
	s, _ := r[i].(string)
	return s
}

func (r row) blob(i int) []byte {
	b, _ := r[i].([]byte)
	return b
}
