package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"runbook/engine/resource"
)

// Code is the kind of an error. Its value is the exit code of a run that it ended.
type Code int

// The exit codes, as documented for the command line.
const (
	OK          Code = 0
	Invalid     Code = 1 // the command, script, inventory or selection is wrong; nothing changed
	Pending     Code = 2 // plan --exit-code: there are changes
	LimitHit    Code = 3
	GateFailed  Code = 4 // a hook, a forecast or the failure budget
	Differs     Code = 5 // a node answered otherwise than predicted, or drifted
	Unreachable Code = 6 // a node was unreachable, refused or failed
	Internal    Code = 7 // runbook itself could not go on
	Interrupted Code = 130
)

// Worst returns the code that a run exits with when both a and b happened.
func Worst(a, b Code) Code {
	for _, c := range []Code{Interrupted, Internal, Differs, LimitHit, GateFailed, Unreachable, Invalid, Pending} {
		if a == c || b == c {
			return c
		}
	}
	return OK
}

// Error is an error as people meet it. Its parts are fields, so that every
// output can lay them out in its own way; none of them is ever parsed.
//
// Printed, it reads: position, operation and object, node, cause, state left
// behind; then the drift, the hint and the kernel's own words, a line each.
type Error struct {
	Code   Code          `json:"code"`
	Pos    string        `json:"pos,omitempty"` // file:line:col
	Op     string        `json:"op,omitempty"`  // "route.add 10.20.0.0/16"
	Node   string        `json:"node,omitempty"`
	Cause  string        `json:"cause"`           // lower case, both values where two disagree
	Left   string        `json:"left,omitempty"`  // the state left behind: "nothing changed"
	Drift  resource.Diff `json:"drift,omitempty"` // from what was expected to what is there
	Hint   string        `json:"hint,omitempty"`
	Kernel string        `json:"kernel,omitempty"` // the kernel's own words
	Err    error         `json:"-"`                // what caused it, for errors.Is
}

// NothingChanged is the Left of an error before which nothing was changed.
const NothingChanged = "nothing changed"

func (e *Error) Error() string {
	var b strings.Builder
	if e.Pos != "" {
		b.WriteString(e.Pos + ": ")
	}
	switch {
	case e.Op != "" && e.Node != "":
		op := e.Op
		if t, is := ParseTarget(e.Node); is { // which says which server it is
			op = strings.TrimSuffix(op, " "+t.Server)
		}
		fmt.Fprintf(&b, "%s on %s: ", op, e.Node)
	case e.Op != "" || e.Node != "":
		b.WriteString(e.Op + e.Node + ": ")
	}
	b.WriteString(indented(e.Cause))
	if e.Left != "" {
		b.WriteString("; " + e.Left)
	}
	for _, l := range strings.Split(strings.TrimSuffix(e.Drift.String(), "\n"), "\n") {
		if l != "" {
			b.WriteString("\n    " + l)
		}
	}
	if e.Hint != "" {
		b.WriteString("\n  hint: " + indented(e.Hint))
	}
	if e.Kernel != "" {
		b.WriteString("\n  kernel: " + indented(e.Kernel))
	}
	return b.String()
}

// indented is a text of which no line but the first begins where an error of its
// own, a hint or a node's state would: scripts write texts, too.
func indented(text string) string { return strings.ReplaceAll(text, "\n", "\n    ") }

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of this kind with a cause.
func (c Code) Errorf(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: c, Cause: err.Error(), Err: errors.Unwrap(err)}
}

// AsError returns err as an [*Error]: the one it holds, or a new one of kind
// [Internal], or [Interrupted] where a context was canceled.
func AsError(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled):
		return &Error{Code: Interrupted, Cause: "interrupted", Err: err}
	default:
		return &Error{Code: Internal, Cause: err.Error(), Err: err}
	}
}

// NodeError is a node's refusal. The node is as it was before the request.
type NodeError struct {
	Errno string `json:"errno"` // the name of Linux's number: "ENETUNREACH"
	Words string `json:"words"` // the kernel's own words (its extended acknowledgement), or else errno's
}

func (e *NodeError) Error() string { return e.Words }

// DriftError says that a node holds something else than expected. Nothing was changed.
type DriftError struct {
	Found resource.State // of the footprint
}

func (e *DriftError) Error() string { return "the node has drifted" }

// ErrUnpredictable is what a [Model] cannot foresee.
var ErrUnpredictable = errors.New("cannot be predicted")
