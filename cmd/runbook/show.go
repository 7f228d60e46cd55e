package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/journal"
	"runbook/tui"
)

func showCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "show RUN",
		Short: "Show what a run did to each node",
		Args:  oneRun,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("--format", format, "text", "json", "html"); err != nil {
				return err
			}
			err := withJournal(func(ctx context.Context, j *journal.Journal) error { return show(ctx, j, args[0], format) })
			if errors.Is(err, syscall.EPIPE) { // who has read enough may go
				return nil
			}
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, json, or html: a page that needs no other file")
	return c
}

// show writes what the journal has of a run.
func show(ctx context.Context, j *journal.Journal, id, format string) error {
	run, entries, err := j.Run(ctx, id)
	if err != nil {
		return err
	}
	if format == "json" {
		return printJSON(struct {
			listedRun
			Entries []engine.Entry `json:"entries"`
		}{listedRun{run, stateOf(j, run)}, entries})
	}
	r := tui.Record{Run: run, Entries: entries, Going: run.Outcome == nil && j.Held(run.ID)}
	if r.TakenBackBy, err = takenBackBy(ctx, j, run.ID); err != nil {
		return err
	}
	if format == "text" {
		return tui.History(os.Stdout, r, tui.StyleOf(os.Stdout))
	}
	v, err := j.VerifyRun(ctx, run.ID)
	if err != nil {
		return err
	}
	r.Verified, r.Intact = verified(v)
	return tui.Report(os.Stdout, r)
}

// verified says what comparing the record of a run with its hashes has found.
func verified(v journal.Verification) (text string, intact bool) {
	switch {
	case v.Older > 0:
		return "it is from before records were chained: nothing shows whether it was changed", false
	case len(v.Broken) > 0:
		text = "it was changed after it was written: " + v.Broken[0].What
		if n := len(v.Broken) - 1; n > 0 {
			text += fmt.Sprintf(", and in %d more places", n)
		}
		return text, false
	}
	return fmt.Sprintf("verified: the run, its %d entries and the text of its runbook are as they were written", v.Entries), true
}
