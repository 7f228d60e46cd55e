package tui

import (
	"os"
	"strings"

	"golang.org/x/term"

	"runbook/engine"
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

func (s Style) wrap(colour, text string) string {
	if !s.Colour {
		return text
	}
	return colour + text + reset
}

func (s Style) bold(text string) string { return s.wrap(strong, text) }

// line colours a line of a diff by its sign.
func (s Style) line(l string) string {
	if strings.HasPrefix(strings.TrimLeft(l, " "), "! ") { // also what stands under a change
		return s.wrap(yellow, l)
	}
	switch l[0] {
	case '+':
		return s.wrap(green, l)
	case '-':
		return s.wrap(red, l)
	case '=':
		return s.wrap(dim, l)
	}
	return l
}

// Error is e for people, its first line in red.
func (s Style) Error(e *engine.Error) string {
	first, rest, more := strings.Cut(e.Error(), "\n")
	text := s.wrap(red, first)
	if more {
		text += "\n" + rest
	}
	return text
}
