package actors

import (
	"errors"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/task"
)

// TestAnActorThatGoesDoesNotCallACursorAhead has somebody watch a task from further on than
// its actor knows. If that is about to go, the task may have been taken again, and gone
// on: only who still speaks for it can say that there is no such event.
func TestAnActorThatGoesDoesNotCallACursorAhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Helper()
		n := startNode(t, memory.New())
		row := task.New(spec("echo", `1`).Spec, time.Now(), 1).Task
		for what, a := range map[string]*taskActor{
			"it speaks for the task": {}, "it gives the task back": {leaving: true}, "it has": {left: true}, "it crashed": {restarted: true},
		} {
			a.node, a.role, a.row, a.disk, a.log = n, &role{task: &row}, row, &row, a.log.anew(row.Cursor)
			pid := n.root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
				if msg, ok := ctx.Message().(watch); ok {
					a.watch(ctx, msg)
				}
			}))
			answer, err := n.root.RequestFuture(pid, watch{namespace: row.Namespace, after: row.Cursor.In(row.Attempt)}, patience).Result()
			if err != nil {
				t.Fatal(err)
			}
			said, speaks := answer.(watching)
			if goes := a.leaving || a.left || a.restarted; speaks == goes || speaks && !errors.Is(said.err, task.ErrCursorAhead) {
				t.Errorf("%s: %+v", what, answer)
			}
			n.root.Stop(pid)
		}
	})
}
