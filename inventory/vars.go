package inventory

import (
	"math"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"runbook/internal/yamlfile"
)

// This file reads the values of vars. What one YAML reader takes for text and
// another for a number or a boolean is refused: a script would take the wrong
// branch without a word.

var varForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (r *reader) vars(n ast.Node, to *settings, what string) error {
	what = "vars of " + what
	list, err := r.Mapping(n, what)
	if err != nil {
		return err
	}
	if to.vars == nil {
		to.vars = map[string]any{}
	}
	for _, f := range list {
		if !varForm.MatchString(f.Name) {
			return invalid(f.Pos, "", `%s: %q cannot be a name: want letters, digits and "_", and no digit first`, what, f.Name)
		}
		if to.vars[f.Name], err = r.value(f.Value, f.Name+" in "+what); err != nil {
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
				return nil, invalid(r.Place(n), "write true or false, or quote it", "%s: %s is text for some and a boolean for others", what, n.Value)
			}
			if yamlfile.NumberForm.MatchString(n.Value) { // 1e3
				return nil, r.Ambiguous(n, what)
			}
		}
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode:
		return r.Integer(n, what)
	case *ast.FloatNode:
		if !yamlfile.NumberForm.MatchString(n.Token.Value) {
			return nil, r.Ambiguous(n, what)
		}
		if math.IsInf(n.Value, 0) || math.IsNaN(n.Value) {
			return nil, invalid(r.Place(n), "quote it to keep it as text", "%s: the number %s is too large", what, n.Token.Value)
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
		list, err := r.Mapping(n, what)
		if err != nil {
			return nil, err
		}
		out := make(map[string]any, len(list))
		for _, f := range list {
			if out[f.Name], err = r.value(f.Value, what); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, r.Mistyped(n, what, "text, a number, true, false, a list or a mapping")
}
