package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
)

func (s *Server) accessRoutes(keyless bool) {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Tags: []string{"access"}, Summary: summary, DefaultStatus: status,
		}
	}
	route(s, identified, op("get-me", http.MethodGet, "/v1/me", "Say what the credential stands for", http.StatusOK), nil, s.me)
	if s.accounts == nil {
		return
	}
	opener := op("create-ticket", http.MethodPost, "/v1/tickets", "Get a ticket that opens one WebSocket", http.StatusCreated)
	opener.Description = "For browsers, which cannot send a header with it: open `/v1/ws?ticket=…` within 30 s. It opens one, once, and allows what the credential does."
	route(s, identified, opener, nil, s.ticket)

	if !keyless {
		s.keyRoutes(op)
	}
	route(s, operates, op("list-namespaces", http.MethodGet, "/v1/namespaces", "List namespaces that have settings", http.StatusOK), nil, s.listNamespaces)
	change := op("change-namespace", http.MethodPatch, "/v1/namespaces/{name}", "Change what a namespace may take up", http.StatusOK)
	change.Description = "A namespace is there as soon as a credential names it; it need not be made."
	route(s, operates, change, jsonBody[transport.NamespaceChange](s, true), s.changeNamespace)
	route(s, administers, op("list-audit", http.MethodGet, "/v1/audit", "List what administrators did, newest first", http.StatusOK), nil, s.listAudit)
}

func (s *Server) keyRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	create := op("create-key", http.MethodPost, "/v1/keys", "Make an API key", http.StatusCreated)
	create.Description = "The answer is the only one that shows the key."
	route(s, administers, create, jsonBody[transport.KeyBody](s, true), s.createKey)
	route(s, administers, op("list-keys", http.MethodGet, "/v1/keys", "List API keys, newest first", http.StatusOK), nil, s.listKeys)
	route(s, administers, op("get-key", http.MethodGet, "/v1/keys/{id}", "Read an API key's description", http.StatusOK), nil, s.getKey)
	route(s, administers, op("change-key", http.MethodPatch, "/v1/keys/{id}", "Rename an API key, or have it expire sooner", http.StatusOK),
		jsonBody[transport.KeyChange](s, true), s.changeKey)
	revoke := op("revoke-key", http.MethodDelete, "/v1/keys/{id}", "Revoke an API key", http.StatusNoContent)
	revoke.Description = "No node takes it a few seconds later, and what it has open is closed."
	route(s, administers, revoke, nil, s.revokeKey)
	rotate := op("rotate-key", http.MethodPost, "/v1/keys/{id}/rotate", "Make a key in place of one, which goes on for a while", http.StatusCreated)
	route(s, administers, rotate, jsonBody[transport.KeyRotation](s, false), s.rotateKey)
}

func (s *Server) me(ctx context.Context, _ *none) (*answer[transport.Me], error) {
	p := principal(ctx)
	me := transport.Me{Namespace: p.Namespace, Actor: p.Actor, Scopes: p.Scopes, Open: p.Actor == auth.Nobody}
	if !p.Expires.IsZero() {
		me.ExpiresAt = new(task.Time(p.Expires))
	}
	return &answer[transport.Me]{me}, nil
}

func (s *Server) ticket(ctx context.Context, _ *none) (*answer[transport.Ticket], error) {
	ticket, expires, err := s.door.Ticket(ctx, principal(ctx))
	if err != nil {
		return nil, err
	}
	return &answer[transport.Ticket]{transport.Ticket{Ticket: ticket, ExpiresAt: task.Time(expires)}}, nil
}

type keyInput struct {
	ID string `path:"id" doc:"The key's UUID"`
}

func (s *Server) createKey(ctx context.Context, _ *none) (*answer[transport.NewKey], error) {
	var body transport.KeyBody
	if err := s.read(ctx, &body, s.bounds.Body, false); err != nil {
		return nil, err
	}
	now := time.Now()
	scopes, expires, err := body.Wants(now)
	if err != nil {
		return nil, aboutRequest(err)
	}
	of := namespace(ctx)
	if body.Namespace != "" && body.Namespace != of {
		if of != access.Operator {
			return nil, newProblem("forbidden", "Only the namespace "+access.Operator+" may make keys of another one.")
		}
		of = body.Namespace
	}
	return s.giveKey(ctx, "key.create", of, body.Name, scopes, now, expires)
}

