package ws

import (
	"context"
	"net/http"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
)

// renew takes another credential in place of the one that the socket was opened with,
// which may be about to expire. It has to be of the same namespace; what may be asked
// for from now on is what it allows. One that would have what is subscribed, or the
// session itself, go on without its scope is refused.
func (c *conn) renew(ctx context.Context, p renewParams, _ *call) (renewed, error) {
	if c.watched == nil {
		return renewed{}, transport.NewProblem(http.StatusConflict, "no_credentials", "This server asks for no credentials.")
	}
	who, err := c.handler.cfg.Door.Admit(ctx, p.Credential, c.from)
	if err != nil {
		return renewed{}, err
	}
	for _, s := range []access.Scope{c.handler.protocol.needs, access.TasksRead} {
		if s != Anyone && c.who.May(s) && !who.May(s) {
			return renewed{}, transport.NewProblem(http.StatusForbidden, "forbidden",
				"The credential lacks the scope "+string(s)+", which this session has: open another one with it.")
		}
	}
	if err := c.watched.Renew(who); err != nil {
		return renewed{}, err
	}
	c.who = who
	answer := renewed{Scopes: who.Scopes}
	if !who.Expires.IsZero() {
		answer.ExpiresAt = new(task.Time(who.Expires))
	}
	return answer, nil
}
