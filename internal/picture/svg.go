package main

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// A cell of the terminal in the picture.
const (
	cellWidth  = 8.4
	cellHeight = 18
	margin     = 12
)

// The sixteen colours, as many terminals have them on black.
var palette = [16]string{
	"#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9",
	"#5c6370", "#ff7b86", "#b5e890", "#ffd580", "#80c8ff", "#e39df5", "#7fdbe6", "#ffffff",
}

// look is how characters look.
type look struct {
	fg, bg             string // of the palette; "": the terminal's own
	bold, dim, reverse bool
}

const (
	ink   = "#d8dee9"
	paper = "#1e222a"
)

// svg is a picture of a terminal that shows text, with its escape sequences for colours.
func svg(text string) string {
	var b strings.Builder
	width, height := columns*cellWidth+2*margin, rows*cellHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="%s"/>`+"\n", paper)
	for row, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		column := 0
		for _, r := range runs(line) {
			r.draw(&b, column, row)
			column += r.width
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// run is characters that look the same.
type run struct {
	look
	text  string
	width int // columns
}

// runs splits a line by how its characters look.
func runs(line string) (out []run) {
	var now look
	var state byte
	for len(line) > 0 {
		seq, width, n, next := ansi.DecodeSequence(line, state, nil)
		line, state = line[n:], next
		switch {
		case width == 0 && strings.HasPrefix(seq, "\x1b["):
			now = now.after(strings.TrimSuffix(strings.TrimPrefix(seq, "\x1b["), "m"))
		case width == 0:
		case len(out) > 0 && out[len(out)-1].look == now:
			out[len(out)-1].text += seq
			out[len(out)-1].width += width
		default:
			out = append(out, run{now, seq, width})
		}
	}
	return out
}

// after is how characters look after the parameters of a colour sequence.
func (l look) after(params string) look {
	for _, p := range strings.Split(params, ";") {
		switch n, _ := strconv.Atoi(p); {
		case n == 0:
			l = look{}
		case n == 1:
			l.bold = true
		case n == 2:
			l.dim = true
		case n == 7:
			l.reverse = true
		case n == 22:
			l.bold, l.dim = false, false
		case n == 27:
			l.reverse = false
		case n >= 30 && n < 38:
			l.fg = palette[n-30]
		case n == 39:
			l.fg = ""
		case n >= 40 && n < 48:
			l.bg = palette[n-40]
		case n == 49:
			l.bg = ""
		case n >= 90 && n < 98:
			l.fg = palette[n-82]
		case n >= 100 && n < 108:
			l.bg = palette[n-92]
		}
	}
	return l
}

// draw draws a run from a column of a row on.
func (r run) draw(b *strings.Builder, column, row int) {
	x, y := margin+float64(column)*cellWidth, margin+row*cellHeight
	fg, bg := or(r.fg, ink), r.bg
	if r.reverse {
		fg, bg = or(r.bg, paper), or(r.fg, ink)
	}
	if bg != "" {
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x, y, float64(r.width)*cellWidth, cellHeight, bg)
	}
	if strings.TrimSpace(r.text) == "" {
		return
	}
	style := ""
	if r.bold {
		style += ` font-weight="bold"`
	}
	if r.dim {
		style += ` opacity="0.6"`
	}
	var text strings.Builder
	xml.EscapeText(&text, []byte(r.text)) //nolint:errcheck // a Builder takes all
	fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="%s"%s textLength="%.1f" lengthAdjust="spacingAndGlyphs" xml:space="preserve">%s</text>`+"\n",
		x, y+cellHeight-5, fg, style, float64(r.width)*cellWidth, text.String())
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}
