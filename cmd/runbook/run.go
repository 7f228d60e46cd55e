package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/journal"
	"runbook/engine/rollout"
	"runbook/tui"
)

// runFlags are those of the verbs that change nodes.
type runFlags struct {
	fleetFlags
	yes        bool
	unattended bool
	format     string
	plain      bool
	live       *tui.Live         // shows the run in a few lines,
	screen     *tui.Screen       // or on all of the terminal; neither: lines do
	controls   *rollout.Controls // that the screen has; nil: nobody steers
}

func (f *runFlags) add(c *cobra.Command) {
	f.fleetFlags.add(c)
	f.addRun(c)
}

func (f *runFlags) addRun(c *cobra.Command) {
	f.addTerms(c)
	c.Flags().BoolVar(&f.yes, "yes", false, "ask nothing, but where a policy wants it")
	c.Flags().BoolVar(&f.unattended, "unattended", false, "nobody is there: ask nothing, and refuse what a policy wants to be asked; it needs a policy")
	c.Flags().StringVar(&f.format, "format", "text", "text, or json: one event per line")
	c.Flags().BoolVar(&f.plain, "plain", false, "lines only, on a terminal too: nothing moves, and questions are answered by lines; for screen readers and logs")
}

// printsPlan reports whether the plan is to be printed before the first change.
func (f *runFlags) printsPlan() bool { return f.format == "text" && f.screen == nil }

// show has do carry out a run, titled as said, and shows what do emits. stop is what stops it; nil: it is only watched.
func (f *runFlags) show(title []string, stop *stopper, do func(emit func(engine.Event)) error) (err error) {
	if err := oneOf("--format", f.format, "text", "json"); err != nil {
		return err
	}
	switch {
	case f.format == "json":
		out := &sink{to: os.Stdout}
		return out.orElse(do(tui.JSONLines(out)))
	case !f.plain && !f.unattended && tui.CanShow(os.Stdin, os.Stdout):
		return f.onScreen(title, stop, do)
	case !f.plain:
		f.live = tui.LiveOn(os.Stdout)
	}
	if f.live == nil {
		out := &sink{to: os.Stdout}
		return out.orElse(do(tui.Lines(out, tui.StyleOf(os.Stdout))))
	}
	defer f.live.Close()
	return do(f.live.Tell)
}

// sink is an output that does not stop a run when it can take no more, such as on a disk that is full.
type sink struct {
	to  io.Writer
	err error // the first; none where a reader has read enough and gone
}

// Write implements [io.Writer]. One goroutine at a time.
func (w *sink) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	if w.err == nil && !errors.Is(err, syscall.EPIPE) {
		w.err = err
	}
	return n, err
}

// orElse is err, or else, where a run ended well, what was wrong with the output.
func (w *sink) orElse(err error) error {
	if err != nil || w.err == nil {
		return err
	}
	return &engine.Error{Code: engine.Internal, Cause: fmt.Sprintf("all is done, and not all that was to be said of it could be written: %v", w.err), Hint: "runbook show tells of it"}
}

// onScreen shows the run on all of the terminal.
func (f *runFlags) onScreen(title []string, stop *stopper, do func(emit func(engine.Event)) error) (err error) {
	o := tui.Options{In: os.Stdin, Out: os.Stdout, Title: strings.Join(title, " "), ReadOnly: f.yes || stop == nil}
	if stop != nil {
		f.controls = &rollout.Controls{}
		o.Controls = f.controls
		o.Stop = func() string { return stop.press(false) }
		o.Lost = stop.hangup
	}
	f.screen = tui.NewScreen(o)
	returned := false
	defer func() {
		if !returned { // it panics: there is nothing to be looked at
			f.screen.Close()
		}
	}()
	err = do(f.screen.Tell)
	returned = true
	f.screen.Finish(engine.AsError(err))
	return err
}

