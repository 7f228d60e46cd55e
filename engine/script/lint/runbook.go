package lint

import (
	"slices"

	"go.starlark.net/syntax"
)

// runbook checks the header of the main file, and how its parameters are used.
func (c *checker) runbook() {
	if doc(c.file.Stmts) == "" {
		c.add(syntax.MakePosition(&c.name, 1, 1), "doc", "say in a string at its top what it is for", "the runbook has no docstring")
	}
	header := c.header()
	if header == nil {
		return // loading it says so
	}
	if value(header, "limits") == nil {
		c.add(header.Lparen, "limits", "limits = limits(nodes = …, changes_per_node = …)", "the header sets no limits")
	}
	dict, ok := value(header, "params").(*syntax.DictExpr)
	if !ok {
		if value(header, "params") == nil {
			c.parameters(nil)
		}
		return
	}
	declared := map[string]syntax.Position{}
	for _, e := range dict.List {
		entry := e.(*syntax.DictEntry)
		name, isText := stringOf(entry.Key)
		if !isText {
			return // their names are not written there
		}
		declared[name] = start(entry.Key)
		if call, ok := entry.Value.(*syntax.CallExpr); ok {
			c.declaration(name, call)
		}
	}
	c.parameters(declared)
}

// header is the call of runbook(…) at the top level.
func (c *checker) header() *syntax.CallExpr {
	for _, s := range c.file.Stmts {
		if e, ok := s.(*syntax.ExprStmt); ok {
			if call, ok := e.X.(*syntax.CallExpr); ok && builtin(call.Fn, "runbook") {
				return call
			}
		}
	}
	return nil
}

// declaration checks one param.TYPE(doc, …).
func (c *checker) declaration(name string, call *syntax.CallExpr) {
	dot, ok := call.Fn.(*syntax.DotExpr)
	if !ok || !builtin(dot.X, "param") {
		return
	}
	if !slices.Contains(c.lang.Params, dot.Name.Name) {
		c.add(dot.Name.NamePos, "name", c.lang.Near(dot.Name.Name, c.lang.Params), "param has no type %s", dot.Name.Name)
		return
	}
	args := arguments(call)
	for _, a := range args {
		if a.Spread || a.Name == "doc" || a.Name == "" && (!a.Known || a.Literal != "") {
			return
		}
	}
	c.add(call.Lparen, "doc", "", "parameter %s says nothing about itself", name)
}

// parameters checks every p.name against those that are declared.
func (c *checker) parameters(declared map[string]syntax.Position) {
	var names []string
	for n := range declared {
		names = append(names, n)
	}
	slices.Sort(names)
	used := map[string]bool{}
	whole := false // somebody has all of them: any may be used
	members := map[*syntax.Ident]bool{}
	walk(c.file, func(n syntax.Node) {
		dot, ok := n.(*syntax.DotExpr)
		if !ok || !holds(c.params, dot.X) {
			return
		}
		members[dot.X.(*syntax.Ident)] = true
		name := dot.Name.Name
		used[name] = true
		if _, known := declared[name]; !known {
			c.add(dot.Name.NamePos, "parameter", c.lang.Near(name, names), "params has no field or method %s", name)
		}
	})
	walk(c.file, func(n syntax.Node) {
		if id, ok := n.(*syntax.Ident); ok && holds(c.params, id) && !members[id] && !c.declares(id) && !c.handsOn(id) {
			whole = true
		}
	})
	for _, n := range names {
		if !used[n] && !whole {
			c.add(declared[n], "unused-parameter", "", "parameter %s is never used", n)
		}
	}
}

// declares reports whether id is the parameter of a function itself.
func (c *checker) declares(id *syntax.Ident) bool {
	found := false
	walk(c.file, func(n syntax.Node) {
		if d, ok := n.(*syntax.DefStmt); ok {
			for _, p := range d.Params {
				found = found || parameter(p) == id
			}
		}
	})
	return found
}

// handsOn reports whether id is handed to a function of this file, whose own parameter then has its role.
func (c *checker) handsOn(id *syntax.Ident) bool {
	found := false
	walk(c.file, func(n syntax.Node) {
		call, ok := n.(*syntax.CallExpr)
		if !ok {
			return
		}
		b := binding(call.Fn)
		if b == nil || b.First == nil {
			return
		}
		for _, s := range c.file.Stmts {
			d, ok := s.(*syntax.DefStmt)
			if !ok || binding(d.Name) != b {
				continue
			}
			for _, a := range call.Args {
				if kw, ok := a.(*syntax.BinaryExpr); ok && kw.Op == syntax.EQ {
					a = kw.Y
				}
				found = found || a == syntax.Expr(id)
			}
		}
	})
	return found
}

// value is the argument of a call that is called name.
func value(call *syntax.CallExpr, name string) syntax.Expr {
	for _, a := range call.Args {
		if kw, ok := a.(*syntax.BinaryExpr); ok && kw.Op == syntax.EQ {
			if id, ok := kw.X.(*syntax.Ident); ok && id.Name == name {
				return kw.Y
			}
		}
	}
	return nil
}

func stringOf(x syntax.Expr) (string, bool) {
	v, known := literal(x)
	s, ok := v.(string)
	return s, known && ok
}

// doc is the string at the top of a file or a function.
func doc(stmts []syntax.Stmt) string {
	if len(stmts) == 0 {
		return ""
	}
	if e, ok := stmts[0].(*syntax.ExprStmt); ok {
		s, _ := stringOf(e.X)
		return s
	}
	return ""
}
