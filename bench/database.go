package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/troupe-run/troupe/persistence/postgres/pgtest"
)

// database is the PostgreSQL under the nodes, with a session of ours that looks at it.
type database struct {
	server *pgtest.Server
	pid    int
	made   int
	psql   *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	said   bytes.Buffer
}

// startDatabase starts a server that keeps what it is given: pgtest's own tests do
// not wait for the disk, what is measured does.
func startDatabase(ctx context.Context) (*database, error) {
	server, err := pgtest.Start("fsync=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB")
	if err != nil {
		return nil, err
	}
	d := &database{server: server}
	if err := d.connect(ctx); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

func (d *database) connect(ctx context.Context) (err error) {
	//nolint:gosec // of our own server
	d.psql = exec.CommandContext(ctx, "psql", "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", d.server.URL("postgres"))
	d.psql.Stderr = &d.said
	if d.in, err = d.psql.StdinPipe(); err != nil {
		return fmt.Errorf("start psql: %w", err)
	}
	out, err := d.psql.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start psql: %w", err)
	}
	d.out = bufio.NewScanner(out)
	if err := d.psql.Start(); err != nil {
		return fmt.Errorf("start psql: %w", err)
	}
	rows, err := d.ask("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
	if err != nil {
		return err
	}
	if d.pid, err = strconv.Atoi(strings.Join(rows, " ")); err != nil {
		return fmt.Errorf("read the database's process: %w", err)
	}
	return nil
}

func (d *database) stop() error {
	if d.in != nil {
		_ = d.in.Close() // which ends psql
		_ = d.psql.Wait()
	}
	return d.server.Close()
}

// ask gives the rows that a statement answers, or several.
func (d *database) ask(sql string) ([]string, error) {
	const end = "that was all"
	if _, err := fmt.Fprintf(d.in, "%s;\n\\echo %s\n", sql, end); err != nil {
		return nil, fmt.Errorf("ask the database: %w", err)
	}
	var rows []string
	for d.out.Scan() {
		if d.out.Text() == end {
			return rows, nil
		}
		rows = append(rows, d.out.Text())
	}
	err := d.psql.Wait()
	return nil, fmt.Errorf("ask the database: psql ended (%w): %s", err, d.said.String())
}

// fresh makes an empty database; drop is for when it has served.
func (d *database) fresh() (name string, err error) {
	d.made++
	name = "bench" + strconv.Itoa(d.made)
	// What was written before is not to be written in the middle of what comes.
	_, err = d.ask("CREATE DATABASE " + name + ";\nCHECKPOINT")
	return name, err
}

func (d *database) drop(name string) error {
	_, err := d.ask("DROP DATABASE " + name + " WITH (FORCE)")
	return err
}

// written is how many transactions have written something so far, and how many
// bytes of log. Statistics would tell that a second late, and count reads too.
func (d *database) written() (commits, log int, err error) {
	rows, err := d.ask("SELECT pg_snapshot_xmax(pg_current_snapshot());\nSELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(strings.Join(rows, " "), &commits, &log); err != nil {
		return 0, 0, fmt.Errorf("read what the database has written: %w", err)
	}
	return commits, log, nil
}

// cpu is the CPU time of all the server's processes so far, in seconds.
func (d *database) cpu() float64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.pid, d.pid))
	sum := processTime(d.pid)
	for child := range strings.FieldsSeq(string(raw)) {
		pid, _ := strconv.Atoi(child)
		sum += processTime(pid)
	}
	return sum
}

// waits counts what sessions that had something to do were found waiting for.
type waits struct {
	looks int
	found map[string]int
}

// sampleEvery costs the database about a hundredth of a core.
const sampleEvery = 20 * time.Millisecond

// waitsDuring looks at what all other sessions wait for while do is under way.
func (d *database) waitsDuring(do func() error) (waits, error) {
	w := waits{found: map[string]int{}}
	over := make(chan struct{})
	var group errgroup.Group
	group.Go(func() error {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return nil
			case <-tick.C:
			}
			rows, err := d.ask(`SELECT coalesce(wait_event_type || ' ' || wait_event, 'CPU') FROM pg_stat_activity ` +
				`WHERE backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()`)
			if err != nil {
				return err
			}
			w.looks++
			for _, row := range rows {
				w.found[row]++
			}
		}
	})
	err := do()
	close(over)
	return w, errors.Join(err, group.Wait())
}

const bulkRows, rowBytes = 1000, 500

// limits are what the server does without us, with as much on the wire: rows a
// second of two connections that insert batches, and commits a second of one that
// inserts one row after the other.
func (d *database) limits(ctx context.Context, seconds int) (bulk, lone float64, err error) {
	name, err := d.fresh()
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.drop(name)) }()
	row := strings.Repeat("x", rowBytes)
	batch := strings.Repeat(row+",", bulkRows-1) + row
	bulk, err = d.pgbench(ctx, name, 2, seconds, "INSERT INTO bare SELECT unnest('{"+batch+"}'::text[]);")
	if err != nil {
		return 0, 0, err
	}
	lone, err = d.pgbench(ctx, name, 1, seconds, "INSERT INTO bare VALUES ('"+row+"');")
	return bulk * bulkRows, lone, err
}

// pgbench is how often a second so many connections carry out a statement.
func (d *database) pgbench(ctx context.Context, name string, connections, seconds int, sql string) (float64, error) {
	dir, err := os.MkdirTemp("", "troupe-bench-")
	if err != nil {
		return 0, fmt.Errorf("a directory for pgbench: %w", err)
	}
	defer os.RemoveAll(dir)
	script := filepath.Join(dir, "script.sql")
	if err := os.WriteFile(script, []byte(sql+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("a script for pgbench: %w", err)
	}
	url, n := d.server.URL(name), strconv.Itoa(connections)
	//nolint:gosec // of our own server
	init := exec.CommandContext(ctx, "psql", "--no-psqlrc", "-qX", "-d", url, "-c", "CREATE TABLE IF NOT EXISTS bare (row text)")
	//nolint:gosec // of our own server
	run := exec.CommandContext(ctx, "pgbench", "-n", "-c", n, "-j", n, "-T", strconv.Itoa(seconds), "-f", script, url)
	var said []byte
	for _, cmd := range []*exec.Cmd{init, run} {
		if said, err = cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("measure the bare database: %w: %s", err, said)
		}
	}
	for line := range strings.Lines(string(said)) {
		if rest, ok := strings.CutPrefix(line, "tps = "); ok {
			number, _, _ := strings.Cut(rest, " ")
			return strconv.ParseFloat(number, 64)
		}
	}
	return 0, fmt.Errorf("pgbench tells no rate: %s", said)
}
