package python

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This file reads the texts of Python: in single or double quotes, once or three
// times, with prefixes, several in a row.

var textStart = regexp.MustCompile(`^([rR]|[uU]|[bB][rR]?|[rR][bB])?("""|'''|"|')`)

func (p *parser) text() (any, bool) {
	var all strings.Builder
	for first := true; ; first = false {
		m := textStart.FindStringSubmatch(p.rest)
		if m == nil {
			return all.String(), !first
		}
		p.rest = p.rest[len(m[0]):]
		if strings.ContainsAny(m[1], "bB") {
			p.leave("it is bytes")
		}
		if !p.quoted(m[2], strings.ContainsAny(m[1], "rR"), &all) {
			return nil, false
		}
		p.skip()
	}
}

// quoted reads up to the closing quote. In raw text a backslash stands for itself.
func (p *parser) quoted(quote string, raw bool, to *strings.Builder) bool {
	for p.rest != "" {
		if rest, ok := strings.CutPrefix(p.rest, quote); ok {
			p.rest = rest
			return true
		}
		c := p.rest[0]
		switch {
		case c != '\\':
			to.WriteByte(c)
			p.rest = p.rest[1:]
		case len(p.rest) == 1:
			return false
		case raw:
			to.WriteString(p.rest[:2])
			p.rest = p.rest[2:]
		case !p.escape(to):
			return false
		}
	}
	return false
}

// simple are the escapes of one character.
var simple = map[byte]byte{'\\': '\\', '\'': '\'', '"': '"', 'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

var octalForm = regexp.MustCompile(`^[0-7]{1,3}`)

// escape reads a backslash and what belongs to it. An unknown one stays as it is.
func (p *parser) escape(to *strings.Builder) bool {
	c := p.rest[1]
	p.rest = p.rest[2:]
	if s, ok := simple[c]; ok {
		to.WriteByte(s)
		return true
	}
	digits, base := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c], 16
	switch {
	case digits > len(p.rest):
		return false
	case digits > 0:
	case c >= '0' && c <= '7':
		p.rest = string(c) + p.rest
		digits, base = len(octalForm.FindString(p.rest)), 8
	case c == 'N':
		p.leave("it names a character")
		return true
	default:
		to.WriteString(`\` + string(c))
		return true
	}
	n, err := strconv.ParseUint(p.rest[:digits], base, 32)
	if err != nil || n > utf8.MaxRune {
		return false
	}
	if !utf8.ValidRune(rune(n)) {
		p.leave("it has a character that is none by itself")
	}
	to.WriteRune(rune(n))
	p.rest = p.rest[digits:]
	return true
}
