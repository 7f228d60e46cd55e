package lint

import (
	"math/big"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/syntax"
)

// List and Dict are the values of literals that hold others, as they are written.
type (
	List []any
	Dict []Entry
)

// Function is the value of a lambda: all that is known of it is that it is no other value.
type Function struct{}

// Entry is one entry of a Dict.
type Entry struct{ Key, Value any }

// listOf is the value of a list or tuple of literals.
func listOf(elems []syntax.Expr) (any, bool) {
	out := List{}
	for _, e := range elems {
		v, known := literal(e)
		if !known {
			return nil, false
		}
		out = append(out, v)
	}
	return out, true
}

// dictOf is the value of a dict of literals.
func dictOf(entries []syntax.Expr) (any, bool) {
	out := Dict{}
	for _, e := range entries {
		entry := e.(*syntax.DictEntry)
		k, isKey := literal(entry.Key)
		v, isValue := literal(entry.Value)
		if !isKey || !isValue {
			return nil, false
		}
		out = append(out, Entry{k, v})
	}
	return out, true
}

// values finds expressions that no value can come of.
func (c *checker) values() {
	walk(c.file, func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.BinaryExpr:
			c.division(n)
		case *syntax.DictExpr:
			for _, e := range n.List {
				c.key(e.(*syntax.DictEntry))
			}
		}
	})
}

// division finds one by zero. It is said at the operator, as a run says it.
func (c *checker) division(n *syntax.BinaryExpr) {
	words := map[syntax.Token]string{syntax.SLASH: "floating-point division by zero", syntax.SLASHSLASH: "floored division by zero", syntax.PERCENT: "integer modulo by zero"}
	text, divides := words[n.Op]
	over, isNumber := literal(n.X)
	by, known := literal(n.Y)
	if _, isText := over.(string); !divides || !known || by != int64(0) || isText {
		return
	}
	switch over.(type) {
	case int64, *big.Int:
	default:
		if isNumber || n.Op == syntax.PERCENT { // of something unknown: it may be a format
			return
		}
	}
	c.add(n.OpPos, "value", "", "%s", text)
}

// key finds a key that cannot be one.
func (c *checker) key(e *syntax.DictEntry) {
	kind := ""
	switch k := e.Key.(type) {
	case *syntax.ListExpr:
		kind = "list"
	case *syntax.DictExpr:
		kind = "dict"
	case *syntax.Comprehension:
		if kind = "list"; k.Curly {
			kind = "dict"
		}
	case *syntax.CallExpr:
		if builtin(k.Fn, "struct") {
			kind = "struct"
		}
	}
	if kind != "" {
		c.add(e.Colon, "value", "", "unhashable type: %s", kind)
	}
}

// recursion finds a function that calls itself, which Starlark refuses.
func (c *checker) recursion(d *syntax.DefStmt) {
	of := binding(d.Name)
	for _, s := range d.Body {
		syntax.Walk(s, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.DefStmt, *syntax.LambdaExpr: // it may be called when this one has returned
				return false
			case *syntax.CallExpr:
				if b := binding(n.Fn); b != nil && of != nil && (b == of || b.Scope == resolve.Global && of.Scope == resolve.Global && b.First == of.First) {
					c.add(n.Lparen, "recursion", "a loop, or a function for each level", "function %s called recursively", d.Name.Name)
				}
			}
			return true
		})
	}
}

// changing are the methods that change a list, a dict or a set.
var changing = []string{"append", "extend", "insert", "remove", "pop", "clear", "update", "setdefault", "popitem", "add", "discard"}

// frozen finds what run changes although it cannot: what is made at the top level,
// and what the node is said to be, are shared by the runs for all nodes.
func (c *checker) frozen() {
	made := map[*resolve.Binding]string{}
	for _, s := range c.file.Stmts {
		a, ok := s.(*syntax.AssignStmt)
		if !ok || a.Op != syntax.EQ {
			continue
		}
		if b := binding(a.LHS); b != nil {
			made[b] = container(a.RHS)
		}
	}
	const hint = "make it in run, and hand it on: the runs for all nodes share what is made at the top level"
	for _, s := range c.file.Stmts {
		d, ok := s.(*syntax.DefStmt)
		if !ok || !c.main || d.Name.Name != "run" {
			continue
		}
		walk(d, func(n syntax.Node) {
			switch n := n.(type) {
			case *syntax.CallExpr:
				dot, ok := n.Fn.(*syntax.DotExpr)
				if op, ofNode := c.path(n.Fn); ofNode {
					c.shared(n, op)
				} else if ok && slices.Contains(changing, dot.Name.Name) && made[binding(dot.X)] == "list" {
					c.add(n.Lparen, "frozen", hint, "%s: cannot %s to frozen list", dot.Name.Name, dot.Name.Name)
				} else if ok && slices.Contains(changing, dot.Name.Name) && made[binding(dot.X)] == "dict" {
					c.add(n.Lparen, "frozen", hint, "%s: cannot change a frozen dict", dot.Name.Name)
				}
			case *syntax.AssignStmt:
				x, ok := n.LHS.(*syntax.IndexExpr)
				if !ok {
					return
				}
				if op, ofNode := c.path(x.X); ofNode && (op == "vars" || op == "groups") {
					c.add(x.Lbrack, "frozen", "", "node.%s cannot be changed", op)
				} else if kind := made[binding(x.X)]; kind != "" {
					c.add(x.Lbrack, "frozen", hint, "cannot assign to an element of a frozen %s", kind)
				}
			}
		})
	}
}

// shared finds a change of what the node is said to be: of node.vars.update, say, as op.
func (c *checker) shared(n *syntax.CallExpr, op string) {
	field, method, _ := strings.Cut(op, ".")
	if (field == "vars" || field == "groups") && slices.Contains(changing, method) {
		c.add(n.Lparen, "frozen", "", "node.%s cannot be changed", field)
	}
}

// container is what kind of value x makes that could be changed, or "".
func container(x syntax.Expr) string {
	switch x := x.(type) {
	case *syntax.ListExpr:
		return "list"
	case *syntax.DictExpr:
		return "dict"
	case *syntax.Comprehension:
		if x.Curly {
			return "dict"
		}
		return "list"
	case *syntax.ParenExpr:
		return container(x.X)
	}
	return ""
}
