package api

import (
	"encoding/json"
	"time"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/spec"
)

func clusterGlosses() map[string]gloss {
	queue := transport.Queue{
		Name: spec.Queue, Concurrency: 4, Rate: "100/s", Weight: 2, Policy: "priority-fifo", Placement: "spread",
		Counts: map[string]int64{"queued": 3, "running": 4},
	}
	kind := transport.Kind{
		Name: spec.Kind, Served: true, Concurrency: 4, Breaker: &transport.Breaker{Failures: 20, Window: "1m0s", OpenFor: "30s"}, RetryBudget: 0.2,
	}
	gpu := transport.Resource{
		Name: "gpu", Capacity: 20_000, Used: 3000, Nodes: []transport.Gauge{{Node: "n1", Capacity: 8000, Used: 3000}},
		Cluster: &transport.Pool{Capacity: 20_000, Used: 3000},
	}
	return map[string]gloss{
		"list-queues": {says: "Those that have tasks or settings, by name.", answers: map[int]any{200: transport.QueueList{Queues: []transport.Queue{queue}}}},
		"change-queue": {
			refuses: ofSettings, params: params{"name": spec.Queue},
			body: map[string]any{
				"limits": transport.QueueChange{Concurrency: new(4), Rate: new("100/s"), Weight: new(2.0)},
				"pause":  transport.QueueChange{Paused: new(true)},
			},
			answers: map[int]any{200: queue},
		},
		"list-kinds": {says: "With their settings, and where they are held up because they fail.", answers: map[int]any{200: transport.KindList{Kinds: []transport.Kind{kind}}}},
		"change-kind": {
			refuses: ofSettings, params: params{"name": spec.Kind},
			body: map[string]any{
				"a bound":   transport.KindChange{Concurrency: new(4)},
				"a breaker": transport.KindChange{Breaker: &transport.Breaker{Failures: 20, Window: "1m", OpenFor: "30s"}, RetryBudget: new(0.2)},
			},
			answers: map[int]any{200: kind},
		},
		"list-workers": {
			says: "Nodes with handlers of their own, and workers of the caller's namespace that are connected or were a moment ago.",
			answers: map[int]any{200: transport.WorkerList{Workers: []transport.Worker{{
				ID: exampleWorker, Name: "renderer", Node: "n1", Kinds: []string{spec.Kind}, Slots: 4000, Running: 1, Since: spec.At(0), State: "connected",
			}}}},
		},
		"drain-worker": {refuses: []string{"worker_not_found", "node_unreachable"}, params: params{"id": exampleWorker}},
		"list-nodes": {
			says: "Those that live, and those that left a short time ago.",
			answers: map[int]any{200: transport.NodeList{Nodes: []transport.Node{{
				Name: "n1", Incarnation: 7, Address: "10.0.0.1:7946", Labels: map[string]string{"zone": "a"}, StartedAt: spec.At(0), SeenAt: spec.At(time.Minute),
			}}}},
		},
		"list-resources":  {says: "Of all nodes together, of each, and of the whole cluster where it is set.", answers: map[int]any{200: transport.ResourceList{Resources: []transport.Resource{gpu}}}},
		"set-resource":    {refuses: ofChange, params: params{"name": "gpu"}, body: map[string]any{"how much": transport.PoolChange{Capacity: new(task.Quantity(20_000))}}, answers: map[int]any{200: gpu}},
		"remove-resource": {says: "What nodes have of that name they keep.", refuses: ofSettings, params: params{"name": "gpu"}},
		"get-stats": {
			says: "What is counted is counted by each node since it started; those that answer are added up.",
			answers: map[int]any{200: transport.Stats{
				Since: spec.At(0), Counts: map[string]int64{"queued": 3, "running": 4, "succeeded": 90}, Queues: []transport.Queue{queue},
				Submitted: 97, Started: 95, Ended: map[string]uint64{"succeeded": 90}, Retried: 1, Held: 7, Waiting: 3, Running: 4, Watchers: 2,
			}},
		},
	}
}

// exampleWorker is the id of the worker of the examples.
const exampleWorker = "019a5d3c-8c00-7d2e-9f41-5b6c7d8e9f0d"

