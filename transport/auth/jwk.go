package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

const (
	maxKeySet  = 512 << 10 // bytes
	maxKeys    = 100
	minHMAC    = 32   // bytes of a shared secret: as many as HS256 gives (RFC 7518, section 3.2)
	minRSABits = 2048 // section 3.3
)

// key verifies tokens.
type key struct {
	kid      string // "": any token may be signed with it
	alg      string // "": any that suits the material
	material any    // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// suits says whether a key is made for an algorithm. The type of the key decides, so
// that no public key is ever taken for a shared secret.
func (k key) suits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch m := k.material.(type) {
	case []byte:
		return alg == "HS256"
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[m.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// matching are the keys that a token with a key id may be signed with.
func matching(keys []key, kid string) []key {
	if kid == "" {
		return keys
	}
	var found []key
	for _, k := range keys {
		if k.kid == kid || k.kid == "" {
			found = append(found, k)
		}
	}
	return found
}

var errNoKeys = errors.New("no key in it verifies tokens")

// readKeys reads a JWK, a set of them, or PEM. Of private keys the public half stays.
// Keys that are not for verifying are left out.
func readKeys(raw []byte) ([]key, error) {
	if len(raw) > maxKeySet {
		return nil, fmt.Errorf("read keys: %d bytes are more than %d", len(raw), maxKeySet)
	}
	all, err := parseKeys(raw)
	if err != nil {
		return nil, err
	}
	var keys []key
	for _, j := range all {
		if k, ok := verifying(j); ok {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read keys: %w", errNoKeys)
	}
	return keys, nil
}

// The library's errors may quote what they are about, so that they go nowhere.
var (
	errNotKeys     = errors.New("read keys: it is neither PEM nor a JWK nor a set of them")
	errTooManyKeys = fmt.Errorf("read keys: there are more than %d", maxKeys)
)

func parseKeys(raw []byte) ([]jwk.Key, error) {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("-----BEGIN ")) {
		set, err := jwk.Parse(raw, jwk.WithPEM(true), jwk.WithMaxKeys(maxKeys))
		if err != nil {
			return nil, errNotKeys
		}
		keys := make([]jwk.Key, set.Len())
		for i := range keys {
			keys[i], _ = set.Key(i) // it is there
		}
		return keys, nil
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, errNotKeys
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{raw} // a bare key
	}
	if len(set.Keys) > maxKeys {
		return nil, errTooManyKeys
	}
	var keys []jwk.Key
	for _, one := range set.Keys {
		if k, err := jwk.ParseKey(one); err == nil { // others are of kinds that we do not know
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// verifying is a key for verifying; ok is false where it is not for that, or too weak.
func verifying(j jwk.Key) (k key, ok bool) {
	if use, has := j.KeyUsage(); has && use != "" && use != "sig" {
		return key{}, false
	}
	if ops, has := j.KeyOps(); has && len(ops) > 0 && !slices.Contains(ops, jwk.KeyOpVerify) {
		return key{}, false
	}
	public, err := jwk.PublicKeyOf(j)
	if err != nil {
		return key{}, false
	}
	if err := jwk.Export(public, &k.material); err != nil {
		return key{}, false
	}
	k.kid, _ = j.KeyID()
	if alg, has := j.Algorithm(); has {
		k.alg = alg.String()
	}
	switch m := k.material.(type) {
	case []byte:
		return k, len(m) >= minHMAC
	case *rsa.PublicKey:
		return k, m.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return k, true
	}
	return key{}, false
}
