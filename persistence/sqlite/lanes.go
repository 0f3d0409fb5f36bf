package sqlite

import (
	"context"
	"math"

	"github.com/troupe-run/troupe/runtime/task"
)

// lane is one lane and what is known of it: no task waits in it that stands
// lower than low. Lowering low is always right, it may only cost a look;
// raising it needs a look that was committed.
type lane struct {
	task.Lane
	id  int64
	low int64
}

// nobodyWaits is the low of a lane known to be empty.
const nobodyWaits = math.MaxInt64

type lanes struct {
	byID   map[int64]*lane
	byName map[task.Lane]*lane
	newest int64
}

func newLanes() lanes {
	return lanes{byID: map[int64]*lane{}, byName: map[task.Lane]*lane{}}
}

// add makes a lane known; nothing is known of who waits in it.
func (ls *lanes) add(id int64, name task.Lane) *lane {
	l := &lane{Lane: name, id: id, low: math.MinInt64}
	ls.byID[id], ls.byName[name] = l, l
	ls.newest = max(ls.newest, id)
	return l
}

func (ls *lanes) drop(l *lane) {
	delete(ls.byID, l.id)
	delete(ls.byName, l.Lane)
}

// waits gives the columns lane, rank and wake_at of a task's row: set where
// nobody holds it, the first two where it may be claimed.
func (t *tx) waits(ctx context.Context, k *task.Task) (lane, rank, wake any, err error) {
	if k.Holder != 0 {
		return nil, nil, nil, nil
	}
	if at := k.WakeAt(); !at.IsZero() {
		wake = at.UnixMicro()
	}
	if k.State != task.Queued {
		return nil, nil, wake, nil
	}
	l, err := t.lane(ctx, k.Lane())
	if err != nil {
		return nil, nil, nil, err
	}
	l.low = min(l.low, k.Rank())
	return l.id, k.Rank(), wake, nil
}

// lane finds or makes a lane.
func (t *tx) lane(ctx context.Context, name task.Lane) (*lane, error) {
	if l, ok := t.lanes.byName[name]; ok {
		return l, nil
	}
	id := t.lanes.newest + 1
	_, err := t.conn.exec(ctx, "INSERT INTO lanes (id, namespace, queue, kind, demand) VALUES (?, ?, ?, ?, ?)",
		id, name.Namespace, name.Queue, name.Kind, name.Terms())
	if err != nil {
		return nil, err
	}
	l := t.lanes.add(id, name)
	l.low = nobodyWaits
	t.made = append(t.made, l)
	return l, nil
}
