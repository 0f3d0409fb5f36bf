package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/troupe-run/troupe/runtime/task"
)

// config reads settings as serve does.
func readTest(t *testing.T, env map[string]string, person bool, args ...string) (*config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	addSettings(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return readConfig(flags, func(name string) string { return env[name] }, person)
}

func TestFlagsBeatEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "troupe.yaml")
	text := "listen: 127.0.0.1:1001\ndrain-timeout: 11s\nname: from-file\nresource:\n  openai: 20\n  memory: 8Gi\nno-demo: true\nnode-label:\n  zone: a\n  rack: 7\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TROUPE_CONFIG": file, "TROUPE_LISTEN": "127.0.0.1:1002", "TROUPE_DRAIN_TIMEOUT": "12s"}
	c, err := readTest(t, env, false, "--listen", "127.0.0.1:1003", "--resource", "gpu=1", "--resource", "cpu=500m")
	if err != nil {
		t.Fatal(err)
	}
	if c.listen != "127.0.0.1:1003" || c.drain != 12*time.Second || c.name != "from-file" || c.demo || !c.migrate {
		t.Errorf("%+v", c)
	}
	if c.resources["gpu"] != 1000 || c.resources["cpu"] != 500 || len(c.resources) != 2 {
		t.Errorf("resources %v", c.resources)
	}
	if c.labels["zone"] != "a" || c.labels["rack"] != "7" || len(c.labels) != 2 {
		t.Errorf("labels %v", c.labels)
	}
	over, err := readTest(t, env, false, "--node-label", "gpu=a100", "--node-label", "zone=b")
	if err != nil || over.labels["gpu"] != "a100" || over.labels["zone"] != "b" || len(over.labels) != 2 {
		t.Errorf("%+v, %v", over, err)
	}
	if w, err := readTest(t, env, false, "--namespace-weight", "acme=3", "--namespace-weight", "trial=0.5"); err != nil || w.weights["acme"] != 3 || w.weights["trial"] != 0.5 || len(w.weights) != 2 {
		t.Errorf("%v, %v", w.weights, err)
	}
	for _, odd := range []string{"acme", "acme=much", "acme=0", "=2", "acme=-1", "acme=NaN", "acme=1001"} {
		if _, err := readTest(t, env, false, "--namespace-weight", odd); err == nil || !strings.Contains(err.Error(), "namespace-weight") {
			t.Errorf("%s: %v", odd, err)
		}
	}
	var out tty
	if err := c.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--listen", "TROUPE_DRAIN_TIMEOUT", file, "default"} {
		if !strings.Contains(out.String(), "# "+want) {
			t.Errorf("no setting from %s:\n%s", want, out.String())
		}
	}
}

func TestSecretsAreMasked(t *testing.T) {
	c := &config{texts: map[string]string{"store": "postgres://user:hunter2@host/db", "redis": "redis://h?password=hunter2"}, sources: map[string]string{}}
	var out tty
	if err := c.print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Error(out.String())
	}
}

func TestSecretsMayStandInFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("postgres://user:hunter2@host/db\n")
	env := map[string]string{"TROUPE_STORE_FILE": file}
	c, err := readTest(t, env, false)
	if err != nil || c.store != "postgres://user:hunter2@host/db" {
		t.Fatalf("%v, %v", c, err)
	}
	var out tty
	if err := c.print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "# TROUPE_STORE_FILE") || strings.Contains(out.String(), "hunter2") {
		t.Error(out.String())
	}
	if c, err := readTest(t, env, false, "--store", "memory:"); err != nil || c.store != "memory:" {
		t.Errorf("a flag does not go before the file: %v, %v", c, err)
	}

	refused := func(what string, env map[string]string) {
		t.Helper()
		if _, err := readTest(t, env, false); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("both", map[string]string{"TROUPE_STORE": "memory:", "TROUPE_STORE_FILE": file})
	refused("no such file", map[string]string{"TROUPE_STORE_FILE": file + ".gone"})
	refused("a directory", map[string]string{"TROUPE_STORE_FILE": filepath.Dir(file)})
	refused("no end", map[string]string{"TROUPE_STORE_FILE": "/dev/zero"})
	for _, text := range []string{"", "\n", "postgres://user:hunter2@host/db\nmore\n"} {
		write(text)
		refused("a file of other than one line", env)
	}
	// Only secrets: another setting with _FILE is a name nobody asks for.
	if _, err := readTest(t, map[string]string{"TROUPE_NAME_FILE": file + ".gone"}, false); err != nil {
		t.Error(err)
	}
}

func TestBadSettingsAreRefusedByName(t *testing.T) {
	for name, args := range map[string][]string{
		"address":       {"--listen", "8080"},
		"redis":         {"--redis", "redis://localhost"},
		"lease":         {"--lease", "1ms"},
		"max-crashes":   {"--max-crashes", "0"},
		"cache-memory":  {"--cache-memory", "-1"},
		"max-queued":    {"--max-queued", "-1"},
		"submit-rate":   {"--submit-rate", "fast"},
		"resource":      {"--resource", "cpu=many"},
		"node-label":    {"--node-label", "zone"},
		"keep":          {"--keep", "running=1d"},
		"keep-events":   {"--keep-events", "soon"},
		"drain-timeout": {"--drain-timeout", "-1s"},
		"log-level":     {"--log-level", "loud"},
		"log-format":    {"--log-format", "xml"},
		"data":          {"--data", ""},
		"allow-exec":    {"--allow-exec=perhaps"},
	} {
		if _, err := readTest(t, nil, false, args...); err == nil {
			t.Errorf("%s: %v was taken", name, args)
		}
	}
	file := filepath.Join(t.TempDir(), "troupe.yaml")
	for _, text := range []string{"lisen: 127.0.0.1:1\n", "listen: [\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTest(t, nil, false, "--config", file); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if _, err := readTest(t, nil, false, "--config", file+".gone"); err == nil {
		t.Error("a missing file was taken")
	}
}

func TestExecIsAllowedByItselfOnlyForAPerson(t *testing.T) {
	for _, tt := range []struct {
		person bool
		args   []string
		want   bool
	}{
		{true, nil, true},
		{false, nil, false},
		{true, []string{"--allow-exec=false"}, false},
		{false, []string{"--allow-exec"}, true},
	} {
		c, err := readTest(t, nil, tt.person, tt.args...)
		if err != nil || c.allowExec != tt.want {
			t.Errorf("%+v: %v, %v", tt, c.allowExec, err)
		}
	}
}

func TestKeep(t *testing.T) {
	day := 24 * time.Hour
	for text, want := range map[string][3]time.Duration{
		"7d":                      {7 * day, 7 * day, 7 * day},
		"36h":                     {36 * time.Hour, 36 * time.Hour, 36 * time.Hour},
		"succeeded=1d,failed=30d": {day, 30 * day, 7 * day},
		"2d,failed=30d":           {2 * day, 30 * day, 2 * day},
	} {
		keep, err := parseKeep(text)
		if err != nil || [3]time.Duration{keep[task.Succeeded], keep[task.Failed], keep[task.Cancelled]} != want {
			t.Errorf("%s: %v, %v", text, keep, err)
		}
	}
}
