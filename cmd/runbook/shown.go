package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/rollout"
	"runbook/tui"
)

// This file is how the verbs that change nodes show what they do: in lines, as JSON, or on a screen.

// runFlags are those of the verbs that change nodes.
type runFlags struct {
	fleetFlags
	yes        bool
	unattended bool
	format     string
	plain      bool
	live       *tui.Live         // shows the run in a few lines,
	screen     *tui.Screen       // or on all of the terminal; neither: lines do
	controls   *rollout.Controls // that the screen has; nil: nobody steers
}

func (f *runFlags) add(c *cobra.Command) {
	f.fleetFlags.add(c)
	f.addRun(c)
}

func (f *runFlags) addRun(c *cobra.Command) {
	f.addTerms(c)
	c.Flags().BoolVar(&f.yes, "yes", false, "ask nothing, but where a policy wants it")
	c.Flags().BoolVar(&f.unattended, "unattended", false, "nobody is there: ask nothing, and refuse what a policy wants to be asked; it needs a policy")
	c.Flags().StringVar(&f.format, "format", "text", "text, or json: one event per line")
	c.Flags().BoolVar(&f.plain, "plain", false, "lines only, on a terminal too: nothing moves, and questions are answered by lines; for screen readers and logs")
}

// printsPlan reports whether the plan is to be printed before the first change.
func (f *runFlags) printsPlan() bool { return f.format == "text" && f.screen == nil }

// show has do carry out a run, titled as said, and shows what do emits. stop is what stops it; nil: it is only watched.
func (f *runFlags) show(title []string, stop *stopper, do func(emit func(engine.Event)) error) (err error) {
	if err := oneOf("--format", f.format, "text", "json"); err != nil {
		return err
	}
	switch {
	case f.format == "json":
		out := &sink{to: os.Stdout}
		return out.orElse(do(tui.JSONLines(out)))
	case !f.plain && !f.unattended && tui.CanShow(os.Stdin, os.Stdout):
		return f.onScreen(title, stop, do)
	case !f.plain:
		f.live = tui.LiveOn(os.Stdout)
	}
	if f.live == nil {
		out := &sink{to: os.Stdout}
		return out.orElse(do(tui.Lines(out, tui.StyleOf(os.Stdout))))
	}
	defer f.live.Close()
	return do(f.live.Tell)
}

// onScreen shows the run on all of the terminal.
func (f *runFlags) onScreen(title []string, stop *stopper, do func(emit func(engine.Event)) error) (err error) {
	o := tui.Options{In: os.Stdin, Out: os.Stdout, Title: strings.Join(title, " "), ReadOnly: f.yes || stop == nil}
	if stop != nil {
		f.controls = &rollout.Controls{}
		o.Controls = f.controls
		o.Stop = func() string { return stop.press(false) }
		o.Lost = stop.hangup
	}
	f.screen = tui.NewScreen(o)
	returned := false
	defer func() {
		if !returned { // it panics: there is nothing to be looked at
			f.screen.Close()
		}
	}()
	err = do(f.screen.Tell)
	returned = true
	f.screen.Finish(engine.AsError(err))
	return err
}

// sink is an output that does not stop a run when it can take no more, such as on a disk that is full.
type sink struct {
	to  io.Writer
	err error // the first; none where a reader has read enough and gone
}

// Write implements [io.Writer]. One goroutine at a time.
func (w *sink) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	if w.err == nil && !errors.Is(err, syscall.EPIPE) {
		w.err = err
	}
	return n, err
}

// orElse is err, or else, where a run ended well, what was wrong with the output.
func (w *sink) orElse(err error) error {
	if err != nil || w.err == nil {
		return err
	}
	return &engine.Error{Code: engine.Internal, Cause: fmt.Sprintf("all is done, and not all that was to be said of it could be written: %v", w.err), Hint: "runbook show tells of it"}
}
