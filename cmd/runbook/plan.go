package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/tui"
)

func planCommand(stop stopper) *cobra.Command {
	var (
		f        fleetFlags
		out      string
		format   string
		exitCode bool
	)
	c := &cobra.Command{
		Use:   "plan FILE [name=value …]",
		Short: "Show what a runbook would do to each node; change nothing",
		Args:  needFile,
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, cancel := stop.whole()
			defer cancel()
			file, params, err := arguments(args)
			if err != nil {
				return err
			}
			if err := oneOf("--format", format, "text", "markdown", "json"); err != nil {
				return err
			}
			if err := isForPlans(out); err != nil {
				return err
			}
			live := tui.LiveOn(os.Stderr)
			if live != nil {
				defer live.Close()
			}
			var hooks engine.Plan
			s, err := open(ctx, engine.Source{Main: file}, params, f, whilePlanning(live, &hooks))
			if err != nil {
				return err
			}
			defer s.close()
			p, refused, watching, err := s.foresee(ctx, nil)
			if err != nil {
				return err
			}
			p.Said, p.Seen, p.Refused = hooks.Said, hooks.Seen, watching
			if err := tui.Plan(os.Stdout, p, format, tui.StyleOf(os.Stdout)); err != nil {
				return err
			}
			if refused != nil {
				return shown(refused)
			}
			if watching != nil {
				return watching
			}
			if out != "" && (len(f.snapshots) > 0 || s.fleet.inventory == ownLab) {
				of := "snapshots"
				if s.fleet.inventory == ownLab {
					of = "nodes that end with this command"
				}
				return engine.Invalid.Errorf("a plan for %s cannot be applied: leave out -o %s", of, out)
			}
			if out != "" {
				if err := savePlan(out, p); err != nil {
					return err
				}
			}
			if exitCode && p.Changes() > 0 {
				return &engine.Error{Code: engine.Pending}
			}
			return nil
		},
	}
	f.add(c)
	f.addTerms(c)
	c.Flags().StringArrayVar(&f.snapshots, "snapshot", nil, "plan for a node as runbook snapshot has recorded it in this `FILE`, without reaching any")
	c.Flags().VarP(&once{text: &out, filled: true}, "out", "o", "save the plan to this file, for apply")
	c.Flags().StringVar(&format, "format", "text", "text, markdown or json")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 2 where there are changes")
	return c
}

// whilePlanning shows on live, if there is one, how far the prediction is, and keeps in p what hooks say and see.
func whilePlanning(live *tui.Live, p *engine.Plan) func(engine.Event) {
	return func(e engine.Event) {
		switch e.Kind {
		case engine.EventPredict, engine.EventPlanned:
			if live != nil {
				live.Tell(e)
			}
		case engine.EventPrint, engine.EventValue:
			if e.Node == "" { // of hooks there is one at a time
				p.Said = append(p.Said, tui.Said(e))
			}
			if e.Node == "" && e.Value != nil {
				p.Seen = append(p.Seen, engine.Observed{Hook: e.Op, Name: e.Text, Value: *e.Value})
			}
		}
	}
}

// needFile wants the runbook's file as the first argument.
func needFile(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &engine.Error{Code: engine.Invalid, Cause: c.Name() + " needs a file", Hint: "runbook " + c.Use}
	}
	return nil
}

func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	list := allowed[0]
	for _, a := range allowed[1:] {
		list += ", " + a
	}
	return engine.Invalid.Errorf("%s %q: want one of %s", flag, value, list)
}

// shown is err for a caller that has already shown it with its node: only its
// code is left to tell.
func shown(err *engine.Error) *engine.Error { return &engine.Error{Code: err.Code} }

// savePlan writes p whole or not at all. It is for its owner only: it holds
// what nodes told of themselves.
func savePlan(path string, p *engine.Plan) error {
	b, err := json.Marshal(p)
	if err == nil {
		err = writeWhole(path, append(b, '\n'))
	}
	if err != nil {
		return engine.Invalid.Errorf("cannot save the plan: %w", err)
	}
	return nil
}

// isForPlans is an error where path is a file that holds something else than a
// saved plan, such as the runbook: nobody wants that overwritten.
func isForPlans(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil // where it cannot be written, that is said then
	}
	const begins = `{"version":`
	b := make([]byte, len(begins))
	f, err := os.Open(path)
	if err == nil {
		_, err = io.ReadFull(f, b)
		f.Close() //nolint:errcheck // it was only read
	}
	if err == nil && string(b) == begins {
		return nil
	}
	return &engine.Error{
		Code: engine.Invalid, Cause: path + " is there already, and is not a saved plan; it is left as it is",
		Hint: "-o with another name, or remove it first",
	}
}

// writeWhole makes b the content of the file at path. What is no file, such as
// /dev/stdout, is written to, and stays what it is.
func writeWhole(path string, b []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, b, 0o600)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it is gone once renamed
	if _, err := tmp.Write(b); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// maxPlan is how large a saved plan may be: one of 10,000 nodes with three changes each has 100 MB.
const maxPlan = 1 << 30

// loadPlan reads what savePlan wrote.
func loadPlan(path string) (*engine.Plan, error) {
	info, err := os.Stat(path)
	var b []byte
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a file", path)
	case info.Size() > maxPlan:
		err = fmt.Errorf("%s has %d bytes, and a plan may have %d", path, info.Size(), maxPlan)
	default:
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, engine.Invalid.Errorf("cannot read the plan: %w", err)
	}
	return parsePlan(path, b)
}

// parsePlan reads b, which is what is in the file at path. It trusts none of it.
func parsePlan(path string, b []byte) (*engine.Plan, error) {
	var p engine.Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, engine.Invalid.Errorf("%s is not a saved plan: %w", path, err)
	}
	switch {
	case p.Version == 0 || len(p.Source.Files) == 0:
		return nil, &engine.Error{Code: engine.Invalid, Cause: path + " is not a saved plan", Hint: "save one with runbook plan -o " + path + " FILE"}
	case p.Version != engine.PlanVersion:
		return nil, engine.Invalid.Errorf("%s is a plan of version %d: this runbook reads version %d", path, p.Version, engine.PlanVersion)
	}
	seen := map[string]bool{}
	for _, np := range p.Nodes {
		if np == nil || np.Node == "" || seen[np.Node] {
			return nil, engine.Invalid.Errorf("%s is damaged: its nodes are not each named once", path)
		}
		seen[np.Node] = true
		for i, c := range np.Steps {
			if c.Op == "" || len(c.Args) == 0 || c.Args[0] != '{' {
				return nil, engine.Invalid.Errorf("%s is damaged: call %d on %s has no operation, or no arguments", path, i+1, np.Node)
			}
			var args bytes.Buffer // calls are compared by them; somebody may have laid out the file anew, to read it
			if err := json.Compact(&args, c.Args); err != nil {
				return nil, engine.Invalid.Errorf("%s is not a saved plan: %w", path, err)
			}
			np.Steps[i].Args = args.Bytes()
		}
	}
	if len(p.Nodes) == 0 {
		return nil, engine.Invalid.Errorf("%s is a plan for no node", path)
	}
	return &p, nil
}
