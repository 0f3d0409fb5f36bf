package task

import (
	"encoding/json"
	"time"
)

// MaxSignals is how many signals may be there that a task has not taken.
const MaxSignals = 1000

// Signal is something that somebody tells a task. It waits until the task takes it.
type Signal struct {
	ID   ID // tells it from others: what has been kept once is not kept again
	Name string
	Data json.RawMessage
	At   time.Time
}

// CheckSignal says what is wrong with a signal, and gives it with its defaults.
func (l Limits) CheckSignal(s Signal) (Signal, error) {
	most := l.WithDefaults().Event
	if len(s.Data) == 0 {
		s.Data = json.RawMessage("null")
	}
	var bad InvalidError
	if !ValidName(s.Name) {
		bad = append(bad, Violation{Field: "name", Message: "must be 1 to 100 of the characters a-z 0-9 . _ -"})
	}
	switch {
	case len(s.Data) > most:
		bad = append(bad, Violation{Field: "payload", Message: "is larger than allowed"})
	case !ValidJSON(s.Data):
		bad = append(bad, Violation{Field: "payload", Message: "is not valid JSON in UTF-8, or nested too deep"})
	}
	if bad != nil {
		return Signal{}, bad
	}
	return s, nil
}
