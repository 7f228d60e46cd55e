package script

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"runbook/engine"
)

// This file knows the types of parameters: for the command line's texts, on the
// controller, and for the defaults in a header, in the evaluator.

// paramTypes names what a value of each type looks like.
var paramTypes = map[string]string{
	"string":   "a string",
	"int":      "a whole number such as 8",
	"bool":     "true or false",
	"ip":       wantIP,
	"prefix":   wantPrefix,
	"duration": wantDuration,
	"choice":   "one of its choices",
}

const (
	wantIP       = "an IP address such as 192.0.2.1"
	wantPrefix   = "a prefix such as 10.20.0.0/16"
	wantDuration = `a duration such as "30s"`
)

const maxParam = 256 << 10 // bytes of one on the command line

// BindParams makes values of the texts in args, as h declares its parameters:
// a string, int64 or bool for each, in the one spelling that it has (a prefix
// and an address as netip prints it, a duration as Go does), or nil where the
// default is None. Whatever is wrong with args is one error, naming all that
// is missing.
func BindParams(h engine.Header, args map[string]string) (map[string]any, error) {
	values := make(map[string]any, len(h.Params))
	var missing, names []string
	for _, p := range h.Params {
		names = append(names, p.Name)
		text, given := args[p.Name]
		switch {
		case len(text) > maxParam:
			return nil, engine.Invalid.Errorf("parameter %s has %d bytes, and can have %d", p.Name, len(text), maxParam)
		case given:
			v, err := parseParam(p, text)
			if err != nil {
				return nil, engine.Invalid.Errorf("parameter %s: %s", p.Name, clean(err.Error()))
			}
			values[p.Name] = v
		case p.Required:
			missing = append(missing, fmt.Sprintf("%s (%s)", p.Name, p.Doc))
		default:
			v, err := canonicalParam(p, p.Default)
			if err != nil {
				return nil, engine.Invalid.Errorf("the default of parameter %s: %w", p.Name, err)
			}
			values[p.Name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if !slices.Contains(names, name) {
			return nil, unknownParam(name, names)
		}
	}
	if len(missing) > 0 {
		return nil, &engine.Error{
			Code:  engine.Invalid,
			Cause: "missing: " + strings.Join(missing, ", "),
			Hint:  "give each as name=value",
		}
	}
	return values, nil
}

func unknownParam(name string, names []string) error {
	name = clean(name)
	e := engine.Invalid.Errorf("the runbook has no parameter %s%s", name, didYouMean(name, names))
	e.Hint = "it has none"
	if len(names) > 0 {
		e.Hint = "it has " + strings.Join(names, ", ")
	}
	return e
}

// parseParam makes a value of p's type from a text.
func parseParam(p engine.Param, text string) (any, error) {
	switch p.Type {
	case "int":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("want %s, got %q", paramTypes[p.Type], text)
		}
		return n, nil
	case "bool":
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("want %s, got %q", paramTypes[p.Type], text)
		}
		return text == "true", nil
	}
	return canonicalParam(p, text)
}

// canonicalParam checks that v is a value of p's type and returns it in its one
// spelling. It takes an int in all forms that JSON gives it.
func canonicalParam(p engine.Param, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	switch p.Type {
	case "int":
		if n, ok := wholeNumber(v); ok {
			return n, nil
		}
	case "bool":
		if b, ok := v.(bool); ok {
			return b, nil
		}
	default:
		if s, ok := v.(string); ok {
			return canonicalText(p, s)
		}
	}
	return nil, fmt.Errorf("want %s, got %#v", paramTypes[p.Type], v)
}

func wholeNumber(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return 0, false
}

func canonicalText(p engine.Param, s string) (any, error) {
	switch p.Type {
	case "string":
		return s, nil
	case "ip":
		a, err := parseIP(s)
		return a.String(), err
	case "prefix":
		n, err := parsePrefix(s)
		return n.String(), err
	case "duration":
		d, err := parseDuration(s)
		return d.String(), err
	case "choice":
		if !slices.Contains(p.Choices, s) {
			return nil, fmt.Errorf("want one of %s, got %q%s", strings.Join(p.Choices, ", "), s, didYouMean(s, p.Choices))
		}
		return s, nil
	}
	return nil, fmt.Errorf("there is no parameter type %q", p.Type)
}

func parseIP(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("want %s, got %q", wantIP, s)
	}
	return a, nil
}

// parsePrefix takes networks only: one with host bits set is either a typo or
// an address, and what it would become is not for us to guess.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
			return p, fmt.Errorf("want %s, got %q: did you mean %s/%d", wantPrefix, s, s, a.BitLen())
		}
		return p, fmt.Errorf("want %s, got %q", wantPrefix, s)
	}
	if m := p.Masked(); m != p {
		return p, fmt.Errorf("%s has host bits set: did you mean %s", s, m)
	}
	return p, nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("want %s, got %q", wantDuration, s)
	}
	return d, nil
}

