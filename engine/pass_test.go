package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// call is what a script would ask.
func call(t *testing.T, name, args string) engine.Call {
	t.Helper()
	op, err := builtins.Operations.Decode(name, json.RawMessage(args))
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := json.Marshal(op)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Call{Name: name, Args: canonical, Op: op, Pos: "x.star:7:5"}
}

const (
	addRoute  = `{"dst":"10.20.0.0/16","via":"10.98.0.1","dev":"eth1"}`
	addSecond = `{"dst":"10.21.0.0/16","via":"10.98.0.1","dev":"eth1"}`
)

var (
	routeKey  = resource.RouteKey(netip.MustParsePrefix("10.20.0.0/16"), resource.TableMain, 0)
	secondKey = resource.RouteKey(netip.MustParsePrefix("10.21.0.0/16"), resource.TableMain, 0)
)

// world is a node, what it is recorded to have been asked, and a journal.
type world struct {
	t       *testing.T
	node    engine.Node
	journal memory
	plan    *engine.NodePlan
	events  []engine.Event
}

// memory is a journal that keeps its entries.
type memory struct{ entries []engine.Entry }

func (m *memory) Begin(context.Context, engine.RunRecord) (string, error) { return "r", nil }
func (m *memory) Append(_ context.Context, e ...engine.Entry) error {
	m.entries = append(m.entries, e...)
	return nil
}
func (m *memory) Reserve(context.Context, engine.Reservation) (engine.Used, error) { return nil, nil }
func (m *memory) End(context.Context, string, engine.Outcome) error                { return nil }

func (m *memory) kinds() string {
	var out []string
	for _, e := range m.entries {
		out = append(out, e.Kind)
	}
	return strings.Join(out, " ")
}

func newWorld(t *testing.T) *world {
	return &world{t: t, node: sim.New(sim.LabNode("node-1", 1))}
}

func (w *world) predict(calls ...engine.Call) error {
	w.plan = &engine.NodePlan{Node: "node-1"}
	pass := engine.NewPrediction(w.plan, engine.Limits{}, sim.Over(w.node), func(engine.Event) {})
	for _, c := range calls {
		if _, err := pass.Do(w.t.Context(), c); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) live() *engine.Pass {
	return engine.NewLive(w.plan, engine.Limits{}, w.node, &w.journal, "r", func(e engine.Event) { w.events = append(w.events, e) })
}

// do makes a call in a live pass that then ends.
func (w *world) do(pass *engine.Pass, c engine.Call) (any, error) {
	v, err := pass.Do(w.t.Context(), c)
	if err == nil {
		err = pass.Finish(w.t.Context())
	}
	return v, err
}

func (w *world) has(k resource.Key) bool {
	s, err := w.node.Read(w.t.Context(), resource.Query{{Kind: resource.KindRoute}})
	if err != nil {
		w.t.Fatal(err)
	}
	return s[k] != nil
}

func code(err error) engine.Code {
	if err == nil {
		return engine.OK
	}
	return engine.AsError(err).Code
}

func TestPredictingChangesNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.predict(call(t, "route.add", addRoute), call(t, "route.add", addRoute)); err != nil {
		t.Fatal(err)
	}
	if w.has(routeKey) {
		t.Error("the prediction reached the node")
	}
	if len(w.plan.Steps) != 2 || len(w.plan.Changes()) != 1 {
		t.Errorf("planned %d calls, %d changes: want 2, and 1 because the second finds what the first made", len(w.plan.Steps), len(w.plan.Changes()))
	}
}

func TestLivePassDoesWhatWasPlanned(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	got, err := w.do(w.live(), add)
	if err != nil {
		t.Fatal(err)
	}
	if m := got.(map[string]any); m["changed"] != true {
		t.Errorf("result %v: want changed", m)
	}
	if !w.has(routeKey) {
		t.Error("the node does not have the route")
	}
	if k := w.journal.kinds(); k != "plan intent done end" {
		t.Errorf("journal: %s", k)
	}
}

