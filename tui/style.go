package tui

import (
	"os"
	"strings"

	"golang.org/x/term"

	"runbook/engine"
	"runbook/internal/printable"
)

// Style says how text may look. The zero Style is plain.
type Style struct {
	Colour bool
}

// StyleOf is the style for a file: colour on a terminal, unless NO_COLOR is set.
func StyleOf(f *os.File) Style {
	return Style{Colour: term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// The sixteen colours, which every terminal lets its user choose.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
	strong = "\x1b[1m"
	reset  = "\x1b[0m"
)

// shown is text on one line as a terminal may have it. Scripts, nodes and saved plans
// have written it, and none of them is to move the cursor, or to begin a line of its own.
func shown(text string) string {
	return printable.Text(text, "\t")
}

// Line is text that came from a node, a script or a record, for one line: what
// would end the line or move the terminal's cursor is shown and not done.
func Line(text string) string { return shown(text) }

// shownLines is shown, of lines.
func shownLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = shown(l)
	}
	return strings.Join(lines, "\n")
}

func (s Style) wrap(colour, text string) string {
	text = shown(text)
	if !s.Colour || colour == "" {
		return text
	}
	return colour + text + reset
}

func (s Style) bold(text string) string { return s.wrap(strong, text) }

// line colours a line of a diff by its sign.
func (s Style) line(l string) string { return s.wrap(bySign(l), l) }

// bySign is the colour of a line of a diff.
func bySign(l string) string {
	switch {
	case strings.HasPrefix(strings.TrimLeft(l, " "), "! "): // also what stands under a change
		return yellow
	case strings.HasPrefix(l, "+"):
		return green
	case strings.HasPrefix(l, "-"):
		return red
	case strings.HasPrefix(l, "="):
		return dim
	}
	return ""
}

// Warning is what people should know, on one line.
func (s Style) Warning(text string) string { return s.wrap(yellow, "warning: "+text) }

// Error is e for people, its first line in red.
func (s Style) Error(e *engine.Error) string {
	first, rest, more := strings.Cut(e.Error(), "\n")
	text := s.wrap(red, first)
	if more {
		text += "\n" + shownLines(rest)
	}
	return text
}