// giveKey makes a key and keeps what there is to keep of it.
func (s *Server) giveKey(
	ctx context.Context, action, of, name string, scopes []access.Scope, now, expires time.Time,
) (*answer[transport.NewKey], error) {
	secret, key, err := s.door.NewKey(of, name, scopes, now, expires)
	if err != nil {
		return nil, aboutRequest(err)
	}
	err = s.accounts.PutKey(ctx, key, act(ctx, action, key.ID.String(), map[string]any{"namespace": of, "name": name, "scopes": key.Scopes}))
	if err != nil {
		return nil, err
	}
	s.door.Changed(key)
	return &answer[transport.NewKey]{transport.NewKey{Key: transport.KeyOf(key), Secret: secret}}, nil
}

type pageInput struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	Cursor string `query:"cursor" maxLength:"100" doc:"The next_cursor of the page before"`
}

// before is where the page begins: behind what has this id.
func (in *pageInput) before() (task.ID, error) {
	if in.Cursor == "" {
		return task.ID{}, nil
	}
	id, err := task.ParseID(in.Cursor)
	if err != nil || id.IsZero() {
		return task.ID{}, invalid("cursor", "is none this server has given")
	}
	return id, nil
}

func (s *Server) listKeys(ctx context.Context, in *pageInput) (*answer[transport.KeyList], error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	keys, err := s.accounts.Keys(ctx, access.KeyFilter{Namespace: namespace(ctx), Before: before, Limit: in.Limit})
	list := transport.KeyList{Keys: make([]transport.Key, len(keys))}
	for i, k := range keys {
		list.Keys[i] = transport.KeyOf(k)
	}
	if len(keys) == in.Limit {
		list.NextCursor = keys[len(keys)-1].ID.String()
	}
	return &answer[transport.KeyList]{list}, aboutKey(err)
}

// key finds a key of the caller's namespace.
func (s *Server) key(ctx context.Context, text string) (access.Key, error) {
	id, err := parseID("path.id", text)
	if err != nil {
		return access.Key{}, err
	}
	keys, err := s.accounts.Keys(ctx, access.KeyFilter{Namespace: namespace(ctx), IDs: []task.ID{id}, Limit: 1})
	if err == nil && len(keys) == 0 {
		err = task.ErrNotFound
	}
	if err != nil {
		return access.Key{}, aboutKey(err)
	}
	return keys[0], nil
}

func (s *Server) getKey(ctx context.Context, in *keyInput) (*answer[transport.Key], error) {
	k, err := s.key(ctx, in.ID)
	return &answer[transport.Key]{transport.KeyOf(k)}, err
}

func (s *Server) changeKey(ctx context.Context, in *keyInput) (*answer[transport.Key], error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	var body transport.KeyChange
	if err := s.read(ctx, &body, s.bounds.Body, false); err != nil {
		return nil, err
	}
	if body == (transport.KeyChange{}) {
		return nil, invalid("", "names nothing to change: give name or expires_at")
	}
	change, err := body.Change(time.Now())
	if err != nil {
		return nil, aboutRequest(err)
	}
	k, err := s.accounts.ChangeKey(ctx, namespace(ctx), id, change, act(ctx, "key.change", id.String(), body))
	if err != nil {
		return nil, aboutKey(err)
	}
	s.door.Changed(k)
	return &answer[transport.Key]{transport.KeyOf(k)}, nil
}

func (s *Server) revokeKey(ctx context.Context, in *keyInput) (*struct{}, error) {
	id, err := parseID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	k, err := s.accounts.ChangeKey(ctx, namespace(ctx), id, access.KeyChange{Revoked: new(time.Now())}, act(ctx, "key.revoke", id.String(), nil))
	if err != nil {
		return nil, aboutKey(err)
	}
	s.door.Changed(k)
	return nil, nil
}

