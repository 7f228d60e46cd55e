// Package yamlfile walks the syntax tree of a YAML file that people write, so
// that everything that is wrong in it has its place: a key that is not known, a
// value of another kind than wanted, a key that comes twice.
package yamlfile

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"runbook/engine"
	"runbook/internal/spell"
)

// Reader reads one file.
type Reader struct {
	File string // as errors name it
}

// Field is a key of a mapping and what it holds.
type Field struct {
	Name, Pos string
	Value     ast.Node
}

// Handlers is what can be a key of a mapping.
type Handlers map[string]func(Field) error

// Invalid is an error at a place in a file.
func Invalid(pos, hint, format string, args ...any) *engine.Error {
	return &engine.Error{Code: engine.Invalid, Pos: pos, Cause: fmt.Sprintf(format, args...), Hint: hint}
}

// unquotedRange is a range that YAML takes for a list, see [Reader.Parse].
var unquotedRange = regexp.MustCompile(`[A-Za-z0-9_.-]\[\w+:\w+`)

// Parse returns the tree of text, nil where it is empty.
func (r Reader) Parse(text []byte) (body ast.Node, err error) {
	if !utf8.Valid(text) {
		return nil, Invalid(r.File+":1:1", "", "the file is not UTF-8 text")
	}
	defer func() {
		// The library has panicked on input that is not YAML: that is the
		// file's fault too, and no reason for a stack trace.
		if p := recover(); p != nil {
			body, err = nil, Invalid(r.File+":1:1", "", "the file is not YAML: %v", p)
		}
	}()
	// Keys that come twice are found later, with better words.
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var at yaml.Error
	switch {
	case errors.As(err, &at):
		t := at.GetToken()
		e := Invalid(r.File+":1:1", "", "%s", at.GetMessage())
		if t != nil {
			e.Pos = r.Pos(t)
			lines := strings.Split(string(text), "\n")
			if n := t.Position.Line; n >= 1 && n <= len(lines) && unquotedRange.MatchString(lines[n-1]) {
				e.Hint = `YAML wants a range quoted inside a list in brackets: ["web-[2:12]"]`
			}
		}
		return nil, e
	case err != nil:
		return nil, Invalid(r.File+":1:1", "", "%v", err)
	}
	for _, d := range file.Docs {
		switch {
		case d.Body == nil:
		case body != nil:
			return nil, Invalid(r.Place(d.Body), "", "a second document begins here: a file is one")
		default:
			body = d.Body
		}
	}
	return body, nil
}

// Pos is where t stands: file:line:column.
func (r Reader) Pos(t *token.Token) string {
	if t == nil || t.Position == nil {
		return r.File + ":1:1"
	}
	return fmt.Sprintf("%s:%d:%d", r.File, t.Position.Line, t.Position.Column)
}

// Place is where n begins.
func (r Reader) Place(n ast.Node) string {
	if m, ok := n.(ast.MapNode); ok { // whose own token is the first colon
		if i := m.MapRange(); i.Next() {
			return r.Pos(i.Key().GetToken())
		}
	}
	return r.Pos(n.GetToken())
}

// kind is what people call n.
func kind(n ast.Node) string {
	switch n := n.(type) {
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode, nil:
		return "nothing"
	case *ast.StringNode:
		return fmt.Sprintf("the text %q", n.Value)
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor, which is not read here"
	case *ast.TagNode:
		return "a tag, which is not read here"
	case *ast.DirectiveNode:
		return "a directive, which is not read here"
	}
	return "something else"
}

// Mistyped is the error for a value that should have been something else.
func (r Reader) Mistyped(n ast.Node, what, want string) error {
	hint := ""
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		if strings.HasPrefix(want, "text") || strings.HasPrefix(want, "a name") {
			hint = fmt.Sprintf("quote it: %q", n.GetToken().Value)
		}
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		hint = "say it once, in defaults or in a group"
	}
	return Invalid(r.Place(n), hint, "%s: want %s, got %s", what, want, kind(n))
}

// Mapping returns what n, a mapping or nothing, holds, in order.
func (r Reader) Mapping(n ast.Node, what string) ([]Field, error) {
	switch n.(type) {
	case nil, *ast.NullNode:
		return nil, nil
	case ast.MapNode:
	default:
		return nil, r.Mistyped(n, what, "a mapping")
	}
	var out []Field
	first := map[string]string{}
	for i := n.(ast.MapNode).MapRange(); i.Next(); {
		var key ast.Node = i.Key()
		text, ok := key.(*ast.StringNode)
		if !ok {
			return nil, r.Mistyped(key, "a key of "+what, "text")
		}
		f := Field{text.Value, r.Pos(text.Token), i.Value()}
		if at, twice := first[f.Name]; twice {
			return nil, Invalid(f.Pos, "", "%s has %s twice, first at %s", what, f.Name, at)
		}
		first[f.Name] = f.Pos
		out = append(out, f)
	}
	return out, nil
}

// Fields has the handlers read n's fields in order. Any other key is an error.
func (r Reader) Fields(n ast.Node, what string, hs Handlers) error {
	list, err := r.Mapping(n, what)
	if err != nil {
		return err
	}
	for _, f := range list {
		h, ok := hs[f.Name]
		if !ok {
			known := slices.Sorted(maps.Keys(hs))
			hint := strings.TrimSpace(spell.Question(spell.Near(f.Name, known, 2)) + " " + what + " can have " + strings.Join(known, ", "))
			return Invalid(f.Pos, hint, "%s has no key %q", what, f.Name)
		}
		if err := h(f); err != nil {
			return err
		}
	}
	return nil
}

// List returns the items of n, a list or nothing.
func (r Reader) List(n ast.Node, what string) ([]ast.Node, error) {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil, nil
	case *ast.SequenceNode:
		return n.Values, nil
	}
	return nil, r.Mistyped(n, what, "a list")
}

// NumberForm is how a number is written that no reader of YAML takes for text or for another number.
var NumberForm = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*|0x[0-9A-Fa-f]+|0o[0-7]+|0b[01]+|((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?)$`)

// Integer returns the number that n is, if it is written plainly: 010 is one number for some and another for others.
func (r Reader) Integer(n *ast.IntegerNode, what string) (int64, error) {
	if !NumberForm.MatchString(n.Token.Value) {
		return 0, r.Ambiguous(n, what)
	}
	switch v := n.Value.(type) {
	case int64:
		return v, nil
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), nil
		}
	}
	return 0, Invalid(r.Place(n), "quote it to keep it as text", "%s: the number %s is too large", what, n.Token.Value)
}

// Ambiguous is the error for a number that is not written plainly.
func (r Reader) Ambiguous(n ast.Node, what string) error {
	return Invalid(r.Place(n), "quote it, or write the number plainly", "%s: %s is one number for some, and another or text for others", what, n.GetToken().Value)
}
