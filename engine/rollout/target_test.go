package rollout_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/node/sim"
)

// shared is the name of a target. What it holds are routes: to a run it is a node like others.
const shared = "db service=main"

// onShared is the call that gives the target a route.
func onShared(dst string) engine.Call {
	op := builtins.RouteAdd{Dst: netip.MustParsePrefix(dst), Via: netip.MustParseAddr("10.98.0.1"), Dev: "eth1"}
	args, _ := json.Marshal(op)
	return engine.Call{Name: "route.add", Args: args, Op: op, Pos: "x.star:9:1", Node: shared}
}

// withTarget is a run on n nodes whose hooks call what hooks says, by their names.
func withTarget(t *testing.T, n int, hooks map[string]func(ctx context.Context, f engine.FleetInfo, h engine.Host) error) (*fleet, *rollout.Run, *kept, *[]engine.Event) {
	t.Helper()
	f, infos := newFleet(n)
	f.nodes[shared] = sim.New(sim.LabNode("db", 200))
	p := addRoute([]string{"1", "100%"}, 0)
	p.header.Hooks = map[string]string{}
	for name := range hooks {
		p.header.Hooks[name] = "x.star:8:1"
	}
	r, events := newRun(f, infos, hooked{p, func(ctx context.Context, name string, f engine.FleetInfo, h engine.Host) error {
		return hooks[name](ctx, f, h)
	}})
	journal := &kept{}
	r.Journal = journal
	return f, r, journal, events
}

// has reports whether the target has a route.
func (f *fleet) has(t *testing.T, dst string) bool {
	t.Helper()
	s, err := f.nodes[shared].Read(t.Context(), resource.Query{{Kind: resource.KindRoute}})
	if err != nil {
		t.Fatal(err)
	}
	return s[resource.RouteKey(netip.MustParsePrefix(dst), resource.TableMain, 0)] != nil
}

func does(dsts ...string) func(context.Context, engine.FleetInfo, engine.Host) error {
	return func(ctx context.Context, _ engine.FleetInfo, h engine.Host) error {
		for _, d := range dsts {
			if _, err := h.Do(ctx, onShared(d)); err != nil {
				return err
			}
		}
		return nil
	}
}

