package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"runbook/engine"
)

// This file is the functions that every script has besides Starlark's own.
// There is none for the time, for random numbers or for files: a script does
// the same in a dry run as later.

// maxObserved bounds the name of what is observed, in bytes.
const maxObserved = 100

// maxTimes bounds retry(times, …).
const maxTimes = 10_000

func builtins(h *headerBuilder, modules starlark.StringDict) starlark.StringDict {
	env := starlark.StringDict{
		"runbook": starlark.NewBuiltin("runbook", h.declare),
		"limits":  starlark.NewBuiltin("limits", declareLimits),
		"rollout": starlark.NewBuiltin("rollout", declareRollout),
		"param":   paramModule(),
		"expect":  starlark.NewBuiltin("expect", expect),
		"fail":    starlark.NewBuiltin("fail", fail),
		"attempt": starlark.NewBuiltin("attempt", attempt),
		"retry":   starlark.NewBuiltin("retry", retry),
		"observe": starlark.NewBuiltin("observe", observe),
		"struct":  starlark.NewBuiltin("struct", makeStruct),
	}
	maps.Copy(env, modules)
	env.Freeze()
	return env
}

// unpack is starlark.UnpackArgs with a hint for every misspelled name.
func unpack(fn string, args starlark.Tuple, kwargs []starlark.Tuple, pairs ...any) error {
	var names []string
	for i := 0; i < len(pairs); i += 2 {
		names = append(names, strings.TrimRight(pairs[i].(string), "?"))
	}
	for _, kv := range kwargs {
		if name := string(kv[0].(starlark.String)); !slices.Contains(names, name) {
			return fmt.Errorf("%s: unexpected argument %s%s", fn, name, didYouMean(name, names))
		}
	}
	return starlark.UnpackArgs(fn, args, kwargs, pairs...)
}

// unmet is the error of expect and fail: the node is not as the script needs it.
func unmet(msg string) error {
	return &scriptError{errorFrame{Code: engine.Unreachable, Cause: clean(msg)}}
}

// expect implements expect(cond, msg): ends the script on this node, or the hook, with msg unless cond is true. A node on which
// that happens has failed, and is put back; a gate that it ends is not passed.
//
//	expect(node.link.get("eth1").carrier, "eth1 has no carrier")
func expect(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var cond starlark.Value
	var msg string
	if err := unpack("expect", args, kwargs, "cond", &cond, "msg", &msg); err != nil {
		return nil, err
	}
	if !cond.Truth() {
		return nil, unmet(msg)
	}
	return starlark.None, nil
}

// observe implements observe(name, value): in a hook, shows who watches the run how a number goes.
//
//	observe("free connections", pg.connect("service=main").connections().free)
func observe(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	var value starlark.Value
	if err := unpack("observe", args, kwargs, "name", &name, "value", &value); err != nil {
		return nil, err
	}
	number, ok := starlark.AsFloat(value)
	if !ok || math.IsInf(number, 0) || math.IsNaN(number) {
		return nil, invalid("", "observe: value must be a finite number, got %s", describe(value))
	}
	if name == "" || len(name) > maxObserved {
		return nil, invalid("", "observe: name must have 1 to %d bytes", maxObserved)
	}
	b, err := json.Marshal(number)
	if err != nil {
		return nil, err
	}
	_, err = threadOf(t).ask(frame{Type: tValue, Text: name, Value: b, Pos: here(t)})
	return starlark.None, err
}

// fail implements fail(msg): ends the script with msg, as expect(False, msg) does.
func fail(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var msg string
	if err := unpack("fail", args, kwargs, "msg", &msg); err != nil {
		return nil, err
	}
	return nil, unmet(msg)
}

// attempt implements attempt(fn): returns (what fn returns, None), or (None, error) where the node refused, with error's cause,
// hint, kernel and errno. Every other error goes on: a script cannot make light of a limit, a drift or a cancellation.
//
//	_, error = attempt(lambda: node.link.set("eth1", mtu = 9000))
//	if error:
//	    print(error.cause)
func attempt(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var fn starlark.Callable
	if err := unpack("attempt", args, kwargs, "fn", &fn); err != nil {
		return nil, err
	}
	v, err := starlark.Call(t, fn, nil, nil)
	var refused *answerError
	switch {
	case err == nil:
		return starlark.Tuple{v, starlark.None}, nil
	case errors.As(err, &refused) && refused.Catch:
		return starlark.Tuple{starlark.None, refusal(refused)}, nil
	}
	return nil, err
}

