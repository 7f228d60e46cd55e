package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/script"
	"runbook/engine/script/lint"
	"runbook/tui"
)

func checkCommand(stop stopper) *cobra.Command {
	var format string
	var strict bool
	c := &cobra.Command{
		Use:   "check FILE…",
		Short: "Find what is wrong with runbooks without running them",
		Long: `Find what is wrong with runbooks, and with their tests, without running them: unknown names,
operations and arguments, literals of the wrong type, what is never used, loops
over disruptive operations, retries without a bound. What a run would end with
is an error (exit code 1), the rest a warning.`,
		Args: needFile,
		RunE: func(_ *cobra.Command, files []string) error {
			ctx, cancel := stop.whole()
			defer cancel()
			if err := oneOf("--format", format, "text", "json", "sarif"); err != nil {
				return err
			}
			found, err := checkAll(ctx, files)
			if err != nil {
				return err
			}
			if err := tui.Findings(os.Stdout, found, format, tui.StyleOf(os.Stdout)); err != nil {
				return err
			}
			for _, f := range found {
				if strict || lint.Rules[f.Rule].Level == lint.Error {
					return &engine.Error{Code: engine.Invalid}
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, json or sarif")
	c.Flags().BoolVar(&strict, "strict", false, "exit with 1 for warnings too")
	return c
}

// checkAll checks files. One that another of them loads is checked with that, as no runbook of its own.
func checkAll(ctx context.Context, files []string) ([]lint.Finding, error) {
	each, loads := make([][]lint.Finding, len(files)), make([][]string, len(files))
	for i, f := range files {
		var err error
		if each[i], loads[i], err = script.Check(ctx, script.Config{Ops: builtins.Operations}, engine.Source{Main: f}); err != nil {
			return nil, err
		}
	}
	withAnother := func(i int) bool {
		for j := range files {
			back := slices.Contains(loads[i], filepath.Clean(files[j])) // of two that load each other, one is checked
			if slices.Contains(loads[j], filepath.Clean(files[i])) && (!back || j < i) {
				return true
			}
		}
		return false
	}
	var out []lint.Finding
	seen := map[lint.Finding]bool{}
	for i := range files {
		if withAnother(i) {
			continue
		}
		for _, f := range each[i] {
			if !seen[f] { // a file that two of them load
				seen[f] = true
				out = append(out, f)
			}
		}
	}
	return out, nil
}

func fmtCommand(stop stopper) *cobra.Command {
	var only bool
	c := &cobra.Command{
		Use:   "fmt FILE…",
		Short: "Format runbooks in place, and name those that changed",
		Args:  needFile,
		RunE: func(_ *cobra.Command, files []string) error {
			ctx, cancel := stop.whole()
			defer cancel()
			differs := false
			for _, f := range files {
				text, err := script.Format(ctx, script.Config{Ops: builtins.Operations}, engine.Source{Main: f})
				if err != nil {
					return err
				}
				was, err := os.ReadFile(f)
				if err != nil {
					return engine.Invalid.Errorf("%w", err)
				}
				if string(was) == text {
					continue
				}
				differs = true
				fmt.Println(tui.Line(f))
				if only {
					continue
				}
				if err := replace(f, []byte(text)); err != nil {
					return engine.Invalid.Errorf("%s cannot be written: %w", f, err)
				}
			}
			if only && differs {
				return &engine.Error{Code: engine.Invalid}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&only, "check", false, "change nothing; exit with 1 where a file would change")
	return c
}

// replace writes the file at path whole or not at all, and keeps its mode.
func replace(path string, b []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := writeWhole(path, b); err != nil {
		return err
	}
	return os.Chmod(path, info.Mode())
}
