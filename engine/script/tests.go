package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"runbook/engine"
)

// This file is test files, X_test.star: how they are loaded and their functions
// run, and how the lines of a runbook are counted that a test has reached.

// TestPrefix is what the operations begin with that a test has, as t.…: "t.run".
const TestPrefix = "t."

// TestSuffix is how the names of test files end.
const TestSuffix = "_test.star"

// Tests is a test file in an evaluator.
type Tests struct {
	*Program
	list []testFrame
}

// testFrame is a test function on its way.
type testFrame struct {
	Name string `json:"name"`
	Pos  string `json:"pos"`
}

// StartTests loads the test file src.Main. cfg.Ops are the operations that
// tests have.
func StartTests(ctx context.Context, cfg Config, src engine.Source) (*Tests, error) {
	p, err := prepare(cfg, src)
	if err != nil {
		return nil, err
	}
	defer p.tree.close()
	done, err := p.first(ctx, frame{Type: tTests, Limits: p.limits, Name: p.tree.main(), Dir: p.tree.dir()})
	if err != nil {
		p.Close()
		return nil, err
	}
	t := &Tests{Program: p}
	if err := decode(done.Value, &t.list); err != nil {
		return nil, p.distrust(err)
	}
	for i, f := range t.list {
		t.list[i] = testFrame{clean(f.Name), clean(f.Pos)}
	}
	return t, nil
}

// Names are the test functions, in the order in which they stand in the file.
func (t *Tests) Names() []string {
	var out []string
	for _, f := range t.list {
		out = append(out, f.Name)
	}
	return out
}

// RunTest calls one test function, which has all steps of the limit. What it asks goes to h.
func (t *Tests) RunTest(ctx context.Context, name string, h engine.Host) error {
	if err := t.Bind(nil); err != nil {
		return err
	}
	c := conversation{p: t.Program, node: engine.NodeInfo{Name: name}, host: h}
	for _, f := range t.list {
		if f.Name == name {
			c.pos = f.Pos
		}
	}
	if err := c.converse(ctx, frame{Type: tTest, Name: name}); err != nil {
		err.Node = ""
		return err
	}
	return nil
}

// first holds the conversation in which the evaluator reads what it is given.
func (p *Program) first(ctx context.Context, f frame) (frame, error) {
	r, dead := p.open(p.tree.source.Main, "")
	if dead != nil {
		return frame{}, dead
	}
	done, failed := p.converse(ctx, r, f, p.supply())
	switch {
	case failed != nil:
		return frame{}, failed
	case done.Err != nil:
		return frame{}, done.Err.scriptError(r.pos)
	}
	return done, nil
}

// loadTests is the evaluator's side of [StartTests].
func (ev *evaluator) loadTests(t *thread, f frame) {
	ev.pool.hold(f.Limits)
	l := newLoader(t, f.Dir, f.Name)
	var done frame
	done.Err = t.guard(func() error {
		tests, names, err := l.tests()
		if err != nil {
			return err
		}
		var list []testFrame
		ev.tests = map[string]*starlark.Function{}
		for _, fn := range tests {
			list = append(list, testFrame{names[fn], fn.Position().String()})
			ev.tests[names[fn]] = fn
		}
		close(ev.loaded)
		done.Value, err = json.Marshal(list)
		return err
	})
	ev.finish(t, done)
}

// tests loads the main file as a test file: its test functions, in the order in which they stand there.
func (l *loader) tests() (tests []*starlark.Function, names map[*starlark.Function]string, err error) {
	globals, err := l.load(l.name, "")
	if err != nil {
		return nil, nil, err
	}
	names = map[*starlark.Function]string{} // a function that has two names is one test
	for _, name := range globals.Keys() {
		fn, ok := globals[name].(*starlark.Function)
		if !strings.HasPrefix(name, "test_") || !ok {
			continue
		}
		if fn.NumParams() != 1 || fn.NumKwonlyParams() > 0 || fn.HasVarargs() || fn.HasKwargs() {
			return nil, nil, invalid(fn.Position().String(), "%s must have one parameter: def %s(t)", name, name)
		}
		if names[fn] == "" {
			tests = append(tests, fn)
			names[fn] = name
		}
	}
	if len(tests) == 0 {
		e := invalid(l.shown(l.name)+":1:1", "there is no test in this file")
		e.Hint = "def test_something(t): is one"
		return nil, nil, e
	}
	slices.SortStableFunc(tests, func(a, b *starlark.Function) int { return int(a.Position().Line - b.Position().Line) })
	return tests, names, nil
}

// test calls one test function.
func (ev *evaluator) test(t *thread, f frame) {
	<-ev.loaded
	t.star.Name = f.Name
	e := t.guard(func() error {
		fn := ev.tests[f.Name]
		if fn == nil || ev.testOps == nil {
			return invalid("", "there is no test %s", f.Name)
		}
		_, err := starlark.Call(t.star, fn, starlark.Tuple{ev.testOps}, nil)
		return err
	})
	ev.finish(t, frame{Err: e})
}

