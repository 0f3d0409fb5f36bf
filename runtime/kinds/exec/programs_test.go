//go:build unix

package exec

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyProgramsOnTheListRun(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, says string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho "+says+" as $0\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return file
	}
	first, other := write("bin/first", "one"), write("bin/other", "another")
	versioned := write("opt/tool-1", "tool")
	linked, toOther := filepath.Join(dir, "bin/tool"), filepath.Join(dir, "bin/to-other")
	for link, to := range map[string]string{linked: versioned, toOther: other, filepath.Join(dir, "up"): filepath.Join(dir, "bin")} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	programs, err := ParsePrograms([]string{first, linked})
	if err != nil {
		t.Fatal(err)
	}
	// From now on the name leads elsewhere. What runs is what it led to.
	if err := os.Remove(linked); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, linked); err != nil {
		t.Fatal(err)
	}
	trap := write("trap/first", "a trap")
	t.Setenv("PATH", filepath.Dir(trap)+":/usr/bin:/bin")
	r := newRunner(Config{Programs: programs})

	for name, want := range map[string]string{
		first: "one as " + first + "\n", "first": "one as " + first + "\n",
		linked: "tool as " + versioned + "\n", "tool": "tool as " + versioned + "\n",
	} {
		rec := newRecorder()
		if _, err := r.run(t.Context(), rec, encode(payload{Command: []string{name}, Dir: filepath.Dir(trap), Env: map[string]string{"MINE": "1"}})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := rec.output(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	for _, name := range []string{
		other, "other", "sh", "/bin/sh", "./first", "../bin/first", "trap/first", trap, toOther, "to-other", versioned, "tool-1",
		dir + "/bin/../bin/first", dir + "/bin/./first", dir + "//bin/first", dir + "/up/first", first + "/", first + "/.", first + " ",
		"/proc/self/root" + first, "/proc/self/cwd/first", "//" + first[1:], "/.." + first, "FIRST", "firs", "bin/first", " first", "first\n",
		"/dev/fd/0", ".", "..", "/", "-", "*", "fir?t",
	} {
		_, err := r.run(t.Context(), newRecorder(), encode(payload{Command: []string{name, "-c", "echo hello"}, Dir: filepath.Dir(trap)}))
		wantFailure(t, err, "exec_not_allowed", `{"exit_status":126}`, false)
	}

	for _, name := range []string{
		"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "PATH", "ENV", "BASH_ENV", "BASH_FUNC_x%%", "IFS",
		"PYTHONPATH", "PYTHONSTARTUP", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS", "GIT_SSH_COMMAND", "JAVA_TOOL_OPTIONS", "HOME", "PAGER",
	} {
		p := payload{Command: []string{first}, Env: map[string]string{name: "x"}}
		_, err := r.run(t.Context(), newRecorder(), encode(p))
		wantFailure(t, err, "exec_not_allowed", `{"exit_status":126}`, false)
		if _, err := newRunner(Config{}).run(t.Context(), newRecorder(), encode(payload{Command: []string{first}, Env: map[string]string{name: "/x"}})); err != nil && name != "LD_AUDIT" {
			t.Errorf("without a list, %s: %v", name, err)
		}
	}
}

func TestAListOfProgramsIsCheckedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	plain, dangling := filepath.Join(dir, "plain"), filepath.Join(dir, "dangling")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/no/such/program", dangling); err != nil {
		t.Fatal(err)
	}
	for _, odd := range []string{
		"", "sh", "./sh", "bin/sh", "/bin/../bin/sh", "/bin/./sh", "//bin/sh", "/bin/sh/", "/no/such/program", dir, plain, dangling, "/dev/null",
	} {
		if got, err := ParsePrograms([]string{"/bin/sh", odd}); err == nil || !got.any() {
			t.Errorf("%q was taken: %+v", odd, got)
		}
	}
	if none, err := ParsePrograms(nil); err != nil || !none.any() {
		t.Errorf("of nothing: %+v, %v", none, err)
	}
}
