package actors

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/troupe-run/troupe/runtime/task"
)

// A token proves to this node that a worker was given an attempt, and says which. It
// is bound to the attempt, to this life of the node and to the worker, and opens
// nothing by itself: the row decides whether the attempt is still under way.
const (
	tokenFacts = 16 + 8 + 8 // task, attempt, incarnation
	tokenBytes = tokenFacts + sha256.Size
)

// attemptKey names an attempt.
type attemptKey struct {
	id      task.ID
	attempt int
}

// token makes the token of an attempt for a worker.
func (n *Node) token(key attemptKey, worker string) string {
	facts := make([]byte, 0, tokenBytes)
	facts = append(facts, key.id[:]...)
	facts = binary.BigEndian.AppendUint64(facts, uint64(key.attempt))   //nolint:gosec // attempts count up from 1
	facts = binary.BigEndian.AppendUint64(facts, uint64(n.incarnation)) //nolint:gosec // so do these
	return base64.RawURLEncoding.EncodeToString(append(facts, n.sign(facts, worker)...))
}

// readToken says which attempt a token of a worker is for; false: it is none.
func (n *Node) readToken(token, worker string) (attemptKey, bool) {
	if base64.RawURLEncoding.EncodedLen(tokenBytes) != len(token) {
		return attemptKey{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || !hmac.Equal(raw[tokenFacts:], n.sign(raw[:tokenFacts], worker)) {
		return attemptKey{}, false
	}
	key := attemptKey{id: task.ID(raw[:16]), attempt: int(binary.BigEndian.Uint64(raw[16:]))} //nolint:gosec // as it was written
	return key, true
}

func (n *Node) sign(facts []byte, worker string) []byte {
	mac := hmac.New(sha256.New, n.tokenKey)
	mac.Write(facts)
	mac.Write([]byte(worker))
	return mac.Sum(nil)
}
