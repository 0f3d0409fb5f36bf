package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/troupe-run/troupe/persistence/sealed"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/redact"
	"github.com/troupe-run/troupe/runtime/task"
)

// setting is one thing a node can be told, by a flag, by TROUPE_ and its name in
// capitals, or by its name in the file; in that order of precedence. A secret may
// stand in a file of its own, which the environment names with _FILE behind.
type setting struct {
	name, value, help string
	secret            bool
	lines             bool // the file of the secret may have many lines, which a comma ends as well
}

// settings is all of them, with their defaults. docs/configuration.md says more.
var settings = []setting{
	{name: "listen", value: "127.0.0.1:8080", help: "address to listen on; loopback only until there are credentials"},
	{name: "secret", value: "", help: "what keys and tickets are signed with, at least 32 characters, the same on all nodes; made in the data directory unless named", secret: true},
	{name: "jwt", value: "", help: "YAML file that says whose JSON Web Tokens are let in"},
	{name: "tls-cert", value: "", help: "file with the server's certificate, read again when it changes"},
	{name: "tls-key", value: "", help: "file with the key to it"},
	{name: "tls-client-ca", value: "", help: "file with the certificate of who says who is a worker; workers must then have one, beside their key"},
	{name: "trusted-proxy", value: "", help: "network of proxies whose X-Forwarded-For is believed, as 10.0.0.0/8, comma-separated or repeated"},
	{name: "host", value: "", help: "name that clients call a server by that listens on loopback behind a proxy, comma-separated or repeated"},
	{name: "origin", value: "", help: "origin of other pages that may use the API, as https://app.example, comma-separated or repeated"},
	{name: "credential-rate", value: "", help: "how many requests one credential may make, as 100/s; any number unless said"},
	{name: "address-rate", value: "", help: "how many requests may come from one address, as 100/s; any number unless said"},
	{name: "open-metrics", value: "auto", help: "serve /metrics without a credential: true, false, or auto: where only this machine can reach it"},
	{name: "pprof", value: "", help: "address of this machine alone to serve profiles on, as 127.0.0.1:6060; none unless said"},
	{name: "data", value: "troupe-data", help: "directory of the embedded store"},
	{name: "store", value: "", help: "store, as URL; the embedded one in the data directory unless named", secret: true},
	{name: "redis", value: "", help: "Redis beside PostgreSQL, as URL; shares results, rates and hints between the nodes", secret: true},
	{name: "lease", value: "10s", help: "how long a node may be silent before its tasks go elsewhere; the embedded store needs none"},
	{name: "worker-lease", value: "15s", help: "how long a worker that is connected may be silent, or its connection broken, before its attempts run again"},
	{name: "cluster-listen", value: "127.0.0.1:0", help: "address for other nodes of a shared store; port 0 takes any"},
	{name: "cluster-advertise", value: "", help: "address under which they reach it; the one it listens on unless named"},
	{name: "cluster-ca", value: "", help: "file with the certificate of who says who is a node; their rows in the store say so unless named"},
	{name: "cluster-cert", value: "", help: "file with the node's certificate"},
	{name: "cluster-key", value: "", help: "file with the key to it"},
	{name: "name", value: "", help: "name of the node; its host's unless named"},
	{name: "allow-exec", value: "auto", help: "serve the kind exec, which runs commands: true, false, or auto: where a person starts the server in a terminal"},
	{name: "exec-allow", value: "", help: "the only programs that exec runs, as absolute paths, comma-separated or repeated; any unless said"},
	{name: "exec-limit", value: "", help: "what each process of a command may have, comma-separated or repeated: cpu=60s,memory=2Gi,files=256,processes=500,file-size=1Gi"},
	{name: "allow-private-http", value: "false", help: "let tasks of the kind http reach private addresses"},
	{name: "http-allow", value: "", help: "private networks, addresses and host:port that they may reach, comma-separated or repeated: 10.1.0.0/16,registry.internal:5000"},
	{name: "sql-source", value: "", help: "database that tasks of the kind sql may read as name=URL or name=file:PATH of a file with the URL, space-separated or repeated: sales=postgres://host/sales", secret: true},
	{name: "docker", value: "", help: "serve the kind container on this Docker engine: unix:///var/run/docker.sock or tcp://host:port"},
	{name: "container-image", value: "", help: "images that may be run there, with * and ** for what may vary, comma-separated or repeated: ghcr.io/acme/*,alpine:3.*"},
	{name: "container-pull", value: "missing", help: "when they are pulled: never, missing or always"},
	{name: "container-limit", value: "", help: "the most that a container may have, comma-separated or repeated: memory=2Gi,cpu=2,processes=256,tmp=64Mi"},
	{name: "container-network", value: "none", help: "networks that they may ask for: none, or bridge as well"},
	{name: "llm-provider", value: "", help: "provider that tasks of the kind llm may ask as name=openai:URL, name=anthropic:URL or name=fake:, space-separated or repeated; without a URL the company's own"},
	{name: "llm-key", value: "", help: "key for a provider as name=KEY or name=file:PATH of a file with the key, space-separated or repeated; OPENAI_API_KEY and ANTHROPIC_API_KEY for the companies' own unless said", secret: true},
	{name: "no-demo", value: "false", help: "do not serve the demo kinds"},
	{name: "resource", value: "", help: "capacity as name=quantity, comma-separated or repeated: slots=100,openai=20"},
	{name: "node-label", value: "", help: "label as key=value, comma-separated or repeated, for tasks that require or prefer it; os, arch and host are there"},
	{name: "namespace-weight", value: "", help: "share of a namespace beside others as name=weight, comma-separated or repeated; 1 where not said"},
	{name: "keep", value: "7d", help: "how long ended tasks are kept: 7d, or by state: succeeded=1d,failed=30d"},
	{name: "keep-events", value: "", help: "how long the logs of ended tasks are kept; as long as the tasks unless said"},
	{name: "submit-rate", value: "", help: "how many tasks are taken, as 1000/s, of all nodes together; any number unless said"},
	{name: "cache-memory", value: "64Mi", help: "how many bytes of results this node keeps in memory for tasks with a cache; none at 0"},
	{name: "max-queued", value: "0", help: "how many tasks may wait in a queue that has no max_queued of its own; any number at 0"},
	{name: "max-crashes", value: "5", help: "how many nodes a task may take with it before it is given up"},
	{name: "drain-timeout", value: "30s", help: "how long running attempts may finish when the node stops"},
	{name: "no-migrate", value: "false", help: "refuse a store whose schema is old instead of migrating it"},
	{name: "encryption-keys", value: "", help: "keys that encrypt what users say in the store and in Redis, as name and 32 bytes in base64, comma-separated; the first encrypts, all decrypt", secret: true, lines: true},
	{name: "encryption-strict", value: "false", help: "refuse what the store has from before it was encrypted"},
	{name: "redact", value: "", help: "JSON paths left out of log lines, output and details of errors of tasks, comma-separated or repeated: $..password"},
	{name: "log-level", value: "info", help: "debug, info, warn or error"},
	{name: "log-format", value: "text", help: "text or json"},
}

