package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"

	"golang.org/x/sync/errgroup"
)

// profile takes the profiles that were asked for while do is under way, the first
// time that something is measured. They may end after it.
func (l *lab) profile(ctx context.Context, s *server, do func() error) error {
	if l.profiled || l.cpuProfile == "" && l.trace == "" {
		return do()
	}
	l.profiled = true
	var group errgroup.Group // not with its context: what is measured must not be cut short by this
	for what, file := range map[string]string{"profile": l.cpuProfile, "trace": l.trace} {
		if file != "" {
			group.Go(func() error {
				// Whole ones: a part of a second is none to a profile of the CPU, which then takes thirty.
				return s.fetch(ctx, fmt.Sprintf("%s?seconds=%g", what, math.Ceil(l.profileFor.Seconds())), file)
			})
		}
	}
	err := do()
	return errors.Join(err, group.Wait())
}

// settle has the server collect its garbage, so that its memory can be compared.
func (s *server) settle(ctx context.Context) error { return s.fetch(ctx, "heap?gc=1", os.DevNull) }

// fetch writes a profile of the server to a file.
func (s *server) fetch(ctx context.Context, what, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.profiles+what, nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return fmt.Errorf("profile the server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("profile the server: %s: %s", resp.Status, text)
	}
	return create(file, func(w io.Writer) error {
		_, err := io.Copy(w, resp.Body)
		return err
	})
}
