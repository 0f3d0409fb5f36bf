package simulate

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
)

// Model says what workload is made.
type Model struct {
	Jobs  int
	Procs int
	Users int     // 16 where zero
	Kinds int     // of each user; 8 where zero
	Load  float64 // the share of the machine that is asked for; 0: what the model says
	Seed  uint64
}

// A class is jobs of one sort in the model of Lublin and Feitelson (JPDC 2003), with
// the numbers they found in the logs of three machines.
type class struct {
	// How many processors: one, or a power of two, or any; the logarithm is uniform
	// in two stages, between low and middle with probability first, else up to high.
	// Middle and high are so far below the logarithm of the machine's size.
	serial, power            float64
	low, middle, high, first float64
	// How long it runs: the logarithm is of one gamma distribution or of another; the
	// more processors, the less often of the first.
	short, long gamma
	slope, base float64
	// When it comes: the logarithm of the time between two is of a gamma distribution,
	// stretched by the time of day, in half hours.
	between gamma
	day     gamma
}

type gamma struct{ shape, scale float64 }

var (
	batch = class{
		serial: 0.2927, power: 0.6686, low: 1.2, middle: 2, high: 0, first: 0.875,
		short: gamma{6.57, 0.823}, long: gamma{639.1, 0.0156}, slope: -0.003, base: 0.6986,
		between: gamma{6.0415 * 1.0519, 0.8531}, day: gamma{6.1271, 5.2740},
	}
	interactive = class{
		serial: 0.1541, power: 0.625, low: 1, middle: 4, high: 1.5, first: 0.705,
		short: gamma{3.8351, 0.6605}, long: gamma{7.073, 0.6856}, slope: -0.0118, base: 0.9156,
		between: gamma{6.5510 * 0.9797, 0.6621}, day: gamma{8.9186, 3.6680},
	}
)

const (
	longestRun  = 12 // as logarithm: two days
	longestGap  = 13 // five days
	halfHours   = 48
	dayBegins   = 11 // in half hours: the model's day does
	leastFactor = 1e-6
)

// Generate makes a workload by the model, of batch and interactive jobs. In the model
// jobs belong to nobody. Here each gets a user, of whom some have many jobs and most
// have few, and is of one of the user's kinds: mostly of that whose jobs typically
// run as long as this one. So there is something to be learned, and sizes, times and
// arrivals stay those of the model.
func Generate(m Model) (Workload, error) {
	if m.Jobs < 1 || m.Procs < 2 || m.Users < 0 || m.Kinds < 0 || m.Load < 0 {
		return Workload{}, errors.New("want a workload of one job at least on a machine of two processors at least, and nothing negative")
	}
	r := rand.New(rand.NewPCG(m.Seed, 1)) //nolint:gosec // to be made again
	size := math.Log2(float64(m.Procs))
	streams := []*stream{newStream(batch, r), newStream(interactive, r)}
	w := Workload{Name: "Lublin-Feitelson", Procs: m.Procs, Jobs: make([]Job, m.Jobs)}
	own := newUsers(m, size, r)
	for i := range w.Jobs {
		s := slices.MinFunc(streams, func(a, b *stream) int { return cmp.Compare(a.next, b.next) })
		j := &w.Jobs[i]
		*j = Job{Number: uint64(i) + 1, Submit: secs(math.Floor(s.next)), Procs: s.class.procs(size, r)}
		log := s.class.run(j.Procs, r)
		j.Run = secs(max(1, math.Floor(math.Exp(log))))
		j.User, j.Kind = own.of(log, r)
		s.advance(r)
	}
	if m.Load > 0 {
		w.stretch(m.Load)
	}
	return w, nil
}

// stretch moves the arrivals closer together or further apart.
func (w *Workload) stretch(load float64) {
	work := 0.0
	for _, j := range w.Jobs {
		work += float64(j.Procs) * j.Run.Seconds()
	}
	first, last := w.Jobs[0].Submit, w.Jobs[len(w.Jobs)-1].Submit
	factor := work / (load * float64(w.Procs)) / max(1, (last-first).Seconds())
	for i := range w.Jobs {
		w.Jobs[i].Submit = secs(math.Floor(w.Jobs[i].Submit.Seconds() * factor))
	}
}

