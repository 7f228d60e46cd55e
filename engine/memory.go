package engine

import (
	"fmt"
	"time"

	"runbook/engine/resource"
)

// This file is what keeps a node from being disrupted again and again, and two runs
// from working on it at the same time: each node remembers what was done to it lately, and which
// run works on it, whoever that is. It is asked twice: while
// predicting, so that a run is refused before anything starts, and by the node
// itself, which no controller can get round.

// DefaultRepeatWindow is how long a node refuses to be disrupted again in the same place.
const DefaultRepeatWindow = 10 * time.Minute

// RefuseRepeat is the error of an edit that would do again what the node
// remembers as m, or nil. Taking a change back is never refused; but what an undo took
// down lately, another undo does not take down again.
func RefuseRepeat(m resource.Memory, e Edit) *Error {
	if m.Broken != "" && e.Disrupts != "" && !e.Undo {
		return &Error{Code: Unreachable, Cause: "the node does nothing that disrupts, for it could not remember that: " + m.Broken}
	}
	if m.Of != e.Disrupts || e.Disrupts == "" || e.Repeat || m.Age >= DefaultRepeatWindow || e.Undo && !m.Undo {
		return nil
	}
	left := (DefaultRepeatWindow - m.Age).Round(time.Second)
	by := ""
	if m.By != "" {
		by = " by " + m.By
	}
	return &Error{
		Code: LimitHit,
		Cause: fmt.Sprintf("%s had a %s %s ago, of run %s%s, and a node is disrupted in one place once in %s",
			m.Of, m.Verb, m.Age.Round(time.Second), m.Run, by, DefaultRepeatWindow),
		Hint: fmt.Sprintf("wait %s, or give --repeat-anyway", left),
	}
}

// RefusePending is the error of a change by run to a node that still waits for
// another run's change m to be confirmed, or nil: nothing is built on what may vanish.
func RefusePending(m resource.Memory, run string) *Error {
	if !m.Pending || m.Run == run {
		return nil
	}
	return &Error{
		Code: Unreachable, Left: NothingChanged,
		Cause: fmt.Sprintf("the node waits for the %s of %s by run %s to be confirmed, since %s, and else puts itself back", m.Verb, m.Of, whose(m), since(m)),
		Hint:  "wait until it has",
	}
}

// RefuseHeld is the error of a change by run to a node, which it calls node, on which
// the run of m works, or nil. That is no error where it is the same run: its agent has been replaced by another.
func RefuseHeld(m resource.Memory, run, node string) *Error {
	own := run != "" && m.Run == run
	if !m.Held || own && m.Node == node {
		return nil
	}
	e := &Error{
		Code: Unreachable, Left: NothingChanged,
		Cause: Holding(m),
		Hint:  "wait until it is through with it",
	}
	switch {
	case m.Stopped:
		e.Hint = StandsStill(m.PID)
	case m.PID != 0:
		e.Hint += fmt.Sprintf("; its agent is process %d of the node", m.PID)
	}
	if own {
		e.Cause = fmt.Sprintf("this run works on the same machine already, as node %s", m.Node)
		e.Hint = "two names of the inventory mean one machine: leave one of them out"
	}
	return e
}

// Holding is who works on a node, as m has it.
func Holding(m resource.Memory) string {
	return fmt.Sprintf("run %s works on this node, since %s", whose(m), since(m))
}

// StandsStill is what can be done about an agent that keeps others off its node and stands still.
func StandsStill(pid int) string {
	return fmt.Sprintf("its agent, process %d of the node, is stopped: kill -CONT %[1]d there lets it go on; kill -KILL %[1]d ends it, and its run is taken up again or undone", pid)
}

// whose is the run of m, and who runs it.
func whose(m resource.Memory) string {
	switch {
	case m.Run == "":
		return "(it has not said which)"
	case m.By == "":
		return m.Run
	}
	return m.Run + " of " + m.By
}

// since is when what m remembers began, by this machine's clock.
func since(m resource.Memory) string {
	return time.Now().Add(-m.Age).UTC().Format(time.RFC3339) + " (" + m.Age.Round(time.Second).String() + " ago)"
}
