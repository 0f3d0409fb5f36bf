package task

import "fmt"

// State is where a task stands in its life.
type State uint8

// The states, in the order of a life. The numbers are stored: never reorder.
const (
	Scheduled State = iota + 1 // waits for a time: run_at, or the end of a backoff
	Blocked                    // waits for other tasks
	Queued                     // may run as soon as there is room
	Running                    // an attempt is under way
	Succeeded
	Failed
	Cancelled
)

var stateNames = [...]string{
	Scheduled: "scheduled", Blocked: "blocked", Queued: "queued", Running: "running",
	Succeeded: "succeeded", Failed: "failed", Cancelled: "cancelled",
}

// States lists all states in the order of a life.
func States() []State {
	return []State{Scheduled, Blocked, Queued, Running, Succeeded, Failed, Cancelled}
}

// ParseState reads a state's name.
func ParseState(s string) (State, error) {
	for _, state := range States() {
		if state.String() == s {
			return state, nil
		}
	}
	return 0, fmt.Errorf("state %q: %w", s, ErrInvalid)
}

// Terminal says that the task's life is over.
func (s State) Terminal() bool { return s >= Succeeded }

// String gives the state's name as everybody outside sees it.
func (s State) String() string {
	if int(s) < len(stateNames) && s > 0 {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *State) UnmarshalText(text []byte) error {
	parsed, err := ParseState(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
