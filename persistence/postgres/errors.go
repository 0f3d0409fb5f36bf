package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/troupe-run/troupe/runtime/task"
)

// ErrSchema says that the database has not the schema we need.
var ErrSchema = errors.New("the database's schema does not fit")

// errAgain makes a transaction start over: what it saw has changed meanwhile.
var errAgain = errors.New("overtaken by another transaction")

// SQLSTATE is the server's code in err, or "".
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// overtaken says that another transaction was in the way, and that it is worth
// starting over at once: serialization failure, deadlock, unique violation.
func overtaken(err error) bool {
	switch sqlState(err) {
	case "40001", "40P01", "23505":
		return true
	}
	return errors.Is(err, errAgain)
}

// misprepared says that the session does not know a statement as we prepared it:
// it is another session, or the schema has changed.
func misprepared(err error) bool {
	switch sqlState(err) {
	case "26000", "42P05", "0A000":
		return true
	}
	return false
}

// severed says that there is no connection to the server, or none any more.
func severed(err error) bool {
	switch code := sqlState(err); {
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), code == "25P03":
		return true // connection exception; the server shuts down or starts, or has given us up in a transaction
	case code != "":
		return false
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return connecting || network || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed")
}

// passing says whether the trouble may be over by itself: there is no server, it
// has no room, or it may only be read just now.
func passing(err error) bool {
	switch code := sqlState(err); {
	case strings.HasPrefix(code, "53"), strings.HasPrefix(code, "58"), // resources, system errors
		code == "25006", code == "57014", code == "55P03": // read only, timeout, no lock
		return true
	}
	return severed(err) || overtaken(err) || misprepared(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// translate says in the core's words what went wrong in something that left
// nothing behind.
func translate(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case passing(err):
		return fmt.Errorf("%s: %w: %w", what, task.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