// refusal is a node's refusal as a value.
func refusal(e *answerError) starlark.Value {
	fields := starlark.StringDict{}
	for name, text := range map[string]string{"cause": e.Cause, "hint": e.Hint, "kernel": e.Kernel, "errno": e.Errno} {
		fields[name] = starlark.String(text)
	}
	r := newRecord("error", fields)
	r.Freeze()
	return r
}

// retry implements retry(times, delay, fn): calls fn until it returns, at most so many times, and waits for delay in between.
// It tries again where the node refused or was not as expected. Where run is predicted it does not wait; hooks do.
//
//	retry(5, "2s", lambda: expect(node.link.get("eth1").carrier, "no carrier yet"))
func retry(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var times int
	var delay string
	var fn starlark.Callable
	if err := unpack("retry", args, kwargs, "times", &times, "delay", &delay, "fn", &fn); err != nil {
		return nil, err
	}
	d, err := retryDelay(int64(times), delay)
	if err != nil {
		return nil, err
	}
	for i := 1; ; i++ {
		v, err := starlark.Call(t, fn, nil, nil)
		if err == nil || i == times || !mayPass(err) {
			return v, err
		}
		if _, err := threadOf(t).ask(frame{Type: tSleep, Delay: engine.Duration(d), Pos: here(t)}); err != nil {
			return nil, err
		}
	}
}

// retryDelay is how long a retry waits between two tries, where its arguments are in their bounds.
func retryDelay(times int64, delay string) (time.Duration, error) {
	d, err := parseDuration(delay)
	switch {
	case err != nil:
		return 0, invalid("", "retry: delay: %v", err)
	case d < 0 || d > maxDelay:
		return 0, invalid("", "retry: delay must be between 0 and %s, got %s", maxDelay, d)
	case times < 1 || times > maxTimes:
		return 0, invalid("", "retry: times must be between 1 and %d, got %d", maxTimes, times)
	}
	return d, nil
}

// mayPass reports whether what failed with err may succeed later.
func mayPass(err error) bool {
	var refused *answerError
	var script *scriptError
	return errors.As(err, &refused) && refused.Catch ||
		errors.As(err, &script) && script.Code == engine.Unreachable
}

// makeStruct implements struct(name = value, …): makes a value with these fields, which does not change.
func makeStruct(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(args) > 0 {
		return nil, invalid("", "struct: name the fields: struct(a = 1)")
	}
	r := fields("struct", kwargs)
	if len(slices.Compact(slices.Clone(r.names))) < len(r.names) {
		return nil, invalid("", "struct: a field is given twice")
	}
	return r, nil
}

// nodeOps is what a node can be asked, by name: a function for an operation
// called "facts", a record of functions for all that begin with "route.", and a function that
// names a server for those that servers are asked. modules are what connects to servers.
func nodeOps(ops engine.Operations) (out, modules starlark.StringDict) {
	out = starlark.StringDict{}
	domains := map[string]starlark.StringDict{}
	for name, op := range ops {
		fn := starlark.NewBuiltin(name, newBinding(name, op).call)
		domain, method, dotted := cutLast(name)
		switch {
		case !dotted:
			out[name] = fn
		case domains[domain] == nil:
			domains[domain] = starlark.StringDict{method: fn}
		default:
			domains[domain][method] = fn
		}
	}
	servers, modules := serversOf(domains, ops)
	for _, domain := range slices.Sorted(maps.Keys(domains)) {
		if out.Has(domain) {
			panic(fmt.Sprintf("%s is an operation and has operations", domain))
		}
		if s, is := servers[domain]; is {
			out[domain] = starlark.NewBuiltin(domain, s.own)
		} else {
			out[domain] = newRecord(domain, domains[domain])
		}
	}
	for _, taken := range []string{"name", "groups", "vars"} {
		if out.Has(taken) {
			panic(fmt.Sprintf("an operation is called %s, as a node's own field", taken))
		}
	}
	out.Freeze()
	return out, modules
}
