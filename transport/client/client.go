package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// ErrUnreachable says that no server answered.
var ErrUnreachable = errors.New("no server answers")

// Options changes how a [Client] talks.
type Options struct {
	Key  string       // API key; empty: none is sent
	HTTP *http.Client // nil: one of its own, without a timeout, since waits are long
}

// Client talks to one server. It may be used from many goroutines.
type Client struct {
	base string
	key  string
	http *http.Client
}

// New makes a client of the server at an address such as http://127.0.0.1:8080.
func New(server string, o Options) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is no address of a server, such as http://127.0.0.1:8080", server)
	}
	c := &Client{base: strings.TrimSuffix(u.String(), "/"), key: o.Key, http: o.HTTP}
	if c.http == nil {
		c.http = &http.Client{}
	}
	return c, nil
}

// Server is the address the client talks to.
func (c *Client) Server() string { return c.base }

// request makes a request with what every request carries.
func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// send sends a request and turns a refusal into its problem.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if ctxErr := req.Context().Err(); ctxErr != nil {
			return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, ctxErr)
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problemOf(resp)
}

// problemOf reads why a server refused; what is no problem document becomes one.
func problemOf(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	p := new(transport.Problem)
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		p = transport.NewProblem(resp.StatusCode, "http_error", fmt.Sprintf("The server answered %s.", resp.Status))
	}
	return p
}

// do makes one call: in is sent as JSON unless nil, the answer read into out
// unless nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) (status int, err error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return 0, err
	}
	resp, err := c.send(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return resp.StatusCode, fmt.Errorf("read the answer to %s %s: %w: %w", method, path, ErrUnreachable, err)
	}
	return resp.StatusCode, nil
}

func taskPath(id string, rest ...string) string {
	return "/v1/tasks/" + url.PathEscape(id) + strings.Join(rest, "")
}

// submitFor is how long a submit is tried again whose answer was lost.
const submitFor = 10 * time.Second

// Submit stores a task. created is false where there was one already under its
// unique key or id. The task gets its id here, so that trying again after a lost
// answer never makes a second one; a server that was never reached is told at
// once.
func (c *Client) Submit(ctx context.Context, s transport.Submission) (t transport.Task, created bool, err error) {
	if s.ID == "" {
		s.ID = uuid.Must(uuid.NewV7()).String()
	}
	if delay, err := time.ParseDuration(s.Delay); err == nil && s.RunAt == nil {
		// Trying again must say the same, and a delay would count from then.
		at := task.Time(time.Now().Add(delay))
		s.RunAt, s.Delay = &at, ""
	}
	status, tries, err := persist(ctx, func() (int, error) { return c.do(ctx, http.MethodPost, "/v1/tasks", s, &t) })
	return t, err == nil && (status == http.StatusCreated || tries > 1), err
}

// persist makes a call that may be made more than once until its answer comes. A
// server that was never reached is told at once.
func persist(ctx context.Context, call func() (status int, err error)) (status, tries int, err error) {
	began := time.Now()
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		status, err = call()
		tries++
		if err == nil || refusedDial(err) && tries == 1 || !errors.Is(err, ErrUnreachable) || time.Since(began) > submitFor {
			return status, tries, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return status, tries, err
		}
	}
}

// Signal sends a task a signal, whose payload is JSON, or nothing for null. It is
// kept when there is no error, and kept once.
func (c *Client) Signal(ctx context.Context, id, name string, payload json.RawMessage) error {
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	key := uuid.NewString()
	_, _, err := persist(ctx, func() (int, error) {
		req, err := c.request(ctx, http.MethodPost, taskPath(id, "/signals/", url.PathEscape(name)), bytes.NewReader(payload))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Idempotency-Key", key)
		resp, err := c.send(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	})
	return err
}

// Get reads one task.
func (c *Client) Get(ctx context.Context, id string) (t transport.Task, err error) {
	_, err = c.do(ctx, http.MethodGet, taskPath(id), nil, &t)
	return t, err
}

// List yields tasks, newest first, page by page. q holds the filters of GET
// /v1/tasks; its limit is the size of a page.
func (c *Client) List(ctx context.Context, q url.Values) iter.Seq2[transport.Task, error] {
	return func(yield func(transport.Task, error) bool) {
		page := url.Values{}
		maps.Copy(page, q)
		for {
			var list transport.TaskList
			if _, err := c.do(ctx, http.MethodGet, "/v1/tasks?"+page.Encode(), nil, &list); err != nil {
				yield(transport.Task{}, err)
				return
			}
			for _, t := range list.Tasks {
				if !yield(t, nil) {
					return
				}
			}
			if list.NextCursor == "" {
				return
			}
			page.Set("cursor", list.NextCursor)
		}
	}
}

// Result waits for a task's result. The error is the task's, as a problem, if it
// failed; result is nil where it has not ended within the wait.
func (c *Client) Result(ctx context.Context, id string, wait time.Duration) (result json.RawMessage, err error) {
	status, err := c.do(ctx, http.MethodGet, taskPath(id, "/result?wait=", wait.String()), nil, &result)
	if status == http.StatusAccepted {
		return nil, err
	}
	return result, err
}

// Cancel ends a task.
func (c *Client) Cancel(ctx context.Context, id, reason string) (t transport.Task, err error) {
	_, err = c.do(ctx, http.MethodPost, taskPath(id, "/cancel"), transport.Cancel{Reason: reason}, &t)
	return t, err
}

// Rerun starts a failed or cancelled task anew.
func (c *Client) Rerun(ctx context.Context, id string) (t transport.Task, err error) {
	_, err = c.do(ctx, http.MethodPost, taskPath(id, "/retry"), nil, &t)
	return t, err
}

// Delete forgets a task that has ended.
func (c *Client) Delete(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodDelete, taskPath(id), nil, nil)
	return err
}

