package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
	"github.com/troupe-run/troupe/transport/client"
)

func keysCommand(t terminal) *cobra.Command {
	cmd := lister(t, "keys", "List API keys; make, rotate and revoke them", func(ctx context.Context, r *remote, c *client.Client) error {
		var all transport.KeyList
		for q := (url.Values{"limit": {"1000"}}); ; {
			page, err := c.Keys(ctx, q)
			if err != nil {
				return err
			}
			all.Keys = append(all.Keys, page.Keys...)
			if page.NextCursor == "" {
				break
			}
			q.Set("cursor", page.NextCursor)
		}
		return r.table(all, "ID\tNAME\tKEY\tSCOPES\tAGE\tUSED\tSTATE", func(w *tabwriter.Writer) {
			for _, k := range all.Keys {
				fmt.Fprintf(w, "%s\t%s\t%s…\t%s\t%s\t%s\t%s\n", k.ID, line(k.Name), k.Hint, access.JoinScopes(k.Scopes),
					ago(time.Time(k.CreatedAt)), agoOr(k.UsedAt, "never"), keyState(k, time.Now()))
			}
		})
	})
	cmd.AddCommand(createKeyCommand(t), rotateKeyCommand(t), revokeKeyCommand(t))
	return cmd
}

func agoOr(t *task.Time, otherwise string) string {
	if t == nil {
		return otherwise
	}
	return ago(time.Time(*t))
}

func keyState(k transport.Key, now time.Time) string {
	switch {
	case k.RevokedAt != nil:
		return "revoked"
	case k.ExpiresAt == nil:
		return "valid"
	case !now.Before(time.Time(*k.ExpiresAt)):
		return "expired"
	default:
		return "until " + time.Time(*k.ExpiresAt).Local().Format(time.DateTime)
	}
}

func createKeyCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var body transport.KeyBody
	var scopes []string
	var local bool
	cmd := &cobra.Command{
		Use: "create", Short: "Make an API key, and print it: it is not shown again", Args: exactly(0, "no arguments"),
		Long: `Make an API key, and print it: it is not shown again. The first one is made
with --local, in the store itself, on the machine of the node: there is nobody
yet who may ask a server for one.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range scopes {
				body.Scopes = append(body.Scopes, access.Scope(s))
			}
			if body.Name == "" {
				return usage("want --name, by which people know the key")
			}
			var made transport.NewKey
			if local {
				cfg, err := readConfig(cmd.Flags(), t.env, false)
				if err != nil {
					return err
				}
				if made, err = createKeyLocally(cmd.Context(), cfg, body); err != nil {
					return err
				}
				return r.printKey(made)
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			if made, err = c.CreateKey(cmd.Context(), body); err != nil {
				return err
			}
			return r.printKey(made)
		},
	}
	cmd.Flags().StringVar(&body.Name, "name", "", "for people")
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "what it allows, repeated or with commas: tasks:read, tasks:write (both unless given), workers, admin (all of them)")
	cmd.Flags().StringVar(&body.ExpiresIn, "expires-in", "", "how long it is good for, as 720h; for ever unless given")
	cmd.Flags().StringVar(&body.Namespace, "namespace", "", "whose tasks it is for; the caller's own unless given")
	cmd.Flags().BoolVar(&local, "local", false, "make it in the store itself: --data or --store as for serve; no server is needed")
	for _, s := range settings {
		if s.name == "data" || s.name == "store" || s.name == "secret" {
			cmd.Flags().String(s.name, s.value, "with --local: "+s.help)
		}
	}
	cmd.Flags().String("config", "", "with --local: YAML file with settings")
	r.flags(cmd)
	return cmd
}

// printKey prints the key alone where no person reads, so that a script can keep it.
func (r *remote) printKey(k transport.NewKey) error {
	switch {
	case r.json:
		return r.printJSON(k)
	case !r.outTTY:
		fmt.Fprintln(r.out, k.Secret)
	default:
		fmt.Fprintf(r.out, "%s\n\n  It is not shown again. It allows %s in the namespace %s; use it with:\n  export TROUPE_KEY=%s\n",
			k.Secret, access.JoinScopes(k.Scopes), k.Namespace, k.Secret)
	}
	return nil
}

// createKeyLocally makes a key in the store. On the embedded one no server may run.
func createKeyLocally(ctx context.Context, cfg *config, body transport.KeyBody) (made transport.NewKey, err error) {
	now := time.Now()
	scopes, expires, err := body.Wants(now)
	if err != nil {
		return made, usage("%s", err)
	}
	store, err := persistence.Open(ctx, cfg.store, persistence.Options{NoMigrate: !cfg.migrate})
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	accounts, err := accountsOf(store)
	if err != nil {
		return made, err
	}
	secret, err := cfg.openSecret()
	if err != nil {
		return made, err
	}
	of := body.Namespace
	if of == "" {
		of = access.Operator
	}
	plain, key, err := auth.NewKey(secret, of, body.Name, scopes, now, expires)
	if err != nil {
		return made, usage("%s", err)
	}
	err = accounts.PutKey(ctx, key, access.Audit{
		ID: task.ID(uuid.Must(uuid.NewV7())), At: now, Namespace: access.Operator, Actor: "local", Action: "key.create", Target: key.ID.String(),
	})
	if err != nil {
		return made, fmt.Errorf("keep the key: %w", err)
	}
	return transport.NewKey{Key: transport.KeyOf(key), Secret: plain}, nil
}

func rotateKeyCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	var body transport.KeyRotation
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Make a key in place of one, which goes on for a while", Args: exactly(1, "the ID of a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			made, err := c.RotateKey(cmd.Context(), args[0], body)
			if err != nil {
				return err
			}
			return r.printKey(made)
		},
	}
	cmd.Flags().StringVar(&body.Overlap, "overlap", "", "how long the old one goes on; a day unless given")
	r.flags(cmd)
	return cmd
}

func revokeKeyCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: "revoke ID…", Short: "Revoke keys: what they have open is closed within seconds", Args: atLeast(1, "the ID of a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := c.RevokeKey(cmd.Context(), id); err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				fmt.Fprintln(r.out, id, "revoked")
			}
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}

func namespacesCommand(t terminal) *cobra.Command {
	cmd := lister(t, "namespaces", "List namespaces; bound what they take up", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Namespaces(ctx)
		if err != nil {
			return err
		}
		return r.table(v, "NAMESPACE\tWEIGHT\tQUEUED\tRUNNING\tBYTES\tCONNECTIONS\tEVENTS/S", func(w *tabwriter.Writer) {
			for _, n := range v.Namespaces {
				fmt.Fprintf(w, "%s\t%g\t%s\t%s\t%s\t%s\t%s\n", n.Name, n.Weight, bound(n.MaxQueued), bound(n.MaxRunning),
					bound(int(n.MaxBytes)), bound(n.Connections), bound(n.MaxEvents))
			}
		})
	})
	cmd.AddCommand(setNamespaceCommand(t))
	return cmd
}

func setNamespaceCommand(t terminal) *cobra.Command {
	r := &remote{terminal: t}
	cmd := &cobra.Command{
		Use: "set NAMESPACE", Short: "Bound what a namespace takes up; 0 is no bound", Args: exactly(1, "one NAMESPACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			change := transport.NamespaceChange{
				Weight: given(f, "weight", f.GetFloat64), MaxQueued: given(f, "max-queued", f.GetInt), MaxRunning: given(f, "max-running", f.GetInt),
				MaxBytes: given(f, "max-bytes", f.GetInt64), Connections: given(f, "max-connections", f.GetInt), MaxEvents: given(f, "max-events", f.GetInt),
			}
			if change == (transport.NamespaceChange{}) {
				return usage("want a flag that says what to set; see: %s --help", cmd.CommandPath())
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			n, err := c.SetNamespace(cmd.Context(), args[0], change)
			if err != nil {
				return err
			}
			return r.printJSON(n)
		},
	}
	cmd.Flags().Float64("weight", 1, "its share beside other namespaces")
	cmd.Flags().Int("max-queued", 0, "so many of its tasks may wait")
	cmd.Flags().Int("max-running", 0, "so many of them run at once in the whole cluster")
	cmd.Flags().Int64("max-bytes", 0, "so many bytes of payloads, results and events are kept of it")
	cmd.Flags().Int("max-connections", 0, "so many WebSockets and event streams at once, on each node")
	cmd.Flags().Int("max-events", 0, "so many progress, log and output events a second, on each node")
	r.flags(cmd)
	return cmd
}

func auditCommand(t terminal) *cobra.Command {
	return lister(t, "audit", "List what administrators did, newest first", func(ctx context.Context, r *remote, c *client.Client) error {
		v, err := c.Audit(ctx, url.Values{"limit": {"100"}})
		if err != nil {
			return err
		}
		return r.table(v, "AT\tACTOR\tACTION\tTARGET\tDETAIL", func(w *tabwriter.Writer) {
			for _, a := range v.Acts {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", time.Time(a.At).Local().Format(time.DateTime), line(a.Actor), a.Action, line(a.Target), line(string(a.Detail)))
			}
		})
	})
}
