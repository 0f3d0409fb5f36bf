package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/runtime/kinds/container"
	"github.com/troupe-run/troupe/runtime/kinds/exec"
	"github.com/troupe-run/troupe/runtime/kinds/httpcall"
	"github.com/troupe-run/troupe/runtime/kinds/llm"
)

// kindSettings is what the built-in kinds are told, checked.
type kindSettings struct {
	programs   exec.Programs
	limits     exec.Limits
	container  container.Config
	httpAllow  httpcall.Allowed
	sqlSources map[string]string
	llm        map[string]llm.Provider
}

func checkKinds(texts map[string]string, refuse func(name, format string, args ...any)) (k kindSettings) {
	var err error
	if k.httpAllow, err = httpcall.ParseAllowed(parseList(texts["http-allow"])); err != nil {
		refuse("http-allow", "%s", err)
	}
	if k.programs, err = exec.ParsePrograms(parseList(texts["exec-allow"])); err != nil {
		refuse("exec-allow", "%s", err)
	}
	if k.limits, err = exec.ParseLimits(parseList(texts["exec-limit"])); err != nil {
		refuse("exec-limit", "%s", err)
	}
	if k.sqlSources, err = parseNamed(texts["sql-source"]); err != nil {
		refuse("sql-source", "%s", err)
	}
	k.llm = checkProviders(texts, refuse)
	k.container = checkContainers(texts, refuse)
	return k
}

func checkContainers(texts map[string]string, refuse func(name, format string, args ...any)) (c container.Config) {
	c.Engine = texts["docker"]
	var err error
	if c.Images, err = container.ParseImages(parseList(texts["container-image"])); err != nil {
		refuse("container-image", "%s", err)
	}
	if err := c.CheckEngine(); err != nil {
		refuse("docker", "%s", err)
	}
	if c.Pull, err = container.ParsePull(texts["container-pull"]); err != nil {
		refuse("container-pull", "%s", err)
	}
	if c.Limits, err = container.ParseLimits(parseList(texts["container-limit"])); err != nil {
		refuse("container-limit", "%s", err)
	}
	c.Bridge = texts["container-network"] == "bridge"
	if !c.Bridge && texts["container-network"] != "none" {
		refuse("container-network", "must be none or bridge")
	}
	return c
}

// containers gives a node the kind container, if there is an engine for it.
func (c *config) containers(rt *runtime.Runtime, log *slog.Logger) (*container.Kind, error) {
	settings := c.kinds.container
	settings.Log = log
	kind, err := container.Register(rt, settings)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	return kind, nil
}

// commands says what the kind exec may do on a server.
func (c *config) commands() exec.Config {
	return exec.Config{Allow: c.allowExec, Programs: c.kinds.programs, Limits: c.kinds.limits, Helper: execHelper()}
}

// parseList reads what stands between commas.
func parseList(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
