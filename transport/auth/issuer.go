package auth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// algorithms are all that a token may be signed with.
var algorithms = []string{"HS256", "RS256", "ES256", "EdDSA"}

const (
	maxIssuers      = 32
	maxLeeway       = 5 * time.Minute
	defaultLeeway   = 30 * time.Second
	defaultLifetime = 24 * time.Hour
)

// Issuer is who makes tokens that are credentials here. What it signs is believed: it
// may name every namespace and scope, unless these are fixed or mapped.
type Issuer struct {
	Name     string `yaml:"issuer"`   // what iss has to be
	Audience string `yaml:"audience"` // what aud has to be or contain

	// One of these has its keys: a file of PEM or JWK, or the address of a set of JWK, which
	// is https unless it is on loopback.
	Keys string `yaml:"keys_file"`
	JWKS string `yaml:"jwks_url"`

	// Algorithms it may sign with: of HS256, RS256, ES256 and EdDSA; none named is all but
	// HS256, whose keys can come from a file alone.
	Algorithms  []string      `yaml:"algorithms"`
	Leeway      time.Duration `yaml:"leeway"`       // between its clock and ours; 0: 30 s
	MaxLifetime time.Duration `yaml:"max_lifetime"` // of a token; 0: 24 h

	Namespace      string            `yaml:"namespace"`       // of all its tokens; "": the claim says
	NamespaceClaim string            `yaml:"namespace_claim"` // "": namespace
	Namespaces     map[string]string `yaml:"namespaces"`      // by value of the claim, and no others; nil: the value itself

	ScopeClaim string                    `yaml:"scope_claim"` // a list, or a text with spaces between; "": scope
	Scopes     map[string][]access.Scope `yaml:"scopes"`      // by value of the claim, and no others; nil: the value itself
}

// ParseIssuers reads a list of issuers from YAML or JSON. The names of the fields are
// those of the tags of [Issuer].
func ParseIssuers(raw []byte) ([]Issuer, error) {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	var issuers []Issuer
	if err := dec.Decode(&issuers); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read issuers: %w", err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("read issuers: there is more behind the list")
	}
	if err := checkIssuers(issuers); err != nil {
		return nil, err
	}
	return issuers, nil
}

// checkIssuers refuses what makes no sense, and fills in what was left out.
func checkIssuers(issuers []Issuer) error {
	if len(issuers) > maxIssuers {
		return fmt.Errorf("read issuers: %d are more than %d", len(issuers), maxIssuers)
	}
	seen := make(map[string]bool)
	for i := range issuers {
		it := &issuers[i]
		if err := it.check(); err != nil {
			return fmt.Errorf("issuer %q: %w", it.Name, err)
		}
		if seen[it.Name] {
			return fmt.Errorf("issuer %q: it is there twice", it.Name)
		}
		seen[it.Name] = true
	}
	return nil
}

func (i *Issuer) check() error {
	switch {
	case i.Name == "":
		return errors.New("issuer is missing")
	case i.Audience == "":
		return errors.New("audience is missing: tokens for others would be taken")
	case (i.Keys == "") == (i.JWKS == ""):
		return errors.New("either keys_file or jwks_url says where its keys are")
	case i.Leeway < 0 || i.Leeway > maxLeeway:
		return fmt.Errorf("leeway must be between 0 and %s", maxLeeway)
	case i.MaxLifetime < 0:
		return errors.New("max_lifetime must not be negative")
	case i.Namespace != "" && (i.NamespaceClaim != "" || i.Namespaces != nil):
		return errors.New("namespace is fixed: a claim cannot name it too")
	case i.Namespace != "" && !task.ValidName(i.Namespace):
		return errors.New("namespace must be 1 to 100 of the characters a-z 0-9 . _ -")
	}
	for _, to := range i.Namespaces {
		if !task.ValidName(to) {
			return fmt.Errorf("namespaces: %q must be 1 to 100 of the characters a-z 0-9 . _ -", to)
		}
	}
	for value, to := range i.Scopes {
		for _, s := range to {
			if !slices.Contains(access.Scopes(), s) {
				return fmt.Errorf("scopes: %q of %q must be of %v", s, value, access.Scopes())
			}
		}
	}
	if err := i.checkKeys(); err != nil {
		return err
	}
	i.Leeway = cmp.Or(i.Leeway, defaultLeeway)
	i.MaxLifetime = cmp.Or(i.MaxLifetime, defaultLifetime)
	i.NamespaceClaim = cmp.Or(i.NamespaceClaim, "namespace")
	i.ScopeClaim = cmp.Or(i.ScopeClaim, "scope")
	if i.Namespace != "" {
		i.NamespaceClaim = ""
	}
	return nil
}

func (i *Issuer) checkKeys() error {
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{"RS256", "ES256", "EdDSA"}
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("algorithms: %q must be of %v", a, algorithms)
		}
	}
	if i.JWKS == "" {
		return nil
	}
	if slices.Contains(i.Algorithms, "HS256") {
		return errors.New("algorithms: HS256 needs a keys_file, as its keys are secret")
	}
	u, err := url.Parse(i.JWKS)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("jwks_url must be an address without a password")
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return nil
	}
	return errors.New("jwks_url must be https, unless it is on this machine")
}

func isLoopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return host == "localhost"
}
