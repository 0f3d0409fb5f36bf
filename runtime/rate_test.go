package runtime_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

// settled is how long a test in virtual time waits behind the end of its nodes: until
// every timer of theirs that sends to an actor that is gone has fired, and the second is
// over in which the actor library counts such messages, in a goroutine.
const settled = time.Minute + 500*time.Millisecond

// sharedRate lets so many through, and can be away.
type sharedRate struct {
	left atomic.Int64
	away atomic.Bool
}

func (s *sharedRate) Allow(_ context.Context, key string, _ float64, burst, n int) (bool, time.Duration, bool) {
	if s.away.Load() || key != "submit default" || n > burst {
		return false, 0, false
	}
	return s.left.Add(-int64(n)) >= 0, 3 * time.Second, true
}

func TestTasksAreTakenNoFasterThanTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, err := runtime.Open(context.Background(), runtime.WithStore(memory.New()),
			runtime.WithSubmitRate(task.Rate{Count: 10, Per: time.Second}, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = rt.Close(context.Background())
			time.Sleep(settled)
		}()
		taken, refused := 0, time.Duration(0)
		for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
			_, err := rt.Submit(context.Background(), "none", nil)
			var fast *task.TooFastError
			switch {
			case err == nil:
				taken++
			case errors.As(err, &fast):
				refused = fast.After
			default:
				t.Fatal(err)
			}
		}
		if taken < 58 || taken > 60 || refused <= 0 || refused > time.Second {
			t.Errorf("%d taken in 5 s at 10 a second, then wait %v", taken, refused)
		}
	})
}

func TestSharedRateGoesFirstAndEachNodeKeepsItWhereItCannotSay(t *testing.T) {
	shared := &sharedRate{}
	shared.left.Store(1)
	rt, err := runtime.Open(t.Context(), runtime.WithStore(memory.New()),
		runtime.WithSubmitRate(task.Rate{Count: 1, Per: time.Hour}, shared))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rt.Close(context.Background()) }()
	submit := func() error {
		_, err := rt.Submit(context.Background(), "none", nil)
		return err
	}
	if err := submit(); err != nil {
		t.Fatal(err)
	}
	var fast *task.TooFastError
	if err := submit(); !errors.As(err, &fast) || fast.After != 3*time.Second {
		t.Errorf("the shared rate is spent, and: %v", err)
	}
	shared.away.Store(true)
	if err := submit(); err != nil {
		t.Errorf("the node's own rate is not spent, and: %v", err)
	}
	if err := submit(); !errors.Is(err, task.ErrTooFast) {
		t.Errorf("the node's own rate is spent, and: %v", err)
	}
}
