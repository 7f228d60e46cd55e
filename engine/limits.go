package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

// Limit names one bound of a run.
type Limit string

// The limits. All are counted while predicting, so that a run which wants more
// is refused before anything has changed; [LimitTable] says what each counts.
const (
	LimitNodes            Limit = "nodes"
	LimitChanges          Limit = "changes"
	LimitChangesPerNode   Limit = "changes_per_node"
	LimitRepeats          Limit = "repeats"
	LimitCallsPerNode     Limit = "calls_per_node"
	LimitDisruptive       Limit = "disruptive"
	LimitChangesPerMinute Limit = "changes_per_minute"
	LimitFailures         Limit = "failures"
	LimitDuration         Limit = "duration"
	LimitSteps            Limit = "steps"
	LimitMemory           Limit = "memory"
	LimitOutput           Limit = "output"
	LimitNodesPerHour     Limit = "nodes_per_hour"
	LimitChangesPerHour   Limit = "changes_per_hour"
	LimitFailuresPerHour  Limit = "failures_per_hour"
)

// LimitInfo is what there is to know of a limit, whoever sets it.
type LimitInfo struct {
	Name    Limit
	Unit    LimitUnit
	Default int64 // where nobody says anything
	Min     int64 // the least that makes sense
	Max     int64 // the most that anybody can set
	Doc     string
	Twice   Limit // where this allows more than half of it, the default is twice as much as this
}

// LimitUnit is what a limit counts in.
type LimitUnit int

// The units. A time is in nanoseconds and a size in bytes; people write "30m" and "512MB".
const (
	Count LimitUnit = iota
	Time
	Size
)

// LimitTable has every limit, in the order in which they are shown.
var LimitTable = []LimitInfo{
	{LimitNodes, Count, 100, 1, 100_000, "selected nodes", ""},
	{LimitChanges, Count, 1000, 0, 10_000_000, "changes on all nodes together", ""},
	{LimitChangesPerNode, Count, 10, 0, 100_000, "changes on one node", ""},
	{LimitRepeats, Count, 1, 1, 1000, "the same change of the same resource of one node", ""},
	{LimitCallsPerNode, Count, 10_000, 1, 10_000_000, "operations called on one node, those that only look included", ""},
	{LimitDisruptive, Count, 5, 0, 10_000, "nodes that are disrupted at the same time", ""},
	{LimitChangesPerMinute, Count, 600, 1, 1_000_000, "changes begun in a minute; further nodes wait", ""},
	{LimitFailures, Count, 10, 0, 100_000, "nodes that may fail: rollout's max_failures is held to it", ""},
	{LimitDuration, Time, int64(30 * time.Minute), int64(time.Second), int64(7 * 24 * time.Hour), "the whole run, without the time in which people are asked", ""},
	{LimitSteps, Count, 100_000_000, 1, 100_000_000_000, "Starlark steps of the whole run", ""},
	{LimitMemory, Size, 512 << 20, 128 << 20, 8 << 30, "memory of the evaluator", ""}, // which has 80 MB before it reads a script
	{LimitOutput, Size, 1 << 20, 0, 64 << 20, "what the runbook prints, on all nodes together", ""},
	{LimitNodesPerHour, Count, 200, 1, 1_000_000, "nodes changed within an hour by this runbook on this inventory", LimitNodes},
	{LimitChangesPerHour, Count, 2000, 1, 100_000_000, "changes within an hour by this runbook on this inventory", LimitChanges},
	{LimitFailuresPerHour, Count, 20, 0, 1_000_000, "nodes that failed within an hour under this runbook on this inventory", ""},
}

// Info is what there is to know of l; nothing where there is no such limit.
func (l Limit) Info() (LimitInfo, bool) {
	i := slices.IndexFunc(LimitTable, func(info LimitInfo) bool { return info.Name == l })
	if i < 0 {
		return LimitInfo{}, false
	}
	return LimitTable[i], true
}

// Check is an error where n is nothing that the limit can be set to.
func (i LimitInfo) Check(n int64) error {
	switch {
	case n < i.Min:
		return fmt.Errorf("%s must be at least %s, got %s", i.Name, i.Show(i.Min), i.Show(n))
	case n > i.Max:
		return fmt.Errorf("%s must be at most %s, got %s", i.Name, i.Show(i.Max), i.Show(n))
	}
	return nil
}

// Show is n as people read it.
func (i LimitInfo) Show(n int64) string {
	switch i.Unit {
	case Time:
		return time.Duration(n).String()
	case Size:
		return showSize(n)
	default:
		return strconv.FormatInt(n, 10)
	}
}

// sizes are the units of a size, the largest first.
var sizes = []struct {
	unit string
	n    int64
}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}}

