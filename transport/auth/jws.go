package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// signed is a token taken apart. Nothing in it is to be believed before verify says so.
type signed struct {
	text    string
	alg     string
	kid     string // "": it names no key
	payload []byte
}

var (
	errMalformed = errors.New("it is no signed token in compact form")
	errSignature = errors.New("no key that it may be signed with has signed it")
)

// split takes a token apart: three parts in strict base64url (RFC 7515), so that one
// token has one text, and a header without extensions that would have to be understood.
func split(text string) (signed, error) {
	parts := strings.Split(text, ".")
	// The decoder passes over line breaks, which do not belong there.
	if len(parts) != 3 || len(text) > maxToken || strings.ContainsAny(text, "\r\n") {
		return signed{}, errMalformed
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return signed{}, errMalformed
		}
	}
	// Not a struct, which would take "ALG" for "alg".
	var header map[string]any
	if err := json.Unmarshal(decoded[0], &header); err != nil || len(decoded[2]) == 0 {
		return signed{}, errMalformed
	}
	for _, extension := range []string{"crit", "b64"} {
		if _, ok := header[extension]; ok {
			return signed{}, fmt.Errorf("%w: its header has %s", errMalformed, extension)
		}
	}
	alg, _ := header["alg"].(string) // none is not allowed to anybody
	kid, ok := header["kid"].(string)
	if _, there := header["kid"]; there && !ok {
		return signed{}, errMalformed
	}
	return signed{text: text, alg: alg, kid: kid, payload: decoded[1]}, nil
}

// verify says whether one of the keys signed a token, with an algorithm that is both
// allowed and the key's own.
func (s signed) verify(keys []key, allowed []string) error {
	alg, ok := jwa.LookupSignatureAlgorithm(s.alg)
	if !ok || !slices.Contains(allowed, s.alg) {
		return errSignature
	}
	for _, k := range keys {
		if !k.suits(s.alg) {
			continue
		}
		if _, err := jws.Verify([]byte(s.text), jws.WithKey(alg, k.material), jws.WithAlgorithmMatch(true)); err == nil {
			return nil
		}
	}
	return errSignature
}
