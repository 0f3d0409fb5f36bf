package task

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// LimitScope says what a limit of the whole cluster is about.
type LimitScope uint8

// The scopes.
const (
	OfPool      LimitScope = iota + 1 // how much of a resource is in use
	OfQueue                           // how many tasks of a queue run
	OfKey                             // how many tasks with a concurrency key run
	OfRate                            // how often tasks of a queue start
	OfCache                           // that identical tasks run one at a time
	OfKind                            // how many tasks of a kind run
	OfKeyRate                         // how often tasks with a rate key start
	OfSticky                          // on which node tasks with a sticky key run
	OfNamespace                       // how many tasks of a namespace run
)

var scopeNames = [...]string{
	OfPool: "pool", OfQueue: "queue", OfKey: "key", OfRate: "rate", OfCache: "cache", OfKind: "kind", OfKeyRate: "key_rate", OfSticky: "sticky",
	OfNamespace: "namespace",
}

// LimitName names a limit. A pool is everybody's, so its Namespace is empty.
type LimitName struct {
	Scope     LimitScope
	Namespace string
	Name      string
}

// IsZero says that no limit is named.
func (n LimitName) IsZero() bool { return n.Scope == 0 }

// String names the scope as the API does.
func (s LimitScope) String() string {
	if s < OfPool || s > OfNamespace {
		return ""
	}
	return scopeNames[s]
}

// Paces says that the limit is one of how often tasks start.
func (s LimitScope) Paces() bool { return s == OfRate || s == OfKeyRate }

// NamespaceLimit is the limit of how many tasks of a namespace run.
func NamespaceLimit(namespace string) LimitName { return LimitName{OfNamespace, namespace, namespace} }

// Compare puts limits in one order, in which everybody locks them.
func (n LimitName) Compare(m LimitName) int {
	if n.Scope != m.Scope {
		return int(n.Scope) - int(m.Scope)
	}
	if c := strings.Compare(n.Namespace, m.Namespace); c != 0 {
		return c
	}
	return strings.Compare(n.Name, m.Name)
}

// Token is so much of a limit: what an attempt holds of it while it runs.
type Token struct {
	Limit  LimitName
	Amount Quantity
	// Most is how much of the limit may be in use as far as this task is concerned;
	// of a concurrency key, whose limit stands with its tasks. Zero: as the limit says.
	Most Quantity
	Rate Rate        // the same of a rate key
	Home Incarnation // of a sticky key: the node that asks for it
}

// Pool is a resource of the whole cluster.
type Pool struct {
	Name     string
	Capacity Quantity
	Used     Quantity
}

// Rate is at most so many in so long; with a Count of 0 it is no bound. Burst is how
// many may come at once after a rest; 0: a tenth of a second's worth, so that a batch
// of starts costs no time of its own.
type Rate struct {
	Count int
	Per   time.Duration
	Burst int
}

const maxRate = 1_000_000

var ratePer = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// ParseRate reads "100/s", "30/m" or "5/h". The empty text is no bound.
func ParseRate(s string) (Rate, error) {
	if s == "" {
		return Rate{}, nil
	}
	count, unit, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	if per, known := ratePer[unit]; err == nil && known && n >= 1 && n <= maxRate {
		return Rate{Count: n, Per: per}, nil
	}
	return Rate{}, fmt.Errorf(`rate %q: want a number of 1 to %d and a unit, such as "100/s", "30/m" or "5/h": %w`,
		clip(s, maxName), maxRate, ErrInvalid)
}

// String is what ParseRate reads.
func (r Rate) String() string {
	for unit, per := range ratePer {
		if per == r.Per {
			return strconv.Itoa(r.Count) + "/" + unit
		}
	}
	return ""
}

// every is the time between two.
func (r Rate) every() time.Duration { return r.Per / time.Duration(r.Count) }

func (r Rate) burst() int64 {
	if r.Burst > 0 {
		return int64(r.Burst)
	}
	return max(1, int64(r.Count)*int64(time.Second/10)/int64(r.Per))
}

// Parked is why a task that could run waits for no node: it asked for a token that
// was not to be had.
type Parked struct {
	Limit LimitName
	Used  Quantity // of it, when the task was read
	Most  Quantity // that may be in use; negative: any amount
}

// one is what a task takes of a limit that counts tasks.
const one Quantity = 1000