func showSize(n int64) string {
	for _, s := range sizes {
		if n >= s.n && n%s.n == 0 {
			return fmt.Sprintf("%d%s", n/s.n, s.unit)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// Parse reads what people write: 200, 30m, 512MB.
func (i LimitInfo) Parse(s string) (int64, error) {
	wrong := func(want string) error { return fmt.Errorf("%s: want %s, got %q", i.Name, want, s) }
	var n int64
	switch i.Unit {
	case Time:
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, wrong(`a time such as "30m"`)
		}
		n = int64(d)
	case Size:
		var ok bool
		if n, ok = parseSize(s); !ok {
			return 0, wrong(`a size such as "512MB"`)
		}
	default:
		var err error
		if n, err = strconv.ParseInt(s, 10, 64); err != nil {
			return 0, wrong("a number")
		}
	}
	return n, i.Check(n)
}

func parseSize(s string) (int64, bool) {
	factor := int64(1)
	for _, u := range append(sizes, struct {
		unit string
		n    int64
	}{"B", 1}) {
		if len(s) > len(u.unit) && s[len(s)-len(u.unit):] == u.unit {
			factor, s = u.n, s[:len(s)-len(u.unit)]
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt64/factor || n < 0 {
		return 0, false
	}
	return n * factor, true
}

// Bound is how much a run may use of something, and who says so.
type Bound struct {
	N      int64
	Source string // "edge.star:9:5", "--limit", "policy /etc/runbook/policy.yaml:12"; "": the default
}

// Limits bound a run. What they do not name has its default. The zero Limits are the defaults.
type Limits map[Limit]Bound

// Of is the bound of l.
func (l Limits) Of(name Limit) Bound {
	if b, ok := l[name]; ok {
		return b
	}
	info, _ := name.Info()
	if info.Twice != "" { // or a fleet could not be changed and then changed back
		info.Default = max(info.Default, 2*l.Of(info.Twice).N)
	}
	return Bound{N: info.Default}
}

// N is how much the bound of name allows.
func (l Limits) N(name Limit) int { return int(l.Of(name).N) }

// Duration is the bound of a time.
func (l Limits) Duration() time.Duration { return time.Duration(l.Of(LimitDuration).N) }

// Lower is l with what o says, where that is less, or is what the default says
// too: it is then o that must be asked for more. Nothing is raised.
func (l Limits) Lower(o Limits) Limits {
	out := maps.Clone(l)
	if out == nil {
		out = Limits{}
	}
	for name, b := range o {
		_, said := l[name]
		if had := l.Of(name).N; b.N < had || b.N == had && !said {
			out[name] = b
		}
	}
	return out
}

// Meet is what l and o say, the lower where both do. Unlike Lower it knows no
// defaults: what neither names is not limited by them.
func (l Limits) Meet(o Limits) Limits {
	out := maps.Clone(l)
	for name, b := range o {
		if had, both := out[name]; both && had.N <= b.N {
			continue
		}
		if out == nil {
			out = Limits{}
		}
		out[name] = b
	}
	return out
}

// Exceeded is the error for a limit that was hit; asked is what would have gone past it.
func (l Limits) Exceeded(name Limit, asked string) *Error {
	b := l.Of(name)
	info, _ := name.Info()
	source, hint := b.Source, "the lowest of the runbook's header, the policies and --limit holds"
	if source == "" {
		source, hint = "the default", fmt.Sprintf("if the runbook should do this, set %s in its limits(...)", name)
	}
	return &Error{
		Code:  LimitHit,
		Cause: fmt.Sprintf("%s, but limit %s = %s (%s)", asked, name, info.Show(b.N), source),
		Hint:  hint,
	}
}

// boundJSON is a Bound in JSON: a time as "30m0s", a number or bytes as a number.
type boundJSON struct {
	Value  any    `json:"value"`
	Source string `json:"source,omitempty"`
}

// MarshalJSON writes {"nodes": {"value": 200, "source": "edge.star:9:5"}}.
func (l Limits) MarshalJSON() ([]byte, error) {
	out := make(map[Limit]boundJSON, len(l))
	for name, b := range l {
		w := boundJSON{b.N, b.Source}
		if info, _ := name.Info(); info.Unit == Time {
			w.Value = time.Duration(b.N).String()
		}
		out[name] = w
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote. It trusts none of it.
func (l *Limits) UnmarshalJSON(b []byte) error {
	var in map[Limit]struct {
		Value  json.RawMessage
		Source string
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*l = Limits{}
	for name, w := range in {
		info, ok := name.Info()
		if !ok {
			return fmt.Errorf("there is no limit %q", name)
		}
		var n int64
		var text string
		var err error
		if info.Unit != Time {
			err = json.Unmarshal(w.Value, &n)
		} else if err = json.Unmarshal(w.Value, &text); err == nil {
			n, err = info.Parse(text)
		}
		if err == nil {
			err = info.Check(n)
		}
		if err != nil {
			return fmt.Errorf("limit %s: %w", name, err)
		}
		(*l)[name] = Bound{n, w.Source}
	}
	return nil
}
