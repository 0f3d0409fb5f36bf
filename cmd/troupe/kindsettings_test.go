package main

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/runtime/kinds/exec"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestBadSettingsOfKindsAreRefusedByName(t *testing.T) {
	for name, values := range map[string][]string{
		"exec-allow":        {"sh", "/no/such/program", "/bin/../bin/sh", "/bin/sh,ls", "/dev/null"},
		"exec-limit":        {"cpu", "memory=much", "stack=8Mi", "files=100,cpu=0s"},
		"docker":            {"unix:///var/run/docker.sock", "docker.sock", "http://x"},
		"container-image":   {"a b", "alpine,http://x"},
		"container-pull":    {"sometimes"},
		"container-limit":   {"memory=1", "swap=1Gi"},
		"container-network": {"host"},
		"sql-source":        {"sales", "=x", "a b=x", "sales=", "sales=sqlite:a sales=sqlite:b", "sales=file:/nowhere"},
		"http-allow":        {"everything", "http://registry.internal", "registry.internal", "10.0.0.0/8,x"},
		"llm-provider":      {"openai", "x=mistral:", "x=openai:ftp://y", "x=openai:https://user:pass@y"},
		"llm-key":           {"sk-1", "nobody=sk-1", "x=file:/nowhere"},
	} {
		for _, value := range values {
			if _, err := readTest(t, nil, false, "--"+name, value); err == nil || !strings.Contains(err.Error(), name+" (from --"+name+")") {
				t.Errorf("%s %q: %v", name, value, err)
			}
		}
	}
	if c, err := readTest(t, nil, false); err != nil || c.kinds.container.Engine != "" {
		t.Errorf("without: %+v, %v", c, err)
	}
	c, err := readTest(t, nil, false, "--docker", "unix:///var/run/docker.sock", "--container-image", "alpine", "--container-image", "ghcr.io/acme/*")
	if err != nil || c.kinds.container.Engine == "" || c.kinds.container.Pull != "missing" || c.kinds.container.Bridge {
		t.Errorf("with an engine: %+v, %v", c, err)
	}
}

func TestSourcesAreListsOfSecrets(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "url")
	if err := os.WriteFile(secret, []byte("postgres://u:hunter2@host/db?options=a,b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "troupe.yaml")
	text := "sql-source:\n  sales: postgres://u:hunter2@a,b/db\n  kept: file:" + secret + "\n  lite: sqlite:x.db\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"sales": "postgres://u:hunter2@a,b/db", "kept": "postgres://u:hunter2@host/db?options=a,b", "lite": "sqlite:x.db"}
	for _, tt := range []struct {
		env  map[string]string
		args []string
	}{
		{nil, []string{"--config", file}},
		{nil, []string{"--sql-source", "sales=postgres://u:hunter2@a,b/db", "--sql-source", "kept=file:" + secret + " lite=sqlite:x.db"}},
		{map[string]string{"TROUPE_SQL_SOURCE": "sales=postgres://u:hunter2@a,b/db kept=file:" + secret + " lite=sqlite:x.db"}, nil},
	} {
		c, err := readTest(t, tt.env, false, tt.args...)
		if err != nil || !maps.Equal(c.kinds.sqlSources, want) {
			t.Fatalf("%v: %+v, %v", tt.args, c, err)
		}
		var out tty
		if err := c.print(&out); err != nil {
			t.Fatal(err)
		}
		if shown := out.String(); strings.Contains(shown, "hunter2") || !strings.Contains(shown, "sales=***") || !strings.Contains(shown, "kept=file:"+secret) {
			t.Error(shown)
		}
	}
	_, err := readTest(t, nil, false, "--sql-source", "hunter2")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestServedSourcesAndProvidersAreThere(t *testing.T) {
	t.Parallel()
	c, err := readTest(t, nil, false, "--store", "memory:", "--sql-source", "lite=sqlite:"+filepath.Join(t.TempDir(), "none.db"), "--llm-provider", "try=fake:")
	if err != nil {
		t.Fatal(err)
	}
	n, err := startNode(t.Context(), c, slog.New(slog.DiscardHandler), "127.0.0.1:0", exec.Config{})
	if err != nil {
		t.Fatal(err)
	}
	submitted, err := n.runtime.Submit(t.Context(), "sql", map[string]string{"source": "lite", "query": "select 1"}, func(s *task.Spec) { s.MaxAttempts = 1 })
	if err != nil {
		t.Fatal(err)
	}
	ended, err := n.runtime.Wait(t.Context(), submitted.Namespace, submitted.ID)
	if err != nil || ended.Failure == nil || ended.Failure.Code != "sql_unavailable" {
		t.Errorf("%+v, %v", ended, err)
	}
	said := map[string]any{"provider": "try", "model": "m", "messages": []map[string]string{{"role": "user", "content": "hello"}}}
	if submitted, err = n.runtime.Submit(t.Context(), "llm", said); err != nil {
		t.Fatal(err)
	}
	ended, err = n.runtime.Wait(t.Context(), submitted.Namespace, submitted.ID)
	if err != nil || !strings.Contains(string(ended.Result), `"text":"hello"`) {
		t.Errorf("%+v, %v", ended, err)
	}
	if err := n.stop(t.Context()); err != nil {
		t.Error(err)
	}

	c.kinds.sqlSources = map[string]string{"x": "mysql://hunter2"}
	_, err = startNode(t.Context(), c, slog.New(slog.DiscardHandler), "127.0.0.1:0", exec.Config{})
	if err == nil || !strings.Contains(err.Error(), "sql-source") || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestKeysGoToTheirProviders(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("sk-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-anthropic",
		"TROUPE_LLM_PROVIDER": "openai=openai: claude=anthropic: local=openai:http://localhost:11434/v1 own=openai: kept=anthropic: try=fake:",
		"TROUPE_LLM_KEY":      "own=sk-own kept=file:" + secret,
	}
	c, err := readTest(t, env, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"openai": "sk-openai", "claude": "sk-anthropic", "local": "", "own": "sk-own", "kept": "sk-file", "try": ""} {
		if got, ok := c.kinds.llm[name]; !ok || got.Key != want {
			t.Errorf("%s has the key %q, want %q", name, got.Key, want)
		}
	}
	var out tty
	if err := c.print(&out); err != nil {
		t.Fatal(err)
	}
	if shown := out.String(); strings.Contains(shown, "sk-") || !strings.Contains(shown, "own=***") || !strings.Contains(shown, "http://localhost:11434/v1") {
		t.Error(shown)
	}
}
