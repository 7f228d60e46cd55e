package engine

import (
	"fmt"
	"sync"
)

// This file is what counts against the limits: a Budget for the pass of one node,
// and a Tally for all nodes of a run together.

// Budget counts what one node's pass has used of its limits.
type Budget struct {
	on      string // what it is of: "node", or "server"
	Limits  Limits
	Tally   *Tally // of the run; nil: the node counts alone
	calls   int
	changes int
	repeats map[string]int
}

// NewBudget returns the budget of the node, or the target, called name.
func NewBudget(name string, l Limits, t *Tally) *Budget {
	b := &Budget{on: "node", Limits: l, Tally: t}
	if IsTarget(name) {
		b.on = "server"
	}
	return b
}

// Tally counts what all nodes of a run use together. It is safe for concurrent use.
type Tally struct {
	mu      sync.Mutex
	changes int
	output  int64
	most    map[Limit]int64 // of what does not add up: the most there was, on any node or at any time
}

// NewTally returns the tally of a run that has charged so many changes already.
func NewTally(changes int) *Tally { return &Tally{changes: changes} }

// Used is how much of each limit was used; what was not counted is not there.
type Used map[Limit]int64

// Used returns what was counted so far.
func (t *Tally) Used() Used {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Used{LimitChanges: int64(t.changes), LimitOutput: t.output}
	for l, n := range t.most {
		out[l] = n
	}
	return out
}

// Note keeps n where it is the most of its limit.
func (t *Tally) Note(l Limit, n int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.most == nil {
		t.most = map[Limit]int64{}
	}
	t.most[l] = max(t.most[l], n)
}

// change charges n changes to the run.
func (t *Tally) change(l Limits, n int) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changes+n > l.N(LimitChanges) {
		return l.Exceeded(LimitChanges, fmt.Sprintf("this would be change %d of the run", t.changes+n))
	}
	t.changes += n
	return nil
}

// print charges a line to the run.
func (t *Tally) print(l Limits, line string) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	size := t.output + int64(len(line)) + 1
	if bound := l.Of(LimitOutput).N; size > bound {
		return l.Exceeded(LimitOutput, fmt.Sprintf("the run would print %s", showSize(size)))
	}
	t.output = size
	return nil
}

// Call charges one call of an operation.
func (b *Budget) Call() error {
	b.calls++
	if b.calls > b.Limits.N(LimitCallsPerNode) {
		return b.Limits.Exceeded(LimitCallsPerNode, fmt.Sprintf("this would be call %d on the %s", b.calls, b.on))
	}
	b.Tally.Note(LimitCallsPerNode, int64(b.calls))
	return nil
}

// Print charges a line that the script printed to the run.
func (b *Budget) Print(line string) error { return b.Tally.print(b.Limits, line) }

// change charges one change, which counts as n; what identifies the change and its resource.
func (b *Budget) change(what string, n int, disruptive bool) error {
	b.changes += n
	asked := fmt.Sprintf("this would be change %d on the %s", b.changes, b.on)
	switch {
	case b.changes > b.Limits.N(LimitChangesPerNode):
		return b.Limits.Exceeded(LimitChangesPerNode, asked)
	case b.changes > b.Limits.N(LimitChangesPerMinute):
		return b.Limits.Exceeded(LimitChangesPerMinute, asked)
	case disruptive && b.Limits.N(LimitDisruptive) == 0:
		return b.Limits.Exceeded(LimitDisruptive, "this would disrupt the "+b.on)
	}
	if b.repeats == nil {
		b.repeats = map[string]int{}
	}
	b.repeats[what]++
	if n := b.repeats[what]; n > b.Limits.N(LimitRepeats) {
		return b.Limits.Exceeded(LimitRepeats, fmt.Sprintf("this would make the same change for the %s time", ordinal(n)))
	}
	if err := b.Tally.change(b.Limits, n); err != nil {
		return err
	}
	b.Tally.Note(LimitChangesPerNode, int64(b.changes))
	b.Tally.Note(LimitRepeats, int64(b.repeats[what]))
	return nil
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
