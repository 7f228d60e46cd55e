package tui

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"runbook/engine"
)

// This file makes of the entries of a run's record what became of each of its
// nodes, and shows that as text; report.go shows it as a page.

// Record is what is known of a run.
type Record struct {
	Run         engine.RunRecord
	Entries     []engine.Entry
	TakenBackBy string // the run that took it back; "": none
	Going       bool   // a process drives it now
	Verified    string // what comparing the record with its hashes found; "": it was not compared
	Intact      bool   // and whether it is as it was written
}

// pastNode is what became of one node.
type pastNode struct {
	Node         string
	State        string
	Began, Ended time.Time // the first and the last that is recorded of it; zero: nothing is
	Changes      []*pastChange
	Prints       []string // as they were predicted
	Why          string   // it failed, or is in doubt
}

// pastChange is one change of a node: what was to be done, and what came of that.
type pastChange struct {
	nth     int
	Op, Pos string
	Lines   []string
	Began   time.Time
	Ended   time.Time // zero: that is not known
	Outcome string    // "" where it was done and stands
	undoing bool
}

// pastNodes are those of all nodes of r, in the order of the run.
func (r *Record) pastNodes() []*pastNode {
	byNode := map[string]*pastNode{}
	var order []string
	of := func(node string) *pastNode {
		s := byNode[node]
		if s == nil {
			s = &pastNode{Node: node}
			byNode[node] = s
			order = append(order, node)
		}
		return s
	}
	for _, n := range r.Run.Nodes {
		of(n)
	}
	for _, e := range r.Entries {
		if e.Node != "" {
			of(e.Node).add(e)
		}
	}
	if r.Run.Outcome != nil { // of a run whose record does not name its nodes in their order
		for _, n := range slices.Sorted(maps.Keys(r.Run.Outcome.Nodes)) {
			of(n)
		}
	}
	out := make([]*pastNode, len(order))
	for i, n := range order {
		out[i] = byNode[n]
		out[i].State = r.state(out[i])
		switch engine.NodeState(out[i].State) {
		case engine.NodeDone, engine.NodeSame, engine.NodeSkipped, engine.NodeUndone: // it failed before the run was taken up again
			out[i].Why = ""
		}
	}
	return out
}

// state is where a node stands.
func (r *Record) state(s *pastNode) string {
	if r.Run.Outcome != nil && r.Run.Outcome.Nodes[s.Node] != "" {
		return r.Run.Outcome.Nodes[s.Node]
	}
	switch {
	case s.State != "":
		return s.State
	case len(s.Changes) == 0:
		return string(engine.NodeUntried)
	case r.Going:
		return string(engine.NodeApplying)
	}
	return string(engine.NodeInDoubt)
}

// add takes the next entry of the node.
func (s *pastNode) add(e engine.Entry) {
	if e.Kind != engine.EntryPlan { // that of apply comes long before anything is done
		if s.Began.IsZero() {
			s.Began = e.Time
		}
		s.Ended = e.Time
	}
	switch e.Kind {
	case engine.EntryPlan:
		var p struct{ Prints []string }
		if json.Unmarshal(e.Data, &p) == nil {
			s.Prints = p.Prints
		}
	case engine.EntryIntent:
		s.State = ""
		lines := changedLines(e)
		for i, l := range lines {
			lines[i] = under(s.Node, l)
		}
		s.Changes = append(s.Changes, &pastChange{nth: e.Nth, Op: e.Op, Pos: e.Pos, Lines: lines, Began: e.Time, Outcome: "what came of it is not recorded"})
	case engine.EntryDone:
		s.last(e.Nth).end(e, "")
	case engine.EntryFailed:
		s.last(e.Nth).end(e, "failed, and the node may hold it")
		if s.Why == "" {
			s.Why = e.Text
		}
	case engine.EntryUndo:
		d := s.last(e.Nth)
		d.end(e, "it was being put back, and what came of that is not recorded")
		d.undoing = true
	case engine.EntryUndone:
		if d := s.last(e.Nth); d.undoing || d.Outcome == "" {
			d.end(e, "put back")
		} else {
			d.end(e, "not made")
		}
	case engine.EntryEnd:
		s.State = e.Text
		if e.Data != nil {
			var failed engine.Error
			if json.Unmarshal(e.Data, &failed) == nil {
				failed.Node = "" // it stands under its name
				s.Why = failed.Error()
			}
		}
	}
}

// last is the last change number nth of the plan that was begun.
func (s *pastNode) last(nth int) *pastChange {
	for _, d := range slices.Backward(s.Changes) {
		if d.nth == nth {
			return d
		}
	}
	d := &pastChange{nth: nth} // which was only compared, and differed
	s.Changes = append(s.Changes, d)
	return d
}

func (d *pastChange) end(e engine.Entry, outcome string) { d.Ended, d.Outcome = e.Time, outcome }

// changedLines is what an intent was to change.
func changedLines(e engine.Entry) []string {
	if e.Edit != nil {
		return changeLines(engine.PlannedChange{Op: e.Op, Edit: *e.Edit})
	}
	return strings.Split(strings.TrimSuffix(e.Diff, "\n"), "\n")
}

// Took is how long the node was in hand, or "".
func (s *pastNode) Took() string { return between(s.Began, s.Ended) }

// Took is how long the change took, or "".
func (d *pastChange) Took() string { return between(d.Began, d.Ended) }

func between(began, ended time.Time) string {
	if began.IsZero() || !ended.After(began) {
		return ""
	}
	return shortly(ended.Sub(began))
}

