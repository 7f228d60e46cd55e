package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/journal"
	"runbook/tui"
)

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return engine.Invalid.Errorf("%s takes no argument, got %q", c.CommandPath(), args[0])
	}
	return nil
}

func runsCommand() *cobra.Command {
	var format string
	var verify bool
	c := &cobra.Command{
		Use:   "runs",
		Short: "List the runs that the journal knows, newest first",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			return withJournal(func(ctx context.Context, j *journal.Journal) error {
				if verify {
					return verifyRuns(ctx, j, format)
				}
				runs, err := j.Runs(ctx)
				if err != nil {
					return err
				}
				if format == "json" {
					return listed(printJSON(append([]engine.RunRecord{}, runs...))) // a list also where there are none
				}
				if len(runs) == 0 {
					fmt.Fprintln(os.Stderr, "no runs yet")
				}
				w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
				for _, r := range runs {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Started.Local().Format(time.DateTime), r.Verb, tui.Line(subject(r)), tui.Line(r.User), tui.Line(ending(r)))
				}
				return listed(w.Flush())
			})
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	c.Flags().BoolVar(&verify, "verify", false, "find out whether a record was changed after it was written")
	return c
}

// verifyRuns tells whether the journal is as it was written.
func verifyRuns(ctx context.Context, j *journal.Journal, format string) error {
	v, err := j.Verify(ctx)
	if err != nil {
		return err
	}
	if format == "json" {
		if err := listed(printJSON(v)); err != nil {
			return err
		}
	} else {
		for _, b := range v.Broken {
			fmt.Printf("%s: %s was changed after it was written\n", b.Run, b.What)
		}
		fmt.Printf("%d runs with %d entries", v.Runs, v.Entries)
		if v.Older > 0 {
			fmt.Printf(", of which %d are from before records were chained", v.Older)
		}
		fmt.Println()
	}
	if len(v.Broken) > 0 {
		return &engine.Error{Code: engine.Differs, Cause: fmt.Sprintf("records that are not as they were written: %d", len(v.Broken))}
	}
	return nil
}

func showCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "show RUN",
		Short: "Show what a run did to each node",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &engine.Error{Code: engine.Invalid, Cause: "show needs one run", Hint: "runbook runs lists them"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			return withJournal(func(ctx context.Context, j *journal.Journal) error {
				r, entries, err := j.Run(ctx, args[0])
				if err != nil {
					return err
				}
				if format == "json" {
					return listed(printJSON(struct {
						engine.RunRecord
						Entries []engine.Entry `json:"entries"`
					}{r, entries}))
				}
				by, err := takenBackBy(ctx, j, r.ID)
				if err != nil {
					return err
				}
				showRun(os.Stdout, r, by, entries)
				return nil
			})
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

func withJournal(f func(context.Context, *journal.Journal) error) error {
	j, err := journal.Open(journal.DefaultDir())
	if err != nil {
		return err
	}
	defer j.Close() //nolint:errcheck // it was only read
	return f(context.Background(), j)
}

// listed is the error of writing a list, but for that who reads it, such as
// head, has seen enough.
func listed(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// ending is how a run ended, in a few words.
func ending(r engine.RunRecord) string {
	switch {
	case r.Outcome == nil:
		return "not ended: running, or killed"
	case r.Outcome.Exit != 0:
		return fmt.Sprintf("exit %d: %s", r.Outcome.Exit, r.Outcome.Error)
	}
	counts := map[string]int{}
	for _, s := range r.Outcome.Nodes {
		counts[s]++
	}
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
	}
	return or(strings.Join(parts, ", "), "done")
}

// subject is what a run ran: a runbook, or what it took back.
func subject(r engine.RunRecord) string {
	if r.Undoes != "" {
		return "of " + r.Undoes
	}
	return or(r.Runbook, "-")
}

// showRun writes what a run did, and which run, if any, took it back.
func showRun(w io.Writer, r engine.RunRecord, takenBackBy string, entries []engine.Entry) {
	line := func(format string, args ...any) { fmt.Fprintln(w, tui.Line(fmt.Sprintf(format, args...))) }
	head := fmt.Sprintf("%s  %s %s", r.ID, r.Verb, subject(r))
	for _, k := range slices.Sorted(maps.Keys(r.Params)) {
		head += " " + k + "=" + r.Params[k]
	}
	line("%s", head)
	line("by %s from %s, on %s of %s", r.User, r.Started.Local().Format(time.DateTime), r.Selection, r.Inventory)
	if r.Reason != "" {
		line("reason: %s", r.Reason)
	}
	line("%s", ending(r))
	if takenBackBy != "" {
		line("taken back by %s", takenBackBy)
	}
	for _, e := range entries {
		if e.Kind == engine.EntryPlan { // its changes follow
			continue
		}
		line("")
		line("%s  %s  %s", e.Time.Local().Format(time.TimeOnly), e.Node, strings.TrimSpace(e.Kind+" "+e.Op))
		guard := ""
		if e.Kind == engine.EntryIntent && e.Edit != nil && e.Edit.Guard != nil {
			guard = "! " + e.Edit.Guard.String() // all that tells how it went on where the controller was killed
		}
		for _, text := range []string{e.Diff, guard, e.Text} {
			for l := range strings.Lines(text) {
				line("    %s", strings.TrimSuffix(l, "\n"))
			}
		}
	}
}
