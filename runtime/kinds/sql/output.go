package sql

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

const (
	batchBytes = 48 << 10 // of rows in one event, unless one row has more
	batchRows  = 1000
	batchWait  = 100 * time.Millisecond // for which a row may wait for others
)

// output gives rows on in batches. Its goroutine speaks to the attempt, so that a
// batch goes out in time also while the database keeps the next row waiting; and
// it takes a row only when it is done with those before, so a slow attempt slows
// the database down.
type output struct {
	job      job
	maxRows  int
	maxBytes int64

	columns []column
	begun   bool
	sent    chan []byte   // of one row; holds none
	finish  chan struct{} // closed by end
	ended   chan struct{} // closed when nothing is taken any more

	// Of the goroutine until ended is closed.
	rows    int // that went out
	bytes   int64
	waiting []json.RawMessage
	size    int // of those waiting
	full    bool
	refused error
}

// errEnough is what a database hears that has more rows than are wanted.
var errEnough = errors.New("no more rows are wanted")

func newOutput(j job, maxRows int, maxBytes int64) *output {
	return &output{
		job: j, maxRows: maxRows, maxBytes: maxBytes, columns: []column{},
		sent: make(chan []byte), finish: make(chan struct{}), ended: make(chan struct{}),
	}
}

// begin says what the rows consist of. It comes first, and once.
func (o *output) begin(columns []column) {
	o.columns, o.begun = columns, true
	head := struct {
		Columns []column `json:"columns"`
	}{columns}
	switch err := o.job.Emit(head); {
	case errors.Is(err, task.ErrLogFull):
		o.full = true
	case errors.Is(err, task.ErrInvalid):
		o.refused = tooLarge("the names of the columns are too long for an event")
	default:
		o.refused = err
	}
	go o.run() // until end, which whoever made this calls
}

// row takes one row, a JSON list, which is not changed afterwards.
func (o *output) row(encoded []byte) error {
	select {
	case o.sent <- encoded:
		return nil
	case <-o.ended:
		return errEnough
	}
}

// end gives on what is left, and says whether rows were left out, or why the
// attempt refused them.
func (o *output) end() (full bool, refused error) {
	close(o.finish)
	if o.begun {
		<-o.ended
	}
	return o.full, o.refused
}

func (o *output) run() {
	defer close(o.ended)
	timer := time.NewTimer(batchWait)
	defer timer.Stop()
	for !o.full && o.refused == nil {
		select {
		case row := <-o.sent:
			if len(o.waiting) == 0 {
				timer.Reset(batchWait)
			}
			o.take(row)
		case <-timer.C:
			o.flush()
		case <-o.finish:
			o.flush()
			return
		}
	}
	if o.refused == nil {
		o.flush()
	}
}

// take adds a row, unless it is one too many: then there are more than are given.
func (o *output) take(row []byte) {
	switch {
	case o.rows+len(o.waiting) == o.maxRows, o.bytes+int64(len(row)) > o.maxBytes:
		o.full = true
		return
	case len(row) > maxRow:
		o.flush()
		if !o.full && o.refused == nil {
			o.refused = tooLarge(fmt.Sprintf("row %d has %d bytes as JSON, more than the %d allowed", o.rows+1, len(row), maxRow))
		}
		return
	}
	if o.size+len(row) > batchBytes {
		o.flush()
	}
	o.bytes += int64(len(row))
	o.waiting, o.size = append(o.waiting, row), o.size+len(row)
	if len(o.waiting) == batchRows {
		o.flush()
	}
}

// flush gives on what waits. A full log of the task takes no more: the same as
// when as many rows as were asked for have been read.
func (o *output) flush() {
	if len(o.waiting) == 0 {
		return
	}
	batch := struct {
		Rows []json.RawMessage `json:"rows"`
	}{o.waiting}
	err := o.job.Emit(batch)
	switch {
	case err == nil:
		o.rows += len(o.waiting)
	case errors.Is(err, task.ErrLogFull):
		o.full = true
	case errors.Is(err, task.ErrInvalid):
		o.refused = tooLarge("a value is nested too deep for an event")
	default:
		o.refused = err
	}
	o.waiting, o.size = nil, 0
}
