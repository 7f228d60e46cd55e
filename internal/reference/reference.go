// Package reference is what there is to be told of the language of runbooks: its functions, and the
// operations with their arguments. All of it comes from the comments of the Go source that implements
// them, which is in the program, so that no other text can go astray from it.
package reference

import (
	"embed"
	"encoding"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/script"
	"runbook/rehearse"
)

// Entry is a function of the language, an operation, or what operations return of a node.
type Entry struct {
	Name     string `json:"name"`               // such as "expect", "route.add", "route"
	Call     string `json:"call,omitempty"`     // as it is written, such as "node.route.add(dst, …)"; "" of what is returned
	Short    string `json:"short,omitempty"`    // what it does, in a sentence
	Text     string `json:"text,omitempty"`     // all of it, in Go's syntax of documentation: what is indented is an example
	Args     []Arg  `json:"args,omitempty"`     // in their order
	Fields   []Arg  `json:"fields,omitempty"`   // of what is returned
	Changes  bool   `json:"changes,omitempty"`  // it can change the node
	Disrupts bool   `json:"disrupts,omitempty"` // and cut what goes through it
}

// Arg is an argument, or a field.
type Arg struct {
	Name     string `json:"name"`
	Wants    string `json:"wants"` // such as "a string": what it is to be, or is
	Text     string `json:"text,omitempty"`
	Required bool   `json:"required,omitempty"`
	Fields   []Arg  `json:"fields,omitempty"` // of each dict, where it is a list of some
}

// kinds is what operations return of a node.
var kinds = map[string]reflect.Type{
	"addr": reflect.TypeFor[resource.Addr](), "link": reflect.TypeFor[resource.Link](), "neigh": reflect.TypeFor[resource.Neigh](),
	"nexthop": reflect.TypeFor[resource.Nexthop](), "route": reflect.TypeFor[resource.Route](), "rule": reflect.TypeFor[resource.Rule](),
}