func runCommand(stop stopper) *cobra.Command {
	var f runFlags
	var watched string
	c := &cobra.Command{
		Use:   "run FILE [name=value …]",
		Short: "Plan, confirm node by node, and apply",
		Args: func(c *cobra.Command, args []string) error {
			if watched == "" {
				return needFile(c, args)
			}
			if len(args) > 0 {
				return engine.Invalid.Errorf("--watch shows a run that is going on, and runs nothing: %q is too much", args[0])
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if watched != "" {
				ctx, cancel := stop.whole()
				defer cancel()
				return watch(ctx, watched, f)
			}
			file, params, err := arguments(args)
			if err != nil {
				return err
			}
			return f.show(append([]string{"run"}, args...), &stop, func(emit func(engine.Event)) error {
				planning, cancel := stop.whole()
				defer cancel()
				s, err := open(planning, engine.Source{Main: file}, params, f.fleetFlags, emit)
				if err != nil {
					return err
				}
				defer s.close()
				if err := s.start(f); err != nil {
					return err
				}
				return s.recorded("run", stop, func() (map[string]engine.NodeState, error) {
					return s.carryOut(planning, stop, f, nil)
				})
			})
		},
	}
	f.add(c)
	c.Flags().StringVar(&watched, "watch", "", "show this run, which another process drives, and change nothing")
	return c
}

func applyCommand(stop stopper) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "apply PLAN",
		Short: "Do what was planned, or nothing",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return engine.Invalid.Errorf("apply takes one saved plan; its parameters are in it")
			}
			return needFile(c, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return f.show([]string{"apply", args[0]}, &stop, func(emit func(engine.Event)) error {
				saved, err := loadPlan(args[0])
				if err != nil {
					return err
				}
				planning, cancel := stop.whole()
				defer cancel()
				f.of(saved)
				s, err := open(planning, saved.Source, saved.Params, f.fleetFlags, emit)
				if err != nil {
					return err
				}
				defer s.close()
				if err := s.start(f); err != nil {
					return err
				}
				return s.recorded("apply", stop, func() (map[string]engine.NodeState, error) {
					return s.carryOut(planning, stop, f, saved)
				})
			})
		},
	}
	f.addInventory(c)
	f.addRun(c)
	return c
}

// of makes f mean the nodes of a saved plan, all of them, whatever its selection means today, and
// the limits that it was predicted with.
func (f *fleetFlags) of(p *engine.Plan) {
	if f.inventory == "" {
		f.inventory = p.Inventory
	}
	f.names = nil
	for _, n := range p.Nodes {
		if !engine.IsTarget(n.Node) { // hooks ask those by themselves
			f.names = append(f.names, n.Node)
		}
	}
	f.selection = p.Selection
	f.ceilings.at("the plan", p.Header.Limits)
}

// hold marks the nodes of now that are not as they were in the saved plan, and tells of them.
func hold(saved, now *engine.Plan, tell func(*engine.NodePlan)) {
	was := map[string]*engine.NodePlan{}
	for _, np := range saved.Nodes {
		was[np.Node] = np
	}
	for i, np := range now.Nodes {
		if np.Err != nil {
			continue
		}
		before := was[np.Node]
		if before == nil { // a server that no hook had asked
			before = &engine.NodePlan{Node: np.Node}
		}
		if err := rollout.Drifted(before, np); err != nil {
			drifted := *np // what was told of is not changed any more
			drifted.Err = err
			now.Nodes[i] = &drifted
			tell(&drifted)
		}
	}
}

