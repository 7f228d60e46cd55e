package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/journal"
	"runbook/tui"
)

// What a run says to one who stops it.
const (
	stopsSoon = "it stops after the changes in flight; once more puts back what is in hand"
	stopsNow  = "it stops, and puts back what is in hand"
)

func stopCommand() *cobra.Command {
	var all, now bool
	c := &cobra.Command{
		Use:   "stop RUN",
		Short: "Stop a run from another terminal: once after the changes in flight, twice at once",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && !all || len(args) > 0 && all {
				return &engine.Error{Code: engine.Invalid, Cause: "stop needs one run, or --all", Hint: "runbook runs lists them"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return withJournal(func(ctx context.Context, j *journal.Journal) error {
				if all {
					return stopAll(ctx, j, now)
				}
				return stopOne(ctx, j, args[0], now)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every run of this user that is going on")
	c.Flags().BoolVar(&now, "now", false, "at once, as the second time: put back what is in hand")
	return c
}

func stopOne(ctx context.Context, j *journal.Journal, id string, now bool) error {
	run, err := j.Record(ctx, id)
	if err != nil {
		return err
	}
	says, err := j.Stop(ctx, run.ID, now)
	if !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			fmt.Printf("%s: %s\n", run.ID, says)
		}
		return err
	}
	if run, err = j.Record(ctx, run.ID); err != nil { // how it ended, where it has just done so
		return err
	}
	return &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("run %s is not going on: %s", run.ID, ending(j, run))}
}

// stopAll tells all runs that are going on, whatever becomes of telling one of them.
func stopAll(ctx context.Context, j *journal.Journal, now bool) error {
	going, err := j.Going()
	if err != nil {
		return err
	}
	if len(going) == 0 {
		fmt.Fprintln(os.Stderr, "no run is going on")
	}
	var failed error
	for _, id := range going {
		says, err := j.Stop(ctx, id, now)
		switch {
		case err == nil:
			fmt.Printf("%s: %s\n", id, says)
		case !errors.Is(err, fs.ErrNotExist): // or it has just ended
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// The states of runs in a list of them.
const (
	runGoing  = "running"
	runKilled = "killed"
	runEnded  = "ended"
)

// stateOf is whether a run is going on.
func stateOf(j *journal.Journal, r engine.RunRecord) string {
	switch {
	case r.Outcome != nil:
		return runEnded
	case j.Held(r.ID):
		return runGoing
	}
	return runKilled
}

// ending is how a run ended, in a few words, or that it has not.
func ending(j *journal.Journal, r engine.RunRecord) string {
	switch state := stateOf(j, r); {
	case state == runEnded && tui.LeftUntried(r) && r.Inventory != ownLab:
		return tui.Ending(r) + ": runbook resume " + r.ID
	case state == runEnded:
		return tui.Ending(r)
	case state == runGoing:
		return runGoing
	case r.Inventory == ownLab:
		return "killed, and its nodes with it"
	}
	return "killed: runbook resume " + r.ID
}

// listens lets other processes stop the run id. Where they cannot, it goes on all the same: Ctrl-C stops it.
// What happens in it is told to those who watch it, until end is called.
func (s *session) listens(stop stopper, j *journal.Journal) func() {
	happened, emit := newHistory(), s.run.Emit
	s.run.Emit = func(e engine.Event) {
		happened.tell(e)
		emit(e)
	}
	end, err := j.Listen(s.run.ID, journal.Listener{Stop: stop.press, Watch: happened.write})
	if err != nil {
		fmt.Fprintf(os.Stderr, "runbook stop cannot reach this run: %v\n", err)
		return func() {}
	}
	return func() {
		happened.end()
		end()
	}
}
