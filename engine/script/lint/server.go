package lint

import (
	"go.starlark.net/resolve"
	"go.starlark.net/syntax"
)

// Servers are reached by node.pg(…) and by pg.connect(…). What these return is followed into variables that
// are set once, and no farther.

// server is the domain of the server that x is, as far as that is to be seen.
func (c *checker) server(x syntax.Expr) (domain string, is bool) {
	if b := binding(x); b != nil {
		domain, is = c.servers[b]
		return domain, is
	}
	call, ok := x.(*syntax.CallExpr)
	if !ok {
		return "", false
	}
	if name, ok := c.path(call.Fn); ok { // node.pg
		_, is = c.lang.Servers[name]
		return name, is
	}
	dot, ok := call.Fn.(*syntax.DotExpr)
	if !ok || dot.Name.Name != "connect" {
		return "", false
	}
	id, ok := dot.X.(*syntax.Ident)
	if !ok || !builtin(id, id.Name) {
		return "", false
	}
	_, is = c.lang.Servers[id.Name]
	return id.Name, is
}

// serverVariables finds the variables that hold a server, and never anything else.
func (c *checker) serverVariables() {
	sets := map[*resolve.Binding]int{}
	set := func(x syntax.Expr) {
		walk(x, func(n syntax.Node) {
			if id, ok := n.(*syntax.Ident); ok {
				sets[binding(id)]++
			}
		})
	}
	walk(c.file, func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.AssignStmt:
			set(n.LHS)
		case *syntax.ForStmt:
			set(n.Vars)
		case *syntax.ForClause:
			set(n.Vars)
		}
	})
	walk(c.file, func(n syntax.Node) {
		a, ok := n.(*syntax.AssignStmt)
		if !ok || a.Op != syntax.EQ {
			return
		}
		if b := binding(a.LHS); b != nil && sets[b] == 1 {
			if domain, is := c.server(a.RHS); is {
				c.servers[b] = domain
			}
		}
	})
}

// serverMethod checks that what is asked of a server is there.
func (c *checker) serverMethod(x *syntax.DotExpr) {
	domain, is := c.server(x.X)
	if !is {
		return
	}
	for _, m := range c.lang.Servers[domain] {
		if m == x.Name.Name {
			return
		}
	}
	c.add(x.Name.NamePos, "operation", c.lang.Near(x.Name.Name, c.lang.Servers[domain]), "%s has no field or method %s", domain, x.Name.Name)
}

// serverCall checks the arguments of a call of a server's, and reports whether n is one.
func (c *checker) serverCall(n *syntax.CallExpr) bool {
	dot, ok := n.Fn.(*syntax.DotExpr)
	if !ok {
		return false
	}
	domain, is := c.server(dot.X)
	if !is {
		return false
	}
	for _, m := range c.lang.Servers[domain] {
		if m != dot.Name.Name {
			continue
		}
		for _, text := range c.lang.CheckServerCall(domain+"."+m, arguments(n)) {
			c.add(n.Lparen, "arguments", "", "%s.%s: %s", domain, m, text)
		}
	}
	return true
}
