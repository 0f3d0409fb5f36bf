package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/troupe-run/troupe/bench/simulate"
)

type scheduleOptions struct {
	trace    string
	procs    int
	policies string
	estimate string
	sample   int
	length   int
	seed     uint64
	json     bool
	model    simulate.Model
	write    string
	svg      string
	byUser   bool
	patience float64
}

func runSchedule(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o scheduleOptions
	flags := flag.NewFlagSet("bench schedule", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.trace, "trace", "", "workload in the Standard Workload Format")
	flags.IntVar(&o.procs, "procs", 0, "processors of the machine (default what the workload says, else 256)")
	flags.IntVar(&o.model.Jobs, "jobs", 10_000, "jobs of a workload that is made because there is no --trace")
	flags.IntVar(&o.model.Users, "users", 16, "users of such a workload")
	flags.IntVar(&o.model.Kinds, "kinds", 8, "kinds of jobs of each user of such a workload")
	flags.Float64Var(&o.model.Load, "load", 0, "share of the machine that such a workload asks for (default what the model says)")
	flags.StringVar(&o.write, "write", "", "write the workload to this file, and play nothing")
	flags.StringVar(&o.policies, "policy", "", "policies, with commas between them (default all: "+strings.Join(simulate.Policies(), ",")+")")
	flags.StringVar(&o.estimate, "estimates", string(simulate.Exact), "how long jobs are expected to run: exact, wrong (1 to 10 times as long), none (only what is learned), asked (what the workload says)")
	flags.IntVar(&o.sample, "sample", 10, "random windows of the workload")
	flags.IntVar(&o.length, "length", 1024, "jobs of a window; 0 for all there are")
	flags.Float64Var(&o.patience, "patience", 0, "how many times as long as by arrival jobs may wait by Troupe's policies, about (default what a node has)")
	flags.Uint64Var(&o.seed, "seed", 1, "of all that is random")
	flags.StringVar(&o.svg, "svg", "", "draw the first window to this file, by the last of the policies")
	flags.BoolVar(&o.byUser, "by-user", false, "colour the drawing by user, not by slowdown")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	w, err := o.workload()
	if err != nil {
		return err
	}
	if o.write != "" {
		return create(o.write, func(f io.Writer) error { return simulate.WriteSWF(f, w) })
	}
	policies := simulate.Policies()
	if o.policies != "" {
		policies = strings.Split(o.policies, ",")
	}
	estimates, err := simulate.ParseEstimates(o.estimate)
	if err != nil {
		return err
	}
	how := simulate.Options{
		Policies: policies, Estimates: estimates, Sample: o.sample, Length: o.length, Seed: o.seed, Patience: o.patience,
	}
	r, err := simulate.Compare(ctx, w, how)
	if err != nil {
		return err
	}
	if o.svg != "" {
		if err := o.draw(w, how); err != nil {
			return err
		}
	}
	return publish(stdout, r, o.json)
}

// draw draws the first window.
func (o *scheduleOptions) draw(w simulate.Workload, how simulate.Options) error {
	policy := how.Policies[len(how.Policies)-1]
	run, err := simulate.Play(simulate.Windows(w, how)[0], w.Procs, policy, how)
	if err != nil {
		return err
	}
	return create(o.svg, func(f io.Writer) error {
		return simulate.SVG(f, policy+" on "+w.Name, run, w.Procs, o.byUser)
	})
}

func create(name string, write func(io.Writer) error) error {
	f, err := os.Create(name) //nolint:gosec // where the user said
	if err != nil {
		return fmt.Errorf("create the file: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// workload reads or makes the one that is asked for.
func (o *scheduleOptions) workload() (simulate.Workload, error) {
	if o.sample < 1 || o.length < 0 || o.procs < 0 {
		return simulate.Workload{}, errors.New("want at least one window, and no negative number")
	}
	if o.trace == "" {
		m := o.model
		m.Procs, m.Seed = cmp.Or(o.procs, 256), o.seed
		return simulate.Generate(m)
	}
	f, err := os.Open(o.trace)
	if err != nil {
		return simulate.Workload{}, fmt.Errorf("open the workload: %w", err)
	}
	defer func() { _ = f.Close() }()
	w, err := simulate.ReadSWF(f)
	if err != nil {
		return simulate.Workload{}, fmt.Errorf("%s: %w", o.trace, err)
	}
	w.Name = filepath.Base(o.trace)
	procs := cmp.Or(o.procs, w.Procs)
	if procs == 0 {
		return simulate.Workload{}, fmt.Errorf("%s does not say how large its machine is: want --procs", o.trace)
	}
	return w.On(procs), nil
}
