package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/knadh/koanf/parsers/yaml"

	"github.com/troupe-run/troupe/transport"
	"github.com/troupe-run/troupe/transport/client"
)

// root is the repository, seen from this package.
const root = "../.."

func readYAML(t *testing.T, path string) map[string]any {
	t.Helper()
	v, err := yaml.Parser().Unmarshal([]byte(readText(t, path)))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

func readText(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// inside looks into nested maps; nil where there is nothing.
func inside(v any, path ...string) any {
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func list(v any) (texts []string) {
	items, _ := v.([]any)
	for _, item := range items {
		texts = append(texts, fmt.Sprint(item))
	}
	return texts
}

func TestContainersAreHardenedAndKnowTheirSecretsByFile(t *testing.T) {
	compose := readYAML(t, "docker-compose.yml")
	services, _ := inside(compose, "services").(map[string]any)
	pinned := regexp.MustCompile(`^[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?$`)
	nodes := 0
	for name, s := range services {
		isNode := strings.HasPrefix(name, "node-")
		image, _ := inside(s, "image").(string)
		if isNode {
			nodes++
			// The image is ours; its Dockerfile has the user and the health check.
			if inside(s, "build") != "." || inside(s, "network_mode") != "service:front" {
				t.Errorf("%s is not built here, or not in the front's network", name)
			}
			if len(list(inside(s, "ports"))) > 0 {
				t.Errorf("%s is published: there are no credentials", name)
			}
			listen := fmt.Sprint(inside(s, "environment", "TROUPE_LISTEN"))
			if inside(s, "environment", "TROUPE_SERVER") != "http://"+listen || !strings.Contains(readText(t, "docs/deploy/nginx.conf"), "server "+listen+" ") ||
				!strings.Contains(readText(t, "docs/deploy/prometheus.yml"), `"`+listen+`"`) {
				t.Errorf("%s listens on %s, and its health check, Nginx or Prometheus look elsewhere", name, listen)
			}
			drain, err1 := time.ParseDuration(fmt.Sprint(inside(s, "environment", "TROUPE_DRAIN_TIMEOUT")))
			grace, err2 := time.ParseDuration(fmt.Sprint(inside(s, "stop_grace_period")))
			if err1 != nil || err2 != nil || grace <= drain {
				t.Errorf("%s drains for %v and is killed after %v", name, drain, grace)
			}
			if inside(s, "depends_on", "postgres", "condition") != "service_healthy" || inside(services, "nginx", "depends_on", name, "condition") != "service_healthy" {
				t.Errorf("%s does not wait for PostgreSQL, or Nginx not for it", name)
			}
		} else if !pinned.MatchString(image) {
			t.Errorf("%s: image %q is not pinned by its version", name, image)
		}
		// front holds a network and does nothing else: there is no health to it.
		if !isNode && name != "front" && len(list(inside(s, "healthcheck", "test"))) == 0 {
			t.Errorf("%s has no health check", name)
		}
		if inside(s, "read_only") != true || inside(s, "restart") != "unless-stopped" ||
			!slices.Equal(list(inside(s, "cap_drop")), []string{"ALL"}) || !slices.Contains(list(inside(s, "security_opt")), "no-new-privileges:true") {
			t.Errorf("%s is not hardened", name)
		}
		for _, port := range list(inside(s, "ports")) {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s to more than this machine", name, port)
			}
		}
		environment, _ := inside(s, "environment").(map[string]any)
		for key, value := range environment {
			if secret := regexp.MustCompile(`PASSWORD|STORE|REDIS|KEY`).MatchString(key); secret && !strings.HasPrefix(fmt.Sprint(value), "/run/secrets/") {
				t.Errorf("%s: %s stands in the file in plain text", name, key)
			}
		}
		for _, volume := range list(inside(s, "volumes")) {
			if from, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(from, ".") {
				readable(t, filepath.Join(root, from))
			} else if _, ok := inside(compose, "volumes", from).(map[string]any); !ok {
				t.Errorf("%s: no volume %s", name, from)
			}
		}
	}
	if nodes != 3 {
		t.Errorf("%d nodes", nodes)
	}

	// The script makes every secret that is named, and none anew.
	dir := t.TempDir()
	made := map[string]string{}
	for range 2 {
		if out, err := exec.Command("bash", filepath.Join(root, "docs/deploy/secrets/make"), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		secrets, _ := inside(compose, "secrets").(map[string]any)
		for name := range secrets {
			path := fmt.Sprint(inside(secrets, name, "file"))
			raw, err := os.ReadFile(filepath.Join(dir, filepath.Base(path)))
			if err != nil || len(raw) < 20 || filepath.Dir(path) != "docs/deploy/secrets" {
				t.Errorf("secret %s: %d bytes, %v", path, len(raw), err)
			}
			if before, ok := made[name]; ok && before != string(raw) {
				t.Errorf("secret %s was made anew, and the database keeps the old one", name)
			}
			made[name] = string(raw)
		}
	}
	if _, err := readTest(t, map[string]string{"TROUPE_STORE_FILE": filepath.Join(dir, "store_url")}, false); err != nil {
		t.Error(err)
	}
	dockerfile := readText(t, "Dockerfile")
	for _, want := range []string{"FROM scratch", "USER 65532:65532", `HEALTHCHECK`, `"/troupe", "health"`, "CGO_ENABLED=0", "ca-certificates.crt"} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("the Dockerfile lacks %s", want)
		}
	}
}

func readable(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestServersTakeTheirFiles(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{
		{nginxProgram(), "-t", "-e", "stderr", "-p", t.TempDir(), "-c", absolute(t, "docs/deploy/nginx.conf")},
		{"promtool", "check", "config", absolute(t, "docs/deploy/prometheus.yml")},
		{"promtool", "test", "rules", absolute(t, "docs/deploy/alerts_test.yml")},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", command, err, out)
		}
	}
	dashboard := readText(t, "docs/deploy/grafana/dashboards/troupe.json")
	if !json.Valid([]byte(dashboard)) {
		t.Error("the dashboard is no JSON")
	}
	if uid := inside(readYAML(t, "docs/deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"].([]any)[0], "uid"); !strings.Contains(dashboard, fmt.Sprintf(`"uid": %q`, uid)) {
		t.Errorf("the dashboard does not ask the source %v", uid)
	}
}

func TestEveryAlertIsTriedAndExplained(t *testing.T) {
	_, explained, _ := strings.Cut(readText(t, "docs/operations.md"), "\n## Alerts\n")
	tried := readText(t, "docs/deploy/alerts_test.yml")
	groups, _ := readYAML(t, "docs/deploy/alerts.yml")["groups"].([]any)
	n := 0
	for _, group := range groups {
		rules, _ := inside(group, "rules").([]any)
		for _, rule := range rules {
			n++
			name := fmt.Sprint(inside(rule, "alert"))
			if !strings.Contains(tried, `alertname="`+name+`"`) {
				t.Errorf("no trouble of alerts_test.yml makes %s fire", name)
			}
			if !strings.Contains(explained, "| `"+name+"` |") {
				t.Errorf("docs/operations.md does not explain %s", name)
			}
			runbook, summary := fmt.Sprint(inside(rule, "annotations", "runbook_url")), inside(rule, "annotations", "summary")
			if summary == nil || !strings.HasSuffix(runbook, "docs/operations.md#alerts") {
				t.Errorf("%s: summary %v, runbook %s", name, summary, runbook)
			}
			if severity := inside(rule, "labels", "severity"); severity != "page" && severity != "ticket" {
				t.Errorf("%s: severity %v", name, severity)
			}
		}
	}
	if n == 0 {
		t.Error("no alerts")
	}
}

// What a misspelt metric would show is a flat line and an alert that never fires.
func TestAlertsAndDashboardAskForMetricsThatAre(t *testing.T) {
	t.Parallel()
	server := serveIn(t)
	wantStatus(t, troupe(t, server, false, "", "submit", "demo.echo", "1", "--wait"), exitOK)
	wantStatus(t, troupe(t, server, false, "", "submit", "demo.flaky", `{"failures":1}`, "--max-attempts", "1", "--wait"), exitFailed)
	resp, err := http.Get(server + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	has := func(name, label string) bool {
		for line := range strings.Lines(string(raw)) {
			if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == '{' || rest[0] == ' ') && strings.Contains(rest, label) {
				return true
			}
		}
		return false
	}
	selector := regexp.MustCompile(`\b((?:troupe|process)_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`(\w+)=\\?"([^"\\]*)`)
	asked := 0
	for _, path := range []string{"docs/deploy/alerts.yml", "docs/deploy/grafana/dashboards/troupe.json"} {
		for _, m := range selector.FindAllStringSubmatch(readText(t, path), -1) {
			asked++
			if !has(m[1], "") {
				t.Errorf("%s asks for %s, which a node does not have", path, m[1])
			}
			for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
				if label[1] == "job" { // Prometheus' own
					continue
				}
				// Nothing went wrong here, and the label is the same.
				want := fmt.Sprintf("%s=%q", label[1], strings.Replace(label[2], "5xx", "2xx", 1))
				if !has(m[1], want) {
					t.Errorf("%s asks for %s with %s, which a node does not have", path, m[1], want)
				}
			}
		}
	}
	if asked < 20 {
		t.Errorf("found %d metrics in the files", asked)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func nginxProgram() string {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path
	}
	return "/usr/sbin/nginx" // not on everybody's path
}

// nginx runs one in front of three nodes, with the file that is deployed, and
// gives its address.
func nginx(t *testing.T, nodes []string) string {
	t.Helper()
	address := ownAddress(t)
	conf := readText(t, "docs/deploy/nginx.conf")
	for old, now := range map[string]string{
		"listen 8080": "listen " + address, "127.0.0.1:8081": nodes[0], "127.0.0.1:8082": nodes[1], "127.0.0.1:8083": nodes[2],
	} {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("%s is not once in nginx.conf", old)
		}
		conf = strings.Replace(conf, old, now, 1)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nginxProgram(), "-e", "stderr", "-p", dir, "-c", file)
	var said tty
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Nginx; .ci/services installs it: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Nginx said:\n%s", said.String())
		}
	})
	return address
}

// TestThroughNginx kills each node in turn and starts it again, while clients
// submit and watch through Nginx, by WebSocket and by server-sent events. Then
// the rules of history_test.go are applied to what they saw and what is left.
func TestThroughNginx(t *testing.T) {
	t.Parallel()
	binary, url := buildTroupe(t), database(t)
	nodes := make([]*victim, clusterNodes)
	var addresses []string
	for i := range nodes {
		nodes[i] = newVictim(t, binary, "--store", url, "--lease", clusterLease.String(), "--name", "n"+strconv.Itoa(i), "--max-crashes", strconv.Itoa(mostAttempts))
		nodes[i].start(t)
		addresses = append(addresses, nodes[i].address)
	}
	ctx, cancel := within(t)
	w := newWitness(t, nginx(t, addresses))
	t.Cleanup(w.watchers.Wait)
	t.Cleanup(cancel) // before the wait above
	c := &cluster{nodes: nodes, w: w, random: rand.New(rand.NewPCG(1, 1))}
	c.ready(ctx, t)
	await(ctx, t, "Nginx does not lead to a node", func() bool { return w.client.Ready(ctx) == nil })

	// More than Nginx holds of a body once the answer has begun.
	oneOf(t, 5, func() error {
		many, before := w.lines(c.random, 6_000), len(w.h.acked)
		w.batch(ctx, many, len(many), nil)
		if taken := len(w.h.acked) - before; taken != len(many) { // a node may have stood still past its lease
			return fmt.Errorf("%d of %d lines were taken", taken, len(many))
		}
		return nil
	})
	feeds, endFeeds := context.WithCancel(ctx)
	defer endFeeds()
	w.follow(feeds, &client.Filter{})
	for _, n := range nodes {
		before := w.answered.Load()
		for range 3 {
			w.stream(ctx, "1000", mostAttempts, 10)
			w.streamEvents(ctx, "1000")
		}
		struck := make(chan struct{})
		lines := w.lines(c.random, 200)
		w.submitting.Go(func() { w.batch(ctx, lines, 100, struck) })
		w.answers(ctx, t, before+6)
		c.pause(ctx, t, int64(500*time.Millisecond))
		n.mustKill(t)
		close(struck)
		w.single(ctx, c.random) // while it is gone
		c.pause(ctx, t, int64(clusterLease/2))
		n.start(t)
		c.ready(ctx, t)
	}
	w.submitting.Wait()
	await(ctx, t, "Nginx does not lead to a node again", func() bool { return w.client.Ready(ctx) == nil })
	w.settle(ctx, t)
	endFeeds()
	await(ctx, t, "watchers that do not end with their tasks", func() bool { return w.watching.Load() == 0 })
	w.collect(ctx, t)
	w.judge(t, 3*len(nodes))
	t.Logf("%d tasks acknowledged, %d ended, %d attempts interrupted, %d watchers came back %d times",
		len(w.h.acked), len(w.h.tasks), w.interrupted, len(w.h.watches), w.reconnects.Load())
	if t.Failed() {
		for i, n := range nodes {
			t.Logf("node %d said:\n%s", i, n.said())
		}
	}
}

// streamEvents is stream, watched by server-sent events.
func (w *witness) streamEvents(ctx context.Context, chunks string) {
	s, n := w.note(transport.Submission{
		Kind: "demo.stream", MaxAttempts: mostAttempts, Priority: 10,
		Payload: json.RawMessage(`{"chunks":` + chunks + `,"interval":"1ms","size":16}`),
	})
	w.submitting.Go(func() {
		v, ok := w.submit(ctx, s, n)
		defer w.answered.Add(1)
		if !ok {
			return
		}
		w.watching.Add(1)
		w.watchers.Go(func() {
			defer w.watching.Add(-1)
			seen := watched{task: v.ID}
			for again := time.NewTicker(20 * time.Millisecond); !seen.ended && ctx.Err() == nil; {
				w.events(ctx, &seen)
				if !seen.ended {
					w.reconnects.Add(1)
				}
				select {
				case <-again.C:
				case <-ctx.Done():
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.h.watches = append(w.h.watches, seen)
		})
	})
}

// events reads one stream from behind what was seen until it breaks off. It
// forgives nothing: an event that comes twice is seen twice.
func (w *witness) events(ctx context.Context, seen *watched) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.client.Server()+"/v1/tasks/"+seen.task+"/events", nil)
	if err != nil {
		seen.err = err.Error()
		return
	}
	req.Header.Set("Accept", "text/event-stream")
	if n := len(seen.seen); n > 0 {
		req.Header.Set("Last-Event-ID", seen.seen[n-1].cursor)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	kind, data := "", ""
	for lines.Scan() {
		if text := lines.Text(); text != "" {
			if name, ok := strings.CutPrefix(text, "event: "); ok {
				kind = name
			} else if rest, ok := strings.CutPrefix(text, "data: "); ok {
				data = rest
			}
			continue
		}
		// Only an empty line makes an event of what stands before it: the stream may
		// break off within a line.
		if data != "" {
			seen.note(kind, data)
		}
		kind, data = "", ""
	}
}

// note remembers a server-sent event.
func (s *watched) note(kind, data string) {
	var e transport.Event
	if kind == "gap" || json.Unmarshal([]byte(data), &e) != nil {
		s.gaps = append(s.gaps, data)
		return
	}
	s.seen = append(s.seen, view(e))
	var d stateData
	s.ended = kind == "state" && json.Unmarshal(e.Data, &d) == nil && hasEnded(d.State)
}

// TestMakeClusterRestartsWhatIsKilledAndLeavesNothing runs what make cluster
// runs.
func TestMakeClusterRestartsWhatIsKilledAndLeavesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("short: starts the program; run without -short")
	}
	build := exec.CommandContext(t.Context(), "make", "build") // as the script does, but for as long as it takes
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	port := fivePorts(t)
	dir := t.TempDir()
	cmd := exec.Command("bash", ".ci/cluster")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "PORT="+strconv.Itoa(port), "TMPDIR="+dir, "TROUPE_LEASE="+noDeath)
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // as root its servers are another user's
		t.Fatal(err)
	}
	var said tty
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its children die with it
		if t.Failed() {
			t.Logf("it said:\n%s", said.String())
		}
	})
	ctx := t.Context()
	var pid []string
	await(ctx, t, "the cluster does not come up", func() bool {
		pid = regexp.MustCompile(`kill -9 (\d+) `).FindStringSubmatch(said.String())
		return pid != nil && strings.Contains(said.String(), "Ctrl-C")
	})
	server := "http://127.0.0.1:" + strconv.Itoa(port)
	wantStatus(t, troupe(t, server, false, "", "submit", "demo.echo", `"through"`, "--wait"), exitOK, "through")
	n, err := strconv.Atoi(pid[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	of, err := client.New("http://127.0.0.1:"+strconv.Itoa(port+1), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "a killed node does not come back", func() bool {
		return strings.Contains(said.String(), "a runs again") && of.Ready(ctx) == nil
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "it does not stop", func() bool {
		select {
		case err = <-gone:
			return true
		default:
			return false
		}
	})
	if err != nil {
		t.Errorf("it ended with %v", err)
	}
	for i := range 5 {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port+i)); err == nil {
			_ = conn.Close()
			t.Errorf("somebody still listens on port %d", port+i)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// fivePorts finds five ports in a row that nobody has.
func fivePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, free := 20000+rand.IntN(10000), true
		for i := range 5 {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first+i))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return first
		}
	}
	t.Fatal("no five ports in a row are free")
	return 0
}
