package engine

import (
	"fmt"
	"time"

	"runbook/engine/resource"
)

// This file is what keeps a node from being disrupted again and again: each
// node remembers what was done to it lately, whoever did it. It is asked twice: while
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
		Code:  LimitHit,
		Cause: fmt.Sprintf("the node still waits for the %s of %s by run %s to be confirmed, and else puts itself back", m.Verb, m.Of, m.Run),
		Hint:  "wait until it has",
	}
}
