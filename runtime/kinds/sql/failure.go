package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/troupe-run/troupe/runtime/task"
)

var errTimeout = errors.New("the query's timeout passed")

type details struct {
	SQLState string `json:"sqlstate,omitempty"`
	Position int32  `json:"position,omitempty"` // in the statement, from 1
	SQLite   string `json:"sqlite,omitempty"`
}

func sqlError(message string, retryable bool, d details) error {
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings and a number
	}
	const longest = 1000
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest], "") + "…"
	}
	return &task.Failure{Code: "sql_error", Message: message, Retryable: retryable, Details: raw}
}

func noRows() error {
	return sqlError("the statement gives no rows, and this kind only reads", false, details{})
}

func tooLarge(message string) error {
	return &task.Failure{Code: "row_too_large", Message: message + "; select less of it"}
}

// unavailable is a database that does not answer. What Go says of it names hosts
// and addresses, so it is not repeated.
func unavailable(what string) error {
	return &task.Failure{Code: "sql_unavailable", Message: what, Retryable: true}
}

// notConnected is why there is no connection. What the server says then names
// its users, databases and addresses.
func notConnected(err error) error {
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		again := passing(said.Code)
		return &task.Failure{
			Code: "sql_unavailable", Message: "the database took no connection (SQLSTATE " + said.Code + ")",
			Retryable: again, Details: encode(details{SQLState: said.Code}),
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !isConnect(err) {
		return err
	}
	return unavailable("the database cannot be reached")
}

func isConnect(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// postgresError is why a statement failed: what the server says of it, without
// the detail, which may show rows.
func postgresError(err error) error {
	if err == nil {
		return nil
	}
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		const cancelled = "57014" // by statement_timeout, or because the task ended
		if said.Code == cancelled {
			return fmt.Errorf("%w: %w", errTimeout, err)
		}
		return sqlError(said.Message, passing(said.Code), details{SQLState: said.Code, Position: said.Position})
	}
	if errors.Is(err, errMessage) {
		return tooLarge(fmt.Sprintf("a row has more than %d bytes", maxMessage))
	}
	if _, ok := errors.AsType[*task.Failure](err); ok {
		return err
	}
	return unavailable("the connection to the database ended")
}

// passing says whether the same may go well a little later.
func passing(sqlstate string) bool {
	codes := []string{
		"40001", "40P01", // could not be serialized; deadlock
		"55P03",                   // a lock was not to be had in time
		"57P01", "57P02", "57P03", // the server stops, crashed or starts
		"57P05", "25P03", "25P04", // the session was idle, or its transaction too long
		"58030", // I/O
	}
	classes := []string{"08", "53"} // the connection; short of memory, disk or connections
	return slices.Contains(codes, sqlstate) || len(sqlstate) == 5 && slices.Contains(classes, sqlstate[:2])
}