// rotateKey makes the new key first: if that is all that comes about, there are two
// keys, and not none.
func (s *Server) rotateKey(ctx context.Context, in *keyInput) (*answer[transport.NewKey], error) {
	var body transport.KeyRotation
	if err := s.read(ctx, &body, s.bounds.Body, true); err != nil {
		return nil, err
	}
	lasts, err := body.For()
	if err != nil {
		return nil, aboutRequest(err)
	}
	old, err := s.key(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if !old.Valid(now) {
		return nil, newProblem("key_ended", "The key has expired or was revoked.")
	}
	var expires time.Time
	if !old.Expires.IsZero() {
		expires = now.Add(old.Expires.Sub(old.Created))
	}
	made, err := s.giveKey(ctx, "key.rotate", old.Namespace, old.Name, old.Scopes, now, expires)
	if err != nil {
		return nil, err
	}
	ends := now.Add(lasts)
	if old.Expires.IsZero() || ends.Before(old.Expires) {
		k, err := s.accounts.ChangeKey(ctx, old.Namespace, old.ID, access.KeyChange{Expires: &ends},
			act(ctx, "key.change", old.ID.String(), map[string]any{"expires_at": task.Time(ends)}))
		if err != nil {
			return nil, aboutKey(err)
		}
		s.door.Changed(k)
	}
	return made, nil
}

// aboutKey says of a key that is not there what a task would say of itself.
func aboutKey(err error) error {
	switch {
	case errors.Is(err, task.ErrNotFound):
		return newProblem("key_not_found", "There is no such key.")
	case errors.Is(err, task.ErrInvalid):
		return invalid("expires_at", "can only become sooner")
	default:
		return err
	}
}

func (s *Server) listNamespaces(ctx context.Context, _ *none) (*answer[transport.NamespaceList], error) {
	tenants, err := s.accounts.Tenants(ctx)
	list := transport.NamespaceList{Namespaces: make([]transport.Namespace, len(tenants))}
	for i, t := range tenants {
		list.Namespaces[i] = transport.NamespaceOf(t)
	}
	return &answer[transport.NamespaceList]{list}, err
}

func (s *Server) changeNamespace(ctx context.Context, in *queueInput) (*answer[transport.Namespace], error) {
	if !task.ValidName(in.Name) {
		return nil, invalid("path.name", "must be 1 to 100 of the characters a-z 0-9 . _ -")
	}
	var body transport.NamespaceChange
	if err := s.read(ctx, &body, s.bounds.Body, false); err != nil {
		return nil, err
	}
	if body == (transport.NamespaceChange{}) {
		return nil, invalid("", "names nothing to change: give weight or one of max_queued, max_running, max_bytes, max_connections and max_events")
	}
	tenants, err := s.accounts.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	tenant := access.Tenant{Namespace: in.Name}
	for _, t := range tenants {
		if t.Namespace == in.Name {
			tenant = t
		}
	}
	if err := body.Make(&tenant); err != nil {
		return nil, aboutRequest(err)
	}
	if err := s.accounts.SetTenant(ctx, tenant, act(ctx, "namespace.change", in.Name, body)); err != nil {
		return nil, err
	}
	if err := s.tasks.TenantsChanged(ctx); err != nil {
		return nil, err
	}
	return &answer[transport.Namespace]{transport.NamespaceOf(tenant)}, nil
}

func (s *Server) listAudit(ctx context.Context, in *pageInput) (*answer[transport.AuditList], error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	acts, err := s.accounts.Audits(ctx, namespace(ctx), before, in.Limit)
	list := transport.AuditList{Acts: make([]transport.Audit, len(acts))}
	for i, a := range acts {
		list.Acts[i] = transport.AuditOf(a)
	}
	if len(acts) == in.Limit {
		list.NextCursor = acts[len(acts)-1].ID.String()
	}
	return &answer[transport.AuditList]{list}, err
}

// act is what the audit log keeps of an administrative act. The detail holds what
// was asked for, and no secret is ever asked for.
func act(ctx context.Context, action, target string, detail any) access.Audit {
	p := principal(ctx)
	a := access.Audit{
		ID: task.ID(uuid.Must(uuid.NewV7())), At: time.Now(), Namespace: p.Namespace, Actor: p.Actor, Action: action, Target: target,
	}
	if detail != nil {
		raw, _ := json.Marshal(detail) // the shapes all encode
		a.Detail = string(raw)
	}
	return a
}

// note keeps an act that has been done. It is done, whether it can be noted or not.
func (s *Server) note(ctx context.Context, action, target string, detail any) {
	if s.accounts == nil {
		return
	}
	if err := s.accounts.AddAudit(ctx, act(ctx, action, target, detail)); err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "cannot keep an act in the audit log",
			slog.String("action", action), slog.String("target", target), slog.String("actor", principal(ctx).Actor), slog.Any("error", err))
	}
}