// Coverage is the lines of each file that hold a statement, and whether it was reached.
type Coverage map[string]map[int]bool

// Coverage returns what was reached so far of a program that was started with Config.Cover.
func (p *Program) Coverage() Coverage {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := Coverage{}
	for file, lines := range p.covered {
		out[file] = map[int]bool{}
		for line, reached := range lines {
			out[file][line] = reached
		}
	}
	return out
}

const maxLines = 500_000 // of all files

// coverFrame is the lines of one file on their way to the controller.
type coverFrame map[string][]int

// frame is c as it is sent.
func (c coverFrame) frame() json.RawMessage {
	if len(c) == 0 {
		return nil
	}
	b, err := json.Marshal(c)
	if err != nil { // it holds strings and numbers
		panic(err)
	}
	return b
}

const maxCover = 1 << 20 // bytes of the lines in one message

// cover takes what the evaluator says of lines. The caller holds mu.
func (p *Program) cover(said json.RawMessage, reached bool) error {
	switch {
	case len(said) == 0:
		return nil
	case !p.cfg.Cover:
		return errors.New("lines that nobody counts")
	case len(said) > maxCover:
		return fmt.Errorf("lines of %d bytes", len(said))
	}
	var c coverFrame
	if err := json.Unmarshal(said, &c); err != nil {
		return fmt.Errorf("lines: %w", err)
	}
	for file, lines := range c {
		file = clean(file)
		if p.covered == nil {
			p.covered = Coverage{}
		}
		if p.covered[file] == nil {
			if len(p.covered) == maxFiles {
				return fmt.Errorf("lines of more than %d files", maxFiles)
			}
			p.covered[file] = map[int]bool{}
		}
		for _, l := range lines {
			if l < 1 || l > maxSource {
				return fmt.Errorf("line %d of %s", l, file)
			}
			was, known := p.covered[file][l]
			if !known {
				if p.lines++; p.lines > maxLines {
					return fmt.Errorf("more than %d lines", maxLines)
				}
			}
			p.covered[file][l] = was || reached
		}
	}
	return nil
}

// reachedName is the builtin that instrumented files call. It is no name that a script could write.
const reachedName = "reached!"

// instrument has every statement of file say that it was reached. It returns their lines.
func instrument(file *syntax.File) []int {
	var lines []int
	var block func(stmts []syntax.Stmt, top bool) []syntax.Stmt
	block = func(stmts []syntax.Stmt, top bool) []syntax.Stmt {
		var out []syntax.Stmt
		for i, s := range stmts {
			pos, _ := s.Span()
			switch s := s.(type) {
			case *syntax.DefStmt:
				s.Body = block(s.Body, false)
			case *syntax.IfStmt:
				s.True, s.False = block(s.True, false), block(s.False, false)
			case *syntax.ForStmt:
				s.Body = block(s.Body, false)
			}
			_, isLoad := s.(*syntax.LoadStmt)
			if !isLoad && !isDoc(s, i) {
				lines = append(lines, int(pos.Line))
				out = append(out, &syntax.ExprStmt{X: &syntax.CallExpr{
					Fn: &syntax.Ident{NamePos: pos, Name: reachedName}, Lparen: pos, Rparen: pos,
					Args: []syntax.Expr{&syntax.Literal{Token: syntax.INT, TokenPos: pos, Raw: fmt.Sprint(pos.Line), Value: int64(pos.Line)}},
				}})
			}
			out = append(out, s)
		}
		return out
	}
	file.Stmts = block(file.Stmts, true)
	slices.Sort(lines)
	return slices.Compact(lines)
}

func isDoc(s syntax.Stmt, nth int) bool {
	e, ok := s.(*syntax.ExprStmt)
	if !ok || nth > 0 {
		return false
	}
	lit, ok := e.X.(*syntax.Literal)
	return ok && lit.Token == syntax.STRING
}

// reached is the builtin: it notes the line of the call.
func (ev *evaluator) reached(s *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	line, err := starlark.AsInt32(args[0])
	if err != nil {
		return nil, err
	}
	file := s.CallFrame(1).Pos.Filename()
	ev.covering.Lock()
	defer ev.covering.Unlock()
	at := lineOf{file, line}
	if !ev.lines[at] {
		if ev.lines == nil {
			ev.lines = map[lineOf]bool{}
		}
		ev.lines[at] = true
		if ev.fresh == nil {
			ev.fresh = coverFrame{}
		}
		ev.fresh[file] = append(ev.fresh[file], line)
	}
	return starlark.None, nil
}

// lineOf is a line of a file.
type lineOf struct {
	file string
	line int
}

// takeReached returns the lines that were reached since it was asked last.
func (ev *evaluator) takeReached() coverFrame {
	ev.covering.Lock()
	defer ev.covering.Unlock()
	fresh := ev.fresh
	ev.fresh = nil
	return fresh
}
