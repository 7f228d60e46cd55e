package script

import (
	"maps"
	"path"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"runbook/engine"
)

// This file loads a runbook, in the evaluator: its main file and what that
// loads, which the controller reads for it.

// dialect is Starlark as it is specified, with sets. What it leaves out, while
// and recursion, is what makes a script loop for ever.
var dialect = &syntax.FileOptions{Set: true}

// loader loads the files of a runbook once each.
type loader struct {
	t       *thread
	dir     string // what comes before the names of files where people read them
	name    string // of the main file
	env     starlark.StringDict
	header  *headerBuilder
	modules map[string]starlark.StringDict // nil: it is being loaded
	doc     string                         // of the main file
	lines   coverFrame                     // that can be reached, where they are counted; else nil
}

func newLoader(t *thread, dir, name string) *loader {
	l := &loader{t: t, dir: dir, name: name, modules: map[string]starlark.StringDict{}}
	l.header = &headerBuilder{mainFile: l.shown(name), pool: &t.ev.pool}
	l.env = builtins(l.header, t.ev.modules)
	t.star.Load = func(s *starlark.Thread, name string) (starlark.StringDict, error) {
		return l.load(name, here(s))
	}
	return l
}

// shown is how people know the file called name: by the path from where they
// are.
func (l *loader) shown(name string) string { return path.Join(l.dir, name) }

// main loads the main file and returns what it declares.
func (l *loader) main() (*engine.Header, *starlark.Function, map[string]*starlark.Function, error) {
	globals, err := l.load(l.name, "")
	if err != nil {
		return nil, nil, nil, err
	}
	top := l.shown(l.name) + ":1:1"
	h := l.header.header
	if h == nil {
		e := invalid(top, "the runbook has no header")
		e.Hint = "call runbook(params = {…}, limits = limits(…)) at its top level"
		return nil, nil, nil, e
	}
	h.Doc = l.doc
	run, err := l.function(globals, "run", "def run(node, p)")
	if err == nil && run == nil {
		e := invalid(l.header.pos, "the runbook has no function run")
		e.Hint = "def run(node, p): is called for each node"
		err = e
	}
	hooks := map[string]*starlark.Function{}
	for _, name := range []string{engine.HookBefore, engine.HookGate, engine.HookAfter} {
		var f *starlark.Function
		if err == nil {
			f, err = l.function(globals, name, "def "+name+"(fleet, p)")
		}
		if f != nil {
			if h.Hooks == nil {
				h.Hooks = map[string]string{}
			}
			hooks[name], h.Hooks[name] = f, f.Position().String()
		}
	}
	return h, run, hooks, err
}

// function returns the function called name of globals, or nil. What has its name and is none
// would be silently ignored, and is an error.
func (l *loader) function(globals starlark.StringDict, name, want string) (*starlark.Function, error) {
	v, ok := globals[name]
	if !ok {
		return nil, nil
	}
	f, ok := v.(*starlark.Function)
	if !ok {
		return nil, invalid(l.header.pos, "%s is %s, and must be a function: %s", name, describe(v), want)
	}
	if f.NumParams() != 2 || f.NumKwonlyParams() > 0 || f.HasVarargs() || f.HasKwargs() {
		return nil, invalid(f.Position().String(), "%s must have two parameters: %s", name, want)
	}
	return f, nil
}

// load returns the globals of the file called name, which is loaded at pos.
func (l *loader) load(name, pos string) (starlark.StringDict, error) {
	globals, ok := l.modules[name]
	switch {
	case ok && globals == nil:
		return nil, invalid(pos, "%s is loaded while it is being loaded: a cycle", name)
	case ok:
		return globals, nil
	}
	what := strings.ReplaceAll(name, "\n", `\n`) + ": "
	if pos == "" { // the main file
		pos, what = l.shown(name), ""
	}
	answer, err := l.t.ask(frame{Type: tLoad, Name: name, Pos: pos})
	if e, ok := err.(*answerError); ok {
		return nil, invalid(pos, "%s%s", what, e.Cause)
	} else if err != nil {
		return nil, err
	}
	l.modules[name] = nil
	l.t.ev.send(frame{Type: tAt, Run: l.t.id, Pos: l.shown(name)})
	globals, err = l.exec(name, answer.Text)
	if err != nil {
		return nil, &scriptError{*failure(err)}
	}
	l.modules[name] = globals
	return globals, nil
}

// exec parses a file and runs its top level.
func (l *loader) exec(name, text string) (starlark.StringDict, error) {
	file, err := dialect.Parse(l.shown(name), text, 0)
	if err != nil {
		return nil, err
	}
	if name == l.name {
		l.doc = docstring(file)
	}
	if l.lines != nil {
		l.lines[l.shown(name)] = instrument(file)
	}
	prog, err := starlark.FileProgram(file, l.env.Has)
	if err != nil {
		return nil, err
	}
	globals, err := prog.Init(l.t.star, l.env)
	globals.Freeze() // from here on threads share it
	return globals, err
}

// coverLines has the lines counted that are reached.
func (l *loader) coverLines() {
	l.lines = coverFrame{}
	env := starlark.StringDict{reachedName: starlark.NewBuiltin(reachedName, l.t.ev.reached)}
	maps.Copy(env, l.env)
	env.Freeze()
	l.env = env
}

// docstring is the text at the top of file, without its indentation.
func docstring(file *syntax.File) string {
	if len(file.Stmts) == 0 {
		return ""
	}
	if s, ok := file.Stmts[0].(*syntax.ExprStmt); ok {
		if lit, ok := s.X.(*syntax.Literal); ok && lit.Token == syntax.STRING {
			lines := strings.Split(strings.TrimSpace(lit.Value.(string)), "\n")
			for i := range lines {
				lines[i] = strings.TrimSpace(lines[i])
			}
			return strings.Join(lines, "\n")
		}
	}
	return ""
}
