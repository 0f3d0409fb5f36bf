package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func TestBatchAsJSON(t *testing.T) {
	f := newFront(Config{})
	r := f.do(t, "POST", "/v1/batches?batch_id="+id(500).String(), `{"tasks":[`+echo+`,{"kind":"k","queue":"q"}]}`).want(t, 201)
	r.golden(t, "batch.json")
	path := "/v1/batches/" + id(500).String()
	f.tasks.start(id(1))
	f.tasks.succeed(id(1), "1")
	f.do(t, "GET", path, "").want(t, 200).golden(t, "batch_status.json")
	if got := as[transport.BatchCancelled](t, f.do(t, "POST", path+"/cancel", "").want(t, 200)); got.Cancelled != 1 {
		t.Errorf("%+v", got)
	}
	if got := as[transport.BatchStatus](t, f.do(t, "GET", path, "").want(t, 200)); !got.Done || got.Total != 2 {
		t.Errorf("%+v", got)
	}
	made := as[transport.BatchAccepted](t, f.do(t, "POST", "/v1/batches", `{"tasks":[`+echo+`]}`).want(t, 201))
	if made.BatchID[14] != '7' || !strings.ContainsAny(made.BatchID[19:20], "89ab") {
		t.Errorf("%s is no UUID of version 7", made.BatchID)
	}
	if got := f.tasks.tasks[id(3)].BatchID.String(); got != made.BatchID {
		t.Errorf("the task is of batch %s", got)
	}
}

func TestBatchIsTakenWholeOrNotAtAll(t *testing.T) {
	f := newFront(Config{Bounds: Bounds{BatchTasks: 3}, Limits: task.Limits{Attempts: 9}})
	for _, tt := range []struct {
		body  string
		paths []string
	}{
		{`{"tasks":[{"kind":"k"},{"kind":"k","priority":101,"max_attempts":10},{"timeout":"x","kind":"k"}]}`, []string{"tasks[1].priority", "tasks[1].max_attempts", "tasks[2].timeout"}},
		{`{"tasks":[{"kind":"k"},{"kind":"k","who":1},7]}`, []string{"tasks[1].who", "tasks[2]"}},
		{`{"tasks":[]}`, []string{"tasks"}},
		{`{}`, []string{"tasks"}},
		{`{"tasks":[` + echo + `,` + echo + `,` + echo + `,` + echo + `]}`, []string{"tasks"}},
		{`{"tasks":[` + strings.Repeat("{},", 10_000) + `{}]}`, []string{"tasks"}},
	} {
		if got := f.do(t, "POST", "/v1/batches", tt.body).want(t, 422).paths(t); !slices.Equal(got, tt.paths) {
			t.Errorf("%.100s: %q", tt.body, got)
		}
	}
	if len(f.tasks.tasks) > 0 {
		t.Errorf("%d tasks were taken", len(f.tasks.tasks))
	}
	many := newFront(Config{})
	r := many.do(t, "POST", "/v1/batches", `{"tasks":[`+strings.Repeat("{},", 999)+`{}]}`).want(t, 422)
	if n := len(r.paths(t)); n != 100 {
		t.Errorf("%d faults are named", n)
	}
	many = newFront(Config{Limits: task.Limits{Payload: 10}})
	many.do(t, "POST", "/v1/batches", `{"tasks":[{"kind":"k","payload":"12345678901"}]}`).want(t, 413)
	many.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
		return []task.Submitted{{}, {Err: task.ErrQueueFull}}
	}
	many.do(t, "POST", "/v1/batches", `{"tasks":[`+echo+`,`+echo+`]}`).want(t, 429)
	many.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
		return []task.Submitted{{}, {Err: task.InvalidError{{Field: "kind", Message: "is odd"}}}}
	}
	if got := many.do(t, "POST", "/v1/batches", `{"tasks":[`+echo+`,`+echo+`]}`).want(t, 422).paths(t); got[0] != "tasks[1].kind" {
		t.Errorf("%q", got)
	}
}

// upload is a client that sends lines and reads answers as it likes.
type upload struct {
	tb  testing.TB
	in  *io.PipeWriter
	out *bufio.Scanner
	res chan *http.Response
}

func (f *front) upload(tb testing.TB) *upload {
	tb.Helper()
	server := httptest.NewServer(f)
	tb.Cleanup(server.Close)
	body, in := io.Pipe()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, server.URL+"/v1/batches", body)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Content-Type", mediaNDJSON)
	u := &upload{tb: tb, in: in, res: make(chan *http.Response, 1)}
	go func() {
		res, err := server.Client().Do(r) //nolint:bodyclose // answer does
		if err != nil {
			tb.Error(err)
		}
		u.res <- res
	}()
	return u
}

