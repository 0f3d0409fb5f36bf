package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupe-run/troupe/persistence/redis"
	"github.com/troupe-run/troupe/persistence/sealed"
	"github.com/troupe-run/troupe/runtime"
	"github.com/troupe-run/troupe/transport/auth"
)

// companionship is the Redis beside the store, or none.
type companionship struct{ redis *redis.Client }

func companion(ctx context.Context, cfg *config, log *slog.Logger, metrics prometheus.Registerer) (*companionship, error) {
	if cfg.redis == "" {
		return &companionship{}, nil
	}
	client, err := redis.Open(ctx, cfg.redis, redis.Options{Log: log, Metrics: metrics})
	return &companionship{client}, err
}

// options tells the runtime what nodes share there.
func (c *companionship) options(cfg *config) []runtime.Option {
	if c.redis == nil {
		return []runtime.Option{runtime.WithSubmitRate(cfg.submitRate, nil)}
	}
	var results runtime.Results = c.redis.Results
	if len(cfg.keys) > 0 {
		results = sealed.NewResults(results, cfg.keys)
	}
	return []runtime.Option{
		runtime.WithHints(c.redis.Hints), runtime.WithResults(results), runtime.WithSubmitRate(cfg.submitRate, c.redis.Rates),
	}
}

// rates are those that nodes share; nil: each has its own.
func (c *companionship) rates() auth.Shared {
	if c.redis == nil {
		return nil
	}
	return c.redis.Rates
}

// Close gives it up.
func (c *companionship) Close() error {
	if c.redis == nil {
		return nil
	}
	return c.redis.Close()
}