func TestLivePassRefusesWhatWasNotPredicted(t *testing.T) {
	w := newWorld(t)
	if err := w.predict(call(t, "route.add", addRoute)); err != nil {
		t.Fatal(err)
	}
	pass := w.live()
	for _, other := range []engine.Call{call(t, "route.add", addSecond), call(t, "route.delete", `{"dst":"10.20.0.0/16"}`)} {
		if _, err := pass.Do(t.Context(), other); code(err) != engine.Differs {
			t.Errorf("%s %s: %v, want a refusal", other.Name, other.Args, err)
		}
	}
	if _, err := pass.Do(t.Context(), call(t, "route.add", addRoute)); err == nil {
		t.Error("a pass goes on after it took another way than its prediction")
	}
	if w.has(routeKey) || w.has(secondKey) || len(w.journal.entries) > 0 {
		t.Error("something was done")
	}
}

func TestDriftIsFoundBeforeTheChange(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	// Somebody adds the route in another way.
	other := resource.Route{
		Dst: netip.MustParsePrefix("10.20.0.0/16"), Table: resource.TableMain, Type: resource.Unicast, Proto: resource.ProtoBoot,
		Hops: []resource.Hop{{Via: netip.MustParseAddr("10.98.0.9"), Dev: "eth1"}},
	}
	if _, err := w.node.Apply(t.Context(), engine.Edit{Want: resource.Of(other)}); err != nil {
		t.Fatal(err)
	}
	_, err := w.do(w.live(), add)
	e := engine.AsError(err)
	if e.Code != engine.Differs || len(e.Drift) != 1 || e.Drift[0].Key != routeKey {
		t.Fatalf("got %v, want drift of the route", err)
	}
	if e.Pos != "x.star:7:5" || e.Node != "node-1" || e.Op != "route.add 10.20.0.0/16" {
		t.Errorf("the error does not name its call: %+v", e)
	}
}

// What the script was told of a call with nothing to do holds until the node has
// been asked: somebody has taken the route away since.
func TestDriftIsFoundWhereNothingWasToDo(t *testing.T) {
	w := newWorld(t)
	w.add(someRoute("10.20.0.0/16", "10.98.0.9"))
	del, add := call(t, "route.delete", `{"dst":"10.99.9.0/24"}`), call(t, "route.add", addSecond)
	if err := w.predict(del, add); err != nil {
		t.Fatal(err)
	}
	w.add(someRoute("10.99.9.0/24", "10.98.0.9"))
	pass := w.live()
	for _, c := range []engine.Call{del, add} {
		if _, err := pass.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	err := pass.Finish(t.Context())
	if e := engine.AsError(err); e == nil || e.Code != engine.Differs || e.Op != "route.delete 10.99.9.0/24" || len(e.Drift) != 1 {
		t.Errorf("got %v, want drift of the first call", err)
	}
	if w.has(secondKey) {
		t.Error("the change after it is made")
	}
}

// strict is a node that refuses all changes, whatever was predicted.
type strict struct{ engine.Node }

func (strict) Apply(context.Context, engine.Edit) (resource.State, error) {
	return nil, &engine.NodeError{Errno: "EPERM", Words: "Operation not permitted"}
}

// A refusal that was predicted may be handled; this one makes the dry run wrong.
func TestARefusalThatWasNotPredictedEndsThePass(t *testing.T) {
	w := newWorld(t)
	add, look := call(t, "route.add", addRoute), call(t, "route.get", `{"dst":"10.20.0.0/16"}`)
	if err := w.predict(add, look); err != nil {
		t.Fatal(err)
	}
	w.node = strict{w.node}
	pass := w.live()
	if _, err := pass.Do(t.Context(), add); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the script goes on, and gets the same again
		_, err := pass.Do(t.Context(), look)
		if e := engine.AsError(err); e == nil || e.Code != engine.Differs || e.Kernel != "Operation not permitted" {
			t.Errorf("got %v, want that the node differs", err)
		}
	}
	if k := w.journal.kinds(); pass.Changed() != 0 || k != "plan intent failed undone" {
		t.Errorf("%d changes may stand; journal: %s", pass.Changed(), k)
	}
}

// liar is a node that does one change more than it was asked for.
type liar struct {
	engine.Node
	also resource.Route
	once bool
}

