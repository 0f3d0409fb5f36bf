package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	patience    = 250 * time.Millisecond // for one call, its connection included
	connections = 10
	probeEvery  = time.Second
	maxSaid     = 200 // bytes of an error in a log
)

// Options says how Redis is used. The zero value is silent.
type Options struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Client is what a node has of Redis. Use [Open].
type Client struct {
	Results *Results
	Rates   *Rates
	Hints   *Hints

	redis    *redis.Client
	password string
	log      *slog.Logger
	metrics  *metrics
	breaker  breaker
	refused  atomic.Bool // and it was said

	end     context.CancelFunc
	running sync.WaitGroup
	close   sync.Once
	closed  chan struct{}
}

var (
	errAddress = errors.New("want redis://user:password@host:6379/0, or rediss:// for TLS")
	errDown    = errors.New("redis is down")
)

// quiet silences the driver, which writes to stderr whatever it fails at. We say
// it ourselves, once an outage. It is done once, so that a program around us may
// give the driver another logger.
var quiet = sync.OnceFunc(logging.Disable)

// Open begins to use the Redis that a URL names, whether it is there yet or not.
// Of the URL count address, user, password, database, client_name and
// skip_verify: times and connections are bounded here. Its error does not repeat
// it.
func Open(ctx context.Context, url string, opt Options) (*Client, error) {
	config, err := configure(url)
	if err != nil {
		return nil, err
	}
	quiet()
	c := &Client{
		redis: redis.NewClient(config), password: config.Password,
		log: opt.Log, closed: make(chan struct{}),
	}
	c.breaker.trip() // until it has answered
	c.metrics = newMetrics(opt.Metrics, &c.breaker)
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.Results = &Results{c}
	c.Rates = newRates(c)
	c.Hints = newHints(c, config.DB)

	if err := c.ping(ctx); err != nil {
		c.lost(ctx, err)
	} else {
		c.breaker.reset()
	}
	// What runs in the background lives until Close, not as long as the opening.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	c.end = end
	c.running.Go(func() { c.probe(life) })
	c.running.Go(func() { c.Hints.publish(life) })
	return c, nil
}

// configure reads a URL. Whatever is wrong with it, the error is the same: the
// parser's own would show a part of the password that it took for something else.
func configure(url string) (*redis.Options, error) {
	read, err := redis.ParseURL(url)
	if err != nil || read.Network != "tcp" || read.DB < 0 {
		return nil, fmt.Errorf("address of Redis: %w", errAddress)
	}
	return &redis.Options{
		Network: read.Network, Addr: read.Addr, TLSConfig: read.TLSConfig,
		Username: read.Username, Password: read.Password, DB: read.DB, ClientName: read.ClientName,

		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience,
		ContextTimeoutEnabled: true,
		DialerRetries:         1,
		MaxRetries:            -1,
		PoolSize:              connections,
		MaxActiveConns:        connections,
		PipelinePoolSize:      -1,
		Protocol:              2, // we need nothing of the newer one
		DisableIdentity:       true,
		// The upkeep of a certain vendor's clusters, which would cost a call each connection.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}, nil
}

// Close ends everything. Calls under way and later ones find no Redis.
func (c *Client) Close() (err error) {
	c.close.Do(func() {
		c.end()
		close(c.closed)
		err = c.redis.Close()
		c.running.Wait()
		c.breaker.trip()
	})
	return err
}

// ask makes one call, unless the breaker is open.
func (c *Client) ask(ctx context.Context, call func(context.Context) error) error {
	if c.breaker.open.Load() {
		return errDown
	}
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := call(within)
	_, isAnswer := errors.AsType[redis.Error](err)
	switch {
	case err == nil:
		c.breaker.answered()
	case isAnswer:
		c.complain(ctx, err)
	case ctx.Err() != nil: // the caller's own end says nothing of Redis
	case c.breaker.failed():
		c.lost(ctx, err)
	}
	return err
}

// complain says once that Redis is there and does not do what it is asked. Such
// an answer is quick, so it does not open the breaker.
func (c *Client) complain(ctx context.Context, err error) {
	if !c.refused.Swap(true) {
		c.log.WarnContext(ctx, "redis refuses what it is asked", "error", c.said(err))
	}
}

func (c *Client) lost(ctx context.Context, err error) {
	c.breaker.trip()
	c.log.WarnContext(ctx, "redis does not answer; going on without it", "error", c.said(err))
}

// said is an error as it may be shown. A server repeats what it does not
// understand, and that may be the password.
func (c *Client) said(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", with args")
	if c.password != "" {
		text = strings.ReplaceAll(text, c.password, "***")
	}
	return text[:min(len(text), maxSaid)]
}

// probe finds out whether Redis is there, again and again.
func (c *Client) probe(ctx context.Context) {
	again := time.NewTicker(probeEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
		err := c.ping(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && c.breaker.reset():
			c.refused.Store(false)
			c.log.InfoContext(ctx, "redis answers")
		case err != nil && c.breaker.failed():
			c.lost(ctx, err)
		}
	}
}

// ping fails also on an answer that refuses: without its password, Redis is of no
// use.
func (c *Client) ping(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.redis.Ping(within).Err()
}
