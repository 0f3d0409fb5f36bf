package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/persistence"
	"github.com/troupe-run/troupe/persistence/recent"
	"github.com/troupe-run/troupe/persistence/sealed"
	"github.com/troupe-run/troupe/persistence/sqlite"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/kinds/demo"
	"github.com/troupe-run/troupe/runtime/kinds/exec"
	"github.com/troupe-run/troupe/runtime/kinds/httpcall"
	"github.com/troupe-run/troupe/runtime/kinds/llm"
	"github.com/troupe-run/troupe/runtime/kinds/sql"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport/api"
	"github.com/troupe-run/troupe/transport/dashboard"
	"github.com/troupe-run/troupe/transport/ws"
)

func serveCommand(t terminal) *cobra.Command {
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node. Without any flag it keeps its tasks in ./troupe-data, listens on
127.0.0.1:8080 and serves the demo kinds. SIGTERM or Ctrl-C drains it; a second
one ends it at once. Every flag can also stand in the environment (TROUPE_LISTEN)
or in a file (--config).`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := readConfig(cmd.Flags(), t.env, t.inTTY && t.errTTY)
			if err != nil {
				return err
			}
			if printConfig {
				return cfg.print(t.out)
			}
			return serve(cmd.Context(), cfg, t)
		},
	}
	addSettings(cmd.Flags())
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print the settings in force, and where each comes from")
	return cmd
}

// serve runs a node until it is told to stop.
func serve(ctx context.Context, cfg *config, t terminal) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := newLogger(cfg, t.err)
	stopProfiles, err := serveProfiles(ctx, cfg.pprof, log) // before the node, whose start may be what is looked at
	if err != nil {
		return err
	}
	n, err := startNode(ctx, cfg, log, cfg.listen, cfg.commands())
	if err != nil {
		return errors.Join(err, stopProfiles())
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	greet(t, cfg, n)
	<-ctx.Done()
	stop() // from now on a second signal has its usual effect
	log.Info("draining", "timeout", cfg.drain)
	return errors.Join(n.stop(ctx), stopProfiles())
}

// gcPercent trades a little memory for fewer collections: the heap is small and
// what is on it short-lived. Who sets GOGC has it as they want.
const gcPercent = 200

// greet tells whoever started the server where it is and what to type.
func greet(t terminal, cfg *config, n *node) {
	server := ""
	if n.url != defaultServer {
		server = "--server " + n.url + " "
	}
	fmt.Fprintf(t.err, "\n  Troupe %s serves %s  (data in %s)\n", versionText(), n.url, cfg.place())
	fmt.Fprintf(t.err, "\n  dashboard  %s/\n  try it     troupe %ssubmit demo.sleep '{\"duration\":\"5s\",\"steps\":50}' --follow\n", n.url, server)
	if cfg.autoExec {
		fmt.Fprintf(t.err, "\n  You started it in a terminal, so tasks of the kind exec may run commands as you (--allow-exec=false turns that off).\n")
	}
	if n.open {
		fmt.Fprintln(t.err, "  There are no credentials: whoever is on this machine may use it. (troupe keys create makes some.)")
	}
	fmt.Fprintln(t.err)
}

func newLogger(cfg *config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.logLevel)) // checked with the settings
	options := &slog.HandlerOptions{Level: level}
	if cfg.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// node is a running server with all that is in it.
type node struct {
	url     string
	open    bool // nobody is asked for a credential
	runtime *runtime.Runtime
	store   task.Store
	beside  *companionship
	sources *sql.Sources
	models  *llm.Models
	end     context.CancelFunc
	group   *errgroup.Group
}

// startNode wires a node, leaves to roots, and starts it on an address.
func startNode(ctx context.Context, cfg *config, log *slog.Logger, address string, commands exec.Config) (_ *node, err error) {
	var open []func() error // what is to be closed again if the rest does not start, the last first
	defer func() {
		if err != nil {
			for _, shut := range slices.Backward(open) {
				err = errors.Join(err, shut())
			}
		}
	}()
	secure, err := cfg.entry.openTLS(log)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	store, err := persistence.Open(ctx, cfg.store, persistence.Options{Log: log, NoMigrate: !cfg.migrate})
	if err != nil {
		return nil, err
	}
	open = append(open, store.Close)
	beside, err := companion(ctx, cfg, log, registry)
	if err != nil {
		return nil, err
	}
	open = append(open, beside.Close)
	way, err := openDoor(ctx, cfg, address, log, registry, store, beside.rates())
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	open = append(open, l.Close)
	store = sealed.New(store, cfg.keys, sealed.Options{Log: log, Strict: cfg.strict})
	options := []runtime.Option{
		runtime.WithStore(store), runtime.WithLogger(log), runtime.WithMetrics(registry),
		runtime.WithName(cfg.name), runtime.WithAddress(l.Addr().String()), runtime.WithCapacity(cfg.resources), runtime.WithLabels(cfg.labels), runtime.WithWeights(cfg.weights),
		runtime.WithDrainTimeout(cfg.drain), runtime.WithLease(cfg.lease), runtime.WithWorkerLease(cfg.workerLease),
		runtime.WithTokenKey(way.secret.Derive("attempts")),
		runtime.WithLimits(task.Limits{Crashes: cfg.crashes, CacheSecret: cfg.keys.CacheSecret()}), runtime.WithRetention(cfg.retention),
		runtime.WithMaxQueued(cfg.maxQueued), runtime.WithRedact(cfg.redact.JSON),
	}
	if cfg.peers != nil {
		options = append(options, runtime.WithPeers(*cfg.peers))
	}
	if cfg.cacheMemory > 0 {
		results, err := recent.New(cfg.cacheMemory)
		if err != nil {
			return nil, err
		}
		options = append(options, runtime.WithRecent(results))
	}
	options = append(options, beside.options(cfg)...)
	rt, err := runtime.Open(ctx, options...)
	if err != nil {
		return nil, err
	}
	open = append(open, func() error { return rt.Close(ctx) })
	if cfg.demo {
		demo.Register(rt)
	}
	exec.Register(rt, commands)
	httpcall.Register(rt, httpcall.Config{AllowPrivate: cfg.allowPrivate, Allow: cfg.kinds.httpAllow})
	models, err := llm.Open(llm.Config{Providers: cfg.kinds.llm})
	if err != nil {
		return nil, err
	}
	open = append(open, models.Close)
	models.Register(rt)
	sources, err := sql.Open(ctx, sql.Config{Sources: cfg.kinds.sqlSources})
	if err != nil {
		return nil, fmt.Errorf("sql-source: %w", err)
	}
	open = append(open, sources.Close)
	sources.Register(rt)
	containers, err := cfg.containers(rt, log)
	if err != nil {
		return nil, err
	}

	way.crowd.Quota = func(namespace string) int { return rt.Tenant(namespace).Connections }
	wire := ws.Config{
		Log: log, Registerer: registry, Server: "troupe/" + versionText(), Lease: cfg.workerLease,
		Origins: cfg.entry.origins, Door: way.door, Crowd: way.crowd, Certified: cfg.entry.ca != "",
	}
	sockets, workers := ws.New(rt, wire), ws.NewWorkers(rt, wire)
	front := api.New(rt, api.Config{ //nolint:contextcheck // each request brings its own
		Log: log, Metrics: registry, Registerer: registry, Version: versionText(),
		WS: sockets, Workers: workers, AsyncAPI: ws.Document(versionText()), Dashboard: dashboard.Handler(),
		Door: way.door, Accounts: way.accounts, Keyless: way.keyless, Rates: way.rates, Crowd: way.crowd, ClosedMetrics: !cfg.entry.openMetrics,
		Hosts: cfg.entry.hosts, Proxies: cfg.entry.proxies, Origins: cfg.entry.origins, TLS: secure,
	})
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	group, groupCtx := errgroup.WithContext(life)
	group.Go(func() error { return front.Run(groupCtx, l) })
	group.Go(func() error { sockets.Run(groupCtx); return nil })
	group.Go(func() error { workers.Run(groupCtx); return nil })
	group.Go(func() error { containers.Run(groupCtx); return nil })
	group.Go(func() error { return way.door.Run(groupCtx) })
	return &node{
		url: cfg.entry.url(l.Addr()), open: way.door.IsOpen(),
		runtime: rt, store: store, beside: beside, sources: sources, models: models, end: end, group: group,
	}, nil
}

// lastWords is how long watchers may take to hear that the node goes.
const lastWords = 200 * time.Millisecond

// stop ends a node, roots to leaves: it drains while watchers still watch, says
// goodbye to them, closes the front door, then the store.
func (n *node) stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // this must end well however the command ended
	n.runtime.Drain(ctx)
	wait, cancel := context.WithTimeout(ctx, lastWords)
	<-wait.Done()
	cancel()
	n.end()
	err := n.group.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, n.runtime.Close(ctx), n.sources.Close(), n.models.Close(), n.beside.Close(), n.store.Close())
}

// describe says an error the way a person at a terminal can use it.
func describe(err error) string {
	if errors.Is(err, sqlite.ErrLocked) {
		return err.Error()
	}
	return explainError(err)
}

func migrateCommand(t terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or upgrade the schema of the store",
		Long:  "Create or upgrade the schema of the store. serve does so itself unless told not to.",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := readConfig(cmd.Flags(), t.env, false)
			if err != nil {
				return err
			}
			if err := persistence.Migrate(cmd.Context(), cfg.store, persistence.Options{Log: newLogger(cfg, t.err)}); err != nil {
				return err
			}
			fmt.Fprintln(t.out, "the schema is up to date")
			return nil
		},
	}
	addSettings(cmd.Flags())
	return cmd
}
