package lint

import (
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// universe is the names that are always there.
var universe = func() map[string]bool {
	out := map[string]bool{}
	for name := range starlark.Universe {
		out[name] = true
	}
	return out
}()

// count counts the uses of each variable: every mention that does not set it.
func (c *checker) count() {
	sets := map[*syntax.Ident]bool{}
	walk(c.file, func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.AssignStmt:
			if n.Op == syntax.EQ {
				targets(n.LHS, sets)
			}
		case *syntax.ForStmt:
			targets(n.Vars, sets)
		case *syntax.ForClause:
			targets(n.Vars, sets)
		case *syntax.DefStmt:
			sets[n.Name] = true
			parameters(n.Params, sets)
		case *syntax.LambdaExpr:
			parameters(n.Params, sets)
		case *syntax.LoadStmt:
			for i := range n.To {
				sets[n.To[i]], sets[n.From[i]] = true, true
			}
		}
	})
	walk(c.file, func(n syntax.Node) {
		if id, ok := n.(*syntax.Ident); ok && !sets[id] {
			if b := binding(id); b != nil {
				c.uses[origin(b)]++
			}
		}
	})
}

// origin is b, or the binding of the enclosing function that b closes over: they share the first mention.
func origin(b *resolve.Binding) *resolve.Binding {
	if b.Scope == resolve.Free && b.First != nil {
		if o, ok := b.First.Binding.(*resolve.Binding); ok {
			return o
		}
	}
	return b
}

// targets are the names that an assignment to x sets.
func targets(x syntax.Expr, to map[*syntax.Ident]bool) {
	switch x := x.(type) {
	case *syntax.Ident:
		to[x] = true
	case *syntax.ParenExpr:
		targets(x.X, to)
	case *syntax.TupleExpr:
		for _, e := range x.List {
			targets(e, to)
		}
	case *syntax.ListExpr:
		for _, e := range x.List {
			targets(e, to)
		}
	}
}

func parameters(params []syntax.Expr, to map[*syntax.Ident]bool) {
	for _, p := range params {
		if id := parameter(p); id != nil {
			to[id] = true
		}
	}
}

// parameter is the name of a parameter of a function.
func parameter(p syntax.Expr) *syntax.Ident {
	switch p := p.(type) {
	case *syntax.Ident:
		return p
	case *syntax.BinaryExpr: // with a default
		id, _ := p.X.(*syntax.Ident)
		return id
	case *syntax.UnaryExpr: // *args, **kwargs
		id, _ := p.X.(*syntax.Ident)
		return id
	}
	return nil
}

// roles finds the variables that hold a node or the parameters: those of run,
// and those of a function that run's own are handed to.
func (c *checker) roles() {
	defs := map[*resolve.Binding]*syntax.DefStmt{}
	for _, s := range c.file.Stmts {
		if d, ok := s.(*syntax.DefStmt); ok {
			if b := binding(d.Name); b != nil {
				defs[b] = d
			}
			if d.Name.Name == "run" && c.main && len(d.Params) == 2 {
				c.mark(c.node, parameter(d.Params[0]))
				c.mark(c.params, parameter(d.Params[1]))
			}
			if entry[d.Name.Name] && d.Name.Name != "run" && c.main && len(d.Params) == 2 { // a hook
				c.mark(c.params, parameter(d.Params[1]))
			}
		}
	}
	for changed := true; changed; { // a helper may hand them on
		changed = false
		walk(c.file, func(n syntax.Node) {
			call, ok := n.(*syntax.CallExpr)
			if !ok {
				return
			}
			d := defs[binding(call.Fn)]
			if d == nil {
				return
			}
			for i, arg := range call.Args {
				to := (*syntax.Ident)(nil)
				if kw, ok := arg.(*syntax.BinaryExpr); ok && kw.Op == syntax.EQ {
					to, arg = named(d, kw.X.(*syntax.Ident).Name), kw.Y
				} else if i < len(d.Params) {
					to = parameter(d.Params[i])
				}
				for _, role := range []map[*resolve.Binding]bool{c.node, c.params} {
					if b := binding(arg); b != nil && role[origin(b)] {
						changed = c.mark(role, to) || changed
					}
				}
			}
		})
	}
}

func named(d *syntax.DefStmt, name string) *syntax.Ident {
	for _, p := range d.Params {
		if id := parameter(p); id != nil && id.Name == name {
			return id
		}
	}
	return nil
}

func (c *checker) mark(role map[*resolve.Binding]bool, id *syntax.Ident) bool {
	if id == nil {
		return false
	}
	b := binding(id)
	if b == nil || role[b] {
		return false
	}
	role[b] = true
	return true
}

// holds reports whether x is a variable of a role.
func holds(role map[*resolve.Binding]bool, x syntax.Expr) bool {
	b := binding(x)
	return b != nil && role[origin(b)]
}

// names finds what is set and not used. A name that begins with _ is meant so.
func (c *checker) names() {
	unused := func(id *syntax.Ident) bool {
		b := binding(id)
		return b != nil && c.uses[b] == 0 && !strings.HasPrefix(id.Name, "_")
	}
	said := map[*resolve.Binding]bool{}
	variable := func(x syntax.Expr) {
		ids := map[*syntax.Ident]bool{}
		targets(x, ids)
		for id := range ids {
			b := binding(id)
			if unused(id) && b.Scope == resolve.Local && !said[b] && len(ids) == 1 { // of several, one is often not wanted
				said[b] = true
				c.add(id.NamePos, "unused-variable", "", "%s is set and never used", id.Name)
			}
			if c.lang.Predeclared(id.Name) && b != nil && !said[b] {
				said[b] = true
				c.add(id.NamePos, "shadowed", "", "%s hides the builtin %s", id.Name, id.Name)
			}
		}
	}
	walk(c.file, func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.AssignStmt:
			variable(n.LHS)
		case *syntax.LoadStmt:
			for _, to := range n.To {
				if unused(to) {
					c.add(to.NamePos, "unused-load", "", "%s is loaded and never used", to.Name)
				}
			}
		case *syntax.DefStmt:
			if b := binding(n.Name); c.main && b != nil && c.uses[b] == 0 && !entry[n.Name.Name] && !strings.HasPrefix(n.Name.Name, "_") {
				c.add(n.Name.NamePos, "unused-function", "", "%s is never called", n.Name.Name)
			}
		}
	})
}

// entry is the functions that runbook calls by itself.
var entry = map[string]bool{"run": true, "gate": true, "before": true, "after": true}
