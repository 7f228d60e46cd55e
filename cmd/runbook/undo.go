package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/journal"
	"runbook/inventory"
)

func undoCommand(stop stopper) *cobra.Command {
	var f runFlags
	var force []string
	c := &cobra.Command{
		Use:   "undo RUN",
		Short: "Take back what a run did, where nobody has changed it since",
		Args:  oneRun,
		RunE: func(_ *cobra.Command, args []string) error {
			return f.show([]string{"undo", args[0]}, &stop, func(emit func(engine.Event)) error {
				planning, cancel := stop.whole()
				defer cancel()
				run, undo, err := undoOf(planning, args[0], force)
				if err != nil {
					return err
				}
				if err := f.nodesOf(run, undo.Nodes()); err != nil {
					return err
				}
				if err := known(force, undo.Nodes(), run.ID); err != nil {
					return err
				}
				s, err := openProgram(planning, undo, f.fleetFlags, emit)
				if err != nil {
					return err
				}
				defer s.close()
				if err := s.start(f); err != nil {
					return err
				}
				s.source, s.undoes = engine.Source{Main: "undo of " + run.ID}, run.ID
				if len(force) > 0 {
					s.params = map[string]string{forcedParam: strings.Join(force, ",")}
				}
				return s.recorded("undo", stop, func() (map[string]engine.NodeState, error) {
					states, err := s.carryOut(planning, stop, f, nil)
					if left := undo.LeftAlone(); left != nil && (err == nil || engine.Worst(engine.AsError(err).Code, left.Code) == left.Code) {
						return states, left
					}
					return states, err
				})
			})
		},
	}
	f.add(c)
	c.Flags().StringArrayVar(&force, "force", nil, "put `NODE` back also where it was changed since; it can be given several times")
	return c
}

// forcedParam is how the record of an undo names the nodes of --force.
const forcedParam = "force"

// undoOf finds a run and what takes it back.
func undoOf(ctx context.Context, id string, force []string) (engine.RunRecord, *engine.Undo, error) {
	run, undo, err := entriesToUndo(ctx, id, force)
	if err != nil {
		return run, nil, err
	}
	err = withJournal(func(_ context.Context, j *journal.Journal) error {
		if j.Held(run.ID) {
			return journal.StillGoing(run.ID)
		}
		by, err := takenBackBy(ctx, j, run.ID)
		if err == nil && by != "" {
			err = &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("run %s was taken back already, by run %s", run.ID, by), Hint: "runbook undo " + by + " does it again"}
		}
		return err
	})
	if err == nil && len(undo.Nodes()) == 0 {
		err = engine.Invalid.Errorf("run %s left nothing to take back", run.ID)
	}
	return run, undo, err
}

// entriesToUndo is what takes back what the journal says of a run.
func entriesToUndo(ctx context.Context, id string, force []string) (run engine.RunRecord, undo *engine.Undo, err error) {
	err = withJournal(func(_ context.Context, j *journal.Journal) error {
		var entries []engine.Entry
		if run, entries, err = j.Run(ctx, id); err != nil {
			return err
		}
		undo = engine.NewUndo(run, entries, force)
		return nil
	})
	return run, undo, err
}

// takenBackBy is the run that took back the run id whole and was not taken back itself, or "".
func takenBackBy(ctx context.Context, j *journal.Journal, id string) (string, error) {
	runs, err := j.Runs(ctx)
	if err != nil {
		return "", err
	}
	undone := map[string]string{} // by which run, if it holds
	for _, r := range runs {      // newest first: whether an undo holds is known before what it undoes
		whole := r.Undoes != "" && r.Outcome != nil && r.Outcome.Exit == 0 && r.Selection == selectedAll
		if whole && undone[r.ID] == "" && undone[r.Undoes] == "" {
			undone[r.Undoes] = r.ID
		}
	}
	return undone[id], nil
}

// selectedAll is the selection of an undo of all nodes of its run.
const selectedAll = "all of the run"

// nodesOf makes f mean the nodes of a run that have something to be taken back,
// or those of them that -n says.
func (f *fleetFlags) nodesOf(run engine.RunRecord, nodes []string) error {
	if err := f.sameNodes(run); err != nil {
		return err
	}
	f.names = nodes
	if f.flags.Changed("nodes") {
		chosen, err := inventory.FromNames("run "+run.ID, nodes).Select(f.selection)
		if err != nil {
			return err
		}
		f.names = nil
		for _, n := range chosen {
			f.names = append(f.names, n.Name)
		}
	}
	n, err := f.limited(len(f.names))
	if err != nil {
		return err
	}
	switch f.names = f.names[:n]; {
	case n == len(nodes):
		f.selection = selectedAll
	case f.selection == "":
		f.selection = fmt.Sprintf("the first %d of the run", n)
	}
	return nil
}

// sameNodes makes f mean the inventory of a run, if nothing else is said.
func (f *fleetFlags) sameNodes(run engine.RunRecord) error {
	if run.Inventory == ownLab {
		return &engine.Error{
			Code: engine.Invalid, Left: engine.NothingChanged,
			Cause: fmt.Sprintf("the nodes of run %s are gone: --lab made them for it, and they ended with it", run.ID),
		}
	}
	if f.lab > 0 || f.flags.Changed("lab") {
		return engine.Invalid.Errorf("--lab makes new nodes, on which run %s did nothing: -i lab is the standing lab", run.ID)
	}
	if f.inventory == "" {
		f.inventory = run.Inventory
	}
	return nil
}

// known is an error where a node that is to be forced is none of the run's.
func known(force, nodes []string, run string) error {
	for _, n := range force {
		if !slices.Contains(nodes, n) {
			return &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("--force %s: run %s changed nothing there", n, run), Hint: "it changed " + strings.Join(nodes, ", ")}
		}
	}
	return nil
}