func (c *class) procs(size float64, r *rand.Rand) int {
	u := r.Float64()
	if u < c.serial {
		return 1
	}
	middle, high := max(c.low, size-c.middle), max(c.low, size-c.high)
	log := middle + r.Float64()*(high-middle)
	if r.Float64() < c.first {
		log = c.low + r.Float64()*(middle-c.low)
	}
	if u < c.serial+c.power {
		log = math.Round(log)
	}
	return min(int(math.Round(math.Exp2(log))), int(math.Round(math.Exp2(size))))
}

// run is the logarithm of how long a job of so many processors runs.
func (c *class) run(procs int, r *rand.Rand) float64 {
	p := min(1, max(0, c.slope*float64(procs)+c.base))
	for {
		g := c.long
		if r.Float64() < p {
			g = c.short
		}
		if log := g.draw(r); log <= longestRun {
			return log
		}
	}
}

// stream is the arrivals of one class. Jobs come faster at some times of the day than
// at others: gaps are measured on a clock that goes as fast as they come.
type stream struct {
	class  class
	speed  [halfHours]float64 // 1 on average
	next   float64            // seconds from the first midnight on
	bucket int
	left   float64 // of the bucket, on the clock
}

func newStream(c class, r *rand.Rand) *stream {
	s := &stream{class: c}
	sum := 0.0
	for i := dayBegins; i < dayBegins+halfHours; i++ {
		d := c.day.density(float64(i))
		s.speed[(i-1)%halfHours] = d
		sum += d
	}
	for i := range s.speed {
		s.speed[i] = max(s.speed[i]*halfHours/sum, leastFactor)
	}
	s.left = s.speed[0]
	s.advance(r)
	return s
}

// advance draws when the next job comes.
func (s *stream) advance(r *rand.Rand) {
	log := s.class.between.draw(r)
	for log > longestGap {
		log = s.class.between.draw(r)
	}
	const bucket = 24 * 3600.0 / halfHours
	gap := math.Exp(log) / bucket
	for gap > s.left {
		gap -= s.left
		s.next += s.left / s.speed[s.bucket] * bucket
		s.bucket = (s.bucket + 1) % halfHours
		s.left = s.speed[s.bucket]
	}
	s.next += gap / s.speed[s.bucket] * bucket
	s.left -= gap
}

// density is that of a gamma distribution but for a factor.
func (g gamma) density(x float64) float64 { return math.Pow(x, g.shape-1) * math.Exp(-x/g.scale) }

// draw draws from a gamma distribution whose shape is 1 at least (Marsaglia and
// Tsang 2000).
func (g gamma) draw(r *rand.Rand) float64 {
	d := g.shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v *= v * v
		if math.Log(r.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v * g.scale
		}
	}
}

// users are who has jobs, and how long jobs of their kinds typically run, as
// logarithm.
type users struct {
	kinds [][]float64
	until []float64 // the sum of the shares up to each
}

func newUsers(m Model, size float64, r *rand.Rand) *users {
	u := &users{}
	sum := 0.0
	for i := range cmp.Or(m.Users, 16) {
		sum += 1 / float64(i+1)
		u.until = append(u.until, sum)
		kinds := make([]float64, cmp.Or(m.Kinds, 8))
		for k := range kinds {
			c := [...]class{batch, interactive}[k%2]
			kinds[k] = c.run(c.procs(size, r), r)
		}
		u.kinds = append(u.kinds, kinds)
	}
	return u
}

// of draws to whom a job belongs, and finds of what kind it is.
func (u *users) of(log float64, r *rand.Rand) (user, kind int) {
	at, _ := slices.BinarySearch(u.until, r.Float64()*u.until[len(u.until)-1])
	around := log + spread*r.NormFloat64()
	kinds := u.kinds[at]
	for k := range kinds {
		if math.Abs(kinds[k]-around) < math.Abs(kinds[kind]-around) {
			kind = k
		}
	}
	return at + 1, kind + 1
}

// spread is by how much the jobs of a kind differ, in the logarithm, beside how far
// the kinds of a user are from each other.
const spread = 0.5
