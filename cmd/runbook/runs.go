package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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

// oneRun wants the id of a run, or the beginning of one, as the only argument.
func oneRun(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &engine.Error{Code: engine.Invalid, Cause: c.Name() + " needs one run", Hint: "runbook runs lists them"}
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
					out := []listedRun{} // a list also where there are none
					for _, r := range runs {
						out = append(out, listedRun{r, stateOf(j, r)})
					}
					return listed(printJSON(out))
				}
				if len(runs) == 0 {
					fmt.Fprintln(os.Stderr, "no runs yet")
				}
				w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
				for _, r := range runs {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Started.Local().Format(time.DateTime), r.Verb, tui.Line(tui.Subject(r)), tui.Line(r.User), tui.Line(ending(j, r)))
				}
				return listed(w.Flush())
			})
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	c.Flags().BoolVar(&verify, "verify", false, "find out whether a record was changed after it was written")
	return c
}

// listedRun is a run in a list of them.
type listedRun struct {
	engine.RunRecord
	State string `json:"state"` // "running", "killed", "ended"
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
			fmt.Printf("%s: it was changed after it was written: %s\n", b.Run, b.What)
		}
		fmt.Printf("runs: %d, with entries: %d", v.Runs, v.Entries)
		if v.Older > 0 {
			fmt.Printf("; from before records were chained, of which nothing is known: %d", v.Older)
		}
		fmt.Println()
	}
	if len(v.Broken) > 0 {
		return &engine.Error{Code: engine.Differs, Cause: fmt.Sprintf("records that are not as they were written: %d", len(v.Broken))}
	}
	return nil
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
