package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What can be wrong with what is stored, for errors.Is.
var (
	ErrUnknownKey = errors.New("sealed with a key that is not there")
	ErrDamaged    = errors.New("a sealed text was changed, or stands where it does not belong")
	ErrPlain      = errors.New("what is stored is not sealed")
)

const (
	prefix    = "trp1:"
	nonceSize = 12
	tagSize   = 16
)

// encoding is strict, so that no two texts are the same bytes.
var encoding = base64.RawURLEncoding.Strict()

// box seals and opens what belongs to one owner.
type box struct {
	keys   Keys
	strict bool
	owner  []string // what it is, and its names
	made   []sealer // of the keys that were needed so far
}

// sealer is what one key makes for one owner.
type sealer struct {
	id   string
	aead cipher.AEAD
	mac  []byte
}

func newBox(keys Keys, strict bool, owner ...string) *box {
	return &box{keys: keys, strict: strict, owner: owner}
}

// by finds what a key makes.
func (b *box) by(id string) (sealer, bool) {
	for _, s := range b.made {
		if s.id == id {
			return s, true
		}
	}
	for _, k := range b.keys {
		if k.ID != id {
			continue
		}
		derived := k.derive(b.name(), 2*keyBytes)
		block, err := aes.NewCipher(derived[:keyBytes])
		if err != nil {
			panic(err) // only for keys of another size
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			panic(err) // only for ciphers of another size
		}
		s := sealer{id, aead, derived[keyBytes:]}
		b.made = append(b.made, s)
		return s, true
	}
	return sealer{}, false
}

// name is the owner's: each part with its length, so that no two are the same.
func (b *box) name() string {
	var name strings.Builder
	for _, part := range b.owner {
		name.WriteString(strconv.Itoa(len(part)) + ":" + part)
	}
	return name.String()
}

// first is the sealer of the key that seals.
func (b *box) first() sealer {
	s, _ := b.by(b.keys[0].ID)
	return s
}

// raw is nonce, text and tag.
func (s sealer) raw(place string, text []byte) []byte {
	size := strconv.Itoa(len(place)) + ":"
	nonce := sum(s.mac, []byte(size), []byte(place), text)[:nonceSize]
	out := make([]byte, nonceSize, nonceSize+len(text)+tagSize)
	copy(out, nonce)
	return s.aead.Seal(out, nonce, text, []byte(place))
}

func (s sealer) openRaw(place string, raw []byte) ([]byte, error) {
	if len(raw) < nonceSize+tagSize {
		return nil, fmt.Errorf("open %s with key %s: %w", place, s.id, ErrDamaged)
	}
	text, err := s.aead.Open(nil, raw[:nonceSize], raw[nonceSize:], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("open %s with key %s: %w", place, s.id, ErrDamaged)
	}
	return text, nil
}

// text seals a text for a place. Nothing stays nothing.
func (b *box) text(place, text string) string {
	if text == "" {
		return ""
	}
	return string(b.envelope(place, []byte(text), ""))
}

// json is the same for JSON, and gives JSON.
func (b *box) json(place string, text []byte) []byte {
	if len(text) == 0 {
		return text
	}
	return b.envelope(place, text, `"`)
}

func (b *box) envelope(place string, text []byte, quote string) []byte {
	s := b.first()
	raw := s.raw(place, text)
	out := make([]byte, 0, 2*len(quote)+len(prefix)+len(s.id)+1+encoding.EncodedLen(len(raw)))
	out = append(append(append(append(out, quote...), prefix...), s.id...), ':')
	return append(encoding.AppendEncode(out, raw), quote...)
}

// openText opens what text gave.
func (b *box) openText(place, stored string) (string, error) {
	if stored == "" {
		return "", nil
	}
	if !isSealed([]byte(stored)) {
		return stored, b.plain(place)
	}
	text, err := b.open(place, []byte(stored))
	return string(text), err
}

// openJSON opens what json gave.
func (b *box) openJSON(place string, stored []byte) ([]byte, error) {
	switch last := len(stored) - 1; {
	case len(stored) == 0:
		return stored, nil
	case !looksSealed(stored):
		return stored, b.plain(place)
	case stored[0] != '"' || stored[last] != '"':
		return nil, fmt.Errorf("open %s: %w", place, ErrDamaged)
	default:
		return b.open(place, stored[1:last])
	}
}

// looksSealed says whether JSON is to be opened, also where a quote was changed.
func looksSealed(json []byte) bool { return len(json) > 2 && isSealed(json[1:len(json)-1]) }

// plain says whether something may be there that is not sealed.
func (b *box) plain(place string) error {
	if b.strict {
		return fmt.Errorf("open %s: %w", place, ErrPlain)
	}
	return nil
}

// open opens an envelope.
func (b *box) open(place string, envelope []byte) ([]byte, error) {
	id, body, found := bytes.Cut(envelope[len(prefix):], []byte{':'})
	damaged := fmt.Errorf("open %s with key %s: %w", place, shown(id), ErrDamaged)
	if !found || !bytes.HasPrefix(envelope, []byte(prefix)) || !validName(string(id)) {
		return nil, damaged
	}
	s, known := b.by(string(id))
	if !known {
		return nil, fmt.Errorf("open %s with key %s: %w", place, id, ErrUnknownKey)
	}
	if bytes.ContainsAny(body, "\r\n") { // which the decoder passes over
		return nil, damaged
	}
	raw, err := encoding.AppendDecode(nil, body)
	if err != nil {
		return nil, damaged
	}
	return s.openRaw(place, raw)
}

// shown is a key's name as an error may show it.
func shown(id []byte) string { return strconv.Quote(string(id[:min(len(id), maxName)])) }

// isSealed says whether a text is to be opened: it begins as an envelope does, or
// would but for one character and is one besides. So a single character that was
// changed makes no plain text of it.
func isSealed(b []byte) bool {
	if len(b) < len(prefix) {
		return false
	}
	wrong := 0
	for i := range len(prefix) {
		if b[i] != prefix[i] {
			wrong++
		}
	}
	return wrong == 0 || wrong == 1 && hasForm(b[len(prefix):])
}

// hasForm says whether a text is a key's name and base64 of what can be opened.
func hasForm(b []byte) bool {
	id, body, found := bytes.Cut(b, []byte{':'})
	if !found || !validName(string(id)) || len(body) < encoding.EncodedLen(nonceSize+tagSize) {
		return false
	}
	_, err := encoding.AppendDecode(nil, body)
	return err == nil
}
