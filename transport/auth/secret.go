package auth

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// minSecret is 128 bits, which nobody guesses.
const minSecret = 16

// Secret is what everything that is signed here derives from. It has to be the same
// on all nodes and after a restart; with another one, no key is known any more. It
// prints as nothing.
type Secret struct {
	extracted *[sha256.Size]byte // fmt follows no pointer in what holds this one
}

var errNoSecret = errors.New("there is no secret")

// NewSecret makes one from at least 16 random bytes.
func NewSecret(raw []byte) (Secret, error) {
	if len(raw) < minSecret {
		return Secret{}, fmt.Errorf("make a secret: %d bytes are too few, want %d or more", len(raw), minSecret)
	}
	extracted, err := hkdf.Extract(sha256.New, raw, []byte("troupe"))
	if err != nil {
		return Secret{}, fmt.Errorf("make a secret: %w", err)
	}
	return Secret{(*[sha256.Size]byte)(extracted)}, nil
}

// Derive gives a key for one purpose, by HKDF with SHA-256: 32 bytes that say
// nothing of those for other purposes. It panics on the zero Secret.
func (s Secret) Derive(purpose string) []byte {
	if s.extracted == nil {
		panic(errNoSecret)
	}
	key, err := hkdf.Expand(sha256.New, s.extracted[:], purpose, sha256.Size)
	if err != nil {
		panic(err) // only for more than 8160 bytes
	}
	return key
}

// Format hides it.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides it.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides it.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

const hidden = "[secret]"
