package runtime

import (
	"context"

	"github.com/troupe-run/troupe/runtime/access"
)

// Tenant is what a namespace may take up, as this node knows it; a zero field is no
// bound. Changes that other nodes make are known within a second.
func (r *Runtime) Tenant(namespace string) access.Tenant { return r.node().Tenant(namespace) }

// TenantsChanged is to be called after a change of a tenant by [access.Accounts]:
// this node goes by it on return, the others within a second.
func (r *Runtime) TenantsChanged(ctx context.Context) error { return r.node().TenantsChanged(ctx) }

// Usage is what a namespace takes up now, in the whole cluster.
func (r *Runtime) Usage(ctx context.Context, namespace string) (access.Usage, error) {
	return r.node().Usage(ctx, namespace)
}
