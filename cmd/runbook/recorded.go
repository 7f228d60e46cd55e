package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"time"

	"runbook/engine"
	"runbook/engine/journal"
)

// This file is what the journal is told of a run, before, while and after it changes nodes.

// recorded opens the journal's record of the run around f and closes it with
// how that ended.
func (s *session) recorded(verb string, stop stopper, f func() (map[string]engine.NodeState, error)) error {
	return s.inJournal(stop, func(ctx context.Context, j *journal.Journal, who string) (release func(), err error) {
		s.run.ID, err = j.Begin(ctx, engine.RunRecord{
			Verb: verb, Runbook: s.source.Main, Hash: s.source.Hash(), Params: s.params,
			Inventory: s.fleet.inventory, Selection: s.fleet.selection, User: who, Reason: s.reason, Undoes: s.undoes, Started: time.Now().UTC(),
			Nodes: names(s.run.Nodes), Limits: s.run.Limits(), Source: s.source,
		})
		if err != nil {
			return nil, err
		}
		return j.Hold(s.run.ID)
	}, f)
}

// inJournal opens the journal, and by open a record in it, around f; then it closes that with how f ended.
// Meanwhile other processes can stop the run.
func (s *session) inJournal(stop stopper, open func(ctx context.Context, j *journal.Journal, who string) (release func(), err error), f func() (map[string]engine.NodeState, error)) error {
	j, err := journal.Open(journal.DefaultDir())
	if err != nil {
		return err
	}
	defer j.Close() //nolint:errcheck // what matters is durable already
	who := operator()
	ctx := context.Background() // the record is written also for a run that is interrupted
	s.journal, s.run.Journal, s.run.By = j, j, who
	if machine, err := os.Hostname(); err == nil {
		s.run.By += "@" + machine
	}
	stop.begun.Store(true)
	release, err := open(ctx, j, who)
	if err != nil {
		return err
	}
	defer release()
	defer s.listens(stop, j)()
	states, err := f()
	failed := engine.AsError(err)
	if s.refused != nil {
		failed = s.refused
	}
	if jerr := j.End(ctx, s.run.ID, *outcomeOf(states, failed)); jerr != nil && err == nil {
		return jerr
	}
	return err
}

// reserve counts the run to the last hour of its runbook and inventory.
func (s *session) reserve(ctx context.Context, p *engine.Plan) error {
	r := engine.Reservation{
		Quotas: s.fleet.policies.Quotas(s.fleet.all),
		Run:    s.run.ID, Path: p.Source.Main, Hash: p.Source.Says(), Inventory: resolved(p.Inventory), Changes: p.Changes(), Limits: s.run.Limits(),
	}
	if r.Changes == 0 || s.undoes != "" { // what takes a change back is never refused for what was done before
		return nil
	}
	for _, np := range p.Nodes {
		if len(np.Changes()) > 0 {
			r.Nodes = append(r.Nodes, np.Node)
		}
	}
	for name, past := range s.run.Past { // what the run has done already is counted with what is left of it
		if past.Ended() && past.Charged() > 0 {
			r.Nodes, r.Changes = append(r.Nodes, name), r.Changes+past.Charged()
		} else if past.InHand() {
			r.Changes += past.Charged() - past.Left().Count()
		}
	}
	if path, err := filepath.Abs(r.Path); err == nil {
		r.Path = resolved(path)
	}
	hour, err := s.run.Journal.Reserve(ctx, r)
	if err != nil {
		e := *engine.AsError(err)
		e.Left = engine.NothingChanged
		return &e
	}
	s.hour = hour
	return nil
}

// resolved is the absolute path of a file without the links in it: one that is reached by another
// path is the same. What is none, such as the lab or what is gone, keeps its name.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil && filepath.IsAbs(path) {
		return real
	}
	return path
}

// keepPlan records what was planned for every node, also where nothing is to
// change: if the run is taken up again, it may do that and nothing else.
func (s *session) keepPlan(p *engine.Plan) error {
	var out []engine.Entry
	for _, np := range p.Nodes {
		if np.Err != nil || engine.IsTarget(np.Node) { // those are predicted anew
			continue
		}
		b, err := json.Marshal(np)
		if err != nil {
			return err
		}
		out = append(out, engine.Entry{Run: s.run.ID, Node: np.Node, Kind: engine.EntryPlan, Data: b})
	}
	return s.run.Journal.Append(context.Background(), out...)
}

// keepFailed records why nodes could not be predicted. Nothing was begun on them: a run that is taken up again tries them again.
func (s *session) keepFailed(p *engine.Plan) error {
	var out []engine.Entry
	for _, np := range p.Nodes {
		if np.Err == nil {
			continue
		}
		b, err := json.Marshal(np.Err)
		if err != nil {
			return err
		}
		out = append(out, engine.Entry{Run: s.run.ID, Node: np.Node, Kind: engine.EntryEnd, Text: string(engine.NodeUntried), Data: b})
	}
	return s.run.Journal.Append(context.Background(), out...)
}

// outcomeOf is the record of how a run ended; failed is nil where it did what it should.
func outcomeOf(states map[string]engine.NodeState, failed *engine.Error) *engine.Outcome {
	out := &engine.Outcome{Nodes: map[string]string{}}
	for n, st := range states {
		out.Nodes[n] = string(st)
	}
	if failed != nil {
		out.Exit, out.Error = int(failed.Code), failed.Cause
	}
	return out
}

// used is what the run has used of its limits, those of the hour included.
func (s *session) used() engine.Used {
	u := s.run.Used()
	maps.Copy(u, s.hour)
	if before, counted := s.hour[engine.LimitFailuresPerHour]; counted { // those of this run are known only now
		u[engine.LimitFailuresPerHour] = before + u[engine.LimitFailures]
	}
	return u
}
