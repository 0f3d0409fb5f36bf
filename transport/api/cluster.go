package api

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func (s *Server) clusterRoutes() {
	tags := []string{"cluster"}
	get := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: tags, Summary: summary}
	}
	route(s, get("list-queues", "/v1/queues", "List queues"), nil, s.queues)
	route(s, huma.Operation{
		OperationID: "change-queue", Method: http.MethodPatch, Path: "/v1/queues/{name}", Tags: tags,
		Summary: "Change a queue's settings", Description: "A queue need not have been used before.",
	}, jsonBody[transport.QueueChange](s, true), s.changeQueue)
	route(s, get("list-workers", "/v1/workers", "List workers"), nil, s.workers)
	route(s, get("list-nodes", "/v1/nodes", "List nodes"), nil, s.nodes)
	route(s, get("list-resources", "/v1/resources", "List resources: capacity and use"), nil, s.resources)
	route(s, get("get-stats", "/v1/stats", "Count what there is and what has been done"), nil, s.stats)
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
			byName[name] = &transport.Queue{Name: name, Counts: make(map[string]int64)}
		}
		return byName[name]
	}
	for _, q := range o.Queues {
		queue(q.Name).Paused = q.Paused
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
	if change.Paused == nil {
		return nil, invalid("paused", "is required")
	}
	q, err := s.tasks.Pause(ctx, namespace(ctx), in.Name, *change.Paused)
	return &answer[transport.Queue]{transport.Queue{Name: q.Name, Paused: q.Paused}}, err
}

func (s *Server) workers(ctx context.Context, _ *none) (*answer[transport.WorkerList], error) {
	workers, err := s.tasks.Workers(ctx)
	list := transport.WorkerList{Workers: make([]transport.Worker, len(workers))}
	for i, w := range workers {
		list.Workers[i] = transport.Worker{
			ID: w.ID, Name: w.Name, Node: w.Node, Kinds: append([]string{}, w.Kinds...),
			Slots: w.Slots, Running: w.Running, Since: task.Time(w.Since),
		}
	}
	return &answer[transport.WorkerList]{list}, err
}

func (s *Server) nodes(ctx context.Context, _ *none) (*answer[transport.NodeList], error) {
	overview, err := s.tasks.Overview(ctx, task.Scope{Namespace: namespace(ctx)})
	list := transport.NodeList{Nodes: make([]transport.Node, len(overview.Nodes))}
	for i, n := range overview.Nodes {
		list.Nodes[i] = transport.Node{
			Name: n.Name, Incarnation: int64(n.Incarnation), Address: n.Address,
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
	list := transport.ResourceList{Resources: make([]transport.Resource, 0, len(byName))}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		r := *byName[name]
		slices.SortFunc(r.Nodes, func(a, b transport.Gauge) int { return cmp.Compare(a.Node, b.Node) })
		list.Resources = append(list.Resources, r)
	}
	return &answer[transport.ResourceList]{list}, err
}

func (s *Server) stats(ctx context.Context, _ *none) (*answer[transport.Stats], error) {
	t, err := s.tasks.Stats(ctx, namespace(ctx))
	stats := transport.Stats{
		Since: task.Time(t.Since), Counts: make(map[string]int64), Queues: queuesOf(t.Overview),
		Submitted: t.Submitted, Started: t.Started, Ended: make(map[string]uint64), Retried: t.Retried,
		Held: t.Held, Waiting: t.Waiting, Running: t.Running, Watchers: t.Watchers,
	}
	for _, c := range t.Overview.Counts {
		stats.Counts[c.State.String()] += c.Tasks
	}
	for state, n := range t.Ended {
		stats.Ended[state.String()] = n
	}
	return &answer[transport.Stats]{stats}, err
}
