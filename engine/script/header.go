package script

import (
	"fmt"
	"go.starlark.net/starlark"

	"runbook/engine"
)

// This file is what a runbook declares: runbook(…), limits(…), rollout(…) and
// param.…(…), in the evaluator.

// headerBuilder takes the declaration of the main file.
type headerBuilder struct {
	mainFile string
	pool     *pool
	header   *engine.Header // nil until runbook(…) is called
	pos      string         // of that call
}

// declared is an opaque value that carries a part of the header to runbook(…).
type declared[T any] struct {
	kind string
	v    T
}

func (d declared[T]) String() string        { return "<" + d.kind + ">" }
func (d declared[T]) Type() string          { return d.kind }
func (d declared[T]) Freeze()               {}
func (d declared[T]) Truth() starlark.Bool  { return true }
func (d declared[T]) Hash() (uint32, error) { return starlark.String(d.kind).Hash() }

type (
	declaredParam   = declared[engine.Param]
	declaredLimits  = declared[engine.Limits]
	declaredRollout = declared[engine.Rollout]
)

// defaultRollout is what a runbook has that declares no rollout: one node is
// tried, then, a minute later, all.
var defaultRollout = engine.Rollout{Waves: []string{"1", "100%"}}

// declare implements runbook(params = {…}, limits = limits(…), rollout = rollout(…)): declares what a runbook takes, what it may
// do, and in which order. It is called once, at the top level of the main file, which also has these functions, of which run is needed:
//
//	def run(node, p):        # for each node; p has the parameters
//	def before(fleet, p):    # once, before the first wave; it may change servers
//	def gate(fleet, p):      # before each wave, while one bakes, and after the last
//	def after(fleet, p):     # once, at the end; it may change servers
//
// A node has name, groups and vars, and what it can be asked; fleet.nodes are all of them, each with its state too.
func (b *headerBuilder) declare(t *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var params *starlark.Dict
	var limits, rollout starlark.Value
	if len(args) > 0 {
		return nil, invalid("", "runbook: name the arguments: runbook(params = {…}, limits = limits(…))")
	}
	if err := unpack("runbook", args, kwargs, "params?", &params, "limits?", &limits, "rollout?", &rollout); err != nil {
		return nil, err
	}
	switch caller := t.CallFrame(1); {
	case t.CallStackDepth() != 2 || caller.Pos.Filename() != b.mainFile:
		return nil, invalid("", "runbook(…) belongs at the top level of the main file")
	case b.header != nil:
		return nil, invalid("", "runbook(…) is called twice; the first time was at %s", b.pos)
	}
	h := &engine.Header{Rollout: defaultRollout}
	if params != nil {
		for name, v := range params.Entries() {
			p, err := namedParam(name, v)
			if err != nil {
				return nil, err
			}
			h.Params = append(h.Params, p)
		}
	}
	switch v := limits.(type) {
	case nil:
	case declaredLimits:
		h.Limits = v.v
	default:
		return nil, invalid("", "runbook: limits: want limits(…), got %s", describe(v))
	}
	switch v := rollout.(type) {
	case nil:
	case declaredRollout:
		h.Rollout = v.v
	default:
		return nil, invalid("", "runbook: rollout: want rollout(…), got %s", describe(v))
	}
	b.header, b.pos = h, here(t)
	b.pool.declare(h.Limits)
	return starlark.None, nil
}

func namedParam(name, v starlark.Value) (engine.Param, error) {
	n, ok := starlark.AsString(name)
	if !ok {
		return engine.Param{}, invalid("", "params: a name must be a string, got %s", describe(name))
	}
	d, ok := v.(declaredParam)
	if !ok {
		return engine.Param{}, invalid("", "params: %s: want a type such as param.string(…), got %s", n, describe(v))
	}
	p := d.v
	p.Name = n
	if err := checkParam(&p); err != nil {
		return engine.Param{}, invalid("", "params: %s: %v", n, err)
	}
	return p, nil
}

// declareLimits implements limits(…): says what a run may do at most. What it leaves out has its default; policies and --limit can
// lower it further.
//
//	limits = limits(nodes = 200, changes_per_node = 2, duration = "10m")
func declareLimits(t *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) > 0 {
		return nil, invalid("", "limits: name the arguments: limits(nodes = 200)")
	}
	values := make([]starlark.Value, len(engine.LimitTable))
	var pairs []any
	for i, info := range engine.LimitTable {
		pairs = append(pairs, string(info.Name)+"?", &values[i])
	}
	if err := unpack("limits", args, kwargs, pairs...); err != nil {
		return nil, err
	}
	l := engine.Limits{}
	for i, info := range engine.LimitTable {
		if values[i] == nil {
			continue
		}
		n, err := bound(info, values[i])
		if err != nil {
			return nil, invalid("", "limits: %v", err)
		}
		l[info.Name] = engine.Bound{N: n, Source: here(t)}
	}
	return declaredLimits{"limits", l}, nil
}

