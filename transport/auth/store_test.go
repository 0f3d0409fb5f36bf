package auth_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/persistence/memory"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/auth"
)

// What the other tests do with accounts of their own, in short with a store's.
func TestDoorGoesWithAStore(t *testing.T) {
	store := memory.New()
	secret, err := auth.NewSecret(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	d, err := auth.New(auth.Config{Secret: secret, Accounts: store})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	act := func(what string) access.Audit {
		return access.Audit{ID: task.ID(uuid.Must(uuid.NewV7())), At: now, Namespace: "team", Actor: "open", Action: what}
	}
	plain, k, err := auth.NewKey(secret, "team", "a test", access.Scopes(), now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutKey(t.Context(), k, act("key.create")); err != nil {
		t.Fatal(err)
	}
	show := func() (access.Principal, error) {
		r := httptest.NewRequest(http.MethodGet, "/v1/tasks", http.NoBody)
		r.Header.Set("Authorization", "bearer "+plain)
		return d.Authenticate(r)
	}
	p, err := show()
	if err != nil || p.Namespace != "team" || p.Key != k.ID || !p.Expires.Equal(k.Expires) {
		t.Fatalf("%+v, %v", p, err)
	}
	ticket, _, err := d.Ticket(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Redeem(t.Context(), ticket); err != nil || got.Key != k.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := d.Redeem(t.Context(), ticket); err == nil {
		t.Error("a ticket is taken twice")
	}
	if _, err := store.ChangeKey(t.Context(), "team", k.ID, access.KeyChange{Revoked: &now}, act("key.revoke")); err != nil {
		t.Fatal(err)
	}
	d.Forget(k.ID)
	if p, err := show(); err == nil {
		t.Errorf("a revoked key opens: %+v", p)
	}
}