// Explain says why a task is not running.
func (c *Client) Explain(ctx context.Context, id string) (e transport.Explanation, err error) {
	_, err = c.do(ctx, http.MethodGet, taskPath(id, "/explain"), nil, &e)
	return e, err
}

// Queues lists the queues.
func (c *Client) Queues(ctx context.Context) (l transport.QueueList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/queues", nil, &l)
	return l, err
}

// SetQueue changes a queue's settings; what is nil stays.
func (c *Client) SetQueue(ctx context.Context, queue string, change transport.QueueChange) (q transport.Queue, err error) {
	_, err = c.do(ctx, http.MethodPatch, "/v1/queues/"+url.PathEscape(queue), change, &q)
	return q, err
}

// Kinds lists the kinds that are served or set.
func (c *Client) Kinds(ctx context.Context) (l transport.KindList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/kinds", nil, &l)
	return l, err
}

// SetKind changes a kind's settings; what is nil stays.
func (c *Client) SetKind(ctx context.Context, kind string, change transport.KindChange) (k transport.Kind, err error) {
	_, err = c.do(ctx, http.MethodPatch, "/v1/kinds/"+url.PathEscape(kind), change, &k)
	return k, err
}

// Schedules lists a page of schedules by name; q has its limit and its cursor.
func (c *Client) Schedules(ctx context.Context, q url.Values) (l transport.ScheduleList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/schedules?"+q.Encode(), nil, &l)
	return l, err
}

// Schedule reads a schedule.
func (c *Client) Schedule(ctx context.Context, name string) (s transport.Schedule, err error) {
	_, err = c.do(ctx, http.MethodGet, schedulePath(name), nil, &s)
	return s, err
}

// SetSchedule makes a schedule, or another one of that of its name.
func (c *Client) SetSchedule(ctx context.Context, body transport.ScheduleBody) (s transport.Schedule, err error) {
	_, err = c.do(ctx, http.MethodPut, schedulePath(body.Name), body, &s)
	return s, err
}

// ChangeSchedule changes a schedule; what is nil stays.
func (c *Client) ChangeSchedule(ctx context.Context, name string, change transport.ScheduleChange) (s transport.Schedule, err error) {
	_, err = c.do(ctx, http.MethodPatch, schedulePath(name), change, &s)
	return s, err
}

// DeleteSchedule forgets a schedule.
func (c *Client) DeleteSchedule(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodDelete, schedulePath(name), nil, nil)
	return err
}

// Trigger submits a schedule's task now.
func (c *Client) Trigger(ctx context.Context, name string) (t transport.Task, err error) {
	_, err = c.do(ctx, http.MethodPost, schedulePath(name)+"/trigger", nil, &t)
	return t, err
}

// Ticks gives the next times at which a schedule fires.
func (c *Client) Ticks(ctx context.Context, name string, count int) (t transport.Ticks, err error) {
	_, err = c.do(ctx, http.MethodGet, schedulePath(name)+"/next?count="+strconv.Itoa(count), nil, &t)
	return t, err
}

func schedulePath(name string) string { return "/v1/schedules/" + url.PathEscape(name) }

// SetResource sets how much there is of a resource in the whole cluster.
func (c *Client) SetResource(ctx context.Context, name string, capacity task.Quantity) (r transport.Resource, err error) {
	_, err = c.do(ctx, http.MethodPut, "/v1/resources/"+url.PathEscape(name), transport.PoolChange{Capacity: &capacity}, &r)
	return r, err
}

// RemoveResource makes a resource none of the whole cluster's.
func (c *Client) RemoveResource(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodDelete, "/v1/resources/"+url.PathEscape(name), nil, nil)
	return err
}

// Workers lists what runs tasks.
func (c *Client) Workers(ctx context.Context) (l transport.WorkerList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/workers", nil, &l)
	return l, err
}

// DrainWorker has a worker take no more tasks and finish those it has.
func (c *Client) DrainWorker(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodPost, "/v1/workers/"+url.PathEscape(id)+"/drain", nil, nil)
	return err
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) (l transport.NodeList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/nodes", nil, &l)
	return l, err
}

// Resources gauges the resources.
func (c *Client) Resources(ctx context.Context) (l transport.ResourceList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/resources", nil, &l)
	return l, err
}

// Stats counts what there is and what the node has done.
func (c *Client) Stats(ctx context.Context) (s transport.Stats, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/stats", nil, &s)
	return s, err
}

// BatchStatus is how far a batch has come.
func (c *Client) BatchStatus(ctx context.Context, id string) (s transport.BatchStatus, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/batches/"+url.PathEscape(id), nil, &s)
	return s, err
}

// SetCallback gives a batch its callback: a task that runs when all of it have ended.
func (c *Client) SetCallback(ctx context.Context, batch string, s transport.Submission) (t transport.Task, err error) {
	_, err = c.do(ctx, http.MethodPost, "/v1/batches/"+url.PathEscape(batch)+"/callback", s, &t)
	return t, err
}

// Ready says whether the server takes work: nil, a problem, or [ErrUnreachable].
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/readyz", nil, nil)
	return err
}