// bound reads what a runbook gives a limit: an int, or a string where the limit has a unit.
func bound(info engine.LimitInfo, v starlark.Value) (int64, error) {
	if info.Unit == engine.Count {
		i, isInt := v.(starlark.Int)
		n, small := i.Int64()
		if !isInt || !small {
			return 0, fmt.Errorf("%s: want an int, got %s", info.Name, describe(v))
		}
		return n, info.Check(n)
	}
	s, ok := starlark.AsString(v)
	if !ok {
		return 0, fmt.Errorf("%s: want a string such as %q, got %s", info.Name, info.Show(info.Default), describe(v))
	}
	return info.Parse(s)
}

// declareRollout implements rollout(…): says in which order nodes are changed, and how fast. It takes waves (how many nodes, or what
// part of them, have been tried at the end of each: ["1", "100%"]), bake (the wait after a wave: "0s"), max_failures (how many nodes may fail: 0),
// gate_every (the time between two looks of the gate while a wave bakes: "10s"), parallel (how many nodes are changed at a time), spread (a
// variable of the nodes, such as "rack", whose values take turns), on_failure ("put back", or "keep": what becomes of what was
// changed on a node that fails), and confirm_within (how long a node that a change may cut off waits to be reached again, before it puts itself back: "30s").
//
//	rollout = rollout(waves = ["1", "10%", "100%"], bake = "5m", spread = "rack")
func declareRollout(t *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	r := engine.Rollout{MaxFailures: defaultRollout.MaxFailures}
	var waves *starlark.List
	bake, within, every := defaultRollout.Bake.String(), engine.DefaultConfirmWithin.String(), ""
	var parallel starlark.Value
	if len(args) > 0 {
		return nil, invalid("", `rollout: name the arguments: rollout(waves = ["1", "100%%"])`)
	}
	if err := unpack("rollout", args, kwargs, "waves?", &waves, "bake?", &bake, "max_failures?", &r.MaxFailures, "confirm_within?", &within,
		"gate_every?", &every, "parallel?", &parallel, "spread?", &r.Spread, "on_failure?", &r.OnFailure); err != nil {
		return nil, err
	}
	if waves == nil {
		r.Waves = defaultRollout.Waves
	} else {
		for w := range waves.Elements() {
			switch w := w.(type) {
			case starlark.String:
				r.Waves = append(r.Waves, string(w))
			case starlark.Int:
				r.Waves = append(r.Waves, show(w))
			default:
				return nil, invalid("", `rollout: waves: want strings such as "1" or "10%%", got %s`, describe(w))
			}
		}
	}
	d, err := parseDuration(bake)
	if err != nil {
		return nil, invalid("", "rollout: bake: %v", err)
	}
	r.Bake = engine.Duration(d)
	if d, err = parseDuration(within); err != nil {
		return nil, invalid("", "rollout: confirm_within: %v", err)
	}
	r.ConfirmWithin = engine.Duration(d)
	if every != "" {
		if d, err = parseDuration(every); err != nil {
			return nil, invalid("", "rollout: gate_every: %v", err)
		}
		if r.GateEvery = engine.Duration(d); r.GateEvery == 0 { // which would mean the default
			return nil, invalid("", "rollout: gate_every must be at least %s, got 0s", minGateEvery)
		}
	}
	if parallel != nil {
		n, isInt := parallel.(starlark.Int)
		i, small := n.Int64()
		if !isInt || !small || i < 1 || i > 100_000 {
			return nil, invalid("", "rollout: parallel: want how many nodes are changed at a time, from 1 on, got %s", describe(parallel))
		}
		r.Parallel = int(i)
	}
	if err := checkRollout(&r); err != nil {
		return nil, invalid("", "%v", err)
	}
	return declaredRollout{"rollout", r}, nil
}

// paramModule is param: a function for each type of parameter.
func paramModule() *record {
	types := starlark.StringDict{}
	for name := range paramTypes {
		types[name] = starlark.NewBuiltin("param."+name, declareParam(name))
	}
	return newRecord("param", types)
}

// declareParam implements param.TYPE(doc, default = …): declares a parameter, given as name=value on the command line. TYPE is string, int, bool,
// ip, prefix, duration, or choice, which takes choices after doc. A parameter without a default must be given.
//
//	params = {"dev": param.string("interface", default = "eth1"), "how": param.choice("how", ["soft", "hard"])}
func declareParam(typ string) func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error) {
	return func(t *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		p := engine.Param{Name: "x", Type: typ} // its name is a key in runbook(params = …)
		var dflt starlark.Value
		var choices *starlark.List
		pairs := []any{"doc", &p.Doc, "default?", &dflt}
		if typ == "choice" {
			pairs = []any{"doc", &p.Doc, "choices", &choices, "default?", &dflt}
		}
		if err := unpack(fn.Name(), args, kwargs, pairs...); err != nil {
			return nil, err
		}
		if choices != nil {
			for c := range choices.Elements() {
				s, ok := starlark.AsString(c)
				if !ok {
					return nil, invalid("", "%s: choices: want strings, got %s", fn.Name(), describe(c))
				}
				p.Choices = append(p.Choices, s)
			}
		}
		p.Required = dflt == nil
		if dflt != nil {
			v, err := toGo(dflt, 2)
			if err != nil {
				return nil, invalid("", "%s: default: %v", fn.Name(), err)
			}
			p.Default = v
		}
		if err := checkParam(&p); err != nil {
			return nil, invalid("", "%s: default: %v", fn.Name(), err)
		}
		return declaredParam{"param", p}, nil
	}
}
