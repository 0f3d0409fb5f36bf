package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"testing"
)

// TestMain lets the test binary be what a node in it starts for its commands, and a
// worker of TestWorkerKill.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == execChild {
		os.Exit(run(context.Background(), os.Args[1:], stdio()))
	}
	if len(os.Args) > 2 && os.Args[1] == workerChild {
		os.Exit(workAt(os.Args[2]))
	}
	// A test here waits for servers most of the time, so that more of them run at once
	// than there are processors.
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		if err := flag.Set("test.parallel", strconv.Itoa(max(4, goruntime.GOMAXPROCS(0)))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func TestCommandsOfAServerThatBoundsThem(t *testing.T) {
	t.Parallel()
	args := []string{"--allow-exec", "--exec-allow", "/bin/sh", "--exec-allow", "/bin/echo"}
	limit := "-1"
	if goruntime.GOOS == "linux" { // elsewhere limits are refused
		args, limit = append(args, "--exec-limit", "files=77,memory=4Gi", "--exec-limit", "cpu=60s"), "77"
	}
	server := serveIn(t, args...)
	do := func(args ...string) outcome { return troupe(t, server, false, "", args...) }
	if got := do("run", "--raw", "--", "sh", "-c", "ulimit -n"); got.status != 0 || limit != "-1" && got.out != limit+"\n" {
		t.Errorf("%+v", got)
	}
	wantStatus(t, do("run", "--raw", "--", "/bin/echo", "hello"), 0, "hello")
	for _, program := range []string{"ls", "/bin/ls", "/usr/../bin/sh", "./sh"} {
		wantStatus(t, do("run", "--", program), 126, "exec_not_allowed")
	}
	wantStatus(t, do("run", "--", "/bin/sh", "-c", "exit 5"), 5, "exit_status")
}