// config is what a node is told, checked.
type config struct {
	listen, data, store, redis, name string
	pprof                            string
	secret                           string
	entry                            entry
	allowExec, allowPrivate          bool
	demo, migrate                    bool
	kinds                            kindSettings
	resources                        task.Resources
	labels                           map[string]string
	weights                          map[string]float64
	retention                        task.Retention
	drain, lease, workerLease        time.Duration
	crashes, maxQueued               int
	cacheMemory                      uint64
	submitRate                       task.Rate
	peers                            *runtime.Peers // nil where the store is not shared
	logLevel, logFormat              string
	keys                             sealed.Keys
	strict                           bool
	redact                           *redact.Paths

	texts, sources map[string]string // for --print-config
	autoExec       bool
}

// addSettings defines the flags. Their defaults stand in the help alone; what
// was not given must not hide the environment or the file.
func addSettings(flags *pflag.FlagSet) {
	for _, s := range settings {
		switch s.value {
		case "false":
			flags.Bool(s.name, false, s.help)
		default:
			flags.String(s.name, s.value, s.help)
			if s.value == "auto" {
				flags.Lookup(s.name).NoOptDefVal = "true"
			}
		}
	}
	flags.String("config", "", "YAML file with settings")
	// What is a list may be repeated; each adds to it.
	for _, name := range []string{
		"resource", "node-label", "namespace-weight", "exec-allow", "exec-limit", "http-allow",
		"container-image", "container-limit", "redact", "trusted-proxy", "host", "origin",
	} {
		flags.Lookup(name).Value = new(listFlag)
	}
	for _, name := range spaced {
		flags.Lookup(name).Value = new(spacedFlag)
	}
}

