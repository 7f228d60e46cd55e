package lint

import (
	"time"

	"go.starlark.net/resolve"
	"go.starlark.net/syntax"
)

// The longest that a retry may go on without a warning, where it says itself how long that is.
const (
	maxTries  = 100
	maxWaited = 30 * time.Minute
)

// flow checks what is done how often, and what never is.
func (c *checker) flow() {
	disruptive := c.disruptive()
	walk(c.file, func(n syntax.Node) {
		switch n := n.(type) {
		case *syntax.File:
			c.block(n.Stmts)
		case *syntax.DefStmt:
			c.block(n.Body)
			c.recursion(n)
		case *syntax.IfStmt:
			c.block(n.True)
			c.block(n.False)
			c.condition(n.Cond)
		case *syntax.ForStmt:
			c.block(n.Body)
			c.loop(n.For, disruptive, n.Body)
		case *syntax.Comprehension:
			c.loop(start(n), disruptive, []syntax.Stmt{&syntax.ExprStmt{X: n.Body}})
		case *syntax.CondExpr:
			c.condition(n.Cond)
		case *syntax.ExprStmt:
			c.effect(n)
		case *syntax.DictExpr:
			c.keys(n)
		case *syntax.BinaryExpr:
			c.compare(n)
		case *syntax.CallExpr:
			c.retry(n)
			if builtin(n.Fn, "expect") && len(n.Args) > 0 {
				c.condition(n.Args[0])
			}
		}
	})
}

// disruptive is the functions of the file that disrupt a node, by themselves
// or by what they call.
func (c *checker) disruptive() map[*resolve.Binding]string {
	out := map[*resolve.Binding]string{}
	for changed := true; changed; {
		changed = false
		for _, s := range c.file.Stmts {
			d, ok := s.(*syntax.DefStmt)
			if !ok || out[binding(d.Name)] != "" {
				continue
			}
			if op := c.disrupts(d.Body, out); op != "" {
				out[binding(d.Name)] = op
				changed = true
			}
		}
	}
	return out
}

// disrupts is the disruptive operation that stmts call, or "".
func (c *checker) disrupts(stmts []syntax.Stmt, functions map[*resolve.Binding]string) string {
	found := ""
	for _, s := range stmts {
		walk(s, func(n syntax.Node) {
			x, ok := n.(syntax.Expr)
			if !ok || found != "" {
				return
			}
			if op, ok := c.path(x); ok && c.lang.Disrupts(op) {
				found = op
			} else if b := binding(x); b != nil && functions[b] != "" {
				found = functions[b]
			}
		})
	}
	return found
}

func (c *checker) loop(at syntax.Position, disruptive map[*resolve.Binding]string, body []syntax.Stmt) {
	if op := c.disrupts(body, disruptive); op != "" {
		c.add(at, "disruptive-loop", "a node is disrupted once in a run; the fleet is walked by runbook, not by the script", "this loop calls %s in each round", op)
	}
}

// retry checks how long a retry(times, delay, fn) may go on.
func (c *checker) retry(n *syntax.CallExpr) {
	if !builtin(n.Fn, "retry") {
		return
	}
	var times, delay syntax.Expr
	for i, a := range n.Args {
		name := [...]string{"times", "delay", "fn"}[min(i, 2)]
		if kw, ok := a.(*syntax.BinaryExpr); ok && kw.Op == syntax.EQ {
			name, a = kw.X.(*syntax.Ident).Name, kw.Y
		}
		switch name {
		case "times":
			times = a
		case "delay":
			delay = a
		}
	}
	if times == nil {
		return // an error of its own
	}
	v, known := literal(times)
	tries, isInt := v.(int64)
	text, isText := "", false
	if delay != nil {
		text, isText = stringOf(delay)
	}
	if wrong := c.wrongRetry(tries, isInt, text, isText); wrong != "" {
		c.add(n.Lparen, "arguments", "", "%s", wrong)
		return
	}
	if !known {
		c.add(start(times), "unbounded-retry", "write the number of tries there", "how often this tries is not written here")
		return
	}
	if isInt && tries > maxTries {
		c.add(start(times), "unbounded-retry", "", "this tries %d times; more than %d are hardly meant", tries, maxTries)
		return
	}
	if d, err := time.ParseDuration(text); isInt && isText && err == nil && time.Duration(tries)*d > maxWaited {
		c.add(start(times), "unbounded-retry", "", "this may wait %s in all", time.Duration(tries)*d)
	}
}

