package task

import "time"

// Retries paces the retries of a kind by the budget of its settings: each first
// attempt pays for a fraction of a retry, within a minute. Those that nobody has paid
// for are put off, one behind the other, as fast as that goes on; so first attempts
// go first.
type Retries struct {
	slots [budgetSlots]int // first attempts, by when they were
	last  int64            // the number of the newest slot
	paid  float64          // retries that need not wait
	seen  time.Time        // when that was so
	next  time.Time        // those put off have started by then; what is paid until then is theirs
}

const (
	budgetWindow = time.Minute
	budgetSlots  = 6
	budgetSpan   = budgetWindow / budgetSlots
	// budgetFree is how many retries a minute nobody has to pay for.
	budgetFree = 10
)

// pass forgets what is older than the window.
func (r *Retries) pass(now time.Time) {
	slot := now.UnixNano() / int64(budgetSpan)
	for n := max(r.last+1, slot-budgetSlots+1); n <= slot; n++ {
		r.slots[n%budgetSlots] = 0
	}
	r.last = max(r.last, slot)
}

// most is how many retries a minute may have.
func (r *Retries) most(budget float64) float64 {
	first := 0
	for _, n := range r.slots {
		first += n
	}
	return budgetFree + budget*float64(first)
}

// Began notes a first attempt.
func (r *Retries) Began(now time.Time, budget float64) {
	r.pass(now)
	r.slots[r.last%budgetSlots]++
	if !now.Before(r.next) {
		r.paid += budget
	}
}

// Admit takes a place for one more retry, and says how long it has to wait for that.
func (r *Retries) Admit(now time.Time, budget float64) time.Duration {
	r.pass(now)
	most := r.most(budget)
	if r.seen.IsZero() {
		r.paid += budgetFree
	} else if from := latest(r.seen, r.next); now.After(from) {
		r.paid += budgetFree * now.Sub(from).Minutes()
	}
	r.seen, r.paid = now, min(r.paid, most)
	if r.paid >= 1 {
		r.paid--
		return 0
	}
	r.next = latest(r.next, now).Add(time.Duration(float64(budgetWindow) / most))
	return r.next.Sub(now)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