// listFlag joins repeated values by commas.
type listFlag string

func (l *listFlag) String() string { return string(*l) }
func (l *listFlag) Type() string   { return "string" }
func (l *listFlag) Set(v string) error {
	if *l != "" {
		v = string(*l) + "," + v
	}
	*l = listFlag(v)
	return nil
}

// readConfig gathers the settings and checks them. person says that somebody
// sits at a terminal.
func readConfig(flags *pflag.FlagSet, env func(string) string, person bool) (*config, error) {
	k := koanf.New("\x00") // no nesting: every setting is one word
	sources := map[string]string{}
	load := func(values map[string]any, source string) error {
		for name := range values {
			sources[name] = source
		}
		return k.Load(confmap.Provider(values, ""), nil)
	}
	defaults := map[string]any{}
	for _, s := range settings {
		defaults[s.name] = s.value
	}
	if err := load(defaults, "default"); err != nil {
		return nil, err
	}
	path, _ := flags.GetString("config")
	if path = cmp.Or(path, env("TROUPE_CONFIG")); path != "" {
		values, err := readFile(path)
		if err != nil {
			return nil, err
		}
		if err := load(values, path); err != nil {
			return nil, err
		}
	}
	fromEnv := map[string]any{}
	for _, s := range settings {
		v, name, err := s.fromEnv(env)
		if err != nil {
			return nil, err
		}
		if v != "" {
			fromEnv[s.name] = v
			sources[s.name] = name
		}
	}
	if err := k.Load(confmap.Provider(fromEnv, ""), nil); err != nil {
		return nil, err
	}
	given := map[string]any{}
	flags.Visit(func(f *pflag.Flag) {
		if _, known := defaults[f.Name]; known {
			given[f.Name] = f.Value.String()
			sources[f.Name] = "--" + f.Name
		}
	})
	if err := k.Load(confmap.Provider(given, ""), nil); err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, s := range settings {
		texts[s.name] = k.String(s.name)
	}
	c, err := checkConfig(texts, sources, person)
	if err == nil {
		c.kinds.takeKeys(env)
	}
	return c, err
}

// maxSecret bounds a file with a secret: a line, or a few, and no device without an end.
const maxSecret = 64 << 10

// fromEnv looks a setting up in the environment; name says where it was found.
func (s setting) fromEnv(env func(string) string) (v, name string, err error) {
	name = "TROUPE_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
	v = env(name)
	path := ""
	if s.secret {
		path = env(name + "_FILE")
	}
	if path == "" {
		return v, name, nil
	}
	if v != "" {
		return "", "", usage("%s and %s_FILE are both set: name one", name, name)
	}
	name += "_FILE"
	read := readSecret
	if s.lines {
		read = readLines
	}
	if v, err = read(path); err != nil {
		return "", "", usage("%s: %v", name, err)
	}
	return v, name, nil
}

// readSecret reads a file of one line.
func readSecret(path string) (string, error) {
	v, err := readLines(path)
	if strings.ContainsAny(v, "\r\n") {
		return "", fmt.Errorf("%s is more than one line", path)
	}
	return v, err
}

// readLines reads a file of a few lines, without the last line's end.
func readLines(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // whoever starts the node names it
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch v := strings.TrimRight(string(raw), "\r\n"); {
	case err != nil:
		return "", err
	case v == "":
		return "", fmt.Errorf("%s is empty", path) // and not the setting unset
	case len(raw) > maxSecret:
		return "", fmt.Errorf("%s is too large", path)
	default:
		return v, nil
	}
}

// readFile reads a settings file; what it does not know is refused, since a
// misspelt setting is a setting that has no effect.
func readFile(path string) (map[string]any, error) {
	k := koanf.New("\x00")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return nil, usage("read %s: %v", path, err)
	}
	values := map[string]any{}
	for name, v := range k.Raw() {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.name == name }) {
			return nil, usage("%s: there is no setting %q; see: troupe serve --help", path, name)
		}
		switch v := v.(type) {
		case map[string]any, []any:
			parts := []string{}
			if list, ok := v.([]any); ok {
				for _, item := range list {
					parts = append(parts, fmt.Sprint(item))
				}
			} else {
				m := v.(map[string]any) //nolint:forcetypeassert // the case says so
				for _, key := range slices.Sorted(maps.Keys(m)) {
					parts = append(parts, fmt.Sprintf("%s=%v", key, m[key]))
				}
			}
			between := ","
			if slices.Contains(spaced, name) {
				between = " "
			}
			values[name] = strings.Join(parts, between)
		default:
			values[name] = fmt.Sprint(v)
		}
	}
	return values, nil
}

