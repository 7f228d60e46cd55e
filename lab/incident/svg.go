package incident

import (
	"fmt"
	"html"
	"strings"
)

// This file draws what came of it as an SVG.

// The measures of the drawing, in its own units.
const (
	svgWidth  = 1000
	svgHeight = 470
	svgPlot   = 420 // width of an act
	svgLeft   = 50  // of the first
	svgApart  = 60  // between the two
	svgBackY  = 100 // top of the connections
	svgBackH  = 200
	svgFailY  = 355 // top of the failures
	svgFailH  = 70
)

// The colours can be told apart also by the colour-blind, and in grey.
const (
	inUse      = "#8ab8dc"
	isDead     = "#c8401f"
	unanswered = "#f0b84a"
	isRefused  = "#7a1f5c"
	ink        = "#222"
	faint      = "#999"
)

// drawing is an SVG in the making.
type drawing struct {
	strings.Builder
	perSecond float64 // width of a second
}

// SVG is a picture of the two acts.
func (r *Report) SVG() string {
	longest, most, failed := 1, r.Capacity, 1
	for _, p := range r.panels() {
		longest = max(longest, len(p.act.Seconds))
		most, failed = max(most, p.act.Most(Second.backends)), max(failed, p.act.Most(Second.failed))
	}
	d := &drawing{perSecond: svgPlot / float64(longest)}
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="%s">`+"\n", svgWidth, svgHeight, ink)
	fmt.Fprintf(d, `<title>%s</title>`+"\n", "The incident, replayed: connections of the server and failed requests, second by second")
	fmt.Fprintf(d, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", svgWidth, svgHeight)
	d.legend(svgLeft, 24, fmt.Sprintf("connections of the server, which lets %d in", r.Capacity), inUse, "in use", isDead, "dead")
	d.legend(svgLeft, svgFailY-12, "requests that failed in a second", unanswered, "unanswered", isRefused, "refused: the server is full")
	for i, p := range r.panels() {
		x := float64(svgLeft + i*(svgPlot+svgApart))
		d.act(p, x, most, failed, r.Capacity)
	}
	d.WriteString("</svg>\n")
	return d.String()
}

// act draws one act, from x on.
func (d *drawing) act(p panel, x float64, most, failed, capacity int) {
	d.text(x, 50, "start", `font-size="16" font-weight="bold"`, p.title)
	end := x + d.perSecond*float64(len(p.act.Seconds))
	back := scale{svgBackY, svgBackH, most}
	fail := scale{svgFailY, svgFailH, failed}
	for i, s := range p.act.Seconds {
		at := x + d.perSecond*float64(i)
		d.bar(at, back, 0, s.Backends-s.Dead, inUse)
		d.bar(at, back, s.Backends-s.Dead, s.Backends, isDead)
		d.bar(at, fail, 0, s.Refused, isRefused)
		d.bar(at, fail, s.Refused, s.Failed, unanswered)
	}
	d.line(x, back.y(capacity), end, back.y(capacity), ink, "6 3")
	d.scale(x, back, capacity)
	d.scale(x, fail, failed)
	d.line(x, back.y(0), end, back.y(0), ink, "")
	d.line(x, fail.y(0), end, fail.y(0), ink, "")
	for i, m := range p.act.Marks {
		at := x + d.perSecond*m.At
		above := svgBackY - 8 - float64(i%2)*14 // two close ones do not write over each other
		d.line(at, above, at, back.y(0), faint, "2 3")
		d.line(at, svgFailY, at, fail.y(0), faint, "2 3")
	}
	for i, m := range p.act.Marks {
		d.text(x+d.perSecond*m.At+3, svgBackY-8-float64(i%2)*14, "start", `font-size="11" stroke="#fff" stroke-width="3" paint-order="stroke"`, m.Label)
	}
	for _, at := range p.act.Restarts {
		fmt.Fprintf(d, `<path d="M%.1f %.1f l-4 8 h8 z" fill="%s"/>`+"\n", x+d.perSecond*at, back.y(0)+2, ink)
	}
	d.text(x, back.y(0)+24, "start", `font-size="11" fill="`+faint+`"`, fmt.Sprintf("▲ an interface is restarted, %d times in all", len(p.act.Restarts)))
	for s := 0; s <= len(p.act.Seconds); s += 5 {
		d.text(x+d.perSecond*float64(s), fail.y(0)+16, "middle", `font-size="11"`, fmt.Sprintf("%d s", s))
	}
}

// scale is a row of the drawing: most is at its top.
type scale struct {
	top, height float64
	most        int
}

func (s scale) y(n int) float64 { return s.top + s.height*(1-float64(n)/float64(s.most)) }

// bar draws what there was in one second, between two numbers.
func (d *drawing) bar(x float64, s scale, from, to int, colour string) {
	if to > from {
		fmt.Fprintf(d, `<rect x="%.2f" y="%.2f" width="%.2f" height="%.2f" fill="%s"/>`+"\n", x, s.y(to), d.perSecond*0.94, s.y(from)-s.y(to), colour)
	}
}

// scale labels the zero of a row and one number more.
func (d *drawing) scale(x float64, s scale, n int) {
	d.text(x-6, s.y(n)+4, "end", `font-size="11"`, fmt.Sprint(n))
	d.text(x-6, s.y(0)+4, "end", `font-size="11"`, "0")
}

func (d *drawing) line(x1, y1, x2, y2 float64, colour, dashes string) {
	fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="%s"/>`+"\n", x1, y1, x2, y2, colour, dashes)
}

func (d *drawing) text(x, y float64, anchor, more, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(text))
}

// legend writes a heading, then what each colour is.
func (d *drawing) legend(x, y float64, heading string, pairs ...string) {
	d.text(x, y, "start", `font-weight="bold"`, heading)
	x += float64(len(heading))*6.6 + 20
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="12" height="12" fill="%s"/>`+"\n", x, y-10, pairs[i])
		d.text(x+17, y, "start", "", pairs[i+1])
		x += float64(len(pairs[i+1]))*6.2 + 40
	}
}