func (u *upload) send(lines ...string) {
	u.tb.Helper()
	if _, err := io.WriteString(u.in, strings.Join(lines, "\n")+"\n"); err != nil {
		u.tb.Fatal(err)
	}
}

// answer reads one line.
func (u *upload) answer() map[string]any {
	u.tb.Helper()
	if u.out == nil {
		res := <-u.res
		if res == nil || res.StatusCode != http.StatusCreated || res.Header.Get("Content-Type") != mediaNDJSON {
			u.tb.Fatalf("%+v", res)
		}
		u.tb.Cleanup(func() { _ = res.Body.Close() })
		u.out = bufio.NewScanner(res.Body)
	}
	if !u.out.Scan() {
		u.tb.Fatalf("the answer ended: %v", u.out.Err())
	}
	var m map[string]any
	if err := json.Unmarshal(u.out.Bytes(), &m); err != nil {
		u.tb.Fatalf("%s: %v", u.out.Bytes(), err)
	}
	return m
}

func codeIn(m map[string]any) any {
	p, _ := m["error"].(map[string]any)
	return p["code"]
}

func TestLinesAreAnsweredAsTheyAreStored(t *testing.T) {
	f := newFront(Config{Bounds: Bounds{Line: 300}})
	u := f.upload(t)
	u.send(echo) // and only once that is answered, the next
	if first := u.answer(); len(first) != 1 || first["batch_id"] == nil {
		t.Errorf("first line %v", first)
	}
	if got := u.answer(); got["line"] != 1.0 || got["id"] != id(1).String() {
		t.Errorf("%v", got)
	}
	u.send("", " \t", `{"kind":`, `{"kind":"k","who":1}`, `{"kind":"K"}`, `{"kind":"`+strings.Repeat("k", 70_000)+`"}`,
		`{"kind":"k","id":"`+id(1).String()+`"}`, `{"kind":"demo.echo","id":"`+id(1).String()+`"}`, "\t"+echo+"\r")
	for _, want := range []struct {
		line float64
		code any
	}{{4, "malformed_json"}, {5, "invalid_request"}, {6, "invalid_task"}, {7, "payload_too_large"}, {8, "task_exists"}, {9, nil}, {10, nil}} {
		got := u.answer()
		if got["line"] != want.line || codeIn(got) != want.code {
			t.Errorf("%v, want %v", got, want)
		}
		if want.line == 9 && got["existing"] != true {
			t.Errorf("%v", got)
		}
	}
	_, _ = io.WriteString(u.in, echo) // without an end of line
	_ = u.in.Close()
	if got := u.answer(); got["line"] != 11.0 || got["id"] == nil {
		t.Errorf("%v", got)
	}
	last := u.answer()
	if last["accepted"] != 4.0 || last["refused"] != 5.0 || last["batch_id"] == nil || last["error"] != nil {
		t.Errorf("summary %v", last)
	}
	if u.out.Scan() {
		t.Errorf("and then %s", u.out.Bytes())
	}
	if n := f.uploads.used.Load() + f.streams.used.Load(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

func TestWhatArrivesMeanwhileIsOneChunk(t *testing.T) {
	f := newFront(Config{})
	entered, leave := make(chan int), make(chan struct{})
	f.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
		entered <- len(subs)
		<-leave
		return make([]task.Submitted, len(subs))
	}
	u := f.upload(t)
	const lines = 2*chunkLines + 100
	go func() {
		u.send(slices.Repeat([]string{echo}, lines)...)
		_ = u.in.Close()
	}()
	var sizes []int
	for sum := 0; sum < lines; {
		n := <-entered
		sizes = append(sizes, n)
		if sum += n; n > chunkLines {
			t.Errorf("a chunk of %d lines", n)
		}
		leave <- struct{}{}
	}
	for range lines + 1 {
		u.answer()
	}
	if got := u.answer(); got["accepted"] != float64(lines) {
		t.Errorf("summary %v", got)
	}
	if len(sizes) > 10 {
		t.Logf("sizes %v", sizes)
	}
}

func TestUploadEndsWithTheServer(t *testing.T) {
	f := newFront(Config{})
	u := f.upload(t)
	u.send(echo)
	u.answer()
	u.answer()
	f.stop()
	got := u.answer()
	if codeIn(got) != "shutting_down" || got["accepted"] != 1.0 {
		t.Errorf("summary %v", got)
	}
	_ = u.in.Close()
}

func TestUploadThatStopsIsEnded(t *testing.T) {
	// Where the machine stands still, one may be ended before its only line has come.
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		f := newFront(Config{Bounds: Bounds{Read: wait}})
		u := f.upload(t)
		u.send(echo)
		u.answer()
		first := u.answer()
		last := first
		if first["line"] != nil {
			last = u.answer()
		}
		if codeIn(last) != "request_timeout" || first["line"] != nil && last["accepted"] != 1.0 {
			t.Errorf("summary %v", last)
		}
		_ = u.in.Close()
		if first["line"] != nil {
			return
		}
	}
}