func checkConfig(texts, sources map[string]string, person bool) (*config, error) {
	c := &config{
		listen: texts["listen"], data: texts["data"], store: texts["store"], name: texts["name"],
		logLevel: texts["log-level"], logFormat: texts["log-format"], texts: texts, sources: sources,
	}
	var bad []error
	refuse := func(name, format string, args ...any) {
		bad = append(bad, fmt.Errorf("%s (from %s): %s", name, sources[name], fmt.Sprintf(format, args...)))
	}
	flag := func(name string) bool {
		v, err := strconv.ParseBool(texts[name])
		if err != nil {
			refuse(name, "must be true or false")
		}
		return v
	}
	duration := func(name string) time.Duration {
		d, err := parseDuration(texts[name])
		if err != nil || d < 0 {
			refuse(name, `must be a duration such as "30s" or "7d"`)
		}
		return d
	}
	if _, _, err := net.SplitHostPort(c.listen); err != nil {
		refuse("listen", "%q is no address such as 127.0.0.1:8080", c.listen)
	}
	if c.pprof = texts["pprof"]; c.pprof != "" && !onLoopback(c.pprof) {
		refuse("pprof", "%q is no address that only this machine can reach, such as 127.0.0.1:6060", c.pprof)
	}
	c.secret = texts["secret"]
	c.readEntry(refuse)
	if c.redis = texts["redis"]; c.redis != "" && !strings.HasPrefix(c.store, "postgres") {
		refuse("redis", "stands beside PostgreSQL, and the store is none: a single node shares nothing")
	}
	if c.lease = duration("lease"); c.lease < time.Second {
		refuse("lease", "must be at least 1s")
	}
	if c.workerLease = duration("worker-lease"); c.workerLease < time.Second {
		refuse("worker-lease", "must be at least 1s")
	}
	c.demo, c.migrate, c.allowPrivate = !flag("no-demo"), !flag("no-migrate"), flag("allow-private-http")
	if texts["allow-exec"] == "auto" {
		c.allowExec, c.autoExec = person, person
	} else {
		c.allowExec = flag("allow-exec")
	}
	var err error
	c.kinds = checkKinds(texts, refuse)
	if c.resources, err = parseResources(texts["resource"]); err != nil {
		refuse("resource", "%s", err)
	}
	if c.labels, err = parseLabels(texts["node-label"]); err != nil {
		refuse("node-label", "%s", err)
	}
	if c.weights, err = parseWeights(texts["namespace-weight"]); err != nil {
		refuse("namespace-weight", "%s", err)
	}
	if c.retention.Keep, err = parseKeep(texts["keep"]); err != nil {
		refuse("keep", "%s", err)
	}
	if texts["keep-events"] != "" {
		c.retention.KeepEvents = duration("keep-events")
	}
	c.drain = duration("drain-timeout")
	if c.submitRate, err = task.ParseRate(texts["submit-rate"]); err != nil {
		refuse("submit-rate", `must be such as "1000/s"`)
	}
	if c.crashes, err = strconv.Atoi(texts["max-crashes"]); err != nil || c.crashes < 1 {
		refuse("max-crashes", "must be a number from 1 on")
	}
	memory, err := task.ParseQuantity(texts["cache-memory"])
	if err != nil || memory < 0 {
		refuse("cache-memory", "must be such as 64Mi, or 0 for none")
	}
	c.cacheMemory = uint64(memory) / 1000 //nolint:gosec // not negative
	if c.maxQueued, err = strconv.Atoi(texts["max-queued"]); err != nil || c.maxQueued < 0 {
		refuse("max-queued", "must be a number, or 0 for any number")
	}
	if text := strings.ReplaceAll(texts["encryption-keys"], ",", "\n"); text != "" {
		if c.keys, err = sealed.ParseKeys(text); err != nil {
			refuse("encryption-keys", "%s", err)
		}
	}
	if c.strict = flag("encryption-strict"); c.strict && len(c.keys) == 0 {
		refuse("encryption-strict", "needs encryption-keys")
	}
	if c.redact, err = redact.New(strings.FieldsFunc(texts["redact"], func(r rune) bool { return r == ',' })...); err != nil {
		refuse("redact", "%s", err)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.logLevel) {
		refuse("log-level", "must be debug, info, warn or error")
	}
	if c.logFormat != "text" && c.logFormat != "json" {
		refuse("log-format", "must be text or json")
	}
	if strings.HasPrefix(c.store, "postgres") {
		if c.peers, err = peersOf(texts); err != nil {
			refuse("cluster-listen", "%s", err)
		}
	}
	if c.data == "" {
		refuse("data", "must name a directory")
	}
	if err := errors.Join(bad...); err != nil {
		return nil, usage("%s", strings.ReplaceAll(err.Error(), "\n", "\ntroupe: "))
	}
	if c.store == "" {
		c.store = c.data
	}
	return c, nil
}

