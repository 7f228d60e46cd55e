package script

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"runbook/engine"
)

// This file turns what ends a script into an error with a position, in the
// evaluator.

// scriptError is an error that is ready to be shown. It has no position of its
// own where it is to have that of the line that was running.
type scriptError struct{ errorFrame }

func (e *scriptError) Error() string { return e.Cause }

func invalid(pos, format string, args ...any) *scriptError {
	return &scriptError{errorFrame{Code: engine.Invalid, Pos: pos, Cause: fmt.Sprintf(format, args...)}}
}

// answerError is an error that the controller gave as its answer.
type answerError struct{ errorFrame }

func (e *answerError) Error() string { return e.Cause }

// failure is err as it is reported to the controller.
func failure(err error) *errorFrame {
	var (
		answer *answerError
		script *scriptError
		eval   *starlark.EvalError
		syn    syntax.Error
		names  resolve.ErrorList
		out    errorFrame
	)
	switch {
	case errors.As(err, &answer): // the controller has the whole of it
		return &errorFrame{Code: answer.Code, Answer: answer.Answer}
	case errors.As(err, &script):
		out = script.errorFrame
	case errors.As(err, &syn):
		out = errorFrame{Code: engine.Invalid, Pos: syn.Pos.String(), Cause: syn.Msg}
	case errors.As(err, &names) && len(names) > 0:
		out = errorFrame{Code: engine.Invalid, Pos: names[0].Pos.String(), Cause: names[0].Msg}
		for _, e := range names[1:min(4, len(names))] {
			out.Hint += fmt.Sprintf("also %s: %s; ", e.Pos, e.Msg)
		}
		out.Hint = strings.TrimSuffix(out.Hint, "; ")
	default:
		out = errorFrame{Code: engine.Invalid, Cause: lower(err.Error())}
	}
	if errors.As(err, &eval) && out.Pos == "" {
		out.Pos = innermost(eval.CallStack)
		if calls := backtrace(eval.CallStack); calls != "" {
			out.Hint = strings.TrimPrefix(out.Hint+"; "+calls, "; ")
		}
	}
	out.Cause, out.Hint = clean(out.Cause), clean(out.Hint)
	return &out
}

// lower begins s with a small letter, as causes do, but not in the middle of an
// acronym or before a name.
func lower(s string) string {
	if len(s) > 1 && unicode.IsUpper(rune(s[0])) && unicode.IsLower(rune(s[1])) &&
		!strings.HasPrefix(s, "None") && !strings.HasPrefix(s, "True") && !strings.HasPrefix(s, "False") {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// ofRunbook reports whether pos is in one of its files, not in a builtin.
func ofRunbook(pos syntax.Position) bool { return pos.IsValid() && pos.Filename() != "<builtin>" }

// innermost is the position in the runbook that stack has reached.
func innermost(stack starlark.CallStack) string {
	for i := range stack {
		if f := stack.At(i); ofRunbook(f.Pos) {
			return f.Pos.String()
		}
	}
	return ""
}

// backtrace names the innermost few calls that led into a helper function. It
// is empty where the error is in run itself, or at the top level.
func backtrace(stack starlark.CallStack) string {
	var calls []string
	for i := range stack {
		if f := stack.At(i); ofRunbook(f.Pos) {
			calls = append(calls, fmt.Sprintf("%s at %s", f.Name, f.Pos))
		}
	}
	if len(calls) < 2 {
		return ""
	}
	calls = calls[1:]
	dots := ""
	if len(calls) > 5 {
		calls, dots = calls[:5], ", …"
	}
	return "called by " + strings.Join(calls, ", by ") + dots
}

// here is the position of the call that a builtin is serving.
func here(t *starlark.Thread) string {
	for i := range t.CallStackDepth() {
		if f := t.CallFrame(i); ofRunbook(f.Pos) {
			return f.Pos.String()
		}
	}
	return ""
}
