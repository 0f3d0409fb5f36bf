package simulate

import (
	"bufio"
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

// The picture, in its own units.
const (
	svgWidth  = 1200
	svgHeight = 600
	svgLeft   = 70
	svgTop    = 60
	svgRight  = 190 // for the legend
	svgBottom = 60
)

// shades are for jobs, from those that did not wait to those that waited most.
var shades = []string{"#c8d8c4", "#8fbf9f", "#f2c14e", "#f28f3b", "#c8553d", "#7d1d3f"}

// hues are for users, the one with most jobs first; the last is for all others.
var hues = []string{"#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#bab0ac"}

// picture draws one run.
type picture struct {
	out         *bufio.Writer
	run         Run
	procs       int
	first, last time.Duration
}

// SVG draws how a run went: processors upwards, time to the right, each job on the
// processors it had for as long as it ran. Its colour says by what factor waiting
// made it longer, or whose it is.
func SVG(out io.Writer, title string, r Run, procs int, byUser bool) error {
	p := &picture{out: bufio.NewWriter(out), run: r, procs: procs, first: r.Jobs[0].Submit}
	for i, j := range r.Jobs {
		p.last = max(p.last, r.Starts[i]+j.Run)
	}
	colours, legend := r.bySlowdown()
	heading := "bounded slowdown"
	if byUser {
		colours, legend = r.byUser()
		heading = "user"
	}
	p.open(title)
	p.jobs(colours)
	p.axes()
	p.legend(heading, legend)
	p.say("</svg>")
	return p.out.Flush()
}

func (p *picture) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

func (p *picture) x(t time.Duration) float64 {
	return svgLeft + (svgWidth-svgLeft-svgRight)*float64(t-p.first)/float64(max(1, p.last-p.first))
}

// y is where a processor begins, counted from below.
func (p *picture) y(proc int) float64 {
	return svgHeight - svgBottom - (svgHeight-svgTop-svgBottom)*float64(proc)/float64(p.procs)
}

func (p *picture) open(title string) {
	p.say(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`, svgWidth, svgHeight)
	p.say(`<rect width="100%%" height="100%%" fill="white"/>`)
	p.say(`<text x="%d" y="24" font-size="17">%s</text>`, svgLeft, html.EscapeString(title))
	f := p.run.Figures
	p.say(`<text x="%d" y="44" fill="#555">%d jobs: mean bounded slowdown %.2f, mean wait %.0f s, worst wait %.0f s, utilisation %.3f</text>`,
		svgLeft, len(p.run.Jobs), f.Slowdown, f.Wait, f.WorstWait, f.Utilisation)
}

func (p *picture) jobs(colours []string) {
	for i, where := range p.run.place(p.procs) {
		j, start := p.run.Jobs[i], p.run.Starts[i]
		p.say(`<g fill="%s" stroke="white" stroke-width="0.3"><title>job %d: %d processors for %v, waited %v</title>`,
			colours[i], j.Number, j.Procs, j.Run, start-j.Submit)
		x := p.x(start)
		for _, s := range where {
			p.say(`<rect x="%.2f" y="%.2f" width="%.2f" height="%.2f"/>`, x, p.y(s.to), max(0.4, p.x(start+j.Run)-x), p.y(s.from)-p.y(s.to))
		}
		p.say("</g>")
	}
}

func (p *picture) axes() {
	left, right, bottom := float64(svgLeft), p.x(p.last), p.y(0)
	p.say(`<g stroke="#333" fill="none"><path d="M%.1f %d V%.1f H%.1f"/></g>`, left, svgTop, bottom, right)
	unit, name := time.Hour, "hours"
	if p.last-p.first > 96*time.Hour {
		unit, name = 24*time.Hour, "days"
	} else if p.last-p.first < 2*time.Hour {
		unit, name = time.Minute, "minutes"
	}
	step := niceStep(float64(p.last-p.first) / float64(unit))
	for v := 0.0; p.first+time.Duration(v*float64(unit)) <= p.last; v += step {
		x := p.x(p.first + time.Duration(v*float64(unit)))
		p.say(`<path stroke="#333" d="M%.1f %.1f v5"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x, bottom, x, bottom+20, number(v))
	}
	for v := 0.0; v <= float64(p.procs); v += max(1, niceStep(float64(p.procs))) {
		y := p.y(int(v))
		p.say(`<path stroke="#333" d="M%.1f %.1f h-5"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`, left, y, left-8, y+4, number(v))
	}
	p.say(`<text x="%.1f" y="%d" text-anchor="middle">%s since the first job came</text>`, (left+right)/2, svgHeight-14, name)
	p.say(`<text transform="translate(18 %.1f) rotate(-90)" text-anchor="middle">processors</text>`, (svgTop+bottom)/2)
}

