package llm

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Config says which models tasks may ask, and bounds what a task may take. A zero
// field is its default.
type Config struct {
	Providers map[string]Provider // by the names that tasks give

	MaxTimeout time.Duration // the longest a task may ask for; 1 hour
	MaxText    int           // bytes that the text may take in the result, as JSON; 384 KiB
	MaxWaits   int           // how often a task may be told to come later; 100
	Silence    time.Duration // for how long a provider may say nothing; 5 minutes
}

// A result holds 1 MiB by default, and the text may be in it twice.
func (c Config) withDefaults() Config {
	c.MaxTimeout = cmp.Or(c.MaxTimeout, time.Hour)
	c.MaxText = cmp.Or(c.MaxText, 384<<10)
	c.MaxWaits = cmp.Or(c.MaxWaits, 100)
	c.Silence = cmp.Or(c.Silence, 5*time.Minute)
	return c
}

const (
	defaultTimeout   = 10 * time.Minute
	defaultMaxTokens = 4096 // where a provider wants to be told
	maxAnswer        = 32 << 20
	maxHeaders       = 32 << 10
	maxPiece         = 32 << 10 // of text in one event
)

// Provider is where models are asked, and how.
type Provider struct {
	Type string // "openai", "anthropic" or "fake"
	URL  string // with the version in its path, where the type has that: https://api.openai.com/v1
	Key  string // none for a server that wants none
}

// official are the addresses of the companies whose protocols these are.
var official = map[string]string{
	"openai":    "https://api.openai.com/v1",
	"anthropic": "https://api.anthropic.com",
	"fake":      "",
}

var errProvider = errors.New("want openai:URL, anthropic:URL or fake:, with an http or https URL without user, query and fragment")

// ParseProvider reads TYPE:URL. Without a URL it is the company's own.
func ParseProvider(text string) (Provider, error) {
	kind, address, ok := strings.Cut(text, ":")
	standard, known := official[kind]
	if !ok || !known {
		return Provider{}, errProvider
	}
	p := Provider{Type: kind, URL: strings.TrimSuffix(cmp.Or(address, standard), "/")}
	if p.URL == standard {
		return p, nil
	}
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Provider{}, errProvider // which does not repeat what may have a password in it
	}
	return p, nil
}

// IsOfficial says whether the provider is the company whose protocol it speaks:
// the only one to get a key that was not given for it by name.
func (p Provider) IsOfficial() bool { return p.URL != "" && p.URL == official[p.Type] }

// String does not show the key.
func (p Provider) String() string { return fmt.Sprintf("%s:%s", p.Type, p.URL) }

// GoString neither.
func (p Provider) GoString() string { return p.String() }
