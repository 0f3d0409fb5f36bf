package sealed

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	keyBytes = 32
	maxName  = 32
	maxKeys  = 64
)

// Key is a secret with a name.
type Key struct {
	ID     string // 1 to 32 of the characters A-Z a-z 0-9 . _ -; it stands in what is sealed
	secret [keyBytes]byte
}

// String is the key's name: it never shows the secret.
func (k Key) String() string { return k.ID }

// GoString is the same for %#v.
func (k Key) GoString() string { return "sealed.Key(" + k.ID + ")" }

// Keys are those there are. The first seals, each opens what it has sealed.
type Keys []Key

// ErrKeys says that a text is no list of keys. The error around it never shows one.
var ErrKeys = errors.New("no list of keys")

// ParseKeys reads a line for each key: its name, and 32 bytes of secret in base64 or
// hexadecimal. Empty lines and those that begin with # are passed over.
func ParseKeys(text string) (Keys, error) {
	var keys Keys
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		refuse := func(why string) (Keys, error) { return nil, fmt.Errorf("%w: line %d: %s", ErrKeys, i+1, why) }
		if len(words) != 2 {
			return refuse("want a name and a key, such as 2026a and the output of: openssl rand -base64 32")
		}
		if !validName(words[0]) {
			return refuse("a name must be 1 to 32 of the characters A-Z a-z 0-9 . _ -")
		}
		secret, ok := parseSecret(words[1])
		if !ok {
			return refuse("a key must be 32 bytes in base64 or hexadecimal")
		}
		for _, other := range keys {
			if other.ID == words[0] {
				return refuse("the name " + words[0] + " is there twice")
			}
		}
		keys = append(keys, Key{words[0], secret})
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("%w: there are %d, want 1 to %d", ErrKeys, len(keys), maxKeys)
	}
	return keys, nil
}

func parseSecret(s string) (secret [keyBytes]byte, ok bool) {
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if b, err := decode(s); err == nil && len(b) == keyBytes {
			return [keyBytes]byte(b), true
		}
	}
	return secret, false
}

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// CacheSecret is what default cache keys are to be made with, which would tell of
// their payloads else. It changes with the key that seals. Without keys it is zero.
func (k Keys) CacheSecret() (secret [32]byte) {
	if len(k) > 0 {
		secret = [32]byte(k[0].derive("cache keys", len(secret)))
	}
	return secret
}

// Names are the keys' names, the one that seals first.
func (k Keys) Names() []string {
	names := make([]string, len(k))
	for i, key := range k {
		names[i] = key.ID
	}
	return names
}

// derive makes a key for one use of k.
func (k Key) derive(use string, size int) []byte {
	// The secret is as good as random, so that there is nothing to extract.
	b, err := hkdf.Expand(sha256.New, k.secret[:], "troupe sealed 1: "+use, size)
	if err != nil {
		panic(err) // only if far more is asked for
	}
	return b
}

func sum(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}