func TestUploadOfNothing(t *testing.T) {
	f := newFront(Config{})
	f.do(t, "POST", "/v1/batches", "\n \n", "Content-Type", mediaNDJSON).want(t, 422)
	f.do(t, "POST", "/v1/batches?batch_id=7", echo, "Content-Type", mediaNDJSON).want(t, 422)
	f.stop()
	f.do(t, "POST", "/v1/batches", echo, "Content-Type", mediaNDJSON)
	f = newFront(Config{Bounds: Bounds{Uploads: -1}})
	f.do(t, "POST", "/v1/batches", echo, "Content-Type", mediaNDJSON).want(t, 429)
	f = newFront(Config{})
	f.streams.most = 0
	f.do(t, "POST", "/v1/batches", echo, "Content-Type", mediaNDJSON).want(t, 429)
}

func TestFaultBehindAnUpload(t *testing.T) {
	f := newFront(Config{})
	f.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
		return slices.Repeat([]task.Submitted{{Err: task.ErrUnavailable}}, len(subs))
	}
	r := f.do(t, "POST", "/v1/batches", strings.Repeat(echo+"\n", 3), "Content-Type", mediaNDJSON).want(t, 201)
	if got := strings.Count(string(r.body), `"code":"store_unavailable"`); got != 3 {
		t.Errorf("%s", r.body)
	}
}

func BenchmarkLines(b *testing.B) {
	f := newFront(Config{})
	f.tasks.enqueue = func(subs []task.Submission) []task.Submitted { return make([]task.Submitted, len(subs)) }
	server := httptest.NewServer(f)
	defer server.Close()
	line := `{"kind":"demo.echo","payload":{"customer":17,"text":"some words to echo"},"labels":{"run":"1"}}` + "\n"
	const lines = 100_000
	body := strings.Repeat(line, lines)
	for b.Loop() {
		res, err := server.Client().Post(server.URL+"/v1/batches", mediaNDJSON, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if !strings.HasSuffix(string(answer), fmt.Sprintf("\"accepted\":%d,\"refused\":0}\n", lines)) {
			b.Fatalf("%s", answer[len(answer)-200:])
		}
	}
	b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

func TestLinesThatComeTooFastWait(t *testing.T) {
	f := newFront(Config{})
	refused := 0
	f.tasks.enqueue = func(subs []task.Submission) []task.Submitted {
		done := make([]task.Submitted, len(subs))
		if refused++; refused < 3 {
			for i := range done {
				done[i].Err = &task.TooFastError{After: time.Millisecond}
			}
		}
		return done
	}
	r := f.do(t, "POST", "/v1/batches", echo+"\n"+echo+"\n", "Content-Type", mediaNDJSON).want(t, 201)
	if !strings.Contains(string(r.body), `"accepted":2`) || refused < 3 {
		t.Errorf("asked %d times: %s", refused, r.body)
	}
}

func TestBatchHasACallback(t *testing.T) {
	f := newFront(Config{})
	made := as[transport.BatchAccepted](t, f.do(t, "POST", "/v1/batches", `{"tasks":[`+echo+`],"callback":{"kind":"done","priority":5}}`).want(t, 201))
	if len(made.IDs) != 1 || made.Callback == "" {
		t.Fatalf("%+v", made)
	}
	v := as[transport.Task](t, f.do(t, "GET", "/v1/tasks/"+made.Callback, "").want(t, 200))
	if v.AfterBatch != made.BatchID || v.BatchID != "" || v.State != task.Blocked || v.Kind != "done" {
		t.Errorf("%+v", v)
	}
	status := as[transport.BatchStatus](t, f.do(t, "GET", "/v1/batches/"+made.BatchID, "").want(t, 200))
	if status.Total != 1 || status.Progress != 0 || status.Done || status.Callback != made.Callback {
		t.Errorf("%+v", status)
	}
	two := as[transport.BatchAccepted](t, f.do(t, "POST", "/v1/batches", `{"tasks":[`+echo+`]}`).want(t, 201))
	call := as[transport.Task](t, f.do(t, "POST", "/v1/batches/"+two.BatchID+"/callback", `{"kind":"done"}`).want(t, 201))
	if call.AfterBatch != two.BatchID {
		t.Errorf("%+v", call)
	}
	if got := f.do(t, "POST", "/v1/batches", `{"tasks":[`+echo+`],"callback":{"kind":"K"}}`).want(t, 422).paths(t); got[0] != "callback.kind" {
		t.Errorf("%v", got)
	}
}