// headline says what ran, who ran it, why, on what, and when.
func (r *Record) headline() []string {
	run := r.Run
	what := run.ID + "  " + run.Verb + " " + Subject(run)
	for _, k := range slices.Sorted(maps.Keys(run.Params)) {
		what += " " + argument(k, run.Params[k])
	}
	out := []string{what, fmt.Sprintf("by %s, on %s of %s: %s", run.User, run.Selection, run.Inventory, counted(r.nodes()))}
	if run.Reason != "" {
		out = append(out, "reason: "+run.Reason)
	}
	when := "from " + run.Started.Local().Format(time.DateTime)
	if !run.Ended.IsZero() {
		when += fmt.Sprintf(" to %s, %s", run.Ended.Local().Format(time.DateTime), shortly(run.Ended.Sub(run.Started)))
	}
	out = append(out, when)
	for _, e := range r.Entries {
		if e.Kind == engine.EntryResumed {
			out = append(out, fmt.Sprintf("taken up again by %s at %s", e.Text, e.Time.Local().Format(time.DateTime))+because(e))
		}
	}
	return out
}

// because is why somebody took a run up again, where he said so.
func because(e engine.Entry) string {
	var reason string
	if json.Unmarshal(e.Data, &reason) != nil || reason == "" {
		return ""
	}
	return ": " + reason
}

// nodes is the names of its nodes, also where only the outcome has them.
func (r *Record) nodes() []string {
	if len(r.Run.Nodes) > 0 || r.Run.Outcome == nil {
		return r.Run.Nodes
	}
	return slices.Sorted(maps.Keys(r.Run.Outcome.Nodes))
}

// Subject is what a run ran: a runbook, or what it took back.
func Subject(r engine.RunRecord) string {
	switch {
	case r.Undoes != "":
		return "of " + r.Undoes
	case r.Runbook != "":
		return r.Runbook
	}
	return "-"
}

// Ending is how a run ended, in a few words.
func Ending(r engine.RunRecord) string {
	switch {
	case r.Outcome == nil:
		return "not ended: running, or killed"
	case r.Outcome.Exit != 0:
		return fmt.Sprintf("exit %d: %s", r.Outcome.Exit, r.Outcome.Error)
	case len(r.Outcome.Nodes) == 0:
		return "done"
	}
	counts := map[string]int{}
	for _, s := range r.Outcome.Nodes {
		counts[s]++
	}
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
	}
	return strings.Join(parts, ", ")
}

// LeftUntried reports whether a run was stopped, by its operator or because his terminal was
// lost, with nodes left that it has not tried.
func LeftUntried(r engine.RunRecord) bool {
	if r.Outcome == nil || r.Outcome.Exit != int(engine.Interrupted) {
		return false
	}
	for _, state := range r.Outcome.Nodes {
		if state == string(engine.NodeUntried) {
			return true
		}
	}
	return false
}

// ending is Ending where it is known whether the run is going on.
func (r *Record) ending() string {
	switch {
	case LeftUntried(r.Run) && r.TakenBackBy == "":
		return Ending(r.Run) + "; runbook resume " + r.Run.ID + " goes on with it"
	case r.Run.Outcome != nil:
		return Ending(r.Run)
	case r.Going:
		return "it is going on"
	}
	if r.TakenBackBy != "" {
		return "it was killed before its end"
	}
	return "it was killed before its end; runbook resume " + r.Run.ID + " goes on with it"
}

// shortly is a time as precise as people want it.
func shortly(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// History writes what a run did to each of its nodes, in their order, as text.
// Nodes on which nothing was done are named at the end, those of one state together.
func History(w io.Writer, r Record, s Style) error {
	var b strings.Builder
	line := func(text string) { b.WriteString(text + "\n") }
	head := r.headline()
	line(s.bold(head[0]))
	for _, l := range head[1:] {
		line(shown(l))
	}
	line(shown(r.ending()))
	if r.TakenBackBy != "" {
		line(shown("taken back by " + r.TakenBackBy))
	}
	idle := map[string][]string{}
	for _, n := range r.pastNodes() {
		if len(n.Changes) == 0 && n.Why == "" {
			idle[n.State] = append(idle[n.State], n.Node)
			continue
		}
		line("\n" + s.bold(n.Node) + "  " + shown(strings.TrimSuffix(n.State+", "+n.Took(), ", ")))
		for _, l := range n.lines() {
			line("  " + s.line(l))
		}
		if b.Len() > 1<<16 { // of a large fleet, not all at once
			if _, err := io.WriteString(w, b.String()); err != nil {
				return err
			}
			b.Reset()
		}
	}
	if len(idle) > 0 {
		line("")
	}
	for _, state := range slices.Sorted(maps.Keys(idle)) {
		nodes := names(idle[state])
		if len(idle[state]) > 100 { // the record has them all, as JSON
			nodes = some(idle[state])
		}
		line(shown(state + ": " + nodes))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// lines is what was done to the node and what came of it, as a plan shows it.
func (s *pastNode) lines() []string {
	var out []string
	for _, d := range s.Changes {
		out = append(out, d.Lines...)
		if d.Outcome != "" {
			out = append(out, "    ! "+d.Outcome)
		}
	}
	for _, p := range s.Prints {
		out = append(out, "| "+p)
	}
	if s.Why != "" {
		out = append(out, prefixed("! ", s.Why)...)
	}
	return out
}