// wrongRetry is what a retry ends with for the arguments that are written there, or "".
func (c *checker) wrongRetry(times int64, hasTimes bool, delay string, hasDelay bool) string {
	if !hasTimes {
		times = 1
	}
	if !hasDelay {
		delay = "0s"
	}
	return c.lang.CheckRetry(times, delay)
}

// block finds statements after one that never goes on.
func (c *checker) block(stmts []syntax.Stmt) {
	for i, s := range stmts {
		if i+1 < len(stmts) && ends(s) {
			c.add(start(stmts[i+1]), "unreachable", "", "this is never reached")
			return
		}
	}
}

// ends reports whether nothing after s is reached.
func ends(s syntax.Stmt) bool {
	switch s := s.(type) {
	case *syntax.ReturnStmt:
		return true
	case *syntax.BranchStmt:
		return s.Token == syntax.BREAK || s.Token == syntax.CONTINUE
	case *syntax.ExprStmt:
		call, ok := s.X.(*syntax.CallExpr)
		return ok && builtin(call.Fn, "fail")
	case *syntax.IfStmt:
		return len(s.True) > 0 && len(s.False) > 0 && ends(s.True[len(s.True)-1]) && ends(s.False[len(s.False)-1])
	}
	return false
}

// condition finds one that is always the same.
func (c *checker) condition(x syntax.Expr) {
	if v, known := literal(x); known {
		if _, isText := v.(string); !isText || v == "" {
			c.add(start(x), "constant", "", "this condition is always the same")
		}
	}
}

// effect finds an expression that stands alone and does nothing.
func (c *checker) effect(s *syntax.ExprStmt) {
	switch x := s.X.(type) {
	case *syntax.CallExpr:
		if op, ok := c.path(x.Fn); ok && c.lang.Looks(op) {
			c.add(start(x), "ignored", "", "%s only looks, and nobody uses what it finds", op)
		}
	case *syntax.Literal:
		if x.Token != syntax.STRING && x.Token != syntax.BYTES { // a docstring, or a comment of many lines
			c.add(start(x), "no-effect", "", "this does nothing")
		}
	case *syntax.Comprehension: // its body may call something
	case *syntax.DotExpr, *syntax.Ident:
		c.add(start(x), "no-effect", "call it: …()", "this does nothing")
	default:
		c.add(start(x), "no-effect", "", "this does nothing")
	}
}

// keys finds one that stands twice in a dict.
func (c *checker) keys(d *syntax.DictExpr) {
	seen := map[any]bool{}
	for _, e := range d.List {
		key := e.(*syntax.DictEntry).Key
		v, known := literal(key)
		if _, isInt := v.(int64); !known || v == nil {
			continue
		} else if _, isText := v.(string); !isText && !isInt {
			continue
		}
		if seen[v] {
			c.add(start(key), "duplicate-key", "", "the key %v stands twice", v)
		}
		seen[v] = true
	}
}

// compare finds x == x.
func (c *checker) compare(n *syntax.BinaryExpr) {
	switch n.Op {
	case syntax.EQL, syntax.NEQ, syntax.LT, syntax.GT, syntax.LE, syntax.GE:
	default:
		return
	}
	a, isA := n.X.(*syntax.Ident)
	b, isB := n.Y.(*syntax.Ident)
	if isA && isB && a.Name == b.Name {
		c.add(start(n), "self-comparison", "", "%s is compared with itself", a.Name)
	}
}
