package container

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// Images are patterns of those that tasks may run.
type Images struct {
	patterns []pattern
}

type pattern struct {
	name *regexp.Regexp // of registry and repository, in full
	rest *regexp.Regexp // of ":tag" or "@digest"; nil: any
}

// ParseImages reads a list of patterns such as ghcr.io/acme/*, alpine:3.* or
// registry.internal:5000/**: an image as one writes it, in which * stands for any
// characters but a slash, and ** for any at all. One without a tag or digest
// allows each of both.
func ParseImages(list []string) (i Images, err error) {
	for _, text := range list {
		p, err := parsePattern(text)
		if err != nil {
			return Images{}, err
		}
		i.patterns = append(i.patterns, p)
	}
	return i, nil
}

func (i Images) none() bool { return len(i.patterns) == 0 }

func parsePattern(text string) (p pattern, err error) {
	bad := func() (pattern, error) {
		return pattern{}, fmt.Errorf("%q: want an image, with * for what may vary: ghcr.io/acme/*, alpine:3.*", text)
	}
	name, rest := text, ""
	if at := strings.IndexByte(text, '@'); at >= 0 {
		name, rest = text[:at], text[at:]
	} else if colon := strings.LastIndexByte(text, ':'); colon > strings.LastIndexByte(text, '/') {
		name, rest = text[:colon], text[colon:]
	}
	if !patternName.MatchString(name) || rest != "" && !patternRest.MatchString(rest) {
		return bad()
	}
	// As the engine reads it: what names no registry is of Docker's own.
	registry, _, hasSlash := strings.Cut(name, "/")
	switch {
	case strings.HasPrefix(name, "**"):
	case !hasSlash:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(registry, ".:") && registry != "localhost":
		name = "docker.io/" + name
	case registry == "index.docker.io":
		return bad() // is called docker.io
	}
	p.name = glob(name)
	if rest != "" {
		p.rest = glob(rest)
	}
	return p, nil
}

var (
	patternName = regexp.MustCompile(`^[a-zA-Z0-9*]([a-zA-Z0-9._*/-]|:[0-9]+/)*$`)
	patternRest = regexp.MustCompile(`^(:[\w.*-]+|@[a-z0-9+._-]+:[a-f0-9*]+)$`)
)

func glob(s string) *regexp.Regexp {
	s = regexp.QuoteMeta(s)
	s = strings.ReplaceAll(s, `\*\*`, `.*`)
	return regexp.MustCompile("^" + strings.ReplaceAll(s, `\*`, `[^/]*`) + "$")
}

// image is a reference in full, as the engine gets it, so that there is one way to
// read it: a short name could also be the beginning of an image's id.
type image struct {
	name string // registry and repository
	rest string // ":tag" or "@digest"
}

func (i image) String() string { return i.name + i.rest }

// parseImage reads what a task says. With a digest a tag means nothing.
func parseImage(s string) (image, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return image{}, err
	}
	i := image{name: named.Name()}
	switch r := reference.TagNameOnly(named).(type) {
	case reference.Digested:
		i.rest = "@" + r.Digest().String()
	case reference.Tagged:
		i.rest = ":" + r.Tag()
	}
	return i, nil
}

func (i Images) allow(img image) bool {
	for _, p := range i.patterns {
		if p.name.MatchString(img.name) && (p.rest == nil || p.rest.MatchString(img.rest)) {
			return true
		}
	}
	return false
}
