package httpcall

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestRequestsRunOnANode(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("\x01", 200<<10))
	})
	for _, allowed := range []bool{true, false} {
		node, err := runtime.Open(t.Context(), runtime.WithData(t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close(t.Context())
		Register(node, Config{AllowPrivate: allowed, MaxBody: 100 << 10})
		submitted, err := node.Submit(t.Context(), "http", map[string]string{"url": url})
		if err != nil {
			t.Fatal(err)
		}
		got, err := node.Wait(t.Context(), submitted.Namespace, submitted.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !allowed {
			if got.Failure == nil || got.Failure.Code != "address_refused" || got.Attempt != 1 {
				t.Errorf("not allowed, it ended with %+v after %d attempts", got.Failure, got.Attempt)
			}
			continue
		}
		var answer struct {
			Status    int
			Bytes     int64
			Truncated bool
		}
		if err := json.Unmarshal(got.Result, &answer); err != nil {
			t.Fatalf("%v: %+v", err, got.Failure)
		}
		if answer.Status != 200 || answer.Bytes != 200<<10 || !answer.Truncated || got.State != task.Succeeded {
			t.Errorf("got %+v", answer)
		}
	}
}