// place says where the data is, without a password.
func (c *config) place() string {
	u, err := url.Parse(c.store)
	switch {
	case strings.HasPrefix(c.store, "postgres") && (err != nil || u.Host == ""):
		return "PostgreSQL"
	case err != nil || u.Host == "":
		return c.store
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// parseDuration reads a Go duration, or whole days as "7d".
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(s)
}

func parseResources(s string) (task.Resources, error) {
	r := task.Resources{}
	for _, part := range strings.FieldsFunc(s, func(c rune) bool { return c == ',' }) {
		name, amount, ok := strings.Cut(part, "=")
		q, err := task.ParseQuantity(amount)
		if !ok || err != nil || !task.ValidName(name) {
			return nil, fmt.Errorf("%q: want name=quantity, such as openai=20 or memory=8Gi", part)
		}
		r[name] = q
	}
	return r, nil
}

// parseLabels reads labels of a node.
func parseLabels(s string) (map[string]string, error) {
	labels := map[string]string{}
	for _, part := range strings.FieldsFunc(s, func(c rune) bool { return c == ',' }) {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("%q: want key=value, such as zone=a", part)
		}
		labels[key] = value
	}
	return labels, task.CheckNodeLabels(labels)
}

// parseWeights reads weights of namespaces.
func parseWeights(s string) (map[string]float64, error) {
	weights := map[string]float64{}
	for _, part := range strings.FieldsFunc(s, func(c rune) bool { return c == ',' }) {
		name, text, ok := strings.Cut(part, "=")
		weight, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("%q: want name=weight, such as acme=3", part)
		}
		weights[name] = weight
	}
	return weights, task.CheckWeights(weights)
}

// parseKeep reads "7d", or "succeeded=1d,failed=30d"; states that are not named
// are kept for seven days.
func parseKeep(s string) (map[task.State]time.Duration, error) {
	keep := map[task.State]time.Duration{}
	all := 7 * 24 * time.Hour
	for part := range strings.SplitSeq(s, ",") {
		name, text, byState := strings.Cut(part, "=")
		if !byState {
			text = name
		}
		d, err := parseDuration(text)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("%q: want a duration such as 7d", text)
		}
		if !byState {
			all = d
			continue
		}
		state, err := task.ParseState(name)
		if err != nil || !state.Terminal() {
			return nil, fmt.Errorf("%q: want succeeded, failed or cancelled", name)
		}
		keep[state] = d
	}
	for _, state := range task.States() {
		if _, named := keep[state]; !named && state.Terminal() {
			keep[state] = all
		}
	}
	return keep, nil
}

// print shows every setting with where it comes from.
func (c *config) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		v := c.texts[s.name]
		switch {
		case s.secret && slices.Contains(spaced, s.name):
			v = maskedList(v)
		case s.secret:
			v = masked(v)
		}
		if s.name == "encryption-keys" {
			v = strings.Join(c.keys.Names(), ",") // and never a key
		}
		if s.name == "resource" && len(v) > 0 {
			v = c.resources.String()
		}
		fmt.Fprintf(t, "%s:\t%s\t# %s\n", s.name, strconv.Quote(v), c.sources[s.name])
	}
	return t.Flush()
}

// masked hides a URL's password.
func masked(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "***"
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), "xxxxx")
	}
	for key := range u.Query() {
		if strings.Contains(key, "password") {
			return "***"
		}
	}
	return u.String()
}

// dataDirectory is where a node for one task keeps its data.
func dataDirectory(env func(string) string) string {
	return cmp.Or(env("TROUPE_DATA"), "troupe-data")
}
