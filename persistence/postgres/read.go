package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// pageBytes is about how much of bodies a page holds.
const pageBytes = 1 << 20

// errEnough ends the reading of a log early.
var errEnough = errors.New("enough")

// Task implements [task.Store].
func (s *Store) Task(ctx context.Context, namespace string, id task.ID) (found task.Task, err error) {
	err = s.read(ctx, "read task", func(within context.Context, t *tx) error {
		ok := false
		err := t.query(within, "SELECT "+columns+" FROM troupe.tasks t WHERE t.id = $1 AND t.namespace = $2",
			[]any{uuid(id), namespace}, func(r pgx.Rows) (err error) {
				ok = true
				found, _, err = decode(r)
				return err
			})
		if err == nil && !ok {
			return fmt.Errorf("read task %s: %w", id, task.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return task.Task{}, err
	}
	return found, nil
}

// segmentsAtOnce is how many segments are read in one go.
const segmentsAtOnce = 64

// Events implements [task.Store]. A log is what stands in the row of its task's
// birth, then the segments, then what stands there of its end.
func (s *Store) Events(ctx context.Context, namespace string, id task.ID, after task.Cursor, limit int) ([]task.Event, error) {
	var page []task.Event
	err := s.read(ctx, "read events", func(within context.Context, t *tx) error {
		page = nil
		size := 0
		take := func(e task.Event) error {
			if !after.Before(e.Cursor) {
				return nil
			}
			if len(page) >= limit || size >= pageBytes {
				return errEnough
			}
			page = append(page, e)
			size += len(e.Data)
			return nil
		}
		err := t.log(within, namespace, id, after, take)
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// log gives the events of a task to f, from about after on.
func (t *tx) log(ctx context.Context, namespace string, id task.ID, after task.Cursor, f func(task.Event) error) error {
	found := false
	var birth, ended []byte
	err := t.query(ctx, "SELECT birth, ended FROM troupe.tasks WHERE id = $1 AND namespace = $2", []any{uuid(id), namespace},
		func(r pgx.Rows) error {
			found = true
			return r.Scan(&birth, &ended)
		})
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("read events of task %s: %w", id, task.ErrNotFound)
	}
	if err := codec.DecodeSegment(id, birth, f); err != nil {
		return err
	}
	for last, n := codec.Pack(after), segmentsAtOnce; n == segmentsAtOnce; {
		var datas [][]byte
		n = 0
		err := t.query(ctx, "SELECT last, data FROM troupe.segments WHERE task = $1 AND last > $2 ORDER BY last LIMIT $3",
			[]any{uuid(id), last, segmentsAtOnce}, func(r pgx.Rows) error {
				n++
				var data []byte
				err := r.Scan(&last, &data)
				datas = append(datas, data)
				return err
			})
		if err != nil {
			return err
		}
		for _, data := range datas {
			if err := codec.DecodeSegment(id, data, f); err != nil {
				return err
			}
		}
	}
	return codec.DecodeSegment(id, ended, f)
}

const (
	dueRows = "SELECT " + columns + ` FROM troupe.tasks_live t WHERE t.wake_at IS NOT NULL AND t.wake_at <= $1
		ORDER BY t.wake_at, t.n LIMIT $2`
	nextDue = "SELECT wake_at FROM troupe.tasks_live WHERE wake_at IS NOT NULL ORDER BY wake_at, n OFFSET $1 LIMIT 1"
)

// Due implements [task.Store].
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]task.Task, time.Time, error) {
	var due []task.Task
	var next time.Time
	err := s.read(ctx, "list due tasks", func(within context.Context, t *tx) error {
		due, next = nil, time.Time{}
		err := t.query(within, dueRows, []any{now.UnixMicro(), max(limit, 0)}, func(r pgx.Rows) error {
			k, _, err := decode(r)
			due = append(due, k)
			return err
		})
		if err != nil {
			return err
		}
		b := t.batch()
		each(b.Queue(nextDue, len(due)), func(r pgx.Rows) error {
			var at int64
			err := r.Scan(&at)
			next = codec.Micros(at)
			return err
		})
		t.opens(b, &next)
		return t.send(within, b)
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return due, next, nil
}

// Tasks implements [task.Store]. First it looks which tasks are on the page and
// how large they are, then it reads as many as fit.
func (s *Store) Tasks(ctx context.Context, f task.Filter) ([]task.Task, task.Place, error) {
	var page []task.Task
	var next task.Place
	text, args := listing(f)
	err := s.read(ctx, "list tasks", func(within context.Context, t *tx) error {
		page, next = nil, task.Place{}
		var ids []pgtype.UUID
		size, more := int64(0), false
		err := t.query(within, text, args, func(r pgx.Rows) error {
			var id pgtype.UUID
			var bytes int64
			err := r.Scan(&id, &bytes)
			if more = more || len(ids) >= f.Limit || size >= pageBytes; !more {
				ids = append(ids, id)
				size += bytes
			}
			return err
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		err = t.query(within, byID+" ORDER BY t.created DESC, t.id DESC", []any{ids}, func(r pgx.Rows) error {
			k, _, err := decode(r)
			page = append(page, k)
			return err
		})
		if last := len(page) - 1; more && last >= 0 {
			next = task.Place{Created: page[last].Created, ID: page[last].ID}
		}
		return err
	})
	if err != nil {
		return nil, task.Place{}, err
	}
	return page, next, nil
}

// listing makes the query for a filter: ids and sizes, one more than asked for.
// One of the labels is walked, whichever; the others are looked at on the way.
func listing(f task.Filter) (text string, args []any) {
	var query strings.Builder
	query.WriteString(`SELECT t.id, coalesce(octet_length(t.payload), 0)::bigint + coalesce(octet_length(t.result), 0)
		+ coalesce(octet_length(t.checkpoint), 0) FROM troupe.tasks t`)
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	created, id := "t.created", "t.id"
	glue := " WHERE "
	where := func(condition string) {
		query.WriteString(glue + condition)
		glue = " AND "
	}
	walked := ""
	for key, value := range f.Labels {
		created, id, walked = "l.created", "l.task", key
		query.WriteString(" JOIN troupe.labels l ON l.task = t.id")
		where("l.namespace = " + arg(f.Namespace) + " AND l.key = " + arg(key) + " AND l.value = " + arg(value))
		break
	}
	where("t.namespace = " + arg(f.Namespace))
	for key, value := range f.Labels {
		if key != walked {
			where("EXISTS (SELECT FROM troupe.labels m WHERE m.namespace = t.namespace AND m.key = " + arg(key) +
				" AND m.value = " + arg(value) + " AND m.created = t.created AND m.task = t.id)")
		}
	}
	if !f.BatchID.IsZero() {
		where("t.batch = " + arg(uuid(f.BatchID)))
	}
	if len(f.States) > 0 {
		// Written out: so the planner sees which of the two partitions it may leave alone.
		var states []string
		for _, s := range f.States {
			states = append(states, strconv.Itoa(int(s)))
		}
		where("t.state IN (" + strings.Join(states, ", ") + ")")
	}
	if f.Kind != "" {
		where("t.kind = " + arg(f.Kind))
	}
	if f.Queue != "" {
		where("t.queue = " + arg(f.Queue))
	}
	if !f.CreatedAfter.IsZero() {
		where(created + " > " + arg(f.CreatedAfter.UnixMicro()))
	}
	if !f.CreatedBefore.IsZero() {
		// What is kept to the microsecond may lie before a time that is not.
		where(created + " < " + arg(f.CreatedBefore.Add(time.Microsecond-1).UnixMicro()))
	}
	if !f.After.IsZero() {
		where("(" + created + ", " + id + ") < (" + arg(f.After.Created.UnixMicro()) + ", " + arg(uuid(f.After.ID)) + ")")
	}
	limit := int64(min(max(f.Limit, 0), math.MaxInt32)) + 1
	query.WriteString(" ORDER BY " + created + " DESC, " + id + " DESC LIMIT " + arg(limit))
	return query.String(), args
}
