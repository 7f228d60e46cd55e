package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/journal"
	"runbook/tui"
)

func resumeCommand(stop stopper) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "resume RUN",
		Short: "Take up a run that ended before it was through",
		Args:  oneRun,
		RunE: func(_ *cobra.Command, args []string) error {
			return f.show([]string{"resume", args[0]}, &stop, func(emit func(engine.Event)) error {
				planning, cancel := stop.whole()
				defer cancel()
				run, err := pastOf(planning, args[0])
				if err != nil {
					return err
				}
				again := engine.Entry{Run: run.ID, Seq: run.seen, Kind: engine.EntryResumed}
				if f.reason != "" { // it has one of its own, too
					if again.Data, err = json.Marshal(f.reason); err != nil {
						return err
					}
				}
				s, err := f.takeUp(planning, run.RunRecord, emit)
				if err != nil {
					return err
				}
				defer s.close()
				if err := s.start(f); err != nil {
					return err
				}
				s.run.ID, s.run.Past = run.ID, run.nodes
				if refused := s.run.Refusal(nil); refused != nil && run.Outcome != nil && s.run.Idle() {
					return refused
				}
				return s.inJournal(stop, func(ctx context.Context, j *journal.Journal, who string) (func(), error) {
					again.Text = who
					return j.Resume(ctx, again)
				}, func() (map[string]engine.NodeState, error) {
					states, err := s.goOn(planning, stop, f)
					if states == nil { // it did no more
						states = s.run.Before()
					}
					return states, err
				})
			})
		},
	}
	f.addInventory(c)
	f.addRun(c)
	return c
}

// goOn finishes the nodes that were in hand, and then does what is left.
func (s *session) goOn(planning context.Context, stop stopper, f runFlags) (map[string]engine.NodeState, error) {
	s.run.Stop, s.run.Controls = stop.stop, f.controls
	failed := s.run.TakeUp(stop.ctx)
	if refused := s.run.Refusal(nil); refused != nil || failed != nil && (failed.Code == engine.Interrupted || failed.Code == engine.Differs) {
		if failed == nil {
			failed = refused
		}
		return nil, failed
	}
	if err := s.bind(); err != nil { // what follows has all its steps
		return nil, err
	}
	return s.carryOut(planning, stop, f, nil)
}

// pastRun is a run that has something left.
type pastRun struct {
	engine.RunRecord
	nodes map[string]*engine.Past // what became of each
	seen  int64                   // the number of the last entry of its record
}

// pastOf finds a run that has something left.
func pastOf(ctx context.Context, id string) (*pastRun, error) {
	j, err := journal.Open(journal.DefaultDir())
	if err != nil {
		return nil, err
	}
	defer j.Close() //nolint:errcheck // it was only read
	run, entries, err := j.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	if j.Held(run.ID) {
		return nil, journal.StillGoing(run.ID)
	}
	if len(run.Nodes) == 0 {
		return nil, engine.Invalid.Errorf("run %s was recorded by an earlier runbook, which did not keep what it takes to go on", run.ID)
	}
	by, err := undoneBy(ctx, j, run.ID)
	if err != nil {
		return nil, err
	}
	if by != "" {
		return nil, engine.Invalid.Errorf("run %s was taken back, by run %s: it cannot go on", run.ID, by)
	}
	past, err := engine.PastOf(entries)
	if err != nil {
		return nil, err
	}
	if run.Outcome == nil || unfinished(run, past) { // there is its record to be closed at least
		out := &pastRun{RunRecord: run, nodes: past}
		if n := len(entries); n > 0 {
			out.seen = entries[n-1].Seq
		}
		return out, nil
	}
	return nil, engine.Invalid.Errorf("run %s has nothing left to do: %s", run.ID, tui.Ending(run))
}

// unfinished reports whether a run has something left to do.
func unfinished(run engine.RunRecord, past map[string]*engine.Past) bool {
	return slices.ContainsFunc(run.Nodes, func(n string) bool { return !past[n].Ended() && !through(run, n) })
}

// through reports whether a run that came to its end found nothing to do on a node.
func through(run engine.RunRecord, node string) bool {
	return run.Outcome != nil && run.Outcome.Nodes[node] == string(engine.NodeSame)
}

// undoneBy is a run that took back any part of the run id, or may have, or "".
func undoneBy(ctx context.Context, j *journal.Journal, id string) (string, error) {
	runs, err := j.Runs(ctx)
	for _, r := range runs {
		if r.Undoes == id && (r.Outcome == nil || tookBack(r.Outcome)) {
			return r.ID, nil
		}
	}
	return "", err
}

// tookBack reports whether an undo that ended so has changed a node, or may have: one that was
// declined at its question has not.
func tookBack(o *engine.Outcome) bool {
	for _, state := range o.Nodes {
		switch engine.NodeState(state) {
		case engine.NodeUntried, engine.NodeSkipped, engine.NodeSame, engine.NodeFailed: // it holds what it held before
		default:
			return true
		}
	}
	return false
}

// takeUp opens what the run ran, for the nodes that it was for.
func (f *runFlags) takeUp(ctx context.Context, run engine.RunRecord, emit func(engine.Event)) (*session, error) {
	if err := f.sameNodes(run); err != nil {
		return nil, err
	}
	f.selection, f.names = run.Selection, run.Nodes
	f.ceilings.at("run "+run.ID, run.Limits)
	f.reason = or(f.reason, run.Reason)
	if run.Undoes == "" {
		if len(run.Source.Files) == 0 {
			return nil, engine.Internal.Errorf("the journal does not have the text of the runbook of run %s", run.ID)
		}
		src := run.Source
		src.Main = run.Runbook
		return open(ctx, src, run.Params, f.fleetFlags, emit)
	}
	var force []string
	if names := run.Params[forcedParam]; names != "" {
		force = strings.Split(names, ",")
	}
	_, undo, err := entriesToUndo(ctx, run.Undoes, force)
	if err != nil {
		return nil, err
	}
	s, err := openProgram(ctx, undo, f.fleetFlags, emit)
	if err != nil {
		return nil, err
	}
	s.source, s.undoes, s.params = engine.Source{Main: run.Runbook}, run.Undoes, run.Params
	return s, nil
}
