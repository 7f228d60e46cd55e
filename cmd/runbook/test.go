package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/script"
	"runbook/rehearse"
	"runbook/tui"
)

func testCommand(stop stopper) *cobra.Command {
	var run, format string
	var missed bool
	c := &cobra.Command{
		Use:   "test [DIR|FILE]",
		Short: "Run the tests of runbooks, X_test.star, on simulated nodes",
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, cancel := stop.whole()
			defer cancel()
			if len(args) > 1 {
				return engine.Invalid.Errorf("test takes one folder or test file")
			}
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			var match *regexp.Regexp
			if run != "" {
				var err error
				if match, err = regexp.Compile(run); err != nil {
					return engine.Invalid.Errorf("--run: %w", err)
				}
			}
			files, err := rehearse.Find(append(args, ".")[0])
			if err != nil {
				return err
			}
			tell := tellTest
			if format == "json" {
				enc := json.NewEncoder(os.Stdout)
				tell = func(r rehearse.Result) { enc.Encode(testDoc{1, r, r.Err == nil}) } //nolint:errcheck // a reader that has gone away does not matter
			}
			report, err := rehearse.Run(ctx, files, match, script.Config{Ops: builtins.Operations}, tell)
			if err != nil {
				return err
			}
			if len(report.Results) == 0 {
				return engine.Invalid.Errorf("no test matches --run %s", run)
			}
			if format == "text" {
				showCoverage(report.Cover, missed)
				fmt.Printf("%d passed, %d failed\n", len(report.Results)-report.Failed(), report.Failed())
			}
			if report.Failed() > 0 {
				return &engine.Error{Code: engine.Invalid}
			}
			return nil
		},
	}
	c.Flags().StringVar(&run, "run", "", "only tests whose names match this regular expression")
	c.Flags().StringVar(&format, "format", "text", "text, or json: one result per line")
	c.Flags().BoolVar(&missed, "missed", false, "name the lines that no test has reached")
	return c
}

// testDoc is the published form of a result.
type testDoc struct {
	Version int `json:"v"`
	rehearse.Result
	Passed bool `json:"passed"`
}

func tellTest(r rehearse.Result) {
	style := tui.StyleOf(os.Stdout)
	for _, line := range r.Prints {
		fmt.Println("    | " + tui.Line(line))
	}
	if r.Err == nil {
		fmt.Printf("ok    %s: %s (%s)\n", tui.Line(r.File), r.Name, r.Took.Round(time.Millisecond))
		return
	}
	where := r.File
	if r.Name != "" {
		where += ": " + r.Name
	}
	fmt.Printf("FAIL  %s\n%s\n", tui.Line(where), style.Error(r.Err))
}

func showCoverage(c script.Coverage, missed bool) {
	for _, file := range slices.Sorted(maps.Keys(c)) {
		reached, lines := 0, slices.Sorted(maps.Keys(c[file]))
		var not []int
		for _, l := range lines {
			if c[file][l] {
				reached++
			} else {
				not = append(not, l)
			}
		}
		fmt.Printf("%s: %d of %d lines reached (%d%%)\n", tui.Line(file), reached, len(lines), 100*reached/max(1, len(lines)))
		if missed {
			for _, l := range not {
				fmt.Printf("  %s:%d\n", tui.Line(file), l)
			}
		}
	}
}