// Wants is what an attempt of t needs of limits of the whole cluster, given
// which of them there are: of its queue, its kind, the resources it names, and its
// namespace, where running bounds that.
func (t Task) Wants(q Queue, k Kind, running int, pool func(resource string) bool) []Token {
	var tokens []Token
	for name, amount := range t.Resources {
		if amount > 0 && pool(name) {
			tokens = append(tokens, Token{Limit: LimitName{Scope: OfPool, Name: name}, Amount: amount})
		}
	}
	if q.Concurrency > 0 {
		tokens = append(tokens, Token{Limit: LimitName{OfQueue, t.Namespace, t.Queue}, Amount: one})
	}
	if k.Concurrency > 0 {
		tokens = append(tokens, Token{Limit: LimitName{OfKind, t.Namespace, t.Kind}, Amount: one})
	}
	if running > 0 {
		tokens = append(tokens, Token{Limit: NamespaceLimit(t.Namespace), Amount: one})
	}
	if t.ConcurrencyKey != "" {
		tokens = append(tokens, Token{
			Limit: LimitName{OfKey, t.Namespace, t.ConcurrencyKey}, Amount: one, Most: one * Quantity(t.ConcurrencyLimit),
		})
	}
	if q.Rate.Count > 0 {
		tokens = append(tokens, Token{Limit: LimitName{OfRate, t.Namespace, t.Queue}, Amount: one})
	}
	if t.RateKey != "" {
		tokens = append(tokens, Token{Limit: LimitName{OfKeyRate, t.Namespace, t.RateKey}, Amount: one, Rate: t.Rate})
	}
	if t.StickyKey != "" {
		tokens = append(tokens, Token{Limit: LimitName{OfSticky, t.Namespace, t.StickyKey}, Amount: one, Home: t.Holder})
	}
	if t.Cache.TTL > 0 {
		tokens = append(tokens, Token{Limit: t.cacheLimit(), Amount: one, Most: one})
	}
	return tokens
}

// CeilingOf is the ceiling of a limit that counts tasks; 0 is none.
func CeilingOf(tasks int) Quantity {
	if tasks == 0 {
		return -1
	}
	return one * Quantity(tasks)
}

// held leaves out what is not given back: of a rate.
func held(tokens []Token) []Token {
	var kept []Token
	for _, t := range tokens {
		if !t.Limit.Scope.Paces() {
			kept = append(kept, t)
		}
	}
	return kept
}

// Limit is how a limit stands: what a store keeps of it, and who is first of those
// parked on it. While tokens are taken, given back or promised, the store has it
// locked.
type Limit struct {
	Ceiling Quantity  // at most so much in use; negative: any amount
	Used    Quantity  // never of a rate
	Rate    Rate      // of [OfRate] and [OfKeyRate]
	Next    time.Time // of a rate: when the next start would be due if all came evenly spaced; of a sticky key: when it is forgotten

	Home  Incarnation // of a sticky key: the node that has it
	Alone bool        // and is no more

	First int64    // the lowest rank of those parked; [NobodyParked] if there is none
	Needs Quantity // what that one asks for

	// Those called to try again have not all asked yet: for so much they are
	// expected, until then.
	Called      Quantity
	CalledUntil time.Time
}

// NobodyParked is the First of a limit on which nobody is parked.
const NobodyParked = math.MaxInt64

// NewLimit is a limit that nobody has set or used.
func NewLimit() *Limit { return &Limit{Ceiling: -1, First: NobodyParked} }

// Idle says that a limit that stands with its tasks would be made anew just so, and
// may be forgotten unless somebody is parked on it.
func (l *Limit) Idle(scope LimitScope, now time.Time) bool {
	switch scope {
	case OfKey, OfCache:
		return l.Used == 0
	case OfKeyRate:
		return !l.Next.After(now)
	case OfSticky:
		return l.Used == 0 && !l.Next.After(now)
	default:
		return false
	}
}

// callWithin is for how long a task that was called is expected to ask again.
const callWithin = time.Second

// MostCalled bounds how many are called at once.
const MostCalled = 1000

// starts is how many may start now, by the rate (GCRA: each start moves Next on,
// and Next may be ahead of now by no more than the burst).
func (l *Limit) starts(now time.Time) Quantity {
	every := l.Rate.every()
	ahead := max(0, l.Next.Sub(now))
	return Quantity((every*time.Duration(l.Rate.burst()) - ahead) / every)
}

// free is how much there is for who asks now, or -1 for any amount.
func (l *Limit) free(now time.Time) Quantity {
	switch {
	case l.Rate.Count > 0:
		return one * l.starts(now)
	case l.Ceiling < 0:
		return -1
	}
	return max(0, l.Ceiling-l.Used)
}

