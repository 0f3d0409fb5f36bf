package main

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/troupe-run/troupe/runtime/kinds/exec"
	"github.com/troupe-run/troupe/runtime/task"
)

func TestContainersAreServedWhereThereIsAnEngine(t *testing.T) {
	t.Parallel()
	c, err := readTest(t, nil, false, "--store", "memory:", "--docker", "unix://"+filepath.Join(t.TempDir(), "none"), "--container-image", "alpine")
	if err != nil {
		t.Fatal(err)
	}
	n, err := startNode(t.Context(), c, slog.New(slog.DiscardHandler), "127.0.0.1:0", exec.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for image, code := range map[string]string{"alpine": "engine_failed", "debian": "image_not_allowed"} {
		submitted, err := n.runtime.Submit(t.Context(), "container", map[string]string{"image": image}, func(s *task.Spec) { s.MaxAttempts = 1 })
		if err != nil {
			t.Fatal(err)
		}
		ended, err := n.runtime.Wait(t.Context(), submitted.Namespace, submitted.ID)
		if err != nil || ended.Failure == nil || ended.Failure.Code != code {
			t.Errorf("%s: %+v, %v", image, ended, err)
		}
	}
	if err := n.stop(t.Context()); err != nil {
		t.Error(err)
	}
}
