package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/api"
	"github.com/troupe-run/troupe/transport/client"
	"github.com/troupe-run/troupe/transport/ws"
)

// patience is for how long a test waits for what must come, and for how long a server
// of these tests takes nobody for gone. It only passes where something is wrong: a
// machine may be slow, or stand still for seconds.
const patience = 2 * time.Minute

// realServer is the whole front door over a runtime in memory.
func realServer(t *testing.T) *client.Client {
	t.Helper()
	rt, err := runtime.Open(t.Context(), runtime.WithStore(memory.New()), runtime.WithDrainTimeout(time.Second), runtime.WithWorkerLease(patience))
	if err != nil {
		t.Fatal(err)
	}
	runtime.Handle(rt, "echo", func(_ context.Context, t *runtime.Task[json.RawMessage]) (json.RawMessage, error) {
		return t.Payload, nil
	})
	runtime.Handle(rt, "fail", func(context.Context, *runtime.Task[json.RawMessage]) (int, error) {
		return 0, runtime.Permanent(errors.New("no"))
	})
	sockets, workers := ws.New(rt, ws.Config{}), ws.NewWorkers(rt, ws.Config{Lease: patience})
	srv := httptest.NewServer(api.New(rt, api.Config{WS: sockets, Workers: workers, Registerer: prometheus.NewRegistry()}))
	t.Cleanup(func() {
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	return newClient(t, srv.URL)
}

func newClient(t *testing.T, server string) *client.Client {
	t.Helper()
	c, err := client.New(server, client.Options{Key: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func code(err error) string {
	if p, ok := errors.AsType[*transport.Problem](err); ok {
		return p.Code
	}
	return fmt.Sprint(err)
}

func TestEveryCallOfTheAPI(t *testing.T) {
	c, ctx := realServer(t), t.Context()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	one, created, err := c.Submit(ctx, transport.Submission{Kind: "echo", Payload: json.RawMessage(`{"n":12345678901234567890}`), Delay: "1ms"})
	if err != nil || !created {
		t.Fatalf("%v, %v", created, err)
	}
	result, err := c.Result(ctx, one.ID, patience)
	if err != nil || string(result) != `{"n":12345678901234567890}` {
		t.Errorf("result %s, %v", result, err)
	}
	again, created, err := c.Submit(ctx, transport.Submission{ID: one.ID, Kind: "fail"})
	if code(err) != "task_exists" || created || again.ID != "" {
		t.Errorf("another task under the same id: %v", err)
	}
	later, _, err := c.Submit(ctx, transport.Submission{Kind: "echo", Delay: "1h", UniqueKey: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if _, created, err := c.Submit(ctx, transport.Submission{Kind: "echo", UniqueKey: "u"}); err != nil || created {
		t.Errorf("unique: %v, %v", created, err)
	}
	if e, err := c.Explain(ctx, later.ID); err != nil || e.Waiting == nil || e.Waiting.Reason != "time" {
		t.Errorf("explain: %+v, %v", e, err)
	}
	if result, err := c.Result(ctx, later.ID, time.Millisecond); err != nil || result != nil {
		t.Errorf("a result too early: %s, %v", result, err)
	}
	if err := errors.Join(c.Signal(ctx, later.ID, "go", nil), c.Signal(ctx, later.ID, "go", json.RawMessage(`{"a":1}`))); err != nil {
		t.Error(err)
	}
	if err := c.Signal(ctx, one.ID, "go", nil); code(err) != "task_ended" {
		t.Errorf("a signal to a task that has ended: %v", err)
	}
	if got, err := c.Cancel(ctx, later.ID, "enough"); err != nil || got.State.String() != "cancelled" {
		t.Errorf("cancel: %s, %v", got.State, err)
	}
	if got, err := c.Rerun(ctx, later.ID); err != nil || got.State.Terminal() {
		t.Errorf("rerun: %s, %v", got.State, err)
	}
	if _, err := c.Result(ctx, later.ID, patience); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, later.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, later.ID); code(err) != "task_not_found" {
		t.Errorf("deleted: %v", err)
	}
	failed, _, err := c.Submit(ctx, transport.Submission{Kind: "fail"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Result(ctx, failed.ID, patience); code(err) != "task_failed" {
		t.Errorf("the result of a failed task: %v", err)
	}
	if r, err := c.SetResource(ctx, "openai", 20_000); err != nil || r.Cluster == nil || r.Cluster.Capacity != 20_000 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := c.RemoveResource(ctx, "openai"); err != nil {
		t.Error(err)
	}
	if q, err := c.SetQueue(ctx, "slow", transport.QueueChange{Paused: new(true), Concurrency: new(2), Rate: new("5/s")}); err != nil || !q.Paused || q.Concurrency != 2 || q.Rate != "5/s" {
		t.Errorf("pause: %+v, %v", q, err)
	}
	queues, err1 := c.Queues(ctx)
	workers, err2 := c.Workers(ctx)
	nodes, err3 := c.Nodes(ctx)
	resources, err4 := c.Resources(ctx)
	stats, err5 := c.Stats(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	if len(queues.Queues) != 2 || len(workers.Workers) != 1 || len(nodes.Nodes) != 1 || len(resources.Resources) == 0 || stats.Counts["succeeded"] != 1 {
		t.Errorf("%+v %+v %+v %+v %+v", queues, workers, nodes, resources, stats)
	}
}

func TestListGoesThroughAllPages(t *testing.T) {
	c, ctx := realServer(t), t.Context()
	for range 25 {
		if _, _, err := c.Submit(ctx, transport.Submission{Kind: "echo", Queue: "q"}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, err := range c.List(ctx, url.Values{"limit": {"10"}, "queue": {"q"}}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 25 {
		t.Errorf("%d tasks", n)
	}
	for _, err := range c.List(ctx, url.Values{"state": {"odd"}}) {
		if err == nil {
			t.Error("a filter that is none was taken")
		}
	}
	for _, err := range c.List(ctx, url.Values{"limit": {"5"}}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
}

func TestBatchAnswersWhileLinesStillCome(t *testing.T) {
	c, ctx := realServer(t), t.Context()
	reader, writer := io.Pipe()
	answers := make(chan transport.BatchLine)
	go func() {
		defer writer.Close()
		for i := range 5 { // each line only after the answer to the one before
			fmt.Fprintf(writer, `{"kind":"echo","payload":%d}`+"\n", i)
			<-answers
		}
		fmt.Fprintln(writer, "nonsense")
		<-answers
	}()
	refused := 0
	summary, err := c.Batch(ctx, reader, func(l transport.BatchLine) {
		if l.Error != nil {
			refused++
		}
		answers <- l
	})
	if err != nil || summary.Accepted != 5 || summary.Refused != 1 || refused != 1 || summary.BatchID == "" {
		t.Errorf("%+v, %v", summary, err)
	}
	status, err := c.BatchStatus(ctx, summary.BatchID)
	if err != nil || status.Total != 5 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestLongBatchIsOneThoughItGoesInParts(t *testing.T) {
	c, ctx := realServer(t), t.Context()
	var lines strings.Builder
	const blocks, block = 500, 50
	for i := range blocks { // each a task, a line of no kind, and blank ones
		fmt.Fprintf(&lines, `{"kind":"echo","payload":%d}`+"\n{}\n"+strings.Repeat("\n", block-2), i)
	}
	text := lines.String() + `{"kind":"echo"}` // and no end of line
	seen := map[int]bool{}
	summary, err := c.Batch(ctx, strings.NewReader(text), func(l transport.BatchLine) {
		if seen[l.Line] || (l.Line%block == 1) != (l.Error == nil) {
			t.Errorf("%+v", l)
		}
		seen[l.Line] = true
	})
	if err != nil || summary.Accepted != blocks+1 || summary.Refused != blocks || len(seen) != 2*blocks+1 {
		t.Errorf("%+v with %d answers, %v", summary, len(seen), err)
	}
	if status, err := c.BatchStatus(ctx, summary.BatchID); err != nil || status.Total != blocks+1 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestBatchThatEndsWithAPartIsWhole(t *testing.T) {
	c, ctx := realServer(t), t.Context()
	text := strings.Repeat(`{"kind":"echo"}`+"\n"+strings.Repeat("\n", 9999), 2)
	summary, err := c.Batch(ctx, strings.NewReader(text), func(transport.BatchLine) {})
	if err != nil || summary.Accepted != 2 || summary.Error != nil {
		t.Errorf("%+v, %v", summary, err)
	}
}

func TestBatchThatIsCutOffSaysSo(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"batch_id":"b"}`)
		fmt.Fprintln(w, `{"line":1,"id":"x"}`)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	n := 0
	summary, err := newClient(t, srv.URL).Batch(t.Context(), strings.NewReader("{}\n"), func(transport.BatchLine) { n++ })
	if !errors.Is(err, client.ErrUnreachable) || summary.BatchID != "b" || n != 1 {
		t.Errorf("%+v after %d answers, %v", summary, n, err)
	}
}

// A submit whose answer is lost is tried again as the same task.
func TestLostAnswerNeverMakesASecondTask(t *testing.T) {
	var bodies []string
	var calls atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(raw))
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Error("without the key")
		}
		switch calls.Add(1) {
		case 1:
			panic(http.ErrAbortHandler) // no answer
		case 2:
			w.Header().Set("Content-Length", "100") // half an answer
			fmt.Fprint(w, `{"id":`)
		default:
			fmt.Fprint(w, `{"id":"x","state":"queued"}`)
		}
	}))
	defer srv.Close()
	got, created, err := newClient(t, srv.URL).Submit(t.Context(), transport.Submission{Kind: "k", Delay: "5s"})
	if err != nil || !created || got.ID != "x" {
		t.Errorf("%+v, %v, %v", got, created, err)
	}
	if len(bodies) != 3 || bodies[0] != bodies[1] || bodies[1] != bodies[2] || !strings.Contains(bodies[0], `"id":"`) || strings.Contains(bodies[0], "delay") {
		t.Errorf("%q", bodies)
	}
}

func TestWhatIsNoServer(t *testing.T) {
	for _, address := range []string{"", "localhost:8080", "ftp://x", "http://", "http://u:p@h", "http://h?q"} {
		if _, err := client.New(address, client.Options{}); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
	dials := 0
	counting := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	c, err := client.New("http://127.0.0.1:9", client.Options{HTTP: &http.Client{Transport: counting}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Submit(t.Context(), transport.Submission{Kind: "k"}); !errors.Is(err, client.ErrUnreachable) || dials != 1 {
		t.Errorf("%v after %d dials", err, dials)
	}
	for _, err := range c.Watch(t.Context(), client.Topic{Task: "x"}) {
		if !errors.Is(err, client.ErrUnreachable) {
			t.Error(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Ready(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "<html>")
	}))
	defer srv.Close()
	if err := newClient(t, srv.URL).Ready(t.Context()); code(err) != "http_error" {
		t.Error(err)
	}
	if _, err := newClient(t, srv.URL).Batch(t.Context(), strings.NewReader(""), nil); code(err) != "http_error" {
		t.Error(err)
	}
	for _, err := range newClient(t, srv.URL).Watch(t.Context(), client.Topic{Task: "x"}) {
		if code(err) != "http_error" {
			t.Error(err)
		}
	}
}
