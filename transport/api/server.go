package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/auth"
)

// Server is the front door. It is an [http.Handler] from the start; Run serves
// it on a listener.
type Server struct {
	tasks   Tasks
	log     *slog.Logger
	metrics *metrics
	hosts   []string

	door          *auth.Door
	accounts      access.Accounts
	rates         *auth.Limiter
	crowd         *auth.Crowd
	origins       []string
	connections   connections
	closedMetrics bool
	tls           *tls.Config
	limits        task.Limits
	bounds        Bounds

	requests, streams, uploads, bodies limit

	mux  *chi.Mux
	huma huma.API

	// stopping is over once the server shall end all that lasts. It is a signal,
	// not a context anything is done in.
	stopping context.Context
	stop     context.CancelFunc
}

// New makes a server. It panics where cfg.Registerer has its metrics already.
func New(t Tasks, cfg Config) *Server {
	humaErrors()
	s := &Server{
		tasks: t, log: cfg.Log, hosts: cfg.Hosts, door: cfg.Door, accounts: cfg.Accounts, rates: cfg.Rates, crowd: cfg.Crowd,
		origins: cfg.Origins, tls: cfg.TLS, closedMetrics: cfg.ClosedMetrics,
		limits: cfg.Limits.WithDefaults(), bounds: cfg.Bounds.withDefaults(cfg.Limits),
		mux: chi.NewMux(),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.requests.most, s.streams.most = s.bounds.Requests, s.bounds.Streams
	s.uploads.most, s.bodies.most = s.bounds.Uploads, s.bounds.Bodies
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.metrics = newMetrics(s, cfg.Registerer)

	if s.door == nil {
		s.door = auth.Open()
	}
	s.connections = connections{
		most: s.bounds.Connections, each: s.bounds.PerAddress, open: map[net.Conn]netip.Addr{}, from: map[netip.Addr]int{},
	}
	for _, p := range cfg.Proxies {
		s.connections.proxies = append(s.connections.proxies, netip.MustParsePrefix(p)) // whoever reads the settings checks them
	}
	s.mux.Use(s.visit, clientAddress(cfg.Proxies), s.guard)
	if len(cfg.Origins) > 0 {
		s.mux.Use(crossOrigin(cfg.Origins))
	}
	s.mux.NotFound(s.elsewhere(cfg.Dashboard))
	s.mux.MethodNotAllowed(s.wrongMethod)
	s.mux.Group(func(r chi.Router) {
		r.Use(s.bounded, s.identify)
		s.huma = describe(r, cmp.Or(cfg.Version, "dev"))
		s.taskRoutes()
		s.batchRoutes()
		s.scheduleRoutes()
		s.clusterRoutes()
		s.accessRoutes(cfg.Keyless)
	})
	s.probeRoutes(cfg)
	s.illustrate()
	s.pageRoutes(cfg.AsyncAPI)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run serves ln until ctx ends: then it accepts nothing more, ends streams and
// waits, and gives requests under way [Bounds.Drain] to end too. It closes ln.
// WebSockets stay: whoever took them over closes them. A server runs once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	const slowest = 10 * time.Second // to send a request's header
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: slowest,
		WriteTimeout:      slowest + s.bounds.Read + s.bounds.Write,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnState:         s.connections.changed,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() {
		if s.tls == nil {
			served <- server.Serve(ln)
			return
		}
		server.TLSConfig = s.tls.Clone()
		served <- server.ServeTLS(ln, "", "") // the certificate is the configuration's
	}()
	select {
	case err := <-served:
		s.stop()
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.stop()
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.bounds.Drain)
	defer cancel()
	err := server.Shutdown(patience)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests did not end in time: %w", err), server.Close())
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// lasting gives the context of what a request does for long: it ends with the
// request, when the server stops, and soon after its credential has ended. Its cause
// says which.
func (s *Server) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.stopping, func() { cancel(task.ErrClosed) })
	pass := s.door.Watch(principal(ctx), func(p *transport.Problem) { cancel(p) })
	return ctx, func() {
		pass.Release()
		release()
		cancel(nil)
	}
}

// elsewhere answers for paths that no route has.
func (s *Server) elsewhere(dashboard http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reading := r.Method == http.MethodGet || r.Method == http.MethodHead
		if dashboard == nil || !reading || r.URL.Path == "/v1" || strings.HasPrefix(r.URL.Path, "/v1/") {
			s.refuse(w, r, newProblem("not_found", "There is no such path."))
			return
		}
		page := &pageWriter{ResponseWriter: w}
		dashboard.ServeHTTP(page, r)
		if page.missing {
			s.refuse(w, r, newProblem("not_found", "There is no such path."))
		}
	}
}

// pageWriter keeps back the dashboard's own words for a page it does not have.
type pageWriter struct {
	http.ResponseWriter
	missing bool
}

func (w *pageWriter) WriteHeader(status int) {
	if w.missing = status == http.StatusNotFound; !w.missing {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *pageWriter) Write(b []byte) (int, error) {
	if w.missing {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

func (s *Server) wrongMethod(w http.ResponseWriter, r *http.Request) {
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	} {
		if s.mux.Match(chi.NewRouteContext(), method, r.URL.Path) {
			w.Header().Add("Allow", method)
		}
	}
	s.refuse(w, r, newProblem("method_not_allowed", "The path is not for this method."))
}
