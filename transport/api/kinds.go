package api

import (
	"context"
	"maps"
	"slices"

	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

func (s *Server) kinds(ctx context.Context, _ *none) (*answer[transport.KindList], error) {
	overview, err := s.tasks.Overview(ctx, task.Scope{Namespace: namespace(ctx)})
	if err != nil {
		return nil, err
	}
	workers, err := s.tasks.Workers(ctx, namespace(ctx))
	if err != nil {
		return nil, err
	}
	byName := make(map[string]transport.Kind)
	for _, k := range overview.Kinds {
		byName[k.Name] = transport.KindOf(k)
	}
	for _, w := range workers {
		for _, name := range w.Kinds {
			k := byName[name]
			k.Name, k.Served = name, true
			byName[name] = k
		}
		for _, t := range w.Tripped {
			if k, known := byName[t.Kind]; known && t.Namespace == namespace(ctx) {
				k.Tripped = append(k.Tripped, transport.Tripped{Node: w.Node, Code: t.Code, Until: task.Time(t.Until)})
				byName[t.Kind] = k
			}
		}
	}
	list := transport.KindList{Kinds: make([]transport.Kind, 0, len(byName))}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list.Kinds = append(list.Kinds, byName[name])
	}
	return &answer[transport.KindList]{list}, nil
}

func (s *Server) changeKind(ctx context.Context, in *queueInput) (*answer[transport.Kind], error) {
	if !task.ValidName(in.Name) {
		return nil, invalid("path.name", "must be 1 to 100 of the characters a-z 0-9 . _ -")
	}
	var change transport.KindChange
	if err := s.read(ctx, &change, s.bounds.Body, false); err != nil {
		return nil, err
	}
	if change == (transport.KindChange{}) {
		return nil, invalid("", "names nothing to change: give concurrency, breaker or retry_budget")
	}
	c, err := change.Of(namespace(ctx), in.Name)
	if err == nil {
		_, err = s.tasks.SetKind(ctx, c)
	}
	if err != nil {
		return nil, aboutRequest(err)
	}
	s.note(ctx, "kind.change", in.Name, change)
	all, err := s.kinds(ctx, nil)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all.Body.Kinds, func(k transport.Kind) bool { return k.Name == in.Name })
	return &answer[transport.Kind]{all.Body.Kinds[i]}, nil // what was set once is there
}
