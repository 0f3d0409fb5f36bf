package exec

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const pathIfNone = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what a command gets, as NAME=value, sorted. Of the node's own
// only what names a person's places and language: the rest may hold its secrets.
func environment(node []string, inherit bool, p payload) []string {
	harmless := []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"}
	env := map[string]string{"PATH": pathIfNone}
	for _, entry := range node {
		name, value, ok := strings.Cut(entry, "=")
		if ok && name != "" && (inherit || slices.Contains(harmless, name) || strings.HasPrefix(name, "LC_")) {
			env[name] = value
		}
	}
	if p.Dir != "" {
		env["PWD"] = p.Dir
	}
	maps.Copy(env, p.Env)
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// look finds a program the way a shell does, in the PATH the command will get
// and not in the node's. Places relative to somewhere are passed over: which
// program runs must not hang on the directory.
func look(program string, env []string) (string, error) {
	if strings.ContainsRune(program, filepath.Separator) {
		return program, nil // the kernel says what is wrong with it
	}
	var path string
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value
		}
	}
	found := fs.ErrNotExist
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, program)
		info, err := os.Stat(file)
		switch {
		case err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0:
			return file, nil
		case err == nil && info.Mode().IsRegular(), errors.Is(err, fs.ErrPermission):
			found = fs.ErrPermission
		}
	}
	return "", found
}
