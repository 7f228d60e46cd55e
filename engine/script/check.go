package script

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"runbook/engine"
	"runbook/engine/script/lint"
)

// This file is how a runbook is checked that is not run. That reads it, and so is
// done by an evaluator.

// Check finds what is wrong with the runbook or test file src.Main and all that it
// loads, without running it: only its top level is executed, as for every use of it.
// loads are the paths of the files that it loads. The error is about checking, not about the runbook.
func Check(ctx context.Context, cfg Config, src engine.Source) (found []lint.Finding, loads []string, err error) {
	done, read, err := once(ctx, cfg, src, frame{Type: tCheck})
	if err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(done.Value, &found); err != nil {
		return nil, nil, engine.Internal.Errorf("the evaluator's findings: %w", err)
	}
	for i, f := range found {
		if _, known := lint.Rules[f.Rule]; !known {
			return nil, nil, engine.Internal.Errorf("the evaluator knows a rule %q", clean(f.Rule))
		}
		found[i].File, found[i].Text, found[i].Hint = clean(f.File), clean(f.Text), clean(f.Hint)
	}
	for name := range read.Files {
		if name != filepath.Base(src.Main) {
			loads = append(loads, filepath.Join(filepath.Dir(src.Main), filepath.FromSlash(name)))
		}
	}
	return found, loads, nil
}

// once starts an evaluator for one thing that is done with a runbook. read is what was read for it.
func once(ctx context.Context, cfg Config, src engine.Source, first frame) (done frame, read engine.Source, err error) {
	p, err := prepare(cfg, src)
	if err != nil {
		return frame{}, src, err
	}
	defer p.Close()
	defer p.tree.close()
	first.Name, first.Dir = p.tree.main(), p.tree.dir()
	done, err = p.first(ctx, first)
	return done, p.Source(), err
}

// check is the evaluator's side of [Check].
func (ev *evaluator) check(t *thread, f frame) {
	l := newLoader(t, f.Dir, f.Name)
	var done frame
	done.Err = t.guard(func() error {
		found, err := ev.lintAll(l, t)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(found, func(f lint.Finding) bool { return lint.Rules[f.Rule].Level == lint.Error }) {
			if strings.HasSuffix(l.name, TestSuffix) {
				_, _, err = l.tests()
			} else {
				_, _, _, err = l.main()
			}
			if err != nil {
				found = append(found, atLoad(l, failure(err)))
			}
		}
		done.Value, err = json.Marshal(found)
		return err
	})
	ev.finish(t, done)
}

// lintAll checks the main file and all that is loaded, each file once.
func (ev *evaluator) lintAll(l *loader, t *thread) ([]lint.Finding, error) {
	found := []lint.Finding{}
	seen := map[string]bool{l.name: true}
	for todo := []string{l.name}; len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		answer, err := t.ask(frame{Type: tLoad, Name: name, Pos: l.shown(name)})
		var cannot *answerError
		if errors.As(err, &cannot) && name != l.name {
			continue // loading it will say so, at its place
		}
		if err != nil {
			return nil, invalid(l.shown(name), "%s", err)
		}
		here, loads := lint.File(ev.language(l), l.shown(name), answer.Text, name == l.name && !strings.HasSuffix(name, TestSuffix), dialect)
		found = append(found, here...)
		for _, n := range loads {
			if !seen[n] {
				seen[n] = true
				todo = append(todo, n)
			}
		}
	}
	return found, nil
}

// atLoad is an error of the top level as a finding.
func atLoad(l *loader, e *errorFrame) lint.Finding {
	out := lint.Finding{File: l.shown(l.name), Line: 1, Col: 1, Rule: "load", Text: e.Cause, Hint: e.Hint}
	parts := strings.Split(e.Pos, ":")
	if n := len(parts); n > 2 {
		line, err1 := strconv.Atoi(parts[n-2])
		col, err2 := strconv.Atoi(parts[n-1])
		if err1 == nil && err2 == nil {
			out.File, out.Line, out.Col = strings.Join(parts[:n-2], ":"), line, col
		}
	}
	return out
}

// language is what lint must know of this one.
func (ev *evaluator) language(l *loader) lint.Language {
	lang := lint.Language{
		Predeclared: l.env.Has,
		Builtins: map[string][]string{
			"runbook": {"params?", "limits?", "rollout?"},
			"limits":  {},
			"rollout": {"waves?", "bake?", "max_failures?", "confirm_within?", "gate_every?", "parallel?", "spread?", "on_failure?"},
			"expect":  {"cond", "msg"}, "observe": {"name", "value"}, "fail": {"msg"}, "attempt": {"fn"}, "retry": {"times", "delay", "fn"},
		},
		Operations: ev.asked(),
		Looks:      func(op string) bool { _, looks := ev.ops[op].(engine.Probe); return looks },
		Disrupts:   func(op string) bool { _, does := ev.ops[op].(engine.Disruptor); return does },
		CheckCall: func(op string, args []lint.Argument) []string {
			if ev.modules.Has(op) {
				return newBinding(op, named{}).check(args)
			}
			return newBinding(op, ev.ops[op]).check(args)
		},
		Servers:         ev.methods(),
		CheckServerCall: func(op string, args []lint.Argument) []string { return newBinding(op, ev.ops[op]).checkOf("x", args) },
		CheckRetry: func(times int64, delay string) string {
			if _, err := retryDelay(times, delay); err != nil {
				return clean(err.Error())
			}
			return ""
		},
		Near: func(name string, candidates []string) string {
			return strings.Trim(didYouMean(name, candidates), " ()")
		},
	}
	for _, info := range engine.LimitTable {
		lang.Builtins["limits"] = append(lang.Builtins["limits"], string(info.Name)+"?")
	}
	for name := range paramTypes {
		lang.Params = append(lang.Params, name)
	}
	slices.Sort(lang.Params)
	return lang
}

