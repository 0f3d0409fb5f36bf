package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func Example() {
	ctx := context.Background()
	// Without WithStore a node keeps its tasks in ./troupe-data.
	rt, err := runtime.Open(ctx, runtime.WithStore(memory.New()))
	if err != nil {
		panic(err)
	}
	defer rt.Close(ctx)

	runtime.Handle(rt, "greet", func(_ context.Context, t *runtime.Task[string]) (string, error) {
		return "hello, " + t.Payload, t.Progress(0.5, "thinking")
	})
	t, err := rt.Submit(ctx, "greet", "Ada")
	if err != nil {
		panic(err)
	}
	done, err := rt.Wait(ctx, t.Namespace, t.ID)
	fmt.Println(done.State, string(done.Result), err)
	// Output: succeeded "hello, Ada" <nil>
}

func ExampleRuntime_Watch() {
	ctx := context.Background()
	rt, err := runtime.Open(ctx, runtime.WithStore(memory.New()))
	if err != nil {
		panic(err)
	}
	defer rt.Close(ctx)

	runtime.Handle(rt, "count", func(_ context.Context, t *runtime.Task[int]) (string, error) {
		for i := range t.Payload {
			if err := t.Emit(i); err != nil {
				return "", err
			}
		}
		return "counted", nil
	})
	t, err := rt.Submit(ctx, "count", 2)
	if err != nil {
		panic(err)
	}
	for event, err := range rt.Watch(ctx, t.Namespace, t.ID, nil) {
		if err != nil {
			panic(err)
		}
		if event.Type == task.EventOutput {
			fmt.Println(event.Cursor, string(event.Data))
		}
	}
	// Output:
	// 1.2 {"chunk":0}
	// 1.3 {"chunk":1}
}

// A retry goes on where the last attempt kept a checkpoint.
func ExampleTask_Checkpoint() {
	ctx := context.Background()
	rt, err := runtime.Open(ctx, runtime.WithStore(memory.New()))
	if err != nil {
		panic(err)
	}
	defer rt.Close(ctx)

	runtime.Handle(rt, "import", func(_ context.Context, t *runtime.Task[int]) (int, error) {
		row := 0
		if _, err := t.Restore(&row); err != nil {
			return 0, err
		}
		fmt.Println("attempt", t.Attempt, "begins at row", row)
		for ; row < t.Payload; row++ {
			if row == 5 && t.Attempt == 1 {
				return 0, errors.New("the connection broke")
			}
			if err := t.Checkpoint(row + 1); err != nil {
				return 0, err
			}
		}
		return row, nil
	})
	t, err := rt.Submit(ctx, "import", 10, func(s *task.Spec) {
		s.Retry = task.Retry{Initial: time.Millisecond, Factor: 1, Max: time.Millisecond}
	})
	if err != nil {
		panic(err)
	}
	done, err := rt.Wait(ctx, t.Namespace, t.ID)
	fmt.Println(done.State, string(done.Result), err)
	// Output:
	// attempt 1 begins at row 0
	// attempt 2 begins at row 5
	// succeeded 10 <nil>
}

// One call for many tasks: a model that embeds a hundred texts as fast as one.
func ExampleHandleBatch() {
	ctx := context.Background()
	rt, err := runtime.Open(ctx, runtime.WithStore(memory.New()))
	if err != nil {
		panic(err)
	}
	defer rt.Close(ctx)

	gather := runtime.Gather{Most: 3, Wait: time.Minute}
	runtime.HandleBatch(rt, "embed", gather, func(_ context.Context, tasks []*runtime.Task[string]) ([]runtime.Outcome[int], error) {
		fmt.Println(len(tasks), "texts in one call")
		out := make([]runtime.Outcome[int], len(tasks))
		for i, t := range tasks {
			out[i].Value = len(t.Payload)
		}
		return out, nil
	})
	var last task.Task
	for _, text := range []string{"a", "bc", "def"} {
		if last, err = rt.Submit(ctx, "embed", text); err != nil {
			panic(err)
		}
	}
	done, err := rt.Wait(ctx, last.Namespace, last.ID)
	fmt.Println(done.State, string(done.Result), err)
	// Output:
	// 3 texts in one call
	// succeeded 3 <nil>
}
