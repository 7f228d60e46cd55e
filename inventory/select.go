package inventory

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"runbook/engine"
	"runbook/internal/spell"
)

// This file reads selections. The grammar, as functions of parser:
//
//	expr   = term { ("or" | ",") term }
//	term   = factor { "and" factor }
//	factor = "not" factor | "(" expr ")" | word
//
// A selection decides which machines are changed, so nothing in it is ever
// skipped or guessed.

// maxDepth bounds how deep parentheses and nots may be nested.
const maxDepth = 100

// set has a place for each node of the inventory.
type set []bool

func (s set) count() int {
	n := 0
	for _, in := range s {
		if in {
			n++
		}
	}
	return n
}

// lexeme is a word or a sign of a selection; "" is its end.
type lexeme struct {
	text string
	at   int // the byte at which it begins
}

// selection is one that is being read.
type selection struct {
	inv   *Inventory
	expr  string
	rest  []lexeme
	depth int
	words []operand
}

// operand is a word and what it selects by itself.
type operand struct {
	text string
	set  set
}

// Select returns the nodes that expr means, in the order of the inventory. At
// least one: a selection of nothing is an error, and so is a name that nothing
// has. The package comment describes selections.
func (inv *Inventory) Select(expr string) ([]Node, error) {
	s := &selection{inv: inv, expr: expr}
	if err := s.scan(); err != nil {
		return nil, err
	}
	if s.rest[0].text == "" {
		return nil, invalid("selection:1:1", "name nodes or groups; every node is: all", "the selection is empty")
	}
	chosen, err := s.or()
	if err != nil {
		return nil, err
	}
	if t := s.rest[0]; t.text != "" {
		hint := "between two names stands and, or, or a comma"
		if t.text == ")" {
			hint = "it closes nothing"
		} else if isReserved(t.text) && t.text != "not" {
			hint = "write it in lower case: " + strings.ToLower(t.text)
		}
		return nil, invalid(s.pos(t.at), hint, "the selection should end before %q", t.text)
	}
	if chosen.count() == 0 {
		return nil, s.nothing()
	}
	var out []Node
	for i, in := range chosen {
		if in {
			out = append(out, inv.nodes[i])
		}
	}
	return out, nil
}

// scan splits the selection into lexemes.
func (s *selection) scan() error {
	for i := 0; i < len(s.expr); {
		switch c := s.expr[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '(' || c == ')' || c == ',':
			s.rest = append(s.rest, lexeme{string(c), i})
			i++
		default:
			n, hint := word(s.expr[i:])
			if hint != "" {
				return invalid(s.pos(i+n), hint, "%q cannot stand here", firstRune(s.expr[i+n:]))
			}
			s.rest = append(s.rest, lexeme{s.expr[i : i+n], i})
			i += n
		}
	}
	s.rest = append(s.rest, lexeme{"", len(s.expr)})
	return nil
}

// pos is the place of the byte at i.
func (s *selection) pos(i int) string {
	return fmt.Sprintf("selection:1:%d", utf8.RuneCountInString(s.expr[:i])+1)
}

func firstRune(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}

// word returns the length of the word at the beginning of s, or, with what can
// be done about it, the offset of what can be in no word.
func word(s string) (n int, hint string) {
	for n < len(s) {
		c := s[n]
		switch {
		case c == '[':
			end := strings.IndexByte(s[n:], ']')
			if end < 0 {
				return n, "a [ needs its ]"
			}
			n += end + 1
		case c == '*', c == '?', strings.IndexByte(nameChars, c) >= 0:
			n++
		case strings.IndexByte(" \t\r\n(),", c) >= 0:
			return n, ""
		case strings.IndexByte("!&|", c) >= 0:
			return n, `write not, and, or in place of "!", "&", "|"`
		default:
			return n, `a name has letters, digits, "_", "." and "-"; a glob also "*", "?" and […]`
		}
	}
	return n, ""
}

func (s *selection) next() lexeme {
	t := s.rest[0]
	if t.text != "" {
		s.rest = s.rest[1:]
	}
	return t
}

func (s *selection) or() (set, error) {
	all, err := s.and()
	for err == nil && (s.rest[0].text == "or" || s.rest[0].text == ",") {
		s.next()
		var more set
		if more, err = s.and(); err != nil {
			break
		}
		for i := range all {
			all[i] = all[i] || more[i]
		}
	}
	return all, err
}

func (s *selection) and() (set, error) {
	all, err := s.factor()
	for err == nil && s.rest[0].text == "and" {
		s.next()
		var more set
		if more, err = s.factor(); err != nil {
			break
		}
		for i := range all {
			all[i] = all[i] && more[i]
		}
	}
	return all, err
}

func (s *selection) factor() (set, error) {
	if s.depth++; s.depth > maxDepth {
		return nil, invalid(s.pos(s.rest[0].at), "", "the selection is nested more than %d deep", maxDepth)
	}
	defer func() { s.depth-- }()
	switch t := s.next(); t.text {
	case "not":
		all, err := s.factor()
		for i := range all {
			all[i] = !all[i]
		}
		return all, err
	case "(":
		all, err := s.or()
		if err != nil {
			return nil, err
		}
		if end := s.next(); end.text != ")" {
			return nil, invalid(s.pos(end.at), "", `want a ")" for the "(" at %s, got %s`, s.pos(t.at), end)
		}
		return all, nil
	case "", ")", ",", "and", "or":
		return nil, invalid(s.pos(t.at), "", "want a node, a group or a glob, got %s", t)
	default:
		return s.operand(t)
	}
}

