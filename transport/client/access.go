package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/troupe-run/troupe/transport"
)

// Me says what the client's credential stands for.
func (c *Client) Me(ctx context.Context) (m transport.Me, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/me", nil, &m)
	return m, err
}

// Ticket gets a ticket that opens one WebSocket, once.
func (c *Client) Ticket(ctx context.Context) (t transport.Ticket, err error) {
	_, err = c.do(ctx, http.MethodPost, "/v1/tickets", nil, &t)
	return t, err
}

// Keys lists a page of API keys, newest first; q may have limit and cursor.
func (c *Client) Keys(ctx context.Context, q url.Values) (l transport.KeyList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/keys?"+q.Encode(), nil, &l)
	return l, err
}

// CreateKey makes an API key. If the answer is lost, a key may be there that nobody
// knows: list them, and revoke it.
func (c *Client) CreateKey(ctx context.Context, body transport.KeyBody) (k transport.NewKey, err error) {
	_, err = c.do(ctx, http.MethodPost, "/v1/keys", body, &k)
	return k, err
}

// ChangeKey renames a key or has it expire sooner.
func (c *Client) ChangeKey(ctx context.Context, id string, change transport.KeyChange) (k transport.Key, err error) {
	_, err = c.do(ctx, http.MethodPatch, keyPath(id), change, &k)
	return k, err
}

// RotateKey makes a key in place of one that goes on for a while.
func (c *Client) RotateKey(ctx context.Context, id string, body transport.KeyRotation) (k transport.NewKey, err error) {
	_, err = c.do(ctx, http.MethodPost, keyPath(id)+"/rotate", body, &k)
	return k, err
}

// RevokeKey ends a key.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodDelete, keyPath(id), nil, nil)
	return err
}

func keyPath(id string) string { return "/v1/keys/" + url.PathEscape(id) }

// Namespaces lists namespaces that have settings.
func (c *Client) Namespaces(ctx context.Context) (l transport.NamespaceList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/namespaces", nil, &l)
	return l, err
}

// SetNamespace changes what a namespace may take up.
func (c *Client) SetNamespace(ctx context.Context, name string, change transport.NamespaceChange) (n transport.Namespace, err error) {
	_, err = c.do(ctx, http.MethodPatch, "/v1/namespaces/"+url.PathEscape(name), change, &n)
	return n, err
}

// Audit lists a page of administrative acts, newest first; q may have limit and
// cursor.
func (c *Client) Audit(ctx context.Context, q url.Values) (l transport.AuditList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/audit?"+q.Encode(), nil, &l)
	return l, err
}
