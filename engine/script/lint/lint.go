// Package lint finds what is wrong with a runbook without running it: what
// would end it with an error, and what is probably not meant.
//
// It runs in the evaluator, like everything that reads a script, and knows
// the builtins and operations only by what [Language] says of them. An error here is
// one that a run would end with, in the same words; a warning is not.
//
//	lint.go     findings, the walk over a file
//	names.go    names, loads, variables: what is not used
//	calls.go    calls of builtins and operations: their arguments
//	server.go   what servers are asked
//	runbook.go  the header, its parameters, run
//	values.go   literals, what no value can come of, what cannot be changed
//	flow.go     loops, retries, what is never reached or has no effect
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.starlark.net/resolve"
	"go.starlark.net/syntax"
)

// Finding is one thing that is wrong, or probably not meant.
type Finding struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1
	Col  int    `json:"col"`
	Rule string `json:"rule"` // a key of [Rules]
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// Level is how bad what a rule finds is.
type Level string

// The levels.
const (
	Error   Level = "error"   // a run would end with it
	Warning Level = "warning" // it is probably not meant
)

// Rule is what is looked for.
type Rule struct {
	Level Level
	Doc   string
}

// Rules has every rule by its name.
var Rules = map[string]Rule{
	"syntax":           {Error, "the text is not Starlark"},
	"name":             {Error, "a name is not defined, or is defined twice"},
	"operation":        {Error, "the node, or server, has no such operation"},
	"arguments":        {Error, "a call has arguments that are missing, unknown, or of the wrong type"},
	"parameter":        {Error, "a parameter is used that the header does not declare"},
	"value":            {Error, "no value can come of an expression: it divides by zero, or makes a key of what cannot be one"},
	"recursion":        {Error, "a function calls itself"},
	"frozen":           {Error, "run changes what the runs for all nodes share"},
	"load":             {Error, "the top level of the file, its header included, ends with an error"},
	"limits":           {Warning, "the header sets no limits: the defaults hold"},
	"doc":              {Warning, "the runbook or one of its parameters says nothing about itself"},
	"unused-parameter": {Warning, "a parameter is declared and never used"},
	"unused-load":      {Warning, "a name is loaded and never used"},
	"unused-variable":  {Warning, "a variable is set and never used"},
	"unused-function":  {Warning, "a function of the main file is never used"},
	"shadowed":         {Warning, "a variable hides a builtin of the same name"},
	"disruptive-loop":  {Warning, "a loop disrupts the node in each of its rounds"},
	"unbounded-retry":  {Warning, "a retry goes on for as long as somebody says, or longer than the run may take"},
	"unreachable":      {Warning, "a statement is never reached"},
	"no-effect":        {Warning, "an expression does nothing"},
	"ignored":          {Warning, "the node is only looked at, and nobody uses what was found"},
	"constant":         {Warning, "a condition is always the same"},
	"duplicate-key":    {Warning, "a key stands twice in a dict: the last one holds"},
	"self-comparison":  {Warning, "a value is compared with itself"},
}

// Language is what lint knows of the builtins and operations.
type Language struct {
	Predeclared func(name string) bool
	Builtins    map[string][]string // their arguments in order; optional ones end in "?"
	Params      []string            // the types of parameters: param.NAME
	Operations  []string            // "route.add"
	Looks       func(op string) bool
	Disrupts    func(op string) bool
	// CheckCall says what is wrong with the arguments of an operation; one that is not a
	// literal has a nil value.
	CheckCall func(op string, args []Argument) []string
	// Servers are what servers can be asked: "pg" to "set". CheckServerCall is CheckCall of such a one.
	Servers         map[string][]string
	CheckServerCall func(op string, args []Argument) []string
	// CheckRetry says what is wrong with a retry that tries so often, and waits so long in between, or is "".
	CheckRetry func(times int64, delay string) string
	Near       func(name string, candidates []string) string // "did you mean x?", or ""
}

// Argument is one argument of a call.
type Argument struct {
	Name    string // "" by position
	Literal any    // string, int64, *big.Int, float64, bool, List, Dict, Function, nil for None; see Known
	Known   bool   // Literal is its value
	Spread  bool   // *args or **kwargs: any others may be in it
}

// checker is one file on its way.
type checker struct {
	lang     Language
	name     string // of the file, as people know it
	main     bool
	file     *syntax.File
	findings []Finding
	uses     map[*resolve.Binding]int
	node     map[*resolve.Binding]bool   // variables that hold a node
	params   map[*resolve.Binding]bool   // and the parameters
	servers  map[*resolve.Binding]string // and a server, with its domain
}

// File checks one file. main says whether it is the runbook itself, or loaded by one.
// loads are the names of the files that it loads.
func File(lang Language, name, text string, main bool, opts *syntax.FileOptions) (found []Finding, loads []string) {
	c := &checker{lang: lang, name: name, main: main, uses: map[*resolve.Binding]int{}, node: map[*resolve.Binding]bool{}, params: map[*resolve.Binding]bool{}, servers: map[*resolve.Binding]string{}}
	file, err := opts.Parse(name, text, 0)
	if err != nil {
		var e syntax.Error
		if errors.As(err, &e) {
			c.add(e.Pos, "syntax", "", "%s", e.Msg)
		} else {
			c.findings = append(c.findings, Finding{File: name, Line: 1, Col: 1, Rule: "syntax", Text: err.Error()})
		}
		return c.findings, nil
	}
	c.file = file
	for _, s := range file.Stmts {
		if l, ok := s.(*syntax.LoadStmt); ok {
			loads = append(loads, l.ModuleName())
		}
	}
	universal := func(n string) bool { return universe[n] }
	if err := resolve.File(file, lang.Predeclared, universal); err != nil {
		var list resolve.ErrorList
		if errors.As(err, &list) {
			for _, e := range list {
				c.add(e.Pos, "name", "", "%s", e.Msg)
			}
		}
		return c.findings, loads // names mean nothing
	}
	c.count()
	c.roles()
	c.serverVariables()
	c.calls()
	c.names()
	c.values()
	c.frozen()
	c.flow()
	if main {
		c.runbook()
	}
	slices.SortStableFunc(c.findings, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col)) })
	return c.findings, loads
}

func (c *checker) add(pos syntax.Position, rule, hint, format string, args ...any) {
	if _, known := Rules[rule]; !known {
		panic("no rule " + rule)
	}
	c.findings = append(c.findings, Finding{c.name, max(1, int(pos.Line)), max(1, int(pos.Col)), rule, fmt.Sprintf(format, args...), hint})
}

// walk calls f for every node of the file below n, n included.
func walk(n syntax.Node, f func(syntax.Node)) {
	syntax.Walk(n, func(n syntax.Node) bool {
		if n != nil {
			f(n)
		}
		return true
	})
}

// binding is the variable that x names, or nil.
func binding(x syntax.Expr) *resolve.Binding {
	if id, ok := x.(*syntax.Ident); ok {
		b, _ := id.Binding.(*resolve.Binding)
		return b
	}
	return nil
}

// builtin reports whether x names the builtin called name, and no variable.
func builtin(x syntax.Expr, name string) bool {
	id, ok := x.(*syntax.Ident)
	b := binding(x)
	return ok && id.Name == name && b != nil && b.Scope == resolve.Predeclared
}

func start(n syntax.Node) syntax.Position {
	pos, _ := n.Span()
	return pos
}
