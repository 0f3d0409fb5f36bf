package main

import (
	"bufio"
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
)

// The drawing, in its own units.
const (
	plotWidth  = 1000
	plotLeft   = 380 // for the names of bars
	plotRight  = 150 // for their values
	barHeight  = 22
	curveWidth = 560
	curveTall  = 300
)

var plotColours = []string{"#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#bab0ac"}

// plot draws a sheet from above to below.
type plot struct {
	out *bufio.Writer
	y   float64
}

func (p *plot) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// draw draws the figures as bars, a panel for each unit, and the delays as what share
// took at most how long.
func (s *sheet) draw(w io.Writer) error {
	p := &plot{out: bufio.NewWriter(w), y: 34}
	var units []string
	for _, e := range s.Figures {
		if !slices.Contains(units, e.Unit) {
			units = append(units, e.Unit)
		}
	}
	tall := 60 + len(s.Figures)*barHeight + len(units)*50
	if len(s.Delays) > 0 {
		tall += max(curveTall, 20*len(s.Delays)) + 90
	}
	p.say(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`, plotWidth, tall)
	p.say(`<rect width="100%%" height="100%%" fill="white"/>`)
	p.say(`<text x="16" y="%.0f" font-size="17">%s</text>`, p.y, html.EscapeString(s.What+" on "+s.Store))
	for _, unit := range units {
		p.bars(unit, s.Figures)
	}
	if len(s.Delays) > 0 {
		p.curves(s.Delays)
	}
	p.say("</svg>")
	return p.out.Flush()
}

// bars draws the figures of a unit, each with its least and most.
func (p *plot) bars(unit string, all []*entry) {
	most := 0.0
	for _, e := range all {
		if e.Unit == unit {
			most = max(most, slices.Max(e.Value))
		}
	}
	scale := (plotWidth - plotLeft - plotRight) / cmp.Or(most, 1)
	p.y += 40
	p.say(`<text x="16" y="%.0f" font-weight="bold">%s</text>`, p.y, html.EscapeString(unit))
	p.y += 8
	for _, e := range all {
		if e.Unit != unit {
			continue
		}
		middle := p.y + barHeight/2
		length := e.Value.median() * scale
		least, top := plotLeft+slices.Min(e.Value)*scale, plotLeft+slices.Max(e.Value)*scale
		p.say(`<text x="%d" y="%.0f" text-anchor="end">%s</text>`, plotLeft-8, middle+4, html.EscapeString(e.Of+": "+e.What))
		p.say(`<rect x="%d" y="%.0f" width="%.1f" height="%d" fill="%s"/>`, plotLeft, p.y+3, max(length, 0.5), barHeight-6, plotColours[0])
		p.say(`<path stroke="#333" d="M%.1f %.0f H%.1f"/>`, least, middle, top)
		p.say(`<text x="%.1f" y="%.0f">%.*f</text>`, top+6, middle+4, e.Value.decimals(), e.Value.median())
		p.y += barHeight
	}
}

// curves draws distributions over milliseconds, each ten times as far as the one before.
func (p *plot) curves(all []*delays) {
	least, most := math.Inf(1), 0.0
	for _, d := range all {
		least, most = min(least, max(d.curve[0], 0.01)), max(most, d.curve[100])
	}
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(max(most, least*1.01)))
	const left = 60.0
	top := p.y + 50
	x := func(ms float64) float64 {
		return left + curveWidth*(math.Log10(max(ms, 0.01))-from)/max(to-from, 1)
	}
	y := func(share float64) float64 { return top + curveTall*(1-share) }
	p.say(`<text x="16" y="%.0f" font-weight="bold">share that took at most so many milliseconds</text>`, top-16)
	for power := from; power <= to; power++ {
		at := x(math.Pow(10, power))
		p.say(`<path stroke="#ddd" d="M%.1f %.1f V%.1f"/><text x="%.1f" y="%.1f" text-anchor="middle">%g</text>`,
			at, y(0), y(1), at, y(0)+18, math.Pow(10, power))
	}
	for _, share := range []float64{0, 0.5, 0.95, 0.99} {
		p.say(`<path stroke="#ddd" d="M%.1f %.1f h%d"/>`, left, y(share), curveWidth)
	}
	for _, share := range []float64{0, 0.5, 0.95} { // there is no room for more
		p.say(`<text x="%.1f" y="%.1f" text-anchor="end">%g %%</text>`, left-6, y(share)+4, share*100)
	}
	for i, d := range all {
		colour := plotColours[i%len(plotColours)]
		fmt.Fprintf(p.out, `<polyline fill="none" stroke="%s" stroke-width="1.6" points="`, colour)
		for q, ms := range d.curve {
			fmt.Fprintf(p.out, "%.1f,%.1f ", x(ms), y(float64(q)/100))
		}
		p.say(`"/>`)
		at := top + 14 + 20*float64(i)
		p.say(`<rect x="%.0f" y="%.0f" width="12" height="12" fill="%s"/>`, left+curveWidth+20, at-10, colour)
		p.say(`<text x="%.0f" y="%.0f">%s</text>`, left+curveWidth+38, at, html.EscapeString(d.Of+": "+d.What))
	}
	p.y = y(0) + 40
}
