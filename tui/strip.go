package tui

import (
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"runbook/engine"
)

// This file lays out text in columns: lines of an exact width, whatever the text in them is made of.

// reverse is how the cursor's row stands out, beside its sign.
const reverse = "\x1b[7m"

// cells is text that takes as many columns as it is counted to, in every terminal: they
// disagree on what joins several characters into one, such as a heart and its colour.
func cells(text string) string {
	text = shown(strings.ReplaceAll(text, "\t", "    "))
	if ansi.StringWidth(text) == ansi.StringWidthWc(text) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if one := string(r); ansi.StringWidth(one) != ansi.StringWidthWc(one) || r >= 0xfe00 && r <= 0xfe0f || r >= 0x1f3fb && r <= 0x1f3ff {
			return '?'
		}
		return r
	}, text)
}

// middle is text in so many columns at the most: where it is longer, without its middle, for
// names mostly differ at one of their ends.
func middle(text string, columns int) string {
	text = cells(text)
	width := ansi.StringWidth(text)
	if width <= columns {
		return text
	}
	if columns < 3 {
		return ansi.Truncate(text, columns, "…")
	}
	tail := (columns - 1) / 2
	return ansi.Cut(text, 0, columns-1-tail) + "…" + ansi.Cut(text, width-tail, width)
}

// nameIn is a node's name in so many columns at the most: of a server the short one where the whole one is longer.
func nameIn(name string, columns int) string {
	if t, is := engine.ParseTarget(name); is && ansi.StringWidth(cells(name)) > columns {
		name = t.Short()
	}
	return middle(name, columns)
}

// strip is a line of so many columns, which is filled from the left.
type strip struct {
	b     strings.Builder
	room  int
	under string // how all of it looks
	style Style
}

func newStrip(width int, s Style) *strip { return &strip{room: width, style: s} }

// add adds as much of text as there is room for; what is cut ends in an ellipsis.
func (t *strip) add(colour, text string) *strip {
	text = cells(text)
	width := ansi.StringWidth(text)
	if width > t.room {
		text = ansi.Truncate(text, t.room, "…")
		width = ansi.StringWidth(text)
	}
	if width > 0 {
		t.b.WriteString(t.style.wrap(t.under+colour, text))
	}
	t.room -= width
	return t
}

// raw adds what is styled already, and takes so many columns.
func (t *strip) raw(text string, width int) *strip {
	if width <= t.room {
		t.b.WriteString(text)
		t.room -= width
	}
	return t
}

// keep fills up, so that only so many columns are left.
func (t *strip) keep(room int) *strip {
	if n := t.room - room; n > 0 {
		t.add("", strings.Repeat(" ", n))
	}
	return t
}

// right adds text at the end, if there is room for it and a space.
func (t *strip) right(colour, text string) *strip {
	if w := ansi.StringWidth(cells(text)); w < t.room {
		t.keep(w).add(colour, text)
	}
	return t
}

// String is the line, filled up.
func (t *strip) String() string {
	t.keep(0)
	return t.b.String()
}

// coloured is a line of text of one colour, before it is cut to a width.
type coloured struct{ colour, text string }

// folded is a line in as many as it takes at a width; all but the first stand further in.
func folded(c coloured, width int) []coloured {
	text := cells(c.text)
	if ansi.StringWidth(text) <= width {
		return []coloured{{c.colour, text}}
	}
	body := strings.TrimLeft(text, " ")
	lead := text[:min(len(text)-len(body), width/3)]
	const further = "    "
	var out []coloured
	for i, l := range strings.Split(ansi.Wrap(body, max(width-len(lead)-len(further), 8), ""), "\n") {
		if i > 0 {
			l = further + strings.TrimLeft(l, " ")
		}
		out = append(out, coloured{c.colour, lead + l})
	}
	return out
}

// sparks are the heights of a sparkline.
var sparks = []rune("▁▂▃▄▅▆▇█")

// sparkline is the last of some numbers, as many as there are columns, the lowest and the highest of which it spans.
func sparkline(points []float64, columns int) string {
	points = points[max(len(points)-columns, 0):]
	if len(points) == 0 {
		return ""
	}
	low, high := slices.Min(points), slices.Max(points)
	var b strings.Builder
	for _, p := range points {
		i := 0
		if high > low {
			i = min(int((p-low)/(high-low)*float64(len(sparks))), len(sparks)-1)
		}
		b.WriteRune(sparks[max(i, 0)])
	}
	return b.String()
}