// Opens is when time alone lets one of those parked try again; zero: it does not.
func (l *Limit) Opens(now time.Time) time.Time {
	if l.First == NobodyParked || l.Rate.Count == 0 {
		return time.Time{}
	}
	return later(now, l.Next.Add(-time.Duration(l.Rate.burst()-1)*l.Rate.every()))
}

// Reach bounds how many of those parked are looked at to be called now: a few more
// than can be if each asks for a whole one. The next claim goes on from there.
func (l *Limit) Reach(now time.Time) int {
	const few = 8
	switch free := l.free(now); {
	case free == 0:
		return 0
	case free < 0:
		return MostCalled
	default:
		return int(min(free/one+few, MostCalled))
	}
}

// Call says how many of those parked may try again now, given what they ask for in
// the order of their ranks, and expects them.
func (l *Limit) Call(now time.Time, asks []Quantity) int {
	if !now.Before(l.CalledUntil) {
		l.Called = 0
	}
	free, n := l.free(now), 0
	for n < len(asks) && (free < 0 || asks[n] <= free-l.Called) {
		l.Called += asks[n]
		n++
	}
	if n > 0 {
		l.CalledUntil = now.Add(callWithin)
	}
	return n
}

// Change sets how much may be in use at once, or how often tasks start.
func (l *Limit) Change(ceiling Quantity, rate Rate) {
	l.Ceiling, l.Rate, l.Called = ceiling, rate, 0
}

// Till is what a transaction takes of limits and gives back. A store fills it
// with how they stand, asks it, and keeps how they stand then.
type Till struct {
	Now    time.Time
	Limits map[LimitName]*Limit
}

// Ask is somebody's wish for tokens.
type Ask struct {
	Tokens []Token
	Rank   int64
	Called bool // it was parked and may try again: it stands before those that are
	Test   bool // it only wants to know
}

// Ask is what a mutation wants of limits.
func (m *Mutation) Ask() Ask {
	return Ask{Tokens: m.Take, Rank: m.Task.Rank(), Called: m.Called, Test: m.Task.State != Running}
}

// Take takes all the tokens asked for, or none. If it is none, the task is to be
// parked on a limit for so much of it, or where that is a sticky key bound to its Home; in vain says that there is no such amount, so
// that nobody has to wait behind it.
func (t *Till) Take(a Ask) (parked Token, inVain, ok bool) {
	if a.Called {
		t.answered(a.Tokens)
	}
	for _, token := range a.Tokens {
		l := t.Limits[token.Limit]
		if token.Limit.Scope == OfSticky {
			if l.keepsFrom(token.Home, t.Now) {
				token.Home = l.Home
				return token, false, false
			}
			continue
		}
		if token.Most > 0 {
			l.Ceiling = token.Most
		}
		if token.Rate.Count > 0 {
			l.Rate = token.Rate
		}
		free := l.free(t.Now)
		fits := free < 0 || token.Amount <= free
		behind := !a.Called && l.First < a.Rank
		if fits && !behind {
			continue
		}
		if inVain = l.Ceiling >= 0 && token.Amount > l.Ceiling; !inVain && a.Rank < l.First {
			l.First, l.Needs = a.Rank, token.Amount
		}
		return token, inVain, false
	}
	if a.Test {
		return Token{}, false, true
	}
	for _, token := range a.Tokens {
		l := t.Limits[token.Limit]
		if token.Limit.Scope == OfSticky {
			l.come(token.Home)
		}
		if l.Rate.Count > 0 {
			l.Next = later(l.Next, t.Now).Add(l.Rate.every())
		} else {
			l.Used += token.Amount
		}
	}
	return Token{}, false, true
}

// answered notes that one who was called has asked. On which of its limits it was
// parked is not known any more; the others get over it.
func (t *Till) answered(tokens []Token) {
	for _, token := range tokens {
		l := t.Limits[token.Limit]
		l.Called = max(0, l.Called-token.Amount)
	}
}

// Give gives tokens back.
func (t *Till) Give(tokens []Token) {
	for _, token := range tokens {
		l := t.Limits[token.Limit]
		if token.Limit.Scope == OfSticky {
			if l.Home != token.Home {
				continue // somebody else has the key since
			}
			l.Next = later(l.Next, t.Now.Add(StickyFor))
		}
		l.Used = max(0, l.Used-token.Amount)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
