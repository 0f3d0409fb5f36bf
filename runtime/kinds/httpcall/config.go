package httpcall

import (
	"cmp"
	"time"
)

// Config bounds what a request may reach and take. A zero field is its default.
type Config struct {
	// AllowPrivate lets tasks reach loopback, private networks and this machine.
	// Multicast and the places where clouds keep their credentials stay closed.
	AllowPrivate bool

	// Allow is what of that tasks may reach where AllowPrivate is not set.
	Allow Allowed

	MaxBody    int           // bytes that the body may take in the result, encoded; 768 KiB
	MaxStream  int64         // bytes of a body that are read and streamed; 16 MiB
	MaxTimeout time.Duration // the longest a task may ask for; 1 hour
}

// A result holds 1 MiB by default: the body leaves room for the headers.
func (c Config) withDefaults() Config {
	c.MaxBody = cmp.Or(c.MaxBody, 768<<10)
	c.MaxStream = cmp.Or(c.MaxStream, 16<<20)
	c.MaxTimeout = cmp.Or(c.MaxTimeout, time.Hour)
	return c
}

const (
	defaultTimeout = 30 * time.Second
	dialTimeout    = 10 * time.Second
	maxHeaders     = 32 << 10 // of an answer, bytes; escaped as JSON still less than the 256 KiB of an event
	maxRedirects   = 10
)
