package exec

import (
	"bytes"
	"fmt"
	"math"
	"os"
	osexec "os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limited runs a command on a node in this process.
func limited(t *testing.T, limits ...string) *runner {
	t.Helper()
	l, err := ParseLimits(limits)
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(Config{Limits: l, Helper: helper()})
	t.Cleanup(func() { endWarden(&r.warden) })
	return r
}

// endWarden has a warden end, as the end of its node would.
func endWarden(w *warden) {
	if w.pipe != nil {
		_ = w.pipe.Close()
		_, _ = w.process.Wait()
	}
}

func TestLimitsBite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	tests := []struct {
		limit, script string
		code, details string
		says          string
	}{
		{"cpu=1s", "while :; do :; done", "signal", `{"signal":"CPU time limit exceeded","exit_status":152}`, ""},
		{"cpu=1s", "trap '' XCPU; while :; do :; done", "signal", `{"signal":"killed","exit_status":137}`, ""},
		{"memory=64Mi", "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c", "", "", "exhausted"},
		{"file-size=1Mi", "exec head -c 5000000 /dev/zero >" + file, "signal", `{"signal":"file size limit exceeded","exit_status":153}`, ""},
		{"files=8", "exec 3</ 4</ 5</ 6</ 7</ && exec 8</ || exit 9", "exit_status", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.limit, func(t *testing.T) {
			r := newRecorder()
			_, err := limited(t, tt.limit).run(t.Context(), r, shell(tt.script))
			if tt.details != "" {
				wantFailure(t, err, tt.code, tt.details, true)
			} else if tt.code != "" && (err == nil || !strings.Contains(err.Error(), "ended with status")) {
				t.Errorf("ended with %v", err)
			}
			var log strings.Builder
			for _, e := range r.of("INFO") {
				fmt.Fprintln(&log, e.text)
			}
			if !strings.Contains(log.String(), tt.says) {
				t.Errorf("it says %q", log.String())
			}
			if strings.HasPrefix(tt.limit, "memory") && r.output() == "150000000\n" {
				t.Error("it had all the memory it asked for")
			}
		})
	}
	if info, err := os.Stat(file); err != nil || info.Size() != 1<<20 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

func TestLimitsAreWhatTheCommandSees(t *testing.T) {
	r := newRecorder()
	script := `ulimit -t; ulimit -Ht; ulimit -v; ulimit -n; ulimit -f
		ulimit -Hn 9999 2>/dev/null; ulimit -Hn; grep NoNewPrivs /proc/self/status; ls /proc/self/fd | wc -l; echo $0 $# "$1"; pwd; env`
	p := payload{Command: []string{"sh", "-c", script, "zero", "a b"}, Dir: "/", Env: map[string]string{"GODEBUG": "inittrace=1", "ODD": "a=b\nc"}}
	limits := []string{"cpu=100s", "memory=1Gi", "files=64", "file-size=1Mi"}
	t.Setenv("PATH", "/usr/bin:/bin")
	t.Setenv("HOME", "/\xff") // no UTF-8, and none of our business
	for _, name := range []string{"USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "LC_ALL"} {
		t.Setenv(name, "")
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := limited(t, limits...).run(t.Context(), r, encode(p)); err != nil {
		t.Fatal(err)
	}
	want := "100\n101\n1048576\n64\n2048\n64\nNoNewPrivs:\t1\n4\nzero 1 a b\n/\n"
	got, env, _ := strings.Cut(r.output(), "\n/\n")
	if got+"\n/\n" != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, line := range []string{"GODEBUG=inittrace=1\n", "ODD=a=b\nc\n", "HOME=/\xff\n", "PATH=/usr/bin:/bin\n"} {
		if !strings.Contains("\n"+env, "\n"+line) {
			t.Errorf("%q is not in %q", line, env)
		}
	}
	if n := len(r.of("INFO")); n != 0 {
		t.Errorf("%d lines in its log: the helper took what is the command's", n)
	}
}

func TestWithLimitsFailuresAreTheSame(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"broken": "#!/no/such/interpreter\n", "garbage": "\x00\x01"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := limited(t, "files=100")
	for _, tt := range []struct{ file, code, details string }{
		{"nothing", "exec_not_found", `{"exit_status":127}`},
		{"broken", "exec_not_found", `{"exit_status":127}`},
		{"garbage", "exec_failed", `{"exit_status":126}`},
	} {
		_, err := r.run(t.Context(), newRecorder(), command(filepath.Join(dir, tt.file)))
		wantFailure(t, err, tt.code, tt.details, false)
	}
	long := make([]string, 1+maxArguments-1)
	for i := range long {
		long[i] = strings.Repeat("x", 1000) // of which the pipe holds a part
	}
	long[0] = "true"
	if _, err := r.run(t.Context(), newRecorder(), command(long...)); err != nil && !strings.Contains(err.Error(), "argument list too long") {
		t.Error(err)
	}
	for _, helper := range [][]string{nil, {"/no/such/helper"}, {"/bin/true"}, {"/bin/sh", "-c", "echo limit >&4"}} {
		broken := newRunner(Config{Limits: Limits{Files: 10}, Helper: helper})
		_, err := broken.run(t.Context(), newRecorder(), command("true"))
		if err == nil {
			t.Errorf("with the helper %q it ran without limits", helper)
		}
		endWarden(&broken.warden)
	}
}

// asPerson runs a command on a node of its own that is not root's, if it can.
func asPerson(t *testing.T, limits, script string) (said, failure string) {
	t.Helper()
	node := osexec.Command("/proc/self/exe", asNode, limits, "sh", "-c", script)
	node.Env = append(os.Environ(), "TROUPE_STORE=canary")
	node.Dir = "/"
	if os.Geteuid() == 0 {
		node.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var out, errs bytes.Buffer
	node.Stdout, node.Stderr = &out, &errs
	_ = node.Run()
	return out.String(), errs.String()
}

func TestAForkBombIsBounded(t *testing.T) {
	said, failure := asPerson(t, "processes=60", `i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done; echo boundless`)
	if strings.Contains(said, "boundless") || !strings.Contains(strings.ToLower(said), "fork") {
		t.Errorf("it says %q, and the node %q", said, failure)
	}
}

func TestACommandSeesNothingOfItsNode(t *testing.T) {
	for _, limits := range []string{"", "files=100"} {
		said, failure := asPerson(t, limits, `
			echo "reads $(cat /proc/$PPID/cmdline | tr '\0' ' ')"
			echo "env $(cat /proc/$PPID/environ 2>&1)"
			echo "mem $(head -c 1 /proc/$PPID/mem 2>&1)"
			echo "fds $(ls /proc/$PPID/fd 2>&1)"
			echo "own $(cat /proc/self/environ | tr '\0' ' ')"`)
		if !strings.Contains(said, "reads /proc/self/exe "+asNode) {
			t.Fatalf("the node is not its parent: %q, %q", said, failure)
		}
		if strings.Contains(said, "canary") || strings.Count(said, "ermission denied") != 3 {
			t.Errorf("limits %q: it sees %q", limits, said)
		}
	}
}

func TestOnlyItsStandardStreamsAreInherited(t *testing.T) {
	for _, keep := range []func(){keepFiles, func() { keepEach(3) }} {
		for range 20 {
			fd, err := syscall.Open("/dev/null", 0, 0) // as one that the node itself was given
			if err != nil {
				t.Fatal(err)
			}
			defer syscall.Close(fd)
		}
		keep()
		rec := newRecorder()
		if _, err := newRunner(Config{}).run(t.Context(), rec, command("ls", "/proc/self/fd")); err != nil || rec.output() != "0\n1\n2\n3\n" {
			t.Errorf("it has %q, %v", rec.output(), err)
		}
	}
	for _, r := range []*runner{newRunner(Config{}), newRunner(Config{Helper: helper()}), limited(t, "files=100")} {
		rec := newRecorder()
		if _, err := r.run(t.Context(), rec, command("ls", "/proc/self/fd")); err != nil {
			t.Fatal(err)
		}
		if got := rec.output(); got != "0\n1\n2\n3\n" { // the last is the directory that it lists
			t.Errorf("it has %q", got)
		}
		endWarden(&r.warden)
	}
}

func TestAWardenThatDiesIsReplaced(t *testing.T) {
	pipe := fifo(t)
	w := &warden{helper: helper()}
	end := begin(t.Context(), Config{}, newRecorder(), shell("exec 3>"+pipe+"; sleep 1000 & sleep 1000; :"))
	up, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	group, err := leaderOf(pipe)
	if err != nil {
		t.Fatal(err)
	}
	w.add(group)
	if err := w.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.process.Wait(); err != nil {
		t.Fatal(err)
	}
	w.add(math.MaxInt32) // is no group, and tells the next one of the first
	w.remove(math.MaxInt32)
	endWarden(w)
	if _, err := up.Read(make([]byte, 1)); err == nil {
		t.Error("it wrote something")
	}
	if _, err := end(); err == nil {
		t.Error("the command was not killed")
	}
	unheard := &warden{helper: []string{"/no/such/helper"}}
	unheard.add(math.MaxInt32)
	unheard.remove(math.MaxInt32)
}

// leaderOf is the leader of the session that has the file open.
func leaderOf(file string) (int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/3")
	if err != nil {
		return 0, err
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != file {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(link)), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		return strconv.Atoi(fields[2])
	}
	return 0, os.ErrNotExist
}

func TestNobodyGetsMoreThanTheNodeHas(t *testing.T) {
	kinds := []int{unix.RLIMIT_CPU, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE, unix.RLIMIT_NPROC, unix.RLIMIT_AS}
	hard := func() (all []uint64) {
		for _, kind := range kinds {
			var limit syscall.Rlimit
			if err := syscall.Getrlimit(kind, &limit); err != nil {
				t.Fatal(err)
			}
			all = append(all, limit.Max)
		}
		return all
	}
	before := hard()
	const much = 1 << 62
	if err := (Limits{CPU: math.MaxInt64, Memory: much, Files: much, Processes: much, FileSize: much}).set(); err != nil {
		t.Fatal(err)
	}
	for i, after := range hard() {
		if after > before[i] {
			t.Errorf("limit %d went from %d to %d", kinds[i], before[i], after)
		}
	}
}

func TestPowerIsGivenUp(t *testing.T) {
	done := make(chan struct{})
	go func() { // takes its thread with it
		defer close(done)
		goruntime.LockOSThread()
		if err := giveUpPower(); err != nil {
			t.Error(err)
		}
		status, err := os.ReadFile("/proc/thread-self/status")
		if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1") {
			t.Errorf("%s, %v", status, err)
		}
		_, bounding, _ := strings.Cut(string(status), "CapBnd:\t")
		have, err := strconv.ParseUint(strings.Fields(bounding)[0], 16, 64)
		if err != nil || os.Geteuid() == 0 && have&(1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_PTRACE) != 0 {
			t.Errorf("it may have %x, %v", have, err)
		}
	}()
	<-done
}

func TestAWardenEndsWhatIsLeft(t *testing.T) {
	var groups [2]*group
	for i := range groups {
		g, err := start("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		groups[i] = g
	}
	news := fmt.Sprintf("+%d\n+%d\n-%d\n", groups[0].leader.Pid, groups[1].leader.Pid, groups[0].leader.Pid)
	if err := watch(strings.NewReader(news)); err != nil {
		t.Fatal(err)
	}
	if state, err := groups[1].wait(); err != nil || state.String() != "signal: killed" {
		t.Errorf("what was left: %v, %v", state, err)
	}
	groups[0].terminate() // which it has not been
	if state, err := groups[0].wait(); err != nil || state.String() != "signal: terminated" {
		t.Errorf("what had ended before: %v, %v", state, err)
	}
}

func TestParseLimits(t *testing.T) {
	got, err := ParseLimits([]string{"cpu=2m", "memory=512Mi", "files=256", "file-size=1G"})
	if want := (Limits{CPU: 2 * time.Minute, Memory: 512 << 20, Files: 256, FileSize: 1e9}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if none, err := ParseLimits(nil); err != nil || none != (Limits{}) {
		t.Errorf("of nothing: %+v, %v", none, err)
	}
	for _, odd := range []string{
		"cpu", "cpu=", "cpu=60", "cpu=1.5s", "cpu=0s", "cpu=-1s", "memory=0", "memory=much", "memory=-1", "memory=100m", "files=0", "files=-1",
		"files=4294967296", "processes=many", "file-size=", "stack=8Mi", "=", "",
	} {
		if got, err := ParseLimits([]string{odd}); err == nil {
			t.Errorf("%q was taken: %+v", odd, got)
		}
	}
	if _, err := ParseLimits([]string{"processes=100"}); (err != nil) != (os.Geteuid() == 0) {
		t.Errorf("processes for the user %d: %v", os.Geteuid(), err)
	}
}

func TestPeopleDoNotBecomeChildren(t *testing.T) {
	for _, args := range [][]string{{}, {"watch"}, {"x"}, {"watch", "x"}} {
		child := osexec.Command(helper()[0], append([]string{asHelper}, args...)...)
		child.Stdin = strings.NewReader("hello\n-1\n")
		out, err := child.CombinedOutput()
		if err == nil || string(out) != errNotForPeople.Error()+"\n" {
			t.Errorf("%q: %s, %v", args, out, err)
		}
	}
}