func accessGlosses() map[string]gloss {
	one := params{"id": spec.KeyID}
	key := transport.Key{
		ID: spec.KeyID, Namespace: "default", Name: "ci", Hint: "trp_4Zq8", Scopes: []access.Scope{access.TasksRead, access.TasksWrite},
		CreatedAt: spec.At(0), ExpiresAt: new(spec.At(720 * time.Hour)),
	}
	made := transport.NewKey{Key: key, Secret: "trp_4Zq8…"} //nolint:gosec // a key that opens nothing
	acme := transport.Namespace{Name: "acme", Weight: 2, Quota: transport.Quota{MaxQueued: 100_000, MaxRunning: 50}}
	page := params{"limit": 10, "cursor": spec.KeyID}
	there := also(ofSettings, "key_not_found")
	return map[string]gloss{
		"get-me": {says: "Any credential may ask.", answers: map[int]any{200: transport.Me{
			Namespace: "default", Actor: "key:" + spec.KeyID, Scopes: key.Scopes, ExpiresAt: key.ExpiresAt,
		}}},
		"create-ticket": {refuses: ofSettings, answers: map[int]any{201: transport.Ticket{Ticket: "tkt_Fz7c…", ExpiresAt: spec.At(30 * time.Second)}}},
		"create-key": {
			refuses: ofSettings,
			body: map[string]any{
				"that expires": transport.KeyBody{Name: "ci", Scopes: key.Scopes, ExpiresIn: "720h"},
				"for a worker": transport.KeyBody{Name: "renderer", Scopes: []access.Scope{access.Workers}},
			},
			answers: map[int]any{201: made},
		},
		"list-keys":  {says: "Those that have expired or were revoked too.", refuses: []string{"key_not_found"}, params: page, answers: map[int]any{200: transport.KeyList{Keys: []transport.Key{key}}}},
		"get-key":    {says: "The key itself is never shown again.", refuses: []string{"key_not_found"}, params: one, answers: map[int]any{200: key}},
		"change-key": {says: "It cannot be made to last longer.", refuses: there, params: one, body: map[string]any{"another name": transport.KeyChange{Name: new("nightly")}}, answers: map[int]any{200: key}},
		"revoke-key": {refuses: there, params: one},
		"rotate-key": {
			says: "The new one has the name, the scopes and the lifetime of the old one.", refuses: also(there, "key_ended"), params: one,
			body: map[string]any{"an hour for both": transport.KeyRotation{Overlap: "1h"}}, answers: map[int]any{201: made},
		},
		"list-namespaces": {says: "For the operator. A namespace that was never set has no bounds.", answers: map[int]any{200: transport.NamespaceList{Namespaces: []transport.Namespace{acme}}}},
		"change-namespace": {
			refuses: ofSettings, params: params{"name": "acme"},
			body:    map[string]any{"bounds": transport.NamespaceChange{Weight: new(2.0), MaxQueued: new(100_000), MaxRunning: new(50)}},
			answers: map[int]any{200: acme},
		},
		"list-audit": {says: "Those of the caller's namespace.", params: page, answers: map[int]any{200: transport.AuditList{Acts: []transport.Audit{{
			ID: spec.KeyID, At: spec.At(0), Actor: "key:" + spec.KeyID, Action: "queue.change", Target: spec.Queue, Detail: json.RawMessage(`{"paused":true}`),
		}}}}},
	}
}

func probeGlosses() map[string]gloss {
	lives, ready := "It is answered as long as anything is.", "It is not while the store cannot be reached, the node's lease is lost, or the server shuts down."
	socket := []string{"upgrade_required", "subprotocol_unknown", "origin_refused"}
	return map[string]gloss{
		"livez": {says: lives, answers: map[int]any{200: status{"alive"}}}, "head-livez": {says: lives},
		"readyz":       {says: ready, refuses: []string{"not_ready", "shutting_down"}, answers: map[int]any{200: status{"ready"}}},
		"head-readyz":  {says: ready, refuses: []string{"not_ready", "shutting_down"}},
		"metrics":      {says: "In the text format, or that of OpenMetrics where it is asked for. A server may ask for a credential here too."},
		"open-watcher": {says: "For who follows tasks. A browser shows a ticket, everybody else their credential.", refuses: socket},
		"open-worker":  {says: "For who runs tasks.", refuses: socket},
	}
}
