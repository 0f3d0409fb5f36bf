package main

import (
	"context"
	"flag"
	"path/filepath"
	"testing"
	"time"
)

// Programs that are there already save the minutes that building them takes.
var (
	troupeProgram  = flag.String("troupe", "", "this troupe program instead of building one")
	faktoryProgram = flag.String("faktory", "", "the same for Faktory's server")
)

var small = load{Drain: 1500, Single: 100, Probes: 20}

// stage builds the servers and starts the database, once for all tests.
func stage(t *testing.T) *ground {
	t.Helper()
	g := &ground{options: options{troupe: *troupeProgram, faktory: *faktoryProgram}, dir: t.TempDir()}
	if err := g.build(t.Context(), t.Output()); err != nil {
		t.Fatal(err)
	}
	var err error
	if g.db, err = startDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.db.stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return g
}

// What a run measures is only worth something if each system did carry out each job,
// once: runQueue fails otherwise.
func TestEveryPeerCarriesOutEveryJobOnce(t *testing.T) {
	g := stage(t)
	for _, p := range peers() {
		t.Run(p.name, func(t *testing.T) {
			at, db := place{Dir: g.fresh(), Troupe: g.troupe, Faktory: g.faktory}, 0
			if p.postgres {
				_, url, err := g.db.fresh(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				at.Postgres, db = url, g.db.pid
			}
			f, err := runQueue(t.Context(), p, small, at, db)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"drain", "drain_cpu", "single", "single_cpu", "start_p50", "start_p99"} {
				if f[key] <= 0 && p.name != "channel in memory" {
					t.Errorf("%s: %v", key, f[key])
				}
			}
		})
	}
	t.Run("watchers", func(t *testing.T) {
		w, err := watchOf(watchTroupe)
		if err != nil {
			t.Fatal(err)
		}
		// The others serve as this program in another role, which the test's is not.
		of := stream{Sessions: 10, Events: 5, Every: 20 * time.Millisecond, Spread: 50 * time.Millisecond}
		f, err := runWatch(t.Context(), w, of, place{Dir: filepath.Join(g.dir, "watch"), Troupe: g.troupe})
		if err != nil || f["watch_p50"] <= 0 {
			t.Errorf("%v %v", f, err)
		}
	})
}

// A ledger that forgave would make every peer look right.
func TestLedgerCountsEachJobOnce(t *testing.T) {
	l := newLedger(3)
	l.take(2)
	l.run(0)
	if l.check() == nil {
		t.Error("one that did not run is not missed")
	}
	l.run(1)
	<-l.reached
	if err := l.check(); err != nil {
		t.Error(err)
	}
	l.run(1)
	if l.check() == nil {
		t.Error("one that ran again is not noticed")
	}
}

func TestRatiosAreOfTheSameTurn(t *testing.T) {
	all := []contestant{{name: "ours"}, {name: "theirs", beside: []string{"ours", "not measured"}}}
	r := newReport(options{}, all)
	r.add("ours", figures{"drain": 20})
	r.add("theirs", figures{"drain": 10})
	r.add("ours", nil) // it failed
	r.add("theirs", figures{"drain": 1})
	r.add("ours", figures{"drain": 12})
	r.add("theirs", figures{"drain": 4})
	r.compare()
	if len(r.Ratios) != 1 || r.Ratios[0].Of["drain"] != (span{Median: 3, Least: 2, Most: 3}) {
		t.Errorf("%+v", r.Ratios)
	}
	if err := r.Print(t.Output()); err != nil {
		t.Error(err)
	}
}

func TestOptionsChooseByParts(t *testing.T) {
	if o := (options{only: []string{"river", "library"}}); !o.wants("river SQLite tuned") || o.wants("faktory") {
		t.Error("the wrong ones")
	}
	if err := run(context.Background(), []string{"nonsense"}, t.Output(), t.Output()); err == nil {
		t.Error("nonsense is taken")
	}
}
