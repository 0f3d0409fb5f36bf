package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// short is how all of it is measured in a few minutes.
var short = []string{
	"limits --lasts 500ms --trips 5000",
	"submit --tasks 5000",
	"drain --tasks 20000",
	"latency --lasts 5s",
	"backlog --waiting 0,50000 --tasks 10000 --probes 100",
	"ws --sessions 500,2000 --lasts 5s",
	"resume --watchers 2000 --chunks 8 --kill-after 3s",
}

// runAll measures everything of one node with a binary that is built once.
func runAll(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench all", flag.ContinueOnError)
	flags.SetOutput(stderr)
	asJSON := flags.Bool("json", false, "print JSON")
	binary := flags.String("binary", "", "start this troupe binary instead of building one")
	store := flags.String("store", "sqlite", "sqlite, or postgres: one is started for each")
	turns := flags.Int("turns", 1, "how often each is measured")
	plots := flags.String("plot", "", "draw the figures of each to an SVG file in this directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *plots != "" {
		if err := os.MkdirAll(*plots, 0o750); err != nil {
			return fmt.Errorf("make the directory of the plots: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "troupe-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *binary == "" {
		if *binary, err = build(ctx, dir, stderr); err != nil {
			return err
		}
	}
	var all []*sheet
	for _, line := range short {
		words := strings.Fields(line)
		sub, _ := subcommandOf(words[0])
		words = append(words[1:], "--binary", *binary, "--store", *store, "--turns", strconv.Itoa(*turns))
		if *plots != "" {
			words = append(words, "--plot", filepath.Join(*plots, sub.name+".svg"))
		}
		s, _, err := sub.measure(ctx, words, stderr)
		if err != nil {
			return err
		}
		all = append(all, s)
		if !*asJSON { // what there is need not wait for what comes
			if err := s.Print(stdout); err != nil {
				return err
			}
			fmt.Fprintln(stdout)
		}
	}
	if !*asJSON {
		return nil
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}
