package python

import (
	"errors"
	"strings"
)

// Word is one of the words of a line.
type Word struct {
	Text string // without its quotes and backslashes
	At   int    // the byte at which it begins
}

// The errors of [Split].
var (
	ErrQuote  = errors.New("a quotation mark has no second one")
	ErrEscape = errors.New("a backslash stands at the end")
)

// Split splits line into words as shlex.split does: quotes hold words together,
// a backslash takes what is special from the next character, in double quotes only
// from another backslash and from a quotation mark. With comments, a "#" ends the
// line wherever it stands, even inside a word, but not in quotes.
func Split(line string, comments bool) ([]Word, error) {
	var out []Word
	var word strings.Builder
	at := -1 // where the word began; -1: between words
	end := func() {
		if at >= 0 {
			out = append(out, Word{word.String(), at})
			word.Reset()
			at = -1
		}
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			end()
			continue
		case c == '#' && comments:
			end()
			return out, nil
		}
		if at < 0 {
			at = i
		}
		switch c {
		case '\\':
			if i++; i == len(line) {
				return nil, ErrEscape
			}
			word.WriteByte(line[i])
		case '\'', '"':
			n, err := quoted(line[i:], &word)
			if err != nil {
				return nil, err
			}
			i += n
		default:
			word.WriteByte(c)
		}
	}
	end()
	return out, nil
}

// quoted writes what stands in the quotes at the beginning of s, and returns
// the place of the closing one.
func quoted(s string, to *strings.Builder) (int, error) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return i, nil
		case c == '\\' && quote == '"':
			if i++; i == len(s) {
				return 0, ErrQuote
			}
			if s[i] != '\\' && s[i] != '"' {
				to.WriteByte('\\')
			}
			to.WriteByte(s[i])
		default:
			to.WriteByte(c)
		}
	}
	return 0, ErrQuote
}