func (l *liar) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	s, err := l.Node.Apply(ctx, e)
	if err == nil && !l.once {
		l.once = true
		s = maps.Clone(s)
		r := s[routeKey].(resource.Route)
		r.Metric, r.Nth = 0, 0
		r.Hops = []resource.Hop{l.also.Hops[0]}
		if _, err := l.Node.Apply(ctx, engine.Edit{Want: resource.Of(r)}); err != nil {
			return nil, err
		}
		s[routeKey] = r
	}
	return s, err
}

func TestANodeThatAnswersOtherwiseIsPutBack(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	w.node = &liar{Node: w.node, also: resource.Route{Hops: []resource.Hop{{Via: netip.MustParseAddr("10.98.0.9"), Dev: "eth1"}}}}
	pass := w.live()
	_, err := w.do(pass, add)
	if e := engine.AsError(err); e.Code != engine.Differs || len(e.Drift) == 0 {
		t.Fatalf("got %v, want how the two differ", err)
	}
	if err := pass.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.has(routeKey) {
		t.Error("the route is still there")
	}
	if k := w.journal.kinds(); k != "plan intent failed undo undone" {
		t.Errorf("journal: %s", k)
	}
}

// Changes that go out together are made one after the other: the first that comes
// out otherwise is the last.
func TestNothingIsMadeAfterADifference(t *testing.T) {
	w := newWorld(t)
	first, second := call(t, "route.add", addRoute), call(t, "route.add", addSecond)
	if err := w.predict(first, second); err != nil {
		t.Fatal(err)
	}
	w.node = &liar{Node: w.node, also: someRoute("10.20.0.0/16", "10.98.0.9")}
	pass := w.live()
	if _, err := pass.Do(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err := w.do(pass, second)
	if e := engine.AsError(err); e == nil || e.Code != engine.Differs || e.Op != "route.add 10.20.0.0/16" {
		t.Errorf("got %v, want that the first differs", err)
	}
	if w.has(secondKey) {
		t.Error("the second is made")
	}
	if err := pass.PutBack(t.Context()); err != nil || w.has(routeKey) || w.has(secondKey) {
		t.Errorf("not put back: %v", err)
	}
}

// mute is a node whose answer to a change is lost; done says whether it was made.
type mute struct {
	engine.Node
	done, spoke bool
}

func (m *mute) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	if m.spoke {
		return m.Node.Apply(ctx, e)
	}
	m.spoke = true
	if m.done {
		if _, err := m.Node.Apply(ctx, e); err != nil {
			return nil, err
		}
	}
	return nil, engine.Unreachable.Errorf("connection lost")
}

func TestALostAnswerIsLookedUp(t *testing.T) {
	for _, done := range []bool{true, false} {
		w := newWorld(t)
		add := call(t, "route.add", addRoute)
		if err := w.predict(add); err != nil {
			t.Fatal(err)
		}
		w.node = &mute{Node: w.node, done: done}
		pass := w.live()
		if _, err := w.do(pass, add); code(err) != engine.Unreachable {
			t.Fatalf("got %v", err)
		}
		if err := pass.PutBack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.has(routeKey) {
			t.Errorf("made %v: the route is still there", done)
		}
	}
}

func TestPutBackIsNewestFirst(t *testing.T) {
	w := newWorld(t)
	first, second := call(t, "route.add", addRoute), call(t, "route.add", addSecond)
	if err := w.predict(first, second); err != nil {
		t.Fatal(err)
	}
	before, _ := w.node.Read(t.Context(), resource.Query{{Kind: resource.KindRoute}})
	pass := w.live()
	for _, c := range []engine.Call{first, second} {
		if _, err := pass.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := pass.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.events = nil
	if err := pass.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.events) != 2 || !strings.Contains(w.events[0].Op, "10.21") {
		t.Errorf("put back in the order %v", w.events)
	}
	after, _ := w.node.Read(t.Context(), resource.Query{{Kind: resource.KindRoute}})
	if d := resource.Compare(before, after); len(d) > 0 {
		t.Errorf("the node is not as before:\n%s", d)
	}
}

