// Package runtime runs durable tasks inside any Go program.
//
//	rt, err := runtime.Open(ctx)          // embedded SQLite in ./troupe-data
//	runtime.Handle(rt, "greet", func(ctx context.Context, t *runtime.Task[string]) (string, error) {
//		return "hello, " + t.Payload, nil
//	})
//	t, err := rt.Submit(ctx, "greet", "Ada")
//	done, err := rt.Wait(ctx, t.Namespace, t.ID)
//
// What is promised: a submitted task is on disk when Submit returns, and
// survives any crash. It runs at least once, and ends exactly once. Its events
// are numbered without a hole within an attempt, and whoever watches can stop
// and come back at a cursor.
//
// The command troupe is this package with a front door.
package runtime
