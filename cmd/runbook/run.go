package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/tui"
)

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