// methods are what the servers of each domain can be asked.
func (ev *evaluator) methods() map[string][]string {
	out := map[string][]string{}
	for _, name := range ev.ops.Names() {
		if domain, method, _ := cutLast(name); ev.modules.Has(domain) {
			out[domain] = append(out[domain], method)
		}
	}
	return out
}

// asked are the functions of a node: operations, and what names a server for those that servers are asked.
func (ev *evaluator) asked() (out []string) {
	for _, name := range ev.ops.Names() {
		if domain, _, _ := cutLast(name); ev.modules.Has(domain) {
			name = domain
		}
		out = append(out, name)
	}
	return slices.Compact(out)
}

// named has the arguments of what names a server.
type named struct {
	Server string `json:"server"`
}

// check says what is wrong with the arguments of a call as they are written.
func (b *binding) check(args []lint.Argument) []string { return b.checkOf("", args) }

// checkOf is check of what is asked of a server, which has a name of some kind.
func (b *binding) checkOf(server string, args []lint.Argument) []string {
	var wrong []string
	given := map[string]bool{}
	spread := false
	op := reflect.New(b.typ).Elem()
	positional, first := 0, 0
	if server != "" {
		op.Field(0).SetString(server)
		given[serverArg], positional, first = true, 1, 1
	}
	if b.onFleet { // it may be given the fleet, which is no argument
		args = slices.DeleteFunc(slices.Clone(args), func(a lint.Argument) bool { return !a.Known && !a.Spread && (a.Name == "" || a.Name == fleetKind) })
	}
	names := b.names[first:]
	for _, a := range args {
		name := a.Name
		switch {
		case a.Spread:
			spread = true
			continue
		case name == "" && positional >= len(b.args):
			return append(wrong, fmt.Sprintf("takes %d arguments (%s), got %d", len(names), strings.Join(names, ", "), len(args)))
		case name == "":
			name = b.names[positional]
			positional++
		}
		n := slices.Index(b.names, name)
		switch {
		case n < first:
			wrong = append(wrong, "unexpected argument "+name+cmp.Or(didYouMean(name, names), itTakes(names)))
			continue
		case given[name]:
			wrong = append(wrong, "argument "+name+" is given twice")
		}
		given[name] = true
		if a.Known && !(a.Literal == nil && b.args[n].Optional) {
			if err := assign(op.Field(n), literalValue(a.Literal), name, maxDepth); err != nil {
				wrong = append(wrong, clean(err.Error()))
			}
		}
	}
	var missing []string
	for _, a := range b.args {
		if !a.Optional && !given[a.Name] && !spread {
			missing = append(missing, a.Name)
		}
	}
	switch {
	case len(missing) == 1:
		wrong = append(wrong, "missing argument "+missing[0])
	case len(missing) > 1:
		wrong = append(wrong, "missing arguments "+strings.Join(missing, ", "))
	case len(wrong) == 0 && !spread && !slices.ContainsFunc(args, func(a lint.Argument) bool { return !a.Known }):
		if err := engine.Validate(op.Interface()); err != nil { // all of them are there to be seen
			wrong = append(wrong, clean(err.Error()))
		}
	}
	return wrong
}

// literalValue is a literal as the script would make it.
func literalValue(v any) starlark.Value {
	switch v := v.(type) {
	case nil:
		return starlark.None
	case string:
		return starlark.String(v)
	case bool:
		return starlark.Bool(v)
	case int64:
		return starlark.MakeInt64(v)
	case float64:
		return starlark.Float(v)
	case *big.Int:
		return starlark.MakeBigInt(v)
	case lint.Function:
		return new(starlark.Function) // of which only the type is looked at
	case lint.List:
		var elems []starlark.Value
		for _, e := range v {
			elems = append(elems, literalValue(e))
		}
		return starlark.NewList(elems)
	case lint.Dict:
		d := starlark.NewDict(len(v))
		for _, e := range v {
			d.SetKey(literalValue(e.Key), literalValue(e.Value)) //nolint:errcheck // a key that cannot be one has its own finding
		}
		return d
	}
	return starlark.None
}
