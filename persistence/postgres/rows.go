package postgres

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/troupe-run/troupe/persistence/codec"
	"github.com/troupe-run/troupe/runtime/task"
)

// columns is what makes a task, in the order that decode reads.
const columns = `t.id, t.namespace, t.state, t.holder, t.attempt, t.created, t.log_start, t.queue, t.kind, t.batch,
	coalesce(t.unique_key, ''), t.life, t.spec, t.payload, t.checkpoint, t.result, t.called,
	CASE WHEN t.parked IS NOT NULL THEN (SELECT ARRAY[l.scope::text, l.namespace, l.name, l.used::text, coalesce(l.ceiling, -1)::text]
		FROM troupe.limits l WHERE l.id = abs(t.parked)) END, coalesce(t.bound, 0), coalesce(t.bound_until, 0)`

// decode makes a task of a row of columns. It gives the spec as it is stored, too.
func decode(r pgx.Row, more ...any) (t task.Task, spec []byte, err error) {
	var id, batch pgtype.UUID
	var state int16
	var attempt int32
	var holder, created, logStart, bound, until int64
	var life, payload, checkpoint, result []byte
	var parked []string
	into := append([]any{
		&id, &t.Namespace, &state, &holder, &attempt, &created, &logStart, &t.Queue, &t.Kind, &batch,
		&t.UniqueKey, &life, &spec, &payload, &checkpoint, &result, &t.Called, &parked, &bound, &until,
	}, more...)
	if err := r.Scan(into...); err != nil {
		return task.Task{}, nil, err
	}
	t.ID, t.BatchID = id.Bytes, batch.Bytes
	t.State, t.Holder, t.Attempt = stateOf(state), task.Incarnation(holder), int(attempt)
	t.Created, t.LogStart = codec.Micros(created), codec.Unpack(logStart)
	t.Payload, t.Checkpoint, t.Result = raw(payload), raw(checkpoint), raw(result)
	if t.Bound = task.Incarnation(bound); bound != 0 {
		t.BoundUntil = codec.Micros(until)
	}
	if t.Parked, err = parkedOn(parked); err != nil {
		return task.Task{}, nil, err
	}
	if err := codec.DecodeLife(life, &t); err != nil {
		return task.Task{}, nil, err
	}
	return t, spec, codec.DecodeSpec(spec, &t.Spec)
}

// parkedOn reads how a limit stands that somebody is parked on; nil: nobody.
func parkedOn(limit []string) (*task.Parked, error) {
	if len(limit) < 5 {
		return nil, nil
	}
	scope, err1 := strconv.ParseUint(limit[0], 10, 8)
	used, err2 := strconv.ParseInt(limit[3], 10, 64)
	most, err3 := strconv.ParseInt(limit[4], 10, 64)
	return &task.Parked{
		Limit: task.LimitName{Scope: task.LimitScope(scope), Namespace: limit[1], Name: limit[2]},
		Used:  task.Quantity(used), Most: task.Quantity(most),
	}, errors.Join(err1, err2, err3)
}

// stateOf reads a state; the core has seven.
func stateOf(v int16) task.State { return task.State(v & 7) }

func raw(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

// orNull gives NULL for nothing, where the driver would write an empty value.
func orNull(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// uuid gives NULL for the zero id.
func uuid(id task.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: !id.IsZero()} }

func uuids(ids []task.ID) uuidColumn {
	all := make(uuidColumn, len(ids))
	for i, id := range ids {
		all[i] = uuid(id)
	}
	return all
}

// finished gives the column of that name: whatever the task says, a terminal
// one has it. For another it is not looked at.
func finished(k *task.Task) int64 {
	if !k.State.Terminal() {
		return 0
	}
	return k.Finished.UnixMicro()
}

// lastOf is the newest cursor among events, or 0.
func lastOf(events []task.Event) int64 {
	if len(events) == 0 {
		return 0
	}
	return codec.Pack(events[len(events)-1].Cursor)
}
