package api

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func (s *Server) clusterRoutes() {
	tags := []string{"cluster"}
	get := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: tags, Summary: summary}
	}
	route(s, reads, get("list-queues", "/v1/queues", "List queues"), nil, s.queues)
	route(s, administers, huma.Operation{
		OperationID: "change-queue", Method: http.MethodPatch, Path: "/v1/queues/{name}", Tags: tags,
		Summary: "Change a queue's settings", Description: "A queue need not have been used before.",
	}, jsonBody[transport.QueueChange](s, true), s.changeQueue)
	route(s, reads, get("list-kinds", "/v1/kinds", "List kinds: those that are served or set"), nil, s.kinds)
	route(s, administers, huma.Operation{
		OperationID: "change-kind", Method: http.MethodPatch, Path: "/v1/kinds/{name}", Tags: tags,
		Summary: "Change a kind's settings", Description: "Nobody need serve the kind.",
	}, jsonBody[transport.KindChange](s, true), s.changeKind)
	route(s, reads, get("list-workers", "/v1/workers", "List workers"), nil, s.workers)
	route(s, administers, huma.Operation{
		OperationID: "drain-worker", Method: http.MethodPost, Path: "/v1/workers/{id}/drain", Tags: tags, DefaultStatus: http.StatusNoContent,
		Summary:     "Have a worker take no more tasks and finish those it has",
		Description: "The worker may be connected to any node. A node's own handlers go when the node is stopped.",
	}, nil, s.drainWorker)
	route(s, reads, get("list-nodes", "/v1/nodes", "List nodes"), nil, s.nodes)
	route(s, reads, get("list-resources", "/v1/resources", "List resources: capacity and use"), nil, s.resources)
	route(s, operates, huma.Operation{
		OperationID: "set-resource", Method: http.MethodPut, Path: "/v1/resources/{name}", Tags: tags,
		Summary:     "Set how much there is of a resource in the whole cluster",
		Description: "Tasks that name it hold their share of it while they run, on whatever node. Where nodes have a capacity of that name too, both bounds hold.",
	}, jsonBody[transport.PoolChange](s, true), s.setResource)
	route(s, operates, huma.Operation{
		OperationID: "remove-resource", Method: http.MethodDelete, Path: "/v1/resources/{name}", Tags: tags,
		Summary: "Make a resource none of the cluster's", DefaultStatus: http.StatusNoContent,
	}, nil, s.removeResource)
	route(s, reads, get("get-stats", "/v1/stats", "Count what there is and what has been done"), nil, s.stats)
}

type none struct{}

func (s *Server) queues(ctx context.Context, _ *none) (*answer[transport.QueueList], error) {
	overview, err := s.tasks.Overview(ctx, task.Scope{Namespace: namespace(ctx)})
	return &answer[transport.QueueList]{transport.QueueList{Queues: queuesOf(overview)}}, err
}

// queuesOf lists queues by name, those with tasks and those with settings.
func queuesOf(o task.Overview) []transport.Queue {
	byName := make(map[string]*transport.Queue)
	queue := func(name string) *transport.Queue {
		if byName[name] == nil {
			q := transport.QueueOf(task.Queue{Name: name})
			q.Counts = make(map[string]int64)
			byName[name] = &q
		}
		return byName[name]
	}
	for _, q := range o.Queues {
		it := queue(q.Name)
		counts := it.Counts
		*it = transport.QueueOf(q)
		it.Counts = counts
	}
	for _, c := range o.Counts {
		queue(c.Queue).Counts[c.State.String()] += c.Tasks
	}
	list := make([]transport.Queue, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list = append(list, *byName[name])
	}
	return list
}

type queueInput struct {
	Name string `path:"name"`
}

func (s *Server) changeQueue(ctx context.Context, in *queueInput) (*answer[transport.Queue], error) {
	if !task.ValidName(in.Name) {
		return nil, invalid("path.name", "must be 1 to 100 of the characters a-z 0-9 . _ -")
	}
	var change transport.QueueChange
	if err := s.read(ctx, &change, s.bounds.Body, false); err != nil {
		return nil, err
	}
	if change == (transport.QueueChange{}) {
		return nil, invalid("", "names nothing to change: give paused, concurrency, rate, burst, weight, policy, placement or max_queued")
	}
	c, err := change.Of(namespace(ctx), in.Name)
	if err != nil {
		return nil, invalid("rate", `must be such as "100/s", "30/m" or "5/h", or empty`)
	}
	q, err := s.tasks.SetQueue(ctx, c)
	if err != nil {
		return nil, aboutRequest(err)
	}
	s.note(ctx, "queue.change", in.Name, change)
	return &answer[transport.Queue]{transport.QueueOf(q)}, nil
}

// aboutRequest says of an invalid setting what it says of an invalid request: it is
// no task that is wrong.
func aboutRequest(err error) error {
	bad, ok := errors.AsType[task.InvalidError](err)
	if !ok {
		return err
	}
	p := newProblem("invalid_request", "The request is not valid.")
	for _, v := range bad {
		p.Errors = append(p.Errors, transport.FieldError{Path: v.Field, Message: v.Message})
	}
	return p
}

type resourceInput struct {
	Name string `path:"name"`
}

