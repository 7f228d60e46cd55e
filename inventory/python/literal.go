// Package python reads what other tools read with two functions of Python:
// values with ast.literal_eval, and lines with shlex.split. What Python makes of
// such text is not what it looks like (1,2 is a list, 010 is text, 1.10 is a
// number), so the rules are Python's own.
package python

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Unread is a value that Python would read and that JSON has no word for. It says why.
type Unread string

// maxNesting bounds how deep lists and dicts may be nested.
const maxNesting = 50

// Literal returns what ast.literal_eval makes of text: a string, int64, float64,
// bool, nil, []any (of a list or a tuple) or map[string]any, an [Unread], or the text
// itself where Python takes it for no literal.
func Literal(text string) any {
	p := &parser{rest: strings.TrimLeft(text, " \t")}
	p.skip()
	v, ok := p.sequence("")
	switch {
	case p.deep > maxNesting:
		return Unread("it is nested too deep")
	case !ok || p.rest != "":
		return text
	case p.unread != "":
		return p.unread
	}
	return v
}

// Why values are not kept that come up in two places.
const (
	aSet     Unread = "it is a set"
	aComplex Unread = "it is a complex number"
	tooLarge Unread = "the number is too large"
)

// parser reads one value. Its functions return false where what comes is no literal.
type parser struct {
	rest   string
	deep   int    // more than maxNesting once that was too deep
	unread Unread // the first reason why what was read cannot be kept
}

func (p *parser) skip() {
	p.rest = strings.TrimLeft(p.rest, " \t\f")
	if strings.HasPrefix(p.rest, "#") {
		p.rest = ""
	}
}

// take takes s if it comes next.
func (p *parser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
		p.skip()
	}
	return ok
}

// leave notes why a value cannot be kept.
func (p *parser) leave(why Unread) {
	if p.unread == "" {
		p.unread = why
	}
}

// items reads values with commas between them up to closing, which it takes.
// comma says whether there was one: (1,) is a tuple, (1) is not.
func (p *parser) items(closing string) (list []any, comma, ok bool) {
	list = []any{}
	for {
		if closing == "" && p.rest == "" || closing != "" && p.take(closing) {
			return list, comma, closing != "" || len(list) > 0
		}
		if len(list) > 0 && !comma {
			return nil, false, false
		}
		v, ok := p.value()
		if !ok {
			return nil, false, false
		}
		list = append(list, v)
		more := p.take(",")
		if !more && (closing == "" && p.rest != "" || closing != "" && !strings.HasPrefix(p.rest, closing)) {
			return nil, false, false
		}
		comma = comma || more
	}
}

// sequence reads one value, or a tuple, up to closing.
func (p *parser) sequence(closing string) (any, bool) {
	list, comma, ok := p.items(closing)
	if ok && len(list) == 1 && !comma {
		return list[0], true
	}
	return list, ok
}

func (p *parser) value() (any, bool) {
	if p.deep++; p.deep > maxNesting {
		return nil, false
	}
	v, ok := p.inner()
	if p.deep <= maxNesting {
		p.deep--
	}
	return v, ok
}

func (p *parser) inner() (any, bool) {
	if p.rest == "" {
		return nil, false
	}
	switch c := p.rest[0]; {
	case p.take("["):
		list, _, ok := p.items("]")
		return list, ok
	case p.take("("):
		return p.sequence(")")
	case p.take("{"):
		return p.dict()
	case p.take("..."):
		p.leave("an ellipsis is no value")
		return nil, true
	case p.take("set()"):
		p.leave(aSet)
		return nil, true
	case c == '-' || c == '+' || c >= '0' && c <= '9' || c == '.':
		return p.signed()
	case p.word("True"):
		return true, true
	case p.word("False"):
		return false, true
	case p.word("None"):
		return nil, true
	}
	return p.text()
}

// word takes a name if it comes next.
func (p *parser) word(name string) bool {
	rest, ok := strings.CutPrefix(p.rest, name)
	if !ok || rest != "" && (rest[0] == '_' || rest[0] >= utf8.RuneSelf || isAlphanumeric(rest[0])) {
		return false
	}
	return p.take(name)
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// dict reads a dict after its "{", or a set.
func (p *parser) dict() (any, bool) {
	out := map[string]any{}
	if p.take("}") {
		return out, true
	}
	for {
		key, ok := p.value()
		if !ok {
			return nil, false
		}
		if len(out) == 0 && !strings.HasPrefix(p.rest, ":") { // a set: its values have no order
			p.leave(aSet)
			if !p.take(",") {
				return nil, p.take("}")
			}
			_, _, ok := p.items("}")
			return nil, ok
		}
		if !p.take(":") {
			return nil, false
		}
		v, ok := p.value()
		if !ok {
			return nil, false
		}
		out[p.key(key)] = v
		more := p.take(",")
		if p.take("}") {
			return out, true
		}
		if !more {
			return nil, false
		}
	}
}

// key is a key of a dict as JSON writes it.
func (p *parser) key(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	p.leave("a dict has a key that is neither text nor a number")
	return ""
}

// The forms of numbers in Python. The longest that fits is taken, and what
// cannot follow a number makes the whole no literal.
var (
	floatForm = regexp.MustCompile(`^(?:\d+(?:_\d+)*)?(?:\.\d+(?:_\d+)*|\d\.|\.)?(?:[eE][-+]?\d+(?:_\d+)*)?`)
	intForm   = regexp.MustCompile(`^(?:0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|[1-9](?:_?[0-9])*|0(?:_?0)*)`)
)

// signed reads a number with its sign, or the sum of two that makes a complex one.
func (p *parser) signed() (any, bool) {
	minus := p.take("-")
	if !minus {
		p.take("+")
	}
	n, ok := p.number()
	if ok && (p.take("+") || p.take("-")) {
		before := p.unread
		p.unread = ""
		_, ok = p.number()
		ok = ok && p.unread == aComplex && before != aComplex
	}
	switch v := n.(type) {
	case int64:
		if minus {
			n = -v
		}
	case float64:
		if minus {
			n = -v
		}
	}
	return n, ok
}

func (p *parser) number() (any, bool) {
	whole := intForm.FindString(p.rest)
	float := floatForm.FindString(p.rest)
	if mantissa, _, _ := strings.Cut(strings.ToLower(float), "e"); strings.Trim(mantissa, ".") == "" {
		float = ""
	}
	text := float
	if len(whole) >= len(float) {
		text = whole
	}
	if text == "" {
		return nil, false
	}
	rest := p.rest[len(text):]
	switch {
	case rest != "" && rest[0]|0x20 == 'j' && text == float:
		p.leave(aComplex)
		rest = rest[1:]
	case text == float && !strings.ContainsAny(float, ".eE") && text != whole:
		return nil, false // 010
	}
	if rest != "" && (rest[0] == '_' || rest[0] == '.' || rest[0] >= utf8.RuneSelf || isAlphanumeric(rest[0])) {
		return nil, false
	}
	p.rest = rest
	p.skip()
	if text == whole {
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, 64)
		if err != nil {
			if n, err = strconv.ParseInt(strings.TrimLeft(text, "0_"), 10, 64); strings.Trim(text, "0_") == "" {
				return int64(0), true
			}
		}
		if err != nil {
			p.leave(tooLarge)
		}
		return n, true
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	if err != nil || math.IsInf(f, 0) {
		p.leave(tooLarge)
	}
	return f, true
}
