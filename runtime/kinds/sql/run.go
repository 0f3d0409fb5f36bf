package sql

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// job is what this kind needs of the attempt it runs in.
type job interface {
	Emit(chunk any) error
}

// database is one data source. query runs one statement that reads, and gives
// what comes of it to out for as long as out takes it; it returns when the
// statement is over on the server too. Its errors are for people to read:
// failure.go.
type database interface {
	query(ctx context.Context, q query, out *output) error
	close()
}

type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type result struct {
	Rows      int      `json:"rows"`
	Columns   []column `json:"columns"`
	Truncated bool     `json:"truncated"`
	Duration  string   `json:"duration"`
}

func (s *Sources) run(ctx context.Context, j job, raw json.RawMessage) (result, error) {
	q, err := s.config.parse(raw)
	if err != nil {
		return result{}, err
	}
	db, ok := s.databases[q.source]
	if !ok {
		return result{}, invalid("source: this node has none of the name %.100q", q.source)
	}
	limited, cancel := context.WithTimeoutCause(ctx, q.timeout, errTimeout)
	defer cancel()
	begin := time.Now()
	out := newOutput(j, q.maxRows, s.config.MaxBytes)
	err = db.query(limited, q, out)
	// What was read before a failure is shown too.
	full, refused := out.end()
	switch {
	case ctx.Err() != nil:
		return result{}, context.Cause(ctx)
	case refused != nil:
		return result{}, refused
	case full || err == nil:
	case errors.Is(context.Cause(limited), errTimeout), errors.Is(err, errTimeout):
		return result{}, &task.Failure{
			Code: "sql_timeout", Message: "no complete answer within " + q.timeout.String(), Retryable: true,
		}
	default:
		return result{}, err
	}
	return result{
		Rows: out.rows, Columns: out.columns, Truncated: full, Duration: time.Since(begin).Round(time.Millisecond).String(),
	}, nil
}