func TestLimitsStopAPrediction(t *testing.T) {
	add, del := call(t, "route.add", addRoute), call(t, "route.delete", `{"dst":"10.20.0.0/16"}`)
	tests := []struct {
		name   string
		limits engine.Limits
		calls  []engine.Call
		want   string
	}{
		{"calls", engine.Limits{engine.LimitCallsPerNode: {N: 2}, engine.LimitRepeats: {N: 9}}, []engine.Call{add, add, add}, "calls_per_node = 2"},
		{"changes", engine.Limits{engine.LimitChangesPerNode: {N: 1}}, []engine.Call{add, call(t, "route.add", addSecond)}, "changes_per_node = 1"},
		{"repeats", engine.Limits{engine.LimitRepeats: {N: 1}}, []engine.Call{add, del, add}, "repeats = 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			pass := engine.NewPrediction(&engine.NodePlan{Node: "node-1"}, tt.limits, sim.Over(w.node), func(engine.Event) {})
			for i, c := range tt.calls {
				_, err := pass.Do(t.Context(), c)
				if last := i == len(tt.calls)-1; last != (err != nil) {
					t.Fatalf("call %d: %v", i, err)
				}
				if err != nil && (code(err) != engine.LimitHit || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			}
			if _, err := pass.Do(t.Context(), add); code(err) != engine.LimitHit {
				t.Error("a script that catches the error goes on past the limit")
			}
		})
	}
}

// blind is a model that covers no change.
type blind struct{ engine.Model }

func (blind) Predict(context.Context, *engine.Edit) error {
	return fmt.Errorf("%w: a route with a nexthop object", engine.ErrUnpredictable)
}

// What cannot be predicted is no refusal of the node, which a script could make light of.
func TestWhatCannotBePredictedEndsThePass(t *testing.T) {
	w := newWorld(t)
	w.plan = &engine.NodePlan{Node: "node-1"}
	pass := engine.NewPrediction(w.plan, engine.Limits{}, blind{sim.Over(w.node)}, func(engine.Event) {})
	for _, c := range []engine.Call{call(t, "route.add", addRoute), call(t, "route.get", `{"dst":"10.20.0.0/16"}`)} {
		_, err := pass.Do(t.Context(), c)
		if e := engine.AsError(err); e == nil || e.Code != engine.Unreachable || e.Op != "route.add 10.20.0.0/16" || !strings.Contains(e.Cause, "cannot be predicted") {
			t.Errorf("%s: got %v", c.Name, err)
		}
	}
	if len(w.plan.Steps) != 0 {
		t.Errorf("it is in the plan: %v", w.plan.Steps)
	}
}

func TestARefusalMayBeHandledByTheScript(t *testing.T) {
	w := newWorld(t)
	bad, good := call(t, "route.add", `{"dst":"10.30.0.0/16","via":"192.0.2.1","dev":"eth1"}`), call(t, "route.add", addRoute)
	w.plan = &engine.NodePlan{Node: "node-1"}
	predicting := engine.NewPrediction(w.plan, engine.Limits{}, sim.Over(w.node), func(engine.Event) {})
	for _, pass := range []*engine.Pass{predicting, w.live()} {
		_, err := pass.Do(t.Context(), bad)
		var refused *engine.NodeError
		if !errors.As(err, &refused) || refused.Errno != "ENETUNREACH" {
			t.Fatalf("got %v, want the kernel's refusal", err)
		}
		if !strings.Contains(err.Error(), "next hop 192.0.2.1 is not on-link at eth1 (eth1 has 10.98.0.2/16)") {
			t.Errorf("the error does not explain itself: %v", err)
		}
		if _, err := w.do(pass, good); err != nil {
			t.Fatal(err)
		}
	}
	if k := w.journal.kinds(); k != "plan intent done end" {
		t.Errorf("journal: %s: the node was asked what it would refuse", k)
	}
}

// counting counts the requests that reach a node.
type counting struct {
	engine.Node
	reads, applies int
}

func (c *counting) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	c.reads++
	return c.Node.Read(ctx, q)
}

func (c *counting) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	c.applies++
	return engine.ApplyAll(ctx, c.Node, edits)
}

