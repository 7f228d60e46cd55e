package inventory

import (
	"math"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// This file reads the values of vars. What one YAML reader takes for text and
// another for a number or a boolean is refused: a script would take the wrong
// branch without a word.

var (
	varForm    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	numberForm = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*|0x[0-9A-Fa-f]+|0o[0-7]+|0b[01]+|((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?)$`)
)

func (r *reader) vars(n ast.Node, to *settings, what string) error {
	what = "vars of " + what
	list, err := r.mapping(n, what)
	if err != nil {
		return err
	}
	to.vars = map[string]any{}
	for _, f := range list {
		if !varForm.MatchString(f.name) {
			return invalid(f.pos, "", `%s: %q cannot be a name: want letters, digits and "_", and no digit first`, what, f.name)
		}
		if to.vars[f.name], err = r.value(f.value, f.name+" in "+what); err != nil {
			return err
		}
	}
	return nil
}

// value returns what n holds as JSON would: no other kinds.
func (r *reader) value(n ast.Node, what string) (any, error) {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.StringNode:
		if n.Token.Type == token.StringType { // unquoted
			switch strings.ToLower(n.Value) {
			case "yes", "no", "on", "off":
				return nil, invalid(r.place(n), "write true or false, or quote it", "%s: %s is text for some and a boolean for others", what, n.Value)
			}
			if numberForm.MatchString(n.Value) { // 1e3
				return nil, r.ambiguous(n, what)
			}
		}
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode:
		return r.integer(n, what)
	case *ast.FloatNode:
		if !numberForm.MatchString(n.Token.Value) {
			return nil, r.ambiguous(n, what)
		}
		if math.IsInf(n.Value, 0) || math.IsNaN(n.Value) {
			return nil, invalid(r.place(n), "quote it to keep it as text", "%s: the number %s is too large", what, n.Token.Value)
		}
		return n.Value, nil
	case *ast.SequenceNode:
		out := make([]any, 0, len(n.Values))
		for _, item := range n.Values {
			v, err := r.value(item, what)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case *ast.MappingNode, *ast.MappingValueNode:
		list, err := r.mapping(n, what)
		if err != nil {
			return nil, err
		}
		out := make(map[string]any, len(list))
		for _, f := range list {
			if out[f.name], err = r.value(f.value, what); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, r.mistyped(n, what, "text, a number, true, false, a list or a mapping")
}

func (r *reader) integer(n *ast.IntegerNode, what string) (int64, error) {
	if !numberForm.MatchString(n.Token.Value) {
		return 0, r.ambiguous(n, what)
	}
	switch v := n.Value.(type) {
	case int64:
		return v, nil
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), nil
		}
	}
	return 0, invalid(r.place(n), "quote it to keep it as text", "%s: the number %s is too large", what, n.Token.Value)
}

func (r *reader) ambiguous(n ast.Node, what string) error {
	return invalid(r.place(n), "quote it, or write the number plainly", "%s: %s is one number for some, and another or text for others", what, n.GetToken().Value)
}
