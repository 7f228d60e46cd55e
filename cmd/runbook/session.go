package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/journal"
	"runbook/engine/rollout"
	"runbook/engine/script"
	"runbook/node/sim"
	"runbook/tui"
)

// session is a runbook that has been read, and the nodes that it is for.
type session struct {
	program engine.Program
	undoes  string // the run that this one takes back
	source  engine.Source
	params  map[string]string
	fleet   *fleet
	run     *rollout.Run
	journal *journal.Journal // that keeps it
	reason  string           // why the operator runs it
	refused *engine.Error    // why, for the record: who reads the plan has seen it there
	hour    engine.Used      // of the limits that are counted over an hour
}

// arguments splits FILE name=value … as plan and run take them.
func arguments(args []string) (file string, params map[string]string, err error) {
	params = map[string]string{}
	for _, a := range args[1:] {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return "", nil, engine.Invalid.Errorf("%q is not a parameter: want name=value", a)
		}
		if _, twice := params[name]; twice {
			return "", nil, engine.Invalid.Errorf("parameter %s is given twice", name)
		}
		params[name] = value
	}
	return args[0], params, nil
}

// open reads the runbook of src and connects it with the nodes that f selects.
// The script is read first: what is wrong with it is said before any node is reached.
func open(ctx context.Context, src engine.Source, params map[string]string, f fleetFlags, emit func(engine.Event)) (*session, error) {
	limits, err := f.ceilings.parse()
	if err != nil {
		return nil, err
	}
	if err := noPasswords(params); err != nil { // also where the script is none that would look at it
		return nil, err
	}
	program, err := script.Start(ctx, script.Config{Ops: builtins.Operations, Limits: limits}, src)
	if err != nil {
		return nil, err
	}
	if err := program.Bind(params); err != nil {
		program.Close() //nolint:errcheck // what was wrong is said already
		return nil, err
	}
	if err := noPasswordsIn(program.Source()); err != nil {
		program.Close() //nolint:errcheck // as above
		return nil, err
	}
	s, err := openProgram(ctx, program, f, emit)
	if err != nil {
		return nil, err
	}
	s.source, s.params = program.Source(), params
	if err := program.Limit(s.run.Limits()); err != nil { // what policies say of steps and memory
		s.close()
		return nil, err
	}
	return s, nil
}

// openProgram connects a program with the nodes that f selects. Where that fails, the program is closed.
func openProgram(ctx context.Context, program engine.Program, f fleetFlags, emit func(engine.Event)) (*session, error) {
	s := &session{program: program}
	limits, err := f.ceilings.parse()
	if err == nil {
		s.fleet, err = f.open(ctx)
	}
	if err != nil {
		program.Close() //nolint:errcheck // what was wrong is said
		return nil, err
	}
	collectFor(len(s.fleet.nodes))
	spread := program.Header().Rollout.Spread
	if spread != "" && !slices.ContainsFunc(s.fleet.nodes, func(n engine.NodeInfo) bool { return n.Vars[spread] != nil }) {
		fmt.Fprintln(os.Stderr, tui.StyleOf(os.Stderr).Warning("no selected node has the variable "+spread+", over which the rollout is to be spread"))
	}
	s.run = &rollout.Run{
		Program: program, Nodes: rollout.Spread(s.fleet.nodes, spread), Dialer: withServers{s.fleet.dialer}, Emit: emit, Repeat: f.repeat, Ceilings: limits,
		Model: func(r engine.Reader) engine.Model { return sim.Over(r) },
	}
	if err := s.obey(f); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) close() {
	s.run.Close()
	s.program.Close()
	s.fleet.close()
}

// bind gives the program its parameters, if it takes any: the passes that follow have all their steps again.
func (s *session) bind() error {
	if p, takes := s.program.(interface{ Bind(map[string]string) error }); takes {
		return p.Bind(s.params)
	}
	return nil
}

// foresee predicts every node and, where that does not refuse the run, looks at the fleet as
// the runbook's hooks do, and predicts what they change. What is not as it was in saved (nil: there
// is none) has drifted. refused is why the run must not start: of a node or server, whose plan says so, or what watching says.
func (s *session) foresee(ctx context.Context, saved *engine.Plan) (p *engine.Plan, refused, watching *engine.Error, err error) {
	p, err = s.predict(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if saved != nil {
		hold(saved, p, s.run.Planned)
	}
	if refused = s.run.Refusal(p.Nodes); refused != nil {
		return p, refused, nil, nil
	}
	watching = s.run.Watch(ctx)
	targets := &engine.Plan{Nodes: s.run.Targets()}
	if saved != nil && watching == nil {
		holdTargets(saved, targets, s.run.Planned)
	}
	p.Nodes, p.Used = append(p.Nodes, targets.Nodes...), s.run.Used()
	if watching == nil {
		watching = s.foretell(ctx, p)
	}
	return p, s.run.Refusal(p.Nodes), watching, nil
}

// predict predicts every node and returns the plan.
func (s *session) predict(ctx context.Context) (*engine.Plan, error) {
	nodes, err := s.run.Predict(ctx)
	if err != nil {
		return nil, err
	}
	h := s.program.Header()
	h.Limits = s.run.Limits()
	return &engine.Plan{
		Version: engine.PlanVersion, Source: s.source, Params: s.params,
		Inventory: s.fleet.inventory, Selection: s.fleet.selection,
		Created: time.Now().UTC(), Header: h, Nodes: nodes, Usage: s.program.Usage(), Used: s.run.Used(),
	}, nil
}