func (t lexeme) String() string {
	if t.text == "" {
		return "the end of the selection"
	}
	return fmt.Sprintf("%q", t.text)
}

// operand returns what the word t selects.
func (s *selection) operand(t lexeme) (set, error) {
	names := []string{t.text}
	if isRange(t.text) {
		var err error
		if names, err = expand(t.text); err != nil {
			return nil, invalid(s.pos(t.at), "", "%v", err)
		}
	}
	all := make(set, len(s.inv.nodes))
	for _, name := range names {
		if err := s.add(all, lexeme{name, t.at}); err != nil {
			if len(names) > 1 {
				err.Cause = t.text + ": " + err.Cause
			}
			return nil, err
		}
	}
	own := make(set, len(all))
	copy(own, all)
	s.words = append(s.words, operand{t.text, own})
	return all, nil
}

// add puts the nodes that a name or a glob means into all.
func (s *selection) add(all set, t lexeme) *engine.Error {
	if t.text == "all" {
		for i := range all {
			all[i] = true
		}
		return nil
	}
	if i, ok := s.inv.index[t.text]; ok {
		all[i] = true
		return nil
	}
	if members, ok := s.inv.groups[t.text]; ok {
		for _, i := range members {
			all[i] = true
		}
		return nil
	}
	if !strings.ContainsAny(t.text, "*?[") {
		return s.unknown(t)
	}
	pattern := strings.ReplaceAll(t.text, "[!", "[^") // both are common; path.Match knows the second
	found := false
	for i, n := range s.inv.nodes {
		ok, err := path.Match(pattern, n.Name)
		if err != nil {
			return invalid(s.pos(t.at), "between [ and ] stand characters, such as [abc] or [a-c]", "%s is not a glob", t.text)
		}
		if ok {
			all[i], found = true, true
		}
	}
	if !found {
		return s.unmatched(t, pattern)
	}
	return nil
}

// unknown is the error for a name that neither a node nor a group has.
func (s *selection) unknown(t lexeme) *engine.Error {
	e := invalid(s.pos(t.at), "", "there is no node or group %q", t.text)
	if isReserved(t.text) {
		e.Hint = "write it in lower case: " + strings.ToLower(t.text)
		return e
	}
	names := append([]string(nil), s.inv.names...)
	for _, n := range s.inv.nodes {
		names = append(names, n.Name)
	}
	if e.Hint = didYouMean(t.text, names); e.Hint == "" {
		e.Hint = s.inv.overview()
	}
	return e
}

// unmatched is the error for a glob that matches no node. It suggests the nodes
// that begin almost like it, and says so where it would match groups.
func (s *selection) unmatched(t lexeme, pattern string) *engine.Error {
	e := invalid(s.pos(t.at), "", "no node matches %s", t.text)
	var groups, close []string
	for _, g := range s.inv.names {
		if ok, _ := path.Match(pattern, g); ok {
			groups = append(groups, g)
		}
	}
	if len(groups) > 0 {
		e.Hint = "a glob means nodes, not groups; by their names: " + some(groups, 5)
		return e
	}
	literal := t.text[:strings.IndexAny(t.text, "*?[")]
	for _, n := range s.inv.nodes {
		begin := n.Name[:min(len(literal), len(n.Name))]
		if literal != "" && len(spell.Near(literal, []string{begin}, 1)) == 1 {
			close = append(close, n.Name)
		}
	}
	if e.Hint = s.inv.overview(); len(close) > 0 {
		e.Hint = "near it are: " + some(close, 5)
	}
	return e
}

// overview says briefly what can be selected.
func (inv *Inventory) overview() string {
	var names []string
	for _, n := range inv.nodes[:min(6, len(inv.nodes))] {
		names = append(names, n.Name)
	}
	out := fmt.Sprintf("%s has %s: %s", inv.path, plural(len(inv.nodes)), some(names, 5))
	if len(inv.names) > 0 {
		out += "; groups: " + some(inv.names, 10)
	}
	return out
}

// nothing is the error for a selection of no node. It says what its words
// select each, which is where the mistake shows.
func (s *selection) nothing() *engine.Error {
	var parts []string
	for _, w := range s.words[:min(len(s.words), 5)] {
		var names []string
		for i, in := range w.set {
			if in && len(names) < 6 {
				names = append(names, s.inv.nodes[i].Name)
			}
		}
		part := fmt.Sprintf("%s selects %s", w.text, plural(w.set.count()))
		if len(names) > 0 {
			part += ": " + some(names, 5)
		}
		parts = append(parts, part)
	}
	return invalid("selection:1:1", strings.Join(parts, "; "), "%q selects no node", s.expr)
}

func plural(n int) string {
	switch n {
	case 0:
		return "no node"
	case 1:
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}