// All is the functions of the language, then the operations, then what a test can ask, then what operations return of a node; each by name.
func All() ([]Entry, error) {
	language, err := parse(script.Source)
	if err != nil {
		return nil, err
	}
	of, err := parse(builtins.Source)
	if err != nil {
		return nil, err
	}
	returned, err := parse(resource.Source)
	if err != nil {
		return nil, err
	}
	out := language.functions()
	for _, name := range builtins.Operations.Names() {
		out = append(out, of.operation(name, builtins.Operations[name]))
	}
	tests, err := parse(rehearse.Source)
	if err != nil {
		return nil, err
	}
	for _, name := range rehearse.Operations.Names() {
		out = append(out, tests.operation(name, rehearse.Operations[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		e := Entry{Name: name, Fields: returned.has(kinds[name])}
		if name == "route" { // which has these of its first hop by itself
			for _, f := range returned.has(reflect.TypeFor[resource.Hop]()) {
				if f.Name == "via" || f.Name == "dev" {
					f.Text = "of the first of hops"
					e.Fields = append(e.Fields, f)
				}
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// source is the comments of a package.
type source struct {
	funcs  []string                     // of functions
	types  map[string]string            // of types, by name
	fields map[string]map[string]string // of fields of structs, by the type's name and theirs
}

func parse(files embed.FS) (source, error) {
	s := source{types: map[string]string{}, fields: map[string]map[string]string{}}
	entries, err := files.ReadDir(".")
	if err != nil {
		return s, err
	}
	set := token.NewFileSet()
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return s, err
		}
		f, err := parser.ParseFile(set, e.Name(), text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return s, err
		}
		for _, d := range f.Decls {
			s.add(d)
		}
	}
	return s, nil
}

func (s source) note(t *ast.TypeSpec, doc string) {
	s.types[t.Name.Name] = doc
	is, ok := t.Type.(*ast.StructType)
	if as, same := t.Type.(*ast.Ident); same { // it has the fields of another, which is told of before
		s.fields[t.Name.Name] = s.fields[as.Name]
	}
	if !ok {
		return
	}
	fields := map[string]string{}
	for _, f := range is.Fields.List {
		for _, n := range f.Names {
			fields[n.Name] = strings.TrimSpace(f.Doc.Text() + f.Comment.Text())
		}
	}
	s.fields[t.Name.Name] = fields
}

func (s *source) add(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		s.funcs = append(s.funcs, d.Doc.Text())
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if t, ok := spec.(*ast.TypeSpec); ok {
				s.note(t, d.Doc.Text()+t.Doc.Text())
			}
		}
	}
}

// implements finds in a comment what a function of the language is, and what is said of it.
var implements = regexp.MustCompile(`(?s)^\w+ implements ([\w.]+\(.*?\)): (.*)$`)

func (s source) functions() []Entry {
	byName := map[string]Entry{}
	for _, text := range s.funcs {
		if m := implements.FindStringSubmatch(text); m != nil {
			name, _, _ := strings.Cut(m[1], "(")
			e := Entry{Name: name, Call: strings.Join(strings.Fields(m[1]), " "), Short: short(m[2]), Text: m[2]}
			if name == "limits" {
				e.Args = limits()
			}
			byName[name] = e
		}
	}
	var out []Entry
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

// limits is the limits, as arguments.
func limits() (out []Arg) {
	for _, l := range engine.LimitTable {
		wants := "a whole number"
		if l.Unit != engine.Count {
			wants = fmt.Sprintf("a string such as %q", l.Show(l.Default))
		}
		out = append(out, Arg{Name: string(l.Name), Wants: wants, Text: l.Doc + "; " + l.Show(l.Default) + " where left out"})
	}
	return out
}

func (s source) operation(name string, op engine.Operation) Entry {
	t := reflect.TypeOf(op)
	e := Entry{Name: name, Args: s.args(t)}
	_, e.Changes = op.(engine.Change)
	_, e.Disrupts = op.(engine.Disruptor)
	_, text, _ := strings.Cut(s.types[t.Name()], " ") // the first word is the type's name
	e.Text = inWords(text, t)
	e.Short = short(e.Text)
	if e.Call = call(name, e.Args); strings.Contains(e.Call, "(server)") {
		e.Args = e.Args[1:]
	}
	return e
}

// args is the fields of t as arguments.
func (s source) args(t reflect.Type) []Arg {
	var out []Arg
	for i, a := range engine.Args(reflect.Zero(t).Interface()) {
		arg := Arg{Name: a.Name, Wants: script.Want(a.Type), Required: !a.Optional}
		arg.Text = inWords(s.fields[t.Name()][t.Field(i).Name], t)
		if each := a.Type; each.Kind() == reflect.Slice && each.Elem().Kind() == reflect.Struct && s.fields[each.Elem().Name()] != nil {
			arg.Fields = s.args(each.Elem())
		}
		out = append(out, arg)
	}
	return out
}

// has is the fields of t, as scripts see them.
func (s source) has(t reflect.Type) []Arg {
	var out []Arg
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		each := f.Type
		if each.Kind() == reflect.Pointer || each.Kind() == reflect.Slice {
			each = each.Elem()
		}
		text := strings.TrimPrefix(strings.TrimPrefix(s.fields[t.Name()][f.Name], f.Name+" is "), f.Name+" holds ")
		field := Arg{Name: name, Wants: is(f.Type), Text: inWords(unset.ReplaceAllString(text, "None:"), t)}
		if each.Kind() == reflect.Struct && s.fields[each.Name()] != nil && !texts(each) {
			field.Fields = s.has(each)
		}
		out = append(out, field)
	}
	return out
}

// unset is what the comment of a field calls it where it is None in a script.
var unset = regexp.MustCompile(`\b(nil|zero):`)

// texts reports whether scripts see a text of what is of type t.
func texts(t reflect.Type) bool { return t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) }

// is says what a field of type t is in a script.
func is(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[resource.Raw]():
		return "a string of hexadecimal digits"
	case t.Kind() == reflect.Pointer:
		return strings.TrimSuffix(is(t.Elem()), ", or None") + ", or None"
	case texts(t) && t.Kind() == reflect.Struct:
		return "a string, or None"
	case texts(t):
		return "a string"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Struct:
		return "a struct"
	}
	return script.Want(t)
}

// call is how a script calls an operation.
func call(name string, args []Arg) string {
	var names []string
	for _, a := range args {
		names = append(names, a.Name)
	}
	domain, verb, _ := strings.Cut(name, ".")
	if len(names) > 0 && names[0] == "server" {
		return "node." + domain + "(server)." + verb + "(" + strings.Join(names[1:], ", ") + ")"
	}
	if domain == "t" {
		return name + "(" + strings.Join(names, ", ") + ")"
	}
	return "node." + name + "(" + strings.Join(names, ", ") + ")"
}

// inWords is text that names the fields of t, and other types, as scripts do.
func inWords(text string, t reflect.Type) string {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Name != name {
			text = regexp.MustCompile(`\b`+f.Name+`\b`).ReplaceAllString(text, name)
		}
	}
	return text
}

// short is the first sentence of text, as far as it says what is done and not how that looks.
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, end := range []string{". ", ": ", "; "} {
		text, _, _ = strings.Cut(text, end)
	}
	return strings.TrimSuffix(text, ".")
}

// Plain is text as people read it, in lines of at most width characters.
func Plain(text string, width int) string {
	var p comment.Parser
	pr := comment.Printer{TextWidth: width, TextCodePrefix: "    "}
	return string(pr.Text(p.Parse(text)))
}
