package lint

import (
	"math/big"
	"slices"
	"strings"

	"go.starlark.net/syntax"
)

// calls checks the arguments of every call of a builtin or an operation.
func (c *checker) calls() {
	walk(c.file, func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.DotExpr:
			c.operation(n)
			c.serverMethod(n)
		case *syntax.CallExpr:
			c.call(n)
		}
	})
}

// path is node.route.add as "route.add", where x begins with a node.
func (c *checker) path(x syntax.Expr) (string, bool) {
	dot, ok := x.(*syntax.DotExpr)
	if !ok {
		return "", false
	}
	if holds(c.node, dot.X) {
		return dot.Name.Name, true
	}
	before, ok := c.path(dot.X)
	return before + "." + dot.Name.Name, ok
}

// operation checks that what is asked of a node is there.
func (c *checker) operation(x *syntax.DotExpr) {
	name, ok := c.path(x)
	if !ok || slices.Contains([]string{"name", "groups", "vars"}, name) {
		return
	}
	domain, method, dotted := strings.Cut(name, ".")
	var here, domains []string // what could stand in this place
	for _, op := range c.lang.Operations {
		d, m, sub := strings.Cut(op, ".")
		if op == name || !dotted && d == name {
			return
		}
		domains = append(domains, d)
		if sub && d == domain {
			here = append(here, m)
		}
	}
	at := x.Name.NamePos
	if !dotted {
		domains = append(domains, "name", "groups", "vars")
		slices.Sort(domains)
		c.add(at, "operation", c.lang.Near(name, slices.Compact(domains)), "node has no field or method %s", name)
		return
	}
	if len(here) > 0 { // otherwise the domain was wrong, which is said of it, or it is a field of node.vars
		c.add(at, "operation", c.lang.Near(method, here), "%s has no field or method %s", domain, method)
	}
}

// call checks the arguments of one call.
func (c *checker) call(n *syntax.CallExpr) {
	if op, ok := c.path(n.Fn); ok && slices.Contains(c.lang.Operations, op) {
		for _, text := range c.lang.CheckCall(op, arguments(n)) {
			c.add(n.Lparen, "arguments", "", "%s: %s", op, text)
		}
		return
	}
	if c.serverCall(n) {
		return
	}
	id, ok := n.Fn.(*syntax.Ident)
	if !ok || !builtin(id, id.Name) {
		return
	}
	if id.Name == "struct" && slices.ContainsFunc(arguments(n), func(a Argument) bool { return a.Name == "" && !a.Spread }) {
		c.add(n.Lparen, "arguments", "", "struct: name the fields: struct(a = 1)")
	}
	names, known := c.lang.Builtins[id.Name]
	if !known {
		return
	}
	c.signature(n, id.Name, names)
}

// signature checks a call of a builtin against the names of its arguments.
func (c *checker) signature(n *syntax.CallExpr, fn string, names []string) {
	var plain []string
	for _, name := range names {
		plain = append(plain, strings.TrimSuffix(name, "?"))
	}
	given := map[string]bool{}
	positional, unexpected := 0, false
	for _, a := range arguments(n) {
		switch {
		case a.Spread:
			return // anything may be in it
		case a.Name == "":
			if positional < len(plain) {
				given[plain[positional]] = true
			}
			positional++
		case !slices.Contains(plain, a.Name):
			c.add(n.Lparen, "arguments", c.lang.Near(a.Name, plain), "%s: unexpected argument %s", fn, a.Name)
			unexpected = true // it may be a missing one, mistyped
		default:
			given[a.Name] = true
		}
	}
	if positional > len(plain) {
		c.add(n.Lparen, "arguments", "", "%s: got %d arguments, want at most %d", fn, positional, len(plain))
	}
	for i, name := range names {
		if !unexpected && !strings.HasSuffix(name, "?") && !given[plain[i]] {
			c.add(n.Lparen, "arguments", "", "%s: missing argument for %s", fn, name)
		}
	}
}

// arguments are those of a call, with the values of those that are literals.
func arguments(n *syntax.CallExpr) []Argument {
	var out []Argument
	for _, x := range n.Args {
		a := Argument{}
		switch e := x.(type) {
		case *syntax.UnaryExpr:
			if e.Op == syntax.STAR || e.Op == syntax.STARSTAR {
				out = append(out, spread(e.X)...)
				continue
			}
		case *syntax.BinaryExpr:
			if id, ok := e.X.(*syntax.Ident); ok && e.Op == syntax.EQ {
				a.Name, x = id.Name, e.Y
			}
		}
		a.Literal, a.Known = literal(x)
		out = append(out, a)
	}
	return out
}

// spread are the arguments that *x or **x comes to, where x is written there.
func spread(x syntax.Expr) []Argument {
	var out []Argument
	switch x := x.(type) {
	case *syntax.ListExpr:
		for _, e := range x.List {
			a := Argument{}
			a.Literal, a.Known = literal(e)
			out = append(out, a)
		}
		return out
	case *syntax.DictExpr:
		for _, e := range x.List {
			entry := e.(*syntax.DictEntry)
			name, isText := stringOf(entry.Key)
			if !isText || name == "" {
				return []Argument{{Spread: true}}
			}
			a := Argument{Name: name}
			a.Literal, a.Known = literal(entry.Value)
			out = append(out, a)
		}
		return out
	}
	return []Argument{{Spread: true}}
}

// literal is the value of x, if it is written there.
func literal(x syntax.Expr) (any, bool) {
	switch x := x.(type) {
	case *syntax.ParenExpr:
		return literal(x.X)
	case *syntax.LambdaExpr:
		return Function{}, true
	case *syntax.ListExpr:
		return listOf(x.List)
	case *syntax.TupleExpr:
		return listOf(x.List)
	case *syntax.DictExpr:
		return dictOf(x.List)
	case *syntax.Literal:
		switch v := x.Value.(type) {
		case string, int64, float64:
			return v, true
		case *big.Int:
			return v, true
		}
	case *syntax.UnaryExpr:
		if v, ok := literal(x.X); ok && x.Op == syntax.MINUS {
			if n, ok := v.(int64); ok {
				return -n, true
			}
		}
	case *syntax.Ident:
		if b := binding(x); b == nil || b.Scope.String() != "universal" {
			return nil, false
		}
		switch x.Name {
		case "True":
			return true, true
		case "False":
			return false, true
		case "None":
			return nil, true
		}
	}
	return nil, false
}
