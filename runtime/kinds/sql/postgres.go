package sql

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgres is a data source that is a PostgreSQL server.
type postgres struct{ pool *pgxpool.Pool }

func openPostgres(ctx context.Context, url string, connections int) (*postgres, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("is no URL of a PostgreSQL database") // the error would repeat it
	}
	cfg.MinConns, cfg.MinIdleConns, cfg.MaxConns = 0, 0, int32(min(connections, 1000)) //nolint:gosec // fits
	cfg.MaxConnIdleTime = 5 * time.Minute
	c := cfg.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "troupe"
	}
	// A context that ends cancels the statement on the server, and the connection
	// lives on; one that does not answer to that is given up.
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: lastWords}
	}
	c.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(&messages{r: r}, w)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg) // connects to nothing yet
	if err != nil {
		return nil, errors.New("is no URL of a PostgreSQL database")
	}
	return &postgres{pool: pool}, nil
}

func (p *postgres) close() { p.pool.Close() }

func (p *postgres) query(ctx context.Context, q query, out *output) error {
	pooled, err := p.pool.Acquire(ctx)
	if err != nil {
		return notConnected(err)
	}
	conn := pooled.Conn().PgConn()
	defer func() {
		leave(ctx, conn)
		pooled.Release()
	}()
	if err := enter(ctx, conn, q.timeout); err != nil {
		return postgresError(err)
	}
	text, args, err := q.numbered(ctx)
	if err != nil {
		return err
	}
	statement, err := conn.Prepare(ctx, "", text, nil)
	if err != nil {
		return postgresError(err)
	}
	// What gives no rows writes, or is about the transaction or the session: COPY
	// to a program, COMMIT, SET and DO would get around its being read-only.
	if len(statement.Fields) == 0 {
		return noRows()
	}
	values, err := encodeArguments(args, statement.ParamOIDs)
	if err != nil {
		return err
	}
	columns, again, err := describe(ctx, conn, statement.Fields)
	if err != nil {
		return postgresError(err)
	}
	if again { // the server was asked for names of types, which took the statement's place
		if _, err := conn.Prepare(ctx, "", text, statement.ParamOIDs); err != nil {
			return postgresError(err)
		}
	}
	out.begin(columns)
	return postgresError(read(ctx, conn, values, out))
}

// enter begins the transaction. The statement that sets its bounds is also its
// first query, after which PostgreSQL lets nobody make it one that writes.
func enter(ctx context.Context, conn *pgconn.PgConn, timeout time.Duration) error {
	if _, err := conn.Exec(ctx, "begin read only").ReadAll(); err != nil {
		return err
	}
	settings := []struct{ name, value string }{
		{"statement_timeout", milliseconds(timeout)},
		{"lock_timeout", milliseconds(min(timeout, lockTimeout))},
		{"idle_in_transaction_session_timeout", milliseconds(timeout + lastWords)},
		// What the values of answers are read by: values.go.
		{"TimeZone", "UTC"},
		{"DateStyle", "ISO"},
		{"IntervalStyle", "iso_8601"},
		{"bytea_output", "hex"},
		{"extra_float_digits", "1"},
	}
	var names, values []string
	for _, s := range settings {
		names, values = append(names, s.name), append(values, s.value)
	}
	const set = "select pg_catalog.set_config(name, value, true) from unnest($1::text[], $2::text[]) as s (name, value)"
	arrays := [][]byte{[]byte("{" + strings.Join(names, ",") + "}"), []byte("{" + strings.Join(values, ",") + "}")}
	return conn.ExecParams(ctx, set, arrays, nil, nil, nil).Read().Err
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// leave ends the transaction and all that the statement may have left of the
// session, such as settings and advisory locks, for the next task to find none.
func leave(ctx context.Context, conn *pgconn.PgConn) {
	if conn.IsClosed() {
		return
	}
	// Also when the task is cancelled.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for _, text := range []string{"rollback", "discard all"} {
		if _, err := conn.Exec(ctx, text).ReadAll(); err != nil {
			_ = conn.Close(ctx) // and the pool makes another
			return
		}
	}
}

// numbered is the statement with its arguments by number, as the protocol has
// them. Only the names in the text are replaced, never by a value.
func (q query) numbered(ctx context.Context) (string, []argument, error) {
	var args []argument
	for i, a := range q.args {
		args = append(args, argument{name: strconv.Itoa(i), value: a})
	}
	if q.named == nil {
		return q.text, args, nil
	}
	named := make(pgx.StrictNamedArgs, len(q.named))
	for name, a := range q.named {
		named[name] = argument{name: name, value: a}
	}
	text, found, err := named.RewriteQuery(ctx, nil, q.text, nil)
	if err != nil {
		return "", nil, invalid("args: those named in the statement as @name and those given are not the same")
	}
	for _, a := range found {
		args = append(args, a.(argument)) //nolint:forcetypeassert // put in above
	}
	return text, args, nil
}

// read runs the prepared statement. The connection itself holds rows back that
// out does not take yet.
func read(ctx context.Context, conn *pgconn.PgConn, values [][]byte, out *output) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reader := conn.ExecPrepared(ctx, "", values, nil, nil)
	fields := reader.FieldDescriptions()
	for reader.NextRow() {
		row := []byte{'['}
		for i, value := range reader.Values() {
			if i > 0 {
				row = append(row, ',')
			}
			row = appendValue(row, fields[i].DataTypeOID, value)
		}
		if out.row(append(row, ']')) != nil {
			stop() // cancels the statement
			break
		}
	}
	_, err := reader.Close()
	return err
}

// maxMessage bounds what the server says at once, such as one row: the protocol
// would let it be a gigabyte, all of which would be read into memory.
const maxMessage = 4 << 20

var errMessage = errors.New("the server sent too much at once")

// messages watches over the sizes of a server's messages as they are read.
type messages struct {
	r      io.Reader
	header []byte // as far as it was read
	left   int    // of the body
}

func (m *messages) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		if m.left > 0 {
			skip := min(m.left, len(rest))
			m.left, rest = m.left-skip, rest[skip:]
			continue
		}
		const size = 5 // the kind, and the length of what follows with itself
		part := min(size-len(m.header), len(rest))
		m.header, rest = append(m.header, rest[:part]...), rest[part:]
		if len(m.header) < size {
			break
		}
		length := binary.BigEndian.Uint32(m.header[1:])
		if length > maxMessage {
			return 0, errMessage
		}
		m.left, m.header = max(0, int(length)-4), m.header[:0]
	}
	return n, err
}
