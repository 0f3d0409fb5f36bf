package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// A key is a prefix that scanners for lost secrets know, 160 random bits, and a
// checksum that tells a mistyped key from a wrong one.
const (
	keyPrefix   = "trp_"
	keyRandom   = 20 // bytes
	keyDigits   = 27 // of base 62, for so many bytes
	checkDigits = 6  // of base 62, for 32 bits
	keyLength   = len(keyPrefix) + keyDigits + checkDigits
	hintLength  = 8
	alphabet    = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

	maxKeyName = 100
	keyPurpose = "api keys"
)

// NewKey makes a key of a namespace, which expires unless that is zero. The plain
// key is for its owner and is not kept; what is to be kept is k.
func NewKey(s Secret, namespace, name string, scopes []access.Scope, now, expires time.Time) (plain string, k access.Key, err error) {
	if bad := checkKey(namespace, name, scopes, now, expires); bad != nil {
		return "", access.Key{}, fmt.Errorf("make a key: %w", bad)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", access.Key{}, fmt.Errorf("make a key: %w", err)
	}
	random := make([]byte, keyRandom)
	if _, err := rand.Read(random); err != nil {
		return "", access.Key{}, fmt.Errorf("make a key: %w", err)
	}
	plain = keyPrefix + base62(new(big.Int).SetBytes(random), keyDigits)
	plain += checksum(plain)
	return plain, access.Key{
		ID: task.ID(id), Namespace: namespace, Name: name,
		Hint: plain[:hintLength], Hash: hashKey(s.Derive(keyPurpose), plain),
		Scopes:  slices.DeleteFunc(access.Scopes(), func(s access.Scope) bool { return !slices.Contains(scopes, s) }),
		Created: kept(now), Expires: kept(expires),
	}, nil
}

// kept is a time as stores keep it.
func kept(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func checkKey(namespace, name string, scopes []access.Scope, now, expires time.Time) error {
	var bad task.InvalidError
	refuse := func(field, message string) { bad = append(bad, task.Violation{Field: field, Message: message}) }
	if !task.ValidName(namespace) {
		refuse("namespace", "must be 1 to 100 of the characters a-z 0-9 . _ -")
	}
	if len(name) > maxKeyName || !task.ValidText(name) {
		refuse("name", fmt.Sprintf("must be at most %d bytes of printable UTF-8", maxKeyName))
	}
	if len(scopes) == 0 {
		refuse("scopes", "must name at least one")
	}
	for _, s := range scopes {
		if !slices.Contains(access.Scopes(), s) {
			refuse("scopes", fmt.Sprintf("must be of %v", access.Scopes()))
			break
		}
	}
	if !expires.IsZero() && !expires.After(now) {
		refuse("expires_at", "is over")
	}
	if bad == nil {
		return nil
	}
	return bad
}

// WellFormed says whether plain looks like a key: that nobody mistyped it, not that
// it opens anything.
func WellFormed(plain string) bool {
	if len(plain) != keyLength || !strings.HasPrefix(plain, keyPrefix) {
		return false
	}
	if strings.Trim(plain[len(keyPrefix):], alphabet) != "" {
		return false
	}
	body := plain[:keyLength-checkDigits]
	return plain == body+checksum(body)
}

func checksum(body string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), checkDigits)
}

func base62(n *big.Int, digits int) string {
	text := n.Text(62)
	return strings.Repeat("0", digits-len(text)) + text
}

// hashKey is what a store knows a key by. The keys are random, so this may be fast.
func hashKey(secret []byte, plain string) (hash [32]byte) {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(plain))
	return [32]byte(mac.Sum(hash[:0]))
}