// holdTargets is hold of servers, of which now has those that a hook has asked. One that was to be
// changed, and is not asked now, is marked as well.
func holdTargets(saved, now *engine.Plan, tell func(*engine.NodePlan)) {
	for _, np := range saved.Nodes {
		asked := slices.ContainsFunc(now.Nodes, func(n *engine.NodePlan) bool { return n.Node == np.Node })
		if engine.IsTarget(np.Node) && len(np.Changes()) > 0 && !asked {
			now.Nodes = append(now.Nodes, &engine.NodePlan{Node: np.Node})
		}
	}
	hold(saved, now, tell)
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

// carryOut makes the plan, which must be the saved one where there is one, shows it, refuses it or applies it, and sums up.
func (s *session) carryOut(planning context.Context, stop stopper, f runFlags, saved *engine.Plan) (map[string]engine.NodeState, error) {
	p, refused, watching, err := s.foresee(planning, saved)
	if err != nil {
		return nil, err
	}
	if saved != nil {
		if err := s.keepPlan(p); err != nil {
			return nil, err
		}
	}
	if err := s.keepFailed(p); err != nil {
		return nil, err
	}
	if f.printsPlan() {
		if err := tui.Plan(os.Stdout, p, "text", tui.StyleOf(os.Stdout)); err != nil {
			return nil, err
		}
	}
	if f.screen != nil && (refused != nil || watching != nil) { // what the run would have done is to stay
		f.screen.KeepPlan(p)
	}
	begins := engine.Event{Kind: engine.EventRun, Outlook: s.run.Outlook(p.Nodes), Forecast: p.Forecast, Limits: s.run.Limits(), Used: s.used()}
	if s.run.Past != nil {
		begins.States = s.byState(s.run.Before())
	}
	s.run.Tell(begins)
	if refused != nil {
		for _, np := range p.Nodes {
			if f.format == "json" && np.Err != nil {
				s.run.Tell(engine.Event{Kind: engine.EventNode, Node: np.Node, State: engine.NodeFailed, Err: np.Err})
			}
		}
		if f.format == "text" {
			s.refused = refused
			refused = &engine.Error{Code: refused.Code, Cause: "refused; nothing changed on any node", Hint: s.run.OverBudget(p.Nodes)}
		}
		return nil, refused
	}
	if watching != nil {
		return nil, watching
	}
	if err := s.reserve(stop.ctx, p); err != nil {
		return nil, err
	}
	if err := s.questions(p, f); err != nil {
		return nil, err
	}
	s.run.Stop = stop.stop
	s.run.Controls = f.controls
	if err := s.bind(); err != nil { // the live passes have all their steps
		return nil, err
	}
	states, failed := s.run.Apply(stop.ctx, p.Nodes)
	s.run.Tell(engine.Event{
		Kind: engine.EventEnd, Text: s.sum(states), Limits: s.run.Limits(), Used: s.used(), States: s.byState(states), Next: s.next(stop.ctx, states, failed),
	})
	if failed != nil {
		return states, failed
	}
	return states, nil
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

// used is what the run has used of its limits, those of the hour included.
func (s *session) used() engine.Used {
	u := s.run.Used()
	maps.Copy(u, s.hour)
	if before, counted := s.hour[engine.LimitFailuresPerHour]; counted { // those of this run are known only now
		u[engine.LimitFailuresPerHour] = before + u[engine.LimitFailures]
	}
	return u
}

// byState is the nodes in each state, in the order of the run.
func (s *session) byState(states map[string]engine.NodeState) map[engine.NodeState][]string {
	out := map[engine.NodeState][]string{}
	add := func(name string) {
		if st, known := states[name]; known {
			out[st] = append(out[st], name)
		}
	}
	for _, n := range s.run.Nodes {
		add(n.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(states)) { // what hooks changed
		if engine.IsTarget(name) && !slices.Contains(out[states[name]], name) {
			add(name)
		}
	}
	return out
}

// next is what can be done after a run that failed, or was stopped: what the journal would let happen.
func (s *session) next(ctx context.Context, states map[string]engine.NodeState, failed *engine.Error) (out []engine.Next) {
	if failed == nil || s.fleet.inventory == ownLab { // whose nodes are gone with it
		return nil
	}
	run, entries, err := s.journal.Run(context.WithoutCancel(ctx), s.run.ID)
	if err != nil {
		return nil // it is a hint, and the run itself has said how it ended
	}
	run.Outcome = outcomeOf(states, failed)
	if past, err := engine.PastOf(entries); err == nil && unfinished(run, past) && (&rollout.Run{Program: s.run.Program, Past: past, Ceilings: s.run.Ceilings}).Refusal(nil) == nil {
		out = append(out, engine.Next{What: "go on with the nodes that are left", Command: "runbook resume " + run.ID})
	}
	if len(engine.NewUndo(run, entries, nil).Nodes()) > 0 {
		out = append(out, engine.Next{What: "take back what was done", Command: "runbook undo " + run.ID})
	}
	return out
}

// sum is how a run ended, in one line.
func (s *session) sum(states map[string]engine.NodeState) string {
	counts := map[engine.NodeState]int{}
	for _, st := range states {
		counts[st]++
	}
	var parts []string
	for _, st := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[st], st))
	}
	return fmt.Sprintf("%s: %s", s.run.ID, strings.Join(parts, ", "))
}
