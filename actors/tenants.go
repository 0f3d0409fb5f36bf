package actors

import (
	"cmp"
	"context"
	"fmt"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Tenants says what namespaces may take up. A store that keeps accounts does.
type Tenants interface {
	Tenants(ctx context.Context) ([]access.Tenant, error)
}

// tenants reads what namespaces may take up; where nobody says, none is bounded.
func (n *Node) tenants(ctx context.Context) (map[string]access.Tenant, error) {
	if n.cfg.Tenants == nil {
		return nil, nil
	}
	all, err := n.cfg.Tenants.Tenants(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the tenants: %w", err)
	}
	known := make(map[string]access.Tenant, len(all))
	for _, t := range all {
		known[t.Namespace] = t
	}
	return known, nil
}

// Tenant is what a namespace may take up, as this node knows it.
func (n *Node) Tenant(namespace string) access.Tenant {
	n.settings.mu.RLock()
	defer n.settings.mu.RUnlock()
	t := n.settings.tenants[namespace]
	t.Namespace = namespace
	return t
}

// TenantsChanged is to be called when the tenants have been changed: this node knows
// it on return, and the others in a moment.
func (n *Node) TenantsChanged(ctx context.Context) error {
	n.settings.changes.Add(1)
	n.root.Send(n.peers, tellSettings{})
	tenants, err := n.tenants(ctx)
	if err != nil {
		return err
	}
	n.learnTenants(tenants)
	return nil
}

// Usage is what a namespace takes up in the whole cluster.
func (n *Node) Usage(ctx context.Context, namespace string) (access.Usage, error) {
	o, err := n.cfg.Store.Overview(ctx, task.Scope{Namespace: namespace})
	if err != nil {
		return access.Usage{}, fmt.Errorf("count what namespace %s uses: %w", namespace, err)
	}
	var u access.Usage
	for _, c := range o.Counts {
		switch {
		case c.State == task.Running:
			u.Running += c.Tasks
		case !c.State.Terminal():
			u.Queued += c.Tasks
		}
	}
	for _, v := range o.Volumes {
		u.Bytes = v.Bytes // of the one namespace
	}
	return u, nil
}

// learnTenants takes what namespaces may take up.
func (n *Node) learnTenants(tenants map[string]access.Tenant) {
	n.settings.mu.Lock()
	before := n.settings.tenants
	n.settings.tenants = tenants
	n.settings.mu.Unlock()
	n.voices.learn(tenants)
	eased := false
	for _, names := range []map[string]access.Tenant{before, tenants} {
		for name := range names {
			was, is := before[name], tenants[name]
			if was.Weight != is.Weight {
				n.root.Send(n.scheduler, tenantChanged{namespace: name})
			}
			if was.Running != is.Running {
				n.settings.full.Delete(task.NamespaceLimit(name))
				eased = true
			}
		}
	}
	if eased {
		n.root.Send(n.claimer, limitsMoved{})
	}
}

// weight is a namespace's part beside others: what is set of it, else what the node
// was started with.
func (n *Node) weight(namespace string) float64 {
	return cmp.Or(n.Tenant(namespace).Weight, n.cfg.Weights[namespace], 1)
}

// weighted lists the namespaces of which a weight is known.
func (n *Node) weighted() map[string]bool {
	names := map[string]bool{}
	for name := range n.cfg.Weights {
		names[name] = true
	}
	n.settings.mu.RLock()
	defer n.settings.mu.RUnlock()
	for name := range n.settings.tenants {
		names[name] = true
	}
	return names
}
