package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/troupe-run/troupe/runtime/task"
)

// running starts Run on a port of its own.
func (f *front) running(t *testing.T) (url string, stop func() error) {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, ln) }()
	return "http://" + ln.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

func get(t *testing.T, url string) *http.Response {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestRunEndsWhatLastsAndServesWhatDoesNot(t *testing.T) {
	f := newFront(Config{})
	f.tasks.add(task.Spec{Kind: "k"})
	url, stop := f.running(t)
	path := url + "/v1/tasks/" + id(1).String()
	checked(t, get(t, path)).want(t, 200) //nolint:bodyclose // get does

	waiting := make(chan struct{}, 10)
	f.tasks.read = func() error {
		waiting <- struct{}{}
		return nil
	}
	held := make(chan *http.Response, 1)
	go func() { held <- get(t, path+"/result?wait=5m") }() //nolint:bodyclose // get does
	<-waiting                                              // for the task as it is
	<-waiting                                              // in Wait
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	checked(t, <-held).want(t, 202)
}

func TestRunGivesUpOnRequestsThatDoNotEnd(t *testing.T) {
	f := newFront(Config{Bounds: Bounds{Drain: time.Millisecond}})
	url, stop := f.running(t)
	begun, end := make(chan struct{}), make(chan struct{})
	f.tasks.read = func() error {
		close(begun)
		<-end
		return task.ErrNotFound
	}
	broke := make(chan error, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		res, err := client.Get(url + "/v1/tasks/" + id(1).String())
		if err == nil {
			_ = res.Body.Close()
		}
		broke <- err
	}()
	<-begun
	if err := stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopped with %v", err)
	}
	if err := <-broke; err == nil {
		t.Error("an answer came all the same")
	}
	close(end)
}

func TestRunReportsAListenerThatFails(t *testing.T) {
	f := newFront(Config{})
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := f.Run(t.Context(), ln); err == nil || !strings.Contains(err.Error(), "serve") {
		t.Errorf("%v", err)
	}
}