// checkHeader accepts a header that the builtins of header.go could have made,
// and gives its values the types that JSON has taken from them.
func checkHeader(h *engine.Header) error {
	h.Doc = clean(h.Doc)
	for name, b := range h.Limits { // each was checked as it was decoded
		b.Source = clean(b.Source)
		h.Limits[name] = b
	}
	seen := map[string]bool{}
	for i := range h.Params {
		p := &h.Params[i]
		if seen[p.Name] {
			return fmt.Errorf("parameter %q twice", p.Name)
		}
		seen[p.Name] = true
		if err := checkParam(p); err != nil {
			return fmt.Errorf("parameter %q: %w", p.Name, err)
		}
	}
	for name, pos := range h.Hooks {
		if name != engine.HookBefore && name != engine.HookGate && name != engine.HookAfter || pos == "" {
			return fmt.Errorf("there is no hook %q", name)
		}
		h.Hooks[name] = clean(pos)
	}
	return checkRollout(&h.Rollout)
}

func checkParam(p *engine.Param) error {
	p.Doc = clean(p.Doc)
	switch {
	case !isName(p.Name):
		return fmt.Errorf("%q is not a name: it needs to be letters, digits and underscores", clean(p.Name))
	case paramTypes[p.Type] == "":
		return fmt.Errorf("there is no parameter type %q", p.Type)
	case p.Type == "choice" && len(p.Choices) == 0:
		return fmt.Errorf("there are no choices")
	case p.Required && p.Default != nil:
		return fmt.Errorf("it is required and has a default")
	}
	v, err := canonicalParam(*p, p.Default)
	p.Default = v
	return err
}

func isName(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// A node that may be cut off must be given the time of a few tries to reach it,
// and not so much that sessions which hang meanwhile are lost.
const (
	minConfirm = engine.Duration(5 * time.Second)
	maxConfirm = engine.Duration(10 * time.Minute)
)

// A gate that looks all the time would be a load itself.
const minGateEvery = engine.Duration(time.Second)

// checkRollout accepts waves that grow: numbers of nodes first, then
// percentages, for which is the larger of the two depends on the fleet. It
// adds the last wave, every node, where it is left out.
func checkRollout(r *engine.Rollout) error {
	last, percentages := 0, false
	for i, w := range r.Waves {
		text, percent := strings.CutSuffix(w, "%")
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n < 1 || percent && n > 100:
			return fmt.Errorf(`rollout: wave %q: want a number of nodes such as "1", or a percentage such as "10%%"`, clean(w))
		case percentages && !percent:
			return fmt.Errorf("rollout: wave %q comes after a percentage: numbers of nodes come first", w)
		case percent == percentages && n <= last:
			return fmt.Errorf("rollout: wave %q is not larger than the one before, %q", w, r.Waves[i-1])
		}
		last, percentages = n, percent
	}
	if !percentages || last < 100 {
		r.Waves = append(r.Waves, "100%")
	}
	switch {
	case len(r.Waves) > 100:
		return fmt.Errorf("rollout: %d waves, and there can be 100", len(r.Waves))
	case r.Bake < 0:
		return fmt.Errorf("rollout: bake must not be negative, got %s", r.Bake)
	case r.MaxFailures < 0:
		return fmt.Errorf("rollout: max_failures must not be negative, got %d", r.MaxFailures)
	case r.ConfirmWithin != 0 && (r.ConfirmWithin < minConfirm || r.ConfirmWithin > maxConfirm):
		return fmt.Errorf("rollout: confirm_within must be from %s to %s, got %s", minConfirm, maxConfirm, r.ConfirmWithin)
	case r.GateEvery != 0 && r.GateEvery < minGateEvery:
		return fmt.Errorf("rollout: gate_every must be at least %s, got %s", minGateEvery, r.GateEvery)
	case r.Parallel < 0:
		return fmt.Errorf("rollout: parallel must be at least 1, got %d", r.Parallel)
	case len(r.Spread) > maxText:
		return fmt.Errorf("rollout: spread is too long for the name of a variable")
	case r.OnFailure != "" && r.OnFailure != engine.FailedPutBack && r.OnFailure != engine.FailedKeep:
		return fmt.Errorf("rollout: on_failure must be %q or %q, got %q", engine.FailedPutBack, engine.FailedKeep, clean(r.OnFailure))
	}
	r.Spread = clean(r.Spread)
	return nil
}
