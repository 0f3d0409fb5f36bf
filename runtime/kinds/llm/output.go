package llm

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/troupe-run/troupe/runtime/task"
)

// errEnough ends a stream whose text is longer than a result may be.
var errEnough = errors.New("the text is long enough")

// output gives the text on and gathers it.
type output struct {
	job    job
	secret string // that nobody may see, should the provider say it
	room   int    // bytes of the text as JSON that are left

	text      strings.Builder
	held      string // the end of what was said, which may be the beginning of the secret
	logFull   bool   // the watchers get no more of it, the result still does
	truncated bool
	refused   error // by the attempt
}

func (o *output) say(text string) error {
	o.held = redact(o.held+text, o.secret)
	keep := overlap(o.held, o.secret)
	text, o.held = o.held[:len(o.held)-keep], o.held[len(o.held)-keep:]
	return o.emit(text)
}

// end gives on what was held back.
func (o *output) end() error {
	text := o.held
	o.held = ""
	return o.emit(text)
}

func (o *output) emit(text string) error {
	for text != "" {
		piece := text[:characters(text, maxPiece)]
		text = text[len(piece):]
		if o.room -= size(piece); o.room < 0 {
			return errEnough
		}
		o.text.WriteString(piece)
		if o.logFull {
			continue
		}
		err := o.job.EmitText(piece)
		if o.logFull = errors.Is(err, task.ErrLogFull); err != nil && !o.logFull {
			o.refused = err
			return err
		}
	}
	return nil
}

// size is how much room a text takes in JSON.
func size(text string) int {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	return len(b) - len(`""`)
}

// characters is how many bytes of text, at most limit, do not cut a character.
func characters(text string, limit int) int {
	if len(text) <= limit {
		return len(text)
	}
	for i := limit; i > limit-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			return i
		}
	}
	return limit
}

// overlap is how many bytes at the end of text are the beginning of secret.
func overlap(text, secret string) int {
	for n := min(len(text), len(secret)-1); n > 0; n-- {
		if strings.HasPrefix(secret, text[len(text)-n:]) {
			return n
		}
	}
	return 0
}

// redact takes a secret out of what a provider says.
func redact(text, secret string) string {
	if secret == "" {
		return text
	}
	return strings.ReplaceAll(text, secret, "***")
}

// bounded is the beginning of a short text of a provider.
func bounded(text string) string {
	const longest = 500
	if len(text) <= longest {
		return text
	}
	return text[:characters(text, longest)] + "…"
}