// niceStep divides a length into five to ten round parts.
func niceStep(length float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(max(length, 1e-9)/5)))
	for _, k := range []float64{1, 2, 5} {
		if length/(k*step) <= 10 {
			return k * step
		}
	}
	return 10 * step
}

func number(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) }

type entry struct{ colour, text string }

func (p *picture) legend(heading string, entries []entry) {
	x := svgWidth - svgRight + 20
	p.say(`<text x="%d" y="%d" font-weight="bold">%s</text>`, x, svgTop+10, heading)
	for i, e := range entries {
		y := svgTop + 32 + 22*i
		p.say(`<rect x="%d" y="%d" width="14" height="14" fill="%s"/><text x="%d" y="%d">%s</text>`, x, y-12, e.colour, x+22, y, html.EscapeString(e.text))
	}
}

// bySlowdown gives each job a shade: up to 1.1, then up to 3, 10, 30, 100 and more.
func (r *Run) bySlowdown() ([]string, []entry) {
	limits := []float64{1.1, 3, 10, 30, 100}
	colours := make([]string, len(r.Jobs))
	for i, j := range r.Jobs {
		at, _ := slices.BinarySearch(limits, slowdown(r.Starts[i]-j.Submit, j.Run))
		colours[i] = shades[at]
	}
	legend := make([]entry, len(shades))
	for i := range shades {
		text := "over " + number(limits[len(limits)-1])
		if i < len(limits) {
			text = "up to " + number(limits[i])
		}
		legend[i] = entry{shades[i], text}
	}
	return colours, legend
}

// byUser gives those who have most jobs a hue each.
func (r *Run) byUser() ([]string, []entry) {
	count := map[int]int{}
	for _, j := range r.Jobs {
		count[j.User]++
	}
	users := make([]int, 0, len(count))
	for u := range count {
		users = append(users, u)
	}
	slices.SortFunc(users, func(a, b int) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
	hue, last := map[int]string{}, len(hues)-1
	var legend []entry
	for i, u := range users {
		hue[u] = hues[min(i, last)]
		switch {
		case i < last:
			legend = append(legend, entry{hue[u], "user " + strconv.Itoa(u)})
		case i == last:
			legend = append(legend, entry{hues[last], "others"})
		}
	}
	colours := make([]string, len(r.Jobs))
	for i, j := range r.Jobs {
		colours[i] = hue[j.User]
	}
	return colours, legend
}

// span is some processors next to each other.
type span struct{ from, to int }

// place says on which processors each job was: the lowest that were free, in one
// piece where there was one.
func (r *Run) place(procs int) [][]span {
	order := make([]int, len(r.Jobs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(r.Starts[a], r.Starts[b]) })
	until := make([]time.Duration, procs) // when each is free
	placed := make([][]span, len(r.Jobs))
	for _, i := range order {
		placed[i] = take(until, r.Jobs[i].Procs, r.Starts[i])
		for _, s := range placed[i] {
			for k := s.from; k < s.to; k++ {
				until[k] = r.Starts[i] + r.Jobs[i].Run
			}
		}
	}
	return placed
}

func take(until []time.Duration, n int, now time.Duration) []span {
	var free []span
	for k, t := range until {
		switch {
		case t > now:
		case len(free) > 0 && free[len(free)-1].to == k:
			free[len(free)-1].to++
		default:
			free = append(free, span{k, k + 1})
		}
	}
	for _, s := range free {
		if s.to-s.from >= n {
			return []span{{s.from, s.from + n}}
		}
	}
	var taken []span
	for _, s := range free {
		s.to = min(s.to, s.from+n)
		if s.to > s.from {
			taken = append(taken, s)
		}
		n -= s.to - s.from
	}
	return taken
}