func (s *Server) setResource(ctx context.Context, in *resourceInput) (*answer[transport.Resource], error) {
	var change transport.PoolChange
	if err := s.read(ctx, &change, s.bounds.Body, false); err != nil {
		return nil, err
	}
	if change.Capacity == nil {
		return nil, invalid("capacity", "is required")
	}
	if err := s.tasks.SetPool(ctx, task.PoolChange{Name: in.Name, Capacity: change.Capacity}); err != nil {
		return nil, aboutRequest(err)
	}
	s.note(ctx, "resource.set", in.Name, change)
	all, err := s.resources(ctx, nil)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all.Body.Resources, func(r transport.Resource) bool { return r.Name == in.Name })
	if i < 0 {
		return nil, task.ErrStale // somebody removed it meanwhile
	}
	return &answer[transport.Resource]{all.Body.Resources[i]}, nil
}

func (s *Server) removeResource(ctx context.Context, in *resourceInput) (*struct{}, error) {
	if err := s.tasks.SetPool(ctx, task.PoolChange{Name: in.Name}); err != nil {
		return nil, aboutRequest(err)
	}
	s.note(ctx, "resource.remove", in.Name, nil)
	return nil, nil
}

func (s *Server) workers(ctx context.Context, _ *none) (*answer[transport.WorkerList], error) {
	workers, err := s.tasks.Workers(ctx, namespace(ctx))
	list := transport.WorkerList{Workers: make([]transport.Worker, len(workers))}
	for i, w := range workers {
		list.Workers[i] = transport.Worker{
			ID: w.ID, Name: w.Name, Node: w.Node, Labels: w.Labels, Kinds: append([]string{}, w.Kinds...),
			Slots: w.Slots, Running: w.Running, Since: task.Time(w.Since), State: w.State,
		}
	}
	return &answer[transport.WorkerList]{list}, err
}

type workerInput struct {
	ID string `path:"id"`
}

func (s *Server) drainWorker(ctx context.Context, in *workerInput) (*struct{}, error) {
	if err := s.tasks.DrainWorker(ctx, namespace(ctx), in.ID); err != nil {
		return nil, err
	}
	s.note(ctx, "worker.drain", in.ID, nil)
	return nil, nil
}

func (s *Server) nodes(ctx context.Context, _ *none) (*answer[transport.NodeList], error) {
	overview, err := s.tasks.Overview(ctx, task.Scope{Namespace: namespace(ctx)})
	list := transport.NodeList{Nodes: make([]transport.Node, len(overview.Nodes))}
	for i, n := range overview.Nodes {
		list.Nodes[i] = transport.Node{
			Name: n.Name, Incarnation: int64(n.Incarnation), Address: n.Address, Labels: n.Labels,
			StartedAt: task.Time(n.Started), SeenAt: task.Time(n.Seen), Left: n.Left,
		}
	}
	return &answer[transport.NodeList]{list}, err
}

func (s *Server) resources(ctx context.Context, _ *none) (*answer[transport.ResourceList], error) {
	gauges, err := s.tasks.Resources(ctx)
	byName := make(map[string]*transport.Resource)
	for _, g := range gauges {
		r := byName[g.Name]
		if r == nil {
			r = &transport.Resource{Name: g.Name}
			byName[g.Name] = r
		}
		r.Capacity += g.Capacity
		r.Used += g.Used
		r.Nodes = append(r.Nodes, transport.Gauge{Node: g.Node, Capacity: g.Capacity, Used: g.Used})
	}
	if err != nil {
		return nil, err
	}
	overview, err := s.tasks.Overview(ctx, task.Scope{Namespace: namespace(ctx)})
	for _, p := range overview.Pools {
		if byName[p.Name] == nil {
			byName[p.Name] = &transport.Resource{Name: p.Name, Nodes: []transport.Gauge{}}
		}
		r := byName[p.Name]
		r.Capacity, r.Used, r.Cluster = p.Capacity, p.Used, &transport.Pool{Capacity: p.Capacity, Used: p.Used}
	}
	list := transport.ResourceList{Resources: make([]transport.Resource, 0, len(byName))}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		r := *byName[name]
		slices.SortFunc(r.Nodes, func(a, b transport.Gauge) int { return cmp.Compare(a.Node, b.Node) })
		list.Resources = append(list.Resources, r)
	}
	return &answer[transport.ResourceList]{list}, err
}

// stats counts what the caller's namespace has. What nodes have counted is of all
// namespaces, so it is the operator's to see.
func (s *Server) stats(ctx context.Context, _ *none) (*answer[transport.Stats], error) {
	of := namespace(ctx)
	t, err := s.tasks.Stats(ctx, of)
	if err != nil {
		return nil, err
	}
	usage, err := s.tasks.Usage(ctx, of)
	if err != nil {
		return nil, err
	}
	if of != access.Operator {
		t = task.Stats{Since: t.Since, Overview: t.Overview, Waiting: int(usage.Queued), Running: int(usage.Running)}
	}
	stats := transport.Stats{
		Since: task.Time(t.Since), Counts: make(map[string]int64), Queues: queuesOf(t.Overview),
		Submitted: t.Submitted, Started: t.Started, Ended: make(map[string]uint64), Retried: t.Retried,
		Held: t.Held, Waiting: t.Waiting, Running: t.Running, Watchers: t.Watchers,
		Usage: transport.UsageOf(usage), Quota: transport.QuotaOf(s.tasks.Tenant(of)),
	}
	for _, c := range t.Overview.Counts {
		stats.Counts[c.State.String()] += c.Tasks
	}
	for state, n := range t.Ended {
		stats.Ended[state.String()] = n
	}
	return &answer[transport.Stats]{stats}, nil
}