func TestChangesShareARoundTrip(t *testing.T) {
	w := newWorld(t)
	first, second, look := call(t, "route.add", addRoute), call(t, "route.add", addSecond), call(t, "route.get", `{"dst":"10.20.0.0/16"}`)
	if err := w.predict(first, second, look, first); err != nil {
		t.Fatal(err)
	}
	n := &counting{Node: w.node}
	w.node = n
	pass := w.live()
	for _, c := range []engine.Call{first, second} {
		if _, err := pass.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		pass.Print("x.star:7:5", "after "+c.Op.(fmt.Stringer).String())
	}
	if n.applies != 0 || len(w.events) != 0 {
		t.Errorf("%d requests and %d events before the script looks", n.applies, len(w.events))
	}
	got, err := pass.Do(t.Context(), look)
	if err != nil || got == nil {
		t.Fatalf("a look does not see the changes before it: %v, %v", got, err)
	}
	if n.applies != 1 || n.reads != 1 {
		t.Errorf("%d requests for changes and %d for looks: want 1 and 1", n.applies, n.reads)
	}
	var told []string
	for _, e := range w.events {
		told = append(told, string(e.Kind))
	}
	if s := strings.Join(told, " "); s != "change print change print" {
		t.Errorf("events: %s", s)
	}
	if _, err := w.do(pass, first); err != nil || n.applies != 2 {
		t.Errorf("a call with nothing to change is not compared with the node: %v, %d requests", err, n.applies)
	}
	if k := w.journal.kinds(); k != "plan intent intent done done end" {
		t.Errorf("journal: %s", k)
	}
}