// What before and after change of a target is predicted, confirmed, recorded under its name with numbers of its own, and can be undone.
func TestHooksChangeTargets(t *testing.T) {
	f, r, journal, events := withTarget(t, 3, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{
		engine.HookBefore: does("10.30.0.0/16", "10.31.0.0/16"), engine.HookAfter: does("10.30.0.0/16", "10.32.0.0/16"),
	})
	var asked []string
	r.Confirm = func(_ context.Context, q rollout.Question) (rollout.Answer, error) {
		asked = append(asked, fmt.Sprintf("%s: %d", q.Plan.Node, len(q.Plan.Changes())))
		if q.Plan.Node == shared && f.has(t, "10.32.0.0/16") {
			t.Error("it is asked about what was done already")
		}
		return rollout.Yes, nil
	}
	plans := predicted(t, r)
	if e := r.Watch(t.Context()); e != nil {
		t.Fatal(e)
	}
	if targets := r.Targets(); len(targets) != 1 || targets[0].Node != shared || len(targets[0].Changes()) != 2 || f.has(t, "10.30.0.0/16") {
		t.Fatalf("predicted %+v", targets)
	}
	states, err := r.Apply(t.Context(), plans)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{shared + ": 2", "node-1: 1", "node-2: 1", "node-3: 1", shared + ": 1"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if states[shared] != engine.NodeDone || !f.has(t, "10.31.0.0/16") || !f.has(t, "10.32.0.0/16") {
		t.Errorf("states %v", states)
	}
	var of []string
	for _, e := range journal.entries {
		if e.Node == shared && e.Kind != engine.EntryPlan {
			of = append(of, fmt.Sprintf("%s %d", e.Kind, e.Nth))
		}
	}
	if want := "intent 0,intent 1,done 0,done 1,end 0,intent 3,done 3,end 2"; !strings.HasPrefix(strings.Join(of, ","), "intent 0,intent 1") || !slices.Contains(of, "intent 3") {
		t.Errorf("recorded %q, want something like %s", of, want)
	}
	told := 0
	for _, e := range *events {
		if e.Node == shared && e.Kind == engine.EventChange {
			told++
		}
	}
	if told != 3 {
		t.Errorf("%d changes were told of", told)
	}
}

// What a hook looks at after it has changed a target is after that change.
func TestHookLooksAfterItsChange(t *testing.T) {
	var f *fleet
	var r *rollout.Run
	live := false
	f, r, _, _ = withTarget(t, 1, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{
		engine.HookBefore: func(ctx context.Context, info engine.FleetInfo, h engine.Host) error {
			if err := does("10.30.0.0/16")(ctx, info, h); err != nil {
				return err
			}
			if _, err := h.Do(ctx, engine.Call{Name: "route.list", Op: builtins.RouteList{}, Args: []byte("{}"), Node: "node-1"}); err != nil {
				return err
			}
			if live && !f.has(t, "10.30.0.0/16") {
				t.Error("it looks at a node before its change is made")
			}
			if err := does("10.31.0.0/16")(ctx, info, h); err != nil {
				return err
			}
			err := h.Sleep(ctx, 0)
			if live && !f.has(t, "10.31.0.0/16") {
				t.Error("it sleeps before its change is made")
			}
			return err
		},
	})
	plans := predicted(t, r)
	if e := r.Watch(t.Context()); e != nil {
		t.Fatal(e)
	}
	live = true
	if _, err := r.Apply(t.Context(), plans); err != nil {
		t.Fatal(err)
	}
}

// Neither a gate nor a node's own script changes a target; both may look at it.
func TestOnlyBeforeAndAfterChangeTargets(t *testing.T) {
	looks := func(ctx context.Context, _ engine.FleetInfo, h engine.Host) error {
		_, err := h.Do(ctx, engine.Call{Name: "route.list", Op: builtins.RouteList{}, Args: []byte("{}"), Node: shared})
		return err
	}
	_, r, _, _ := withTarget(t, 1, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{engine.HookGate: looks})
	predicted(t, r)
	if e := r.Watch(t.Context()); e != nil {
		t.Errorf("a gate that looks: %v", e)
	}
	f, r, _, _ := withTarget(t, 1, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{engine.HookGate: does("10.30.0.0/16")})
	predicted(t, r)
	if e := r.Watch(t.Context()); e == nil || e.Code != engine.Invalid || !strings.Contains(e.Cause, "gate may only look") || f.has(t, "10.30.0.0/16") {
		t.Errorf("a gate that changes a target: %v", e)
	}
	f, infos := newFleet(1)
	f.nodes[shared] = sim.New(sim.LabNode("db", 200))
	p := addRoute([]string{"100%"}, 0)
	p.run = func(ctx context.Context, _ string, h engine.Host) error {
		if err := looks(ctx, engine.FleetInfo{}, h); err != nil {
			return err
		}
		_, err := h.Do(ctx, onShared("10.30.0.0/16"))
		return err
	}
	r, _ = newRun(f, infos, p)
	if e := predicted(t, r)[0].Err; e == nil || e.Code != engine.Invalid || !strings.Contains(e.Cause, "several nodes share") {
		t.Errorf("a script that changes a target: %v", e)
	}
}

// A hook that does otherwise than predicted, or fails in its middle, leaves its target as it was, and no node is begun.
func TestHookThatFailsPutsItsTargetBack(t *testing.T) {
	for what, live := range map[string]func(context.Context, engine.FleetInfo, engine.Host) error{
		"it does something else": does("10.30.0.0/16", "10.39.0.0/16"),
		"it fails": func(ctx context.Context, f engine.FleetInfo, h engine.Host) error {
			if err := does("10.30.0.0/16")(ctx, f, h); err != nil {
				return err
			}
			return engine.Unreachable.Errorf("it is ill")
		},
		"it does less":    does("10.30.0.0/16"),
		"it does not ask": does(),
	} {
		t.Run(what, func(t *testing.T) {
			predicting := true
			f, r, _, _ := withTarget(t, 2, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{
				engine.HookBefore: func(ctx context.Context, f engine.FleetInfo, h engine.Host) error {
					if predicting {
						return does("10.30.0.0/16", "10.31.0.0/16")(ctx, f, h)
					}
					return live(ctx, f, h)
				},
			})
			plans := predicted(t, r)
			if e := r.Watch(t.Context()); e != nil {
				t.Fatal(e)
			}
			predicting = false
			states, err := r.Apply(t.Context(), plans)
			if err == nil || f.has(t, "10.30.0.0/16") || f.has(t, "10.31.0.0/16") || len(f.changed(t)) > 0 {
				t.Errorf("%v, states %v, changed %v", err, states, f.changed(t))
			}
			if states[shared] != engine.NodeFailed {
				t.Errorf("states %v", states)
			}
		})
	}
}

// A target whose changes are not confirmed is not changed, and nor is anything else.
func TestTargetThatIsNotConfirmed(t *testing.T) {
	for _, answer := range []rollout.Answer{rollout.Skip, rollout.Quit} {
		f, r, _, _ := withTarget(t, 2, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{engine.HookBefore: does("10.30.0.0/16")})
		r.Confirm = func(context.Context, rollout.Question) (rollout.Answer, error) { return answer, nil }
		plans := predicted(t, r)
		if e := r.Watch(t.Context()); e != nil {
			t.Fatal(e)
		}
		if _, err := r.Apply(t.Context(), plans); err == nil || err.Code != engine.Interrupted || f.has(t, "10.30.0.0/16") || len(f.changed(t)) > 0 {
			t.Errorf("%v, changed %v", err, f.changed(t))
		}
	}
}

// A runbook that changes targets only is run though no node has anything to do.
func TestTargetsOnly(t *testing.T) {
	f, r, _, _ := withTarget(t, 2, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{
		engine.HookBefore: does("10.30.0.0/16"), engine.HookAfter: does("10.31.0.0/16"),
	})
	h := r.Program.(hooked)
	h.run = func(context.Context, string, engine.Host) error { return nil }
	r.Program = h
	plans := predicted(t, r)
	if e := r.Watch(t.Context()); e != nil {
		t.Fatal(e)
	}
	if _, err := r.Apply(t.Context(), plans); err != nil || !f.has(t, "10.30.0.0/16") || !f.has(t, "10.31.0.0/16") {
		t.Errorf("%v", err)
	}
}

// A target that fails after sessions were ended is put back but for these, and that is what is said of it.
func TestTargetWithEndedSessions(t *testing.T) {
	server, state := resource.Postgres{Server: "service=main", Version: 150000, Max: 100, Role: "ops", SeesAll: true, Signals: true}, resource.Idle
	of := func(name string, op engine.Operation) engine.Call {
		args, _ := json.Marshal(op)
		return engine.Call{Name: name, Args: args, Op: op, Pos: "x.star:9:1", Node: shared}
	}
	terminate, look := of("pg.terminate", builtins.PgTerminate{Server: server.Server, State: &state}), of("pg.connections", builtins.PgConnections{Server: server.Server})
	const ended = "cannot be put back: pg.terminate state=idle has ended sessions, 1 at most"
	for want, dsts := range map[string][]string{ended: nil, "changes put back: 1; " + ended: {"10.30.0.0/16"}} {
		live := false
		f, r, _, events := withTarget(t, 1, map[string]func(context.Context, engine.FleetInfo, engine.Host) error{
			engine.HookBefore: func(ctx context.Context, fleet engine.FleetInfo, h engine.Host) error {
				err := does(dsts...)(ctx, fleet, h)
				for _, c := range []engine.Call{terminate, look} {
					if err == nil {
						_, err = h.Do(ctx, c)
					}
				}
				if err == nil && live {
					err = engine.Invalid.Errorf("it went wrong")
				}
				return err
			},
		})
		session := resource.Backend{Server: server.Server, PID: 10, Type: resource.ClientBackend, User: "app", State: resource.Idle}
		f.nodes[shared].(*sim.Node).Hold(resource.Of(server, session))
		plans := predicted(t, r)
		if e := r.Watch(t.Context()); e != nil {
			t.Fatal(e)
		}
		live = true
		if _, err := r.Apply(t.Context(), plans); err == nil || f.has(t, "10.30.0.0/16") {
			t.Errorf("%v", err)
		}
		if !slices.ContainsFunc(*events, func(e engine.Event) bool { return e.Node == shared && e.Err != nil && e.Err.Left == want }) {
			t.Errorf("it does not say %q: %v", want, *events)
		}
	}
}
