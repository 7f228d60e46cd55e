// Command runbook runs Starlark runbooks on a fleet of Linux nodes.
//
// This package wires the parts together: one file for each verb, fleet.go for
// the nodes that a verb is about, session.go for the runbook. The same binary
// is the evaluator of scripts, the processes of a lab and, in a development
// build, the agent: main looks which before anything else.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/script"
	"runbook/lab"
	"runbook/node/agent/program"
	"runbook/rehearse"
	"runbook/tui"
)

func main() {
	switch {
	case lab.IsChild():
		lab.ChildMain()
	case script.IsEvaluator():
		script.Main(builtins.Operations, rehearse.Operations)
	case isAgent():
		program.Main()
	}
	os.Unsetenv("ZONEINFO") //nolint:errcheck // the time zones of a policy are not the operator's to say
	collectFor(0)
	os.Exit(int(execute(os.Args[1:])))
}

// collectFor says how much garbage a run of so many nodes may have beside what it keeps. One
// of some lives for seconds and keeps little: collecting less often costs some memory for
// each node, and saves a good part of its work. One of many keeps so much that garbage must not multiply it.
func collectFor(nodes int) {
	percent := 300
	if nodes > 500 {
		percent = 100
	}
	debug.SetGCPercent(percent)
}

// execute runs a command line and returns its exit code.
func execute(args []string) (code engine.Code) {
	stop, done := interrupts()
	defer done()
	defer func() { // the exit code of a panic, 2, would say that there are changes
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "runbook itself is at fault: %v\n%s", r, debug.Stack())
			code = engine.Internal
		}
	}()
	root := command(stop)
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &engine.Error{Code: engine.Invalid, Cause: err.Error(), Hint: c.CommandPath() + " --help"}
	})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	if _, _, err := root.Find(args); err != nil { // an unknown verb
		return fail(&engine.Error{Code: engine.Invalid, Cause: strings.TrimSpace(err.Error()), Hint: "runbook --help"})
	}
	err := root.ExecuteContext(stop.ctx)
	var status exitStatus
	switch {
	case err == nil:
		return engine.OK
	case errors.As(err, &status):
		return engine.Code(status)
	}
	return fail(engine.AsError(err))
}

// fail says what went wrong, unless that has been shown already.
func fail(e *engine.Error) engine.Code {
	if e.Cause != "" {
		fmt.Fprintln(os.Stderr, tui.StyleOf(os.Stderr).Error(e))
	}
	return e.Code
}

func command(stop stopper) *cobra.Command {
	root := &cobra.Command{
		Use:           "runbook",
		Short:         "Run Starlark runbooks on a fleet of Linux nodes, within limits",
		SilenceErrors: true,
		SilenceUsage:  true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	root.AddCommand(planCommand(stop), runCommand(stop), applyCommand(stop), undoCommand(stop), resumeCommand(stop), stopCommand(), runsCommand(), showCommand(), nodesCommand(stop), checkCommand(stop), fmtCommand(stop), testCommand(stop), snapshotCommand(stop), policyCommand(), labCommand(stop), docsCommand(), versionCommand())
	return root
}

// stopper tells a run to end: stop after the changes in flight, ctx at once.
type stopper struct {
	ctx    context.Context
	stop   chan struct{}
	press  func(now bool) (says string) // stops, as an interrupt does; now: as the second one
	hangup func()                       // stops as the first interrupt does, however often: the terminal is gone, and nobody said that it should be
	begun  *atomic.Bool                 // a run is recorded: nodes may hold what is to be put back
}

// interrupts makes Ctrl-C (or SIGTERM, or runbook stop) close stop, and a second one cancel ctx; the terminal's end only closes stop.
// What does not look at stop is canceled by the first: see [stopper.whole]. What looks at neither, such as
// a file that is a pipe in which nothing comes, is left by the third, unless a run has begun.
func interrupts() (stopper, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s := stopper{ctx: ctx, stop: make(chan struct{}), begun: &atomic.Bool{}}
	var once sync.Once
	s.press = func(now bool) string {
		first := false
		once.Do(func() { first = true; close(s.stop) })
		if first && !now {
			return stopsSoon
		}
		cancel()
		return stopsNow
	}
	s.hangup = func() { once.Do(func() { close(s.stop) }) }
	signals := make(chan os.Signal, 2)
	stopping := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it: the run is to outlive its terminal
		stopping = append(stopping, syscall.SIGHUP)
	}
	signal.Notify(signals, stopping...)
	signal.Ignore(syscall.SIGPIPE) // who stops reading, such as head, does not stop a run in its middle
	go func() {
		for presses := 1; ; presses++ {
			sig, open := <-signals
			switch {
			case !open:
				return
			case sig == syscall.SIGHUP: // which the kernel sends, and a shell once more
				s.hangup()
				presses--
				continue
			case presses > 2 && !s.begun.Load():
				os.Exit(int(fail(&engine.Error{Code: engine.Interrupted, Cause: "interrupted"})))
			}
			s.press(false)
		}
	}()
	return s, func() { signal.Stop(signals); close(signals); cancel() }
}

// whole returns a context that ends at the first interrupt, for what changes nothing.
func (s stopper) whole() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(s.ctx)
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