func TestTheSecondOfTwoFails(t *testing.T) {
	w := newWorld(t)
	first, second := call(t, "route.add", addRoute), call(t, "route.add", addSecond)
	if err := w.predict(first, second); err != nil {
		t.Fatal(err)
	}
	r := resource.Route{Dst: netip.MustParsePrefix("10.21.0.0/16"), Table: resource.TableMain, Type: resource.Blackhole, Proto: resource.ProtoBoot}
	if _, err := w.node.Apply(t.Context(), engine.Edit{Want: resource.Of(r)}); err != nil {
		t.Fatal(err)
	}
	pass := w.live()
	if _, err := pass.Do(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err := w.do(pass, second)
	if e := engine.AsError(err); e.Code != engine.Differs || e.Op != "route.add 10.21.0.0/16" {
		t.Fatalf("got %v, want the drift of the second", err)
	}
	if !w.has(routeKey) || pass.Changed() != 1 {
		t.Errorf("the first is not made, or not known to be: %d", pass.Changed())
	}
	if err := pass.PutBack(t.Context()); err != nil || w.has(routeKey) {
		t.Errorf("the first is not put back: %v", err)
	}
	if k := w.journal.kinds(); k != "plan intent intent done failed undone undo undone" {
		t.Errorf("journal: %s", k)
	}
}

func (w *world) add(r resource.Route) {
	w.t.Helper()
	if _, err := w.node.Apply(w.t.Context(), engine.Edit{Want: resource.Of(r)}); err != nil {
		w.t.Fatal(err)
	}
}

func someRoute(dst, via string) resource.Route {
	return resource.Route{
		Dst: netip.MustParsePrefix(dst), Table: resource.TableMain, Type: resource.Unicast, Proto: resource.ProtoBoot,
		Hops: []resource.Hop{{Via: netip.MustParseAddr(via), Dev: "eth1"}},
	}
}

// What others have changed since is not ours to put back.
func TestPutBackLeavesOthersAlone(t *testing.T) {
	add := call(t, "route.add", addRoute)
	tests := []struct {
		name   string
		theirs resource.Route
		want   bool // our route is still there, or in doubt
	}{
		{"another route that covers the gateway", someRoute("10.98.0.0/24", "10.98.0.9"), false},
		{"our route, replaced", someRoute("10.20.0.0/16", "10.98.0.9"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if err := w.predict(add); err != nil {
				t.Fatal(err)
			}
			pass := w.live()
			if _, err := w.do(pass, add); err != nil {
				t.Fatal(err)
			}
			w.add(tt.theirs)
			err := pass.PutBack(t.Context())
			if (err != nil) != tt.want || w.has(routeKey) != tt.want {
				t.Errorf("put back: %v; our route is there: %v", err, w.has(routeKey))
			}
			if !w.has(tt.theirs.Key()) {
				t.Error("their route is gone")
			}
		})
	}
}

func TestAScriptThatDoesLessIsNotDone(t *testing.T) {
	w := newWorld(t)
	first, second := call(t, "route.add", addRoute), call(t, "route.add", addSecond)
	if err := w.predict(first, second); err != nil {
		t.Fatal(err)
	}
	if _, err := w.do(w.live(), first); code(err) != engine.Differs || !strings.Contains(err.Error(), "10.21.0.0/16") {
		t.Errorf("it ends without the second: %v", err)
	}
	if _, err := w.live().Do(t.Context(), second); code(err) != engine.Differs {
		t.Errorf("it leaves out the first: %v", err)
	}
}

func TestRepeatsAreCountedByWhatIsDone(t *testing.T) {
	w := newWorld(t)
	pass := engine.NewPrediction(&engine.NodePlan{Node: "node-1"}, engine.Limits{}, sim.Over(w.node), func(engine.Event) {})
	for i, args := range []string{
		`{"dst":"10.20.0.0/16","via":"10.98.0.1"}`, `{"dst":"10.20.0.0/16","via":"10.98.0.7"}`,
		`{"dst":"10.20.0.0/16","via":"10.98.0.1","table":"main"}`,
	} {
		_, err := pass.Do(t.Context(), call(t, "route.add", args))
		if last := i == 2; last != (code(err) == engine.LimitHit) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestDriftSeesWhatAPlanDoes(t *testing.T) {
	plan := func(also *resource.Route, calls ...engine.Call) *engine.NodePlan {
		w := newWorld(t)
		if also != nil {
			w.add(*also)
		}
		if err := w.predict(calls...); err != nil {
			t.Fatal(err)
		}
		return w.plan
	}
	theirs := someRoute("10.20.0.0/16", "10.98.0.9")
	del, other := call(t, "route.delete", `{"dst":"10.20.0.0/16"}`), call(t, "route.delete", `{"dst":"10.99.9.0/24"}`)
	tests := []struct {
		name     string
		was, now *engine.NodePlan
		same     bool
	}{
		{"the same", plan(&theirs, del), plan(&theirs, del), true},
		{"nothing left to delete", plan(&theirs, del), plan(nil, del), false},
		{"one delete more", plan(&theirs, other), plan(&theirs, other, del), false},
		{"one delete less", plan(&theirs, other, del), plan(&theirs, other), false},
		{"a call more that changes nothing", plan(nil, other), plan(nil, other, del), false},
	}
	for _, tt := range tests {
		if _, same := tt.was.Drift(tt.now); same != tt.same {
			t.Errorf("%s: same is %v", tt.name, same)
		}
	}
}

// A call that finds nothing to do looks at less than one that has something to
// do. What it did not look at is not gone, and is not shown as drift.
func TestDriftIsOfWhatBothHaveLookedAt(t *testing.T) {
	w := newWorld(t)
	add := call(t, "route.add", addRoute)
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	was := w.plan
	made := was.Steps[0].Edit.Diff()
	if len(made) != 1 || len(was.Steps[0].Edit.Before) == 0 {
		t.Fatalf("the prediction rests on %v and makes %v", was.Steps[0].Edit.Before, made)
	}
	w.add(made[0].After.(resource.Route))
	if err := w.predict(add); err != nil {
		t.Fatal(err)
	}
	d, same := was.Drift(w.plan)
	if same || len(d) != 1 || d[0].Key != made[0].Key || d[0].Before != nil {
		t.Errorf("a plan that was applied already: same is %v, and the drift\n%s", same, d)
	}
}

// A script may wait between two changes: the first is made before it waits.
func TestSleepBetweenChanges(t *testing.T) {
	w := newWorld(t)
	first, second := call(t, "route.add", addRoute), call(t, "route.add", addSecond)
	if err := w.predict(first, second); err != nil {
		t.Fatal(err)
	}
	pass := w.live()
	if _, err := pass.Do(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := pass.Sleep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if !w.has(routeKey) || w.has(secondKey) {
		t.Error("not exactly the first change is made before the script waits")
	}
	if _, err := w.do(pass, second); err != nil {
		t.Fatal(err)
	}
	if !w.has(secondKey) {
		t.Error("the change after the wait is not made")
	}
}
