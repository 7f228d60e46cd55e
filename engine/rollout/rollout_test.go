package rollout_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/node/sim"
)

// goProgram is a runbook written in Go.
type goProgram struct {
	header engine.Header
	run    func(ctx context.Context, node string, h engine.Host) error
}

func (p goProgram) Header() engine.Header { return p.header }
func (p goProgram) Usage() engine.Usage   { return engine.Usage{} }
func (p goProgram) Close() error          { return nil }
func (p goProgram) Run(ctx context.Context, n engine.NodeInfo, h engine.Host) error {
	return p.run(ctx, n.Name, h)
}

// addRoute is a program that adds one route to every node.
func addRoute(waves []string, maxFailures int) goProgram {
	op := builtins.RouteAdd{Dst: netip.MustParsePrefix("10.20.0.0/16"), Via: netip.MustParseAddr("10.98.0.1"), Dev: "eth1"}
	args, _ := json.Marshal(op)
	return goProgram{
		header: engine.Header{Limits: engine.Limits{}, Rollout: engine.Rollout{Waves: waves, MaxFailures: maxFailures}},
		run: func(ctx context.Context, _ string, h engine.Host) error {
			_, err := h.Do(ctx, engine.Call{Name: "route.add", Args: args, Op: op, Pos: "x.star:1:1"})
			return err
		},
	}
}

var key = resource.RouteKey(netip.MustParsePrefix("10.20.0.0/16"), resource.TableMain, 0)

// fleet is simulated nodes: some do not answer, some refuse every change.
type fleet struct {
	nodes   map[string]engine.Node
	dead    map[string]bool
	refuses map[string]bool
}

func newFleet(n int) (*fleet, []engine.NodeInfo) {
	f := &fleet{nodes: map[string]engine.Node{}, dead: map[string]bool{}, refuses: map[string]bool{}}
	var infos []engine.NodeInfo
	for i := range n {
		name := fmt.Sprintf("node-%d", i+1)
		f.nodes[name] = sim.New(sim.LabNode(name, i+1))
		infos = append(infos, engine.NodeInfo{Name: name})
	}
	return f, infos
}

func (f *fleet) Dial(_ context.Context, name string) (engine.Node, error) {
	if f.dead[name] {
		return nil, engine.Unreachable.Errorf("no route to host")
	}
	return faulty{f.nodes[name], f.refuses[name]}, nil
}

type faulty struct {
	engine.Node
	refuses bool
}

func (n faulty) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	if n.refuses {
		return nil, &engine.NodeError{Errno: "EPERM", Words: "Operation not permitted"}
	}
	return n.Node.Apply(ctx, e)
}

// changed lists the nodes that have the route.
func (f *fleet) changed(t *testing.T) []string {
	var out []string
	for i := range len(f.nodes) {
		name := fmt.Sprintf("node-%d", i+1)
		if f.nodes[name] == nil { // one of them has another name
			continue
		}
		s, err := f.nodes[name].Read(t.Context(), resource.Query{{Kind: resource.KindRoute}})
		if err != nil {
			t.Fatal(err)
		}
		if s[key] != nil {
			out = append(out, name)
		}
	}
	return out
}

type nowhere struct{}

func (nowhere) Begin(context.Context, engine.RunRecord) (string, error)          { return "r", nil }
func (nowhere) Append(context.Context, ...engine.Entry) error                    { return nil }
func (nowhere) Reserve(context.Context, engine.Reservation) (engine.Used, error) { return nil, nil }
func (nowhere) End(context.Context, string, engine.Outcome) error                { return nil }

func newRun(f *fleet, infos []engine.NodeInfo, p engine.Program) (*rollout.Run, *[]engine.Event) {
	var mu sync.Mutex
	events := &[]engine.Event{}
	return &rollout.Run{
		Program: p, Nodes: infos, Dialer: f, Journal: nowhere{}, ID: "r",
		Model: func(r engine.Reader) engine.Model { return sim.Over(r) },
		Emit: func(e engine.Event) {
			mu.Lock()
			defer mu.Unlock()
			*events = append(*events, e)
		},
	}, events
}

func predicted(t *testing.T, r *rollout.Run) []*engine.NodePlan {
	t.Helper()
	plans, err := r.Predict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return plans
}

func TestWaves(t *testing.T) {
	tests := []struct {
		waves []string
		n     int
		want  string
	}{
		{[]string{"1", "10%", "100%"}, 50, "[1 5 50]"},
		{[]string{"1", "10%", "100%"}, 3, "[1 3]"},
		{[]string{"1"}, 4, "[1 4]"},
		{nil, 4, "[4]"},
		{[]string{"5", "2"}, 4, "[4]"},
		{[]string{"33%", "66%"}, 10, "[4 7 10]"},
		{[]string{"1"}, 0, "[]"},
	}
	for _, tt := range tests {
		ends, err := rollout.Waves(tt.waves, tt.n)
		if got := fmt.Sprint(ends); err != nil || got != tt.want {
			t.Errorf("Waves(%v, %d) = %s, %v: want %s", tt.waves, tt.n, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "0", "-1", "x", "101%", "0%", "1.5"} {
		if _, err := rollout.Waves([]string{bad}, 3); err == nil {
			t.Errorf("Waves(%q) gives no error", bad)
		}
	}
}

func TestEveryNodeIsChanged(t *testing.T) {
	f, infos := newFleet(12)
	r, events := newRun(f, infos, addRoute([]string{"1", "50%"}, 0))
	states, err := r.Apply(t.Context(), predicted(t, r))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.changed(t); len(got) != 12 {
		t.Errorf("changed: %v", got)
	}
	waves := 0
	for _, e := range *events {
		if e.Kind == engine.EventWave {
			waves++
		}
	}
	if waves != 3 || states["node-12"] != engine.NodeDone {
		t.Errorf("%d waves, node-12 is %s", waves, states["node-12"])
	}
	// The same again finds nothing to do.
	r, _ = newRun(f, infos, addRoute(nil, 0))
	states, err = r.Apply(t.Context(), predicted(t, r))
	if err != nil || states["node-1"] != engine.NodeSame {
		t.Errorf("the second run: %v, node-1 is %s", err, states["node-1"])
	}
}

func TestAnUnreachableNodeRefusesTheRun(t *testing.T) {
	f, infos := newFleet(3)
	f.dead["node-2"] = true
	r, _ := newRun(f, infos, addRoute(nil, 0))
	plans := predicted(t, r)
	if e := rollout.Refusal(plans, 0); e == nil || e.Code != engine.Unreachable || e.Node != "node-2" {
		t.Errorf("refusal: %v", e)
	}
	if e := rollout.Refusal(plans, 1); e != nil {
		t.Errorf("within the failure budget it is refused: %v", e)
	}
}

func TestALimitRefusesTheRunWhateverTheBudget(t *testing.T) {
	f, infos := newFleet(3)
	p := addRoute(nil, 99)
	p.header.Limits[engine.LimitChangesPerNode] = engine.Bound{N: 0}
	r, _ := newRun(f, infos, p)
	if e := rollout.Refusal(predicted(t, r), 99); e == nil || e.Code != engine.LimitHit || e.Pos != "x.star:1:1" {
		t.Errorf("refusal: %v", e)
	}
	p.header.Limits = engine.Limits{engine.LimitNodes: {N: 2}}
	r, _ = newRun(f, infos, p)
	if _, err := r.Predict(t.Context()); err == nil || engine.AsError(err).Code != engine.LimitHit {
		t.Errorf("three nodes where two are allowed: %v", err)
	}
}

func TestTheFailureBudgetStopsTheRun(t *testing.T) {
	f, infos := newFleet(4)
	r, _ := newRun(f, infos, addRoute([]string{"1", "2", "3"}, 0))
	plans := predicted(t, r)
	f.dead["node-2"] = true
	r.Close() // so that the connections are made anew
	states, err := r.Apply(t.Context(), plans)
	if err == nil || err.Code != engine.GateFailed {
		t.Errorf("got %v, want the failure budget", err)
	}
	want := map[string]engine.NodeState{"node-1": engine.NodeDone, "node-2": engine.NodeFailed, "node-3": engine.NodeUntried, "node-4": engine.NodeUntried}
	if !reflect.DeepEqual(states, want) {
		t.Errorf("states %v", states)
	}
	if got := f.changed(t); len(got) != 1 {
		t.Errorf("changed: %v", got)
	}
}

// A node that could not be predicted is one of those that may fail: there is one less left.
func TestANodeThatWasNotPredictedIsOfTheBudget(t *testing.T) {
	f, infos := newFleet(4)
	f.dead["node-4"] = true
	r, _ := newRun(f, infos, addRoute([]string{"1", "2", "3", "4"}, 1))
	plans := predicted(t, r)
	f.dead["node-2"] = true
	r.Close() // so that the connections are made anew
	states, err := r.Apply(t.Context(), plans)
	if err == nil || err.Code != engine.GateFailed {
		t.Errorf("got %v, want the failure budget", err)
	}
	want := map[string]engine.NodeState{"node-1": engine.NodeDone, "node-2": engine.NodeFailed, "node-3": engine.NodeUntried, "node-4": engine.NodeFailed}
	if !reflect.DeepEqual(states, want) {
		t.Errorf("states %v", states)
	}
}

// line is a connection to a node, which is lost with the answer to a change.
type line struct {
	engine.Node
	cuts bool
	lost bool
}

func (l *line) Lost() bool { return l.lost }

func (l *line) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	if l.lost {
		return nil, engine.Unreachable.Errorf("the connection is lost")
	}
	s, err := l.Node.Apply(ctx, e)
	if err == nil && l.cuts {
		l.lost = true
		return nil, engine.Unreachable.Errorf("the connection is lost")
	}
	return s, err
}

// lines makes connections to one node, of which the first is lost.
type lines struct {
	node  engine.Node
	dials int
}

func (d *lines) Dial(context.Context, string) (engine.Node, error) {
	d.dials++
	return &line{Node: d.node, cuts: d.dials == 1}, nil
}

// What may have been changed is put back over another connection.
func TestANodeIsPutBackOverAnotherConnection(t *testing.T) {
	f, infos := newFleet(1)
	r, _ := newRun(f, infos, addRoute(nil, 0))
	d := &lines{node: f.nodes["node-1"]}
	r.Dialer = d
	states, err := r.Apply(t.Context(), predicted(t, r))
	if err == nil || err.Code != engine.Unreachable || err.Left != "changes put back: 1" || states["node-1"] != engine.NodeFailed {
		t.Errorf("got %v, %v", err, states)
	}
	if got := f.changed(t); len(got) != 0 || d.dials != 2 {
		t.Errorf("changed: %v, after %d connections", got, d.dials)
	}
}

// A connection that was lost while somebody was asked is made anew.
func TestALostConnectionIsMadeAnew(t *testing.T) {
	f, infos := newFleet(1)
	r, _ := newRun(f, infos, addRoute(nil, 0))
	first := &line{Node: f.nodes["node-1"]}
	r.Dialer = dialer(func() engine.Node { return first })
	plans := predicted(t, r)
	first.lost = true
	r.Dialer = dialer(func() engine.Node { return &line{Node: f.nodes["node-1"]} })
	if states, err := r.Apply(t.Context(), plans); err != nil || states["node-1"] != engine.NodeDone {
		t.Errorf("got %v, %v", err, states)
	}
}

type dialer func() engine.Node

func (d dialer) Dial(context.Context, string) (engine.Node, error) { return d(), nil }

func TestANodeThatRefusesWhatWasPredictedStopsAll(t *testing.T) {
	f, infos := newFleet(3)
	f.refuses["node-1"] = true
	r, _ := newRun(f, infos, addRoute([]string{"1"}, 2))
	_, err := r.Apply(t.Context(), predicted(t, r))
	if err == nil || err.Code != engine.Differs || !strings.Contains(err.Error(), "nothing changed") {
		t.Errorf("got %v, want exit 5", err)
	}
	if got := f.changed(t); len(got) != 0 {
		t.Errorf("changed: %v", got)
	}
}

func TestAFailingScriptIsPutBack(t *testing.T) {
	f, infos := newFleet(1)
	p := addRoute(nil, 0)
	add := p.run
	live := false
	p.run = func(ctx context.Context, node string, h engine.Host) error {
		if err := add(ctx, node, h); err != nil || !live {
			return err
		}
		if _, err := h.Do(ctx, engine.Call{Name: "link.list", Op: builtins.LinkList{}, Args: json.RawMessage("{}")}); err != nil {
			return err
		}
		return engine.Invalid.Errorf("expected in vain")
	}
	r, events := newRun(f, infos, p)
	plans := predicted(t, r)
	live = true
	states, err := r.Apply(t.Context(), plans)
	if err == nil || !strings.Contains(err.Error(), "changes put back: 1") || states["node-1"] != engine.NodeFailed {
		t.Errorf("got %v, %v", err, states)
	}
	if got := f.changed(t); len(got) != 0 {
		t.Errorf("changed: %v", got)
	}
	back := false
	for _, e := range *events {
		back = back || e.Kind == engine.EventPutBack
	}
	if !back {
		t.Error("no event tells of it")
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		answers string // one letter for each question, in order; then q
		want    string
		code    engine.Code
	}{
		{"yyyy", "node-1 node-2 node-3 node-4", engine.OK},
		{"ysyy", "node-1 node-3 node-4", engine.OK},
		{"ysa", "node-1 node-3 node-4", engine.OK},
		{"aa", "node-1 node-2 node-3 node-4", engine.OK}, // the first is a wave of its own
		{"a", "node-1", engine.Interrupted},              // and "all" is of one wave
		{"yq", "node-1", engine.Interrupted},
		{"s", "", engine.Interrupted},
	}
	for _, tt := range tests {
		t.Run(tt.answers, func(t *testing.T) {
			f, infos := newFleet(4)
			r, _ := newRun(f, infos, addRoute([]string{"1"}, 0))
			asked := 0
			r.Confirm = func(_ context.Context, q rollout.Question) (rollout.Answer, error) {
				if asked == len(tt.answers) {
					return rollout.Quit, nil
				}
				asked++
				return map[byte]rollout.Answer{'y': rollout.Yes, 's': rollout.Skip, 'a': rollout.All, 'q': rollout.Quit}[tt.answers[asked-1]], nil
			}
			_, err := r.Apply(t.Context(), predicted(t, r))
			got := engine.OK
			if err != nil {
				got = err.Code
			}
			if s := strings.Join(f.changed(t), " "); s != tt.want || got != tt.code {
				t.Errorf("changed %q, exit %d: want %q, %d", s, got, tt.want, tt.code)
			}
		})
	}
}

func TestStopLetsNoFurtherNodeStart(t *testing.T) {
	f, infos := newFleet(3)
	stop := make(chan struct{})
	p := addRoute([]string{"1", "2"}, 0)
	add := p.run
	started := 0
	r, events := newRun(f, infos, p)
	plans := predicted(t, r)
	heard := make(chan struct{})
	emit := r.Emit
	r.Emit = func(e engine.Event) {
		if emit(e); e.Kind == engine.EventStopping {
			close(heard)
		}
	}
	p.run = func(ctx context.Context, node string, h engine.Host) error {
		if started++; started == 2 {
			close(stop)
			<-heard // the operator is told while the node is still in hand
		}
		return add(ctx, node, h)
	}
	r.Program, r.Stop = p, stop
	states, err := r.Apply(t.Context(), plans)
	if err == nil || err.Code != engine.Interrupted || states["node-2"] != engine.NodeDone || states["node-3"] != engine.NodeUntried {
		t.Errorf("got %v, %v", err, states)
	}
	for _, e := range *events {
		if e.Kind == engine.EventStopping && e.Text != "node-2" {
			t.Errorf("the operator is told of %q", e.Text)
		}
	}
}

func TestAStalePredictionIsMadeAgain(t *testing.T) {
	f, infos := newFleet(1)
	r, _ := newRun(f, infos, addRoute(nil, 0))
	plans := predicted(t, r)
	plans[0].Created = time.Now().Add(-time.Hour)
	other := resource.Route{
		Dst: netip.MustParsePrefix("10.20.0.0/16"), Table: resource.TableMain, Type: resource.Unicast, Proto: resource.ProtoBoot,
		Hops: []resource.Hop{{Via: netip.MustParseAddr("10.98.0.9"), Dev: "eth1"}},
	}
	if _, err := f.nodes["node-1"].Apply(t.Context(), engine.Edit{Want: resource.Of(other)}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Apply(t.Context(), plans)
	if err == nil || err.Code != engine.Differs || len(err.Drift) == 0 || !strings.Contains(err.Cause, "since it was planned") {
		t.Errorf("got %v, want drift, found by another prediction", err)
	}
}

// A node that is still as it was is predicted once more, and then changed.
func TestAStalePredictionThatHolds(t *testing.T) {
	for age, want := range map[time.Duration]int{time.Minute: 2, time.Hour: 3} {
		f, infos := newFleet(1)
		p, runs := addRoute(nil, 0), 0
		add := p.run
		p.run = func(ctx context.Context, node string, h engine.Host) error {
			runs++
			return add(ctx, node, h)
		}
		r, _ := newRun(f, infos, p)
		plans := predicted(t, r)
		plans[0].Created = time.Now().Add(-age)
		states, err := r.Apply(t.Context(), plans)
		if err != nil || states["node-1"] != engine.NodeDone || runs != want {
			t.Errorf("a plan of %s ago: %v, %v, the script ran %d times, want %d", age, err, states, runs, want)
		}
	}
}

func TestOnlyNodesFailuresAreTolerated(t *testing.T) {
	plans := func(codes ...engine.Code) []*engine.NodePlan {
		var out []*engine.NodePlan
		for _, c := range codes {
			out = append(out, &engine.NodePlan{Err: &engine.Error{Code: c}})
		}
		return out
	}
	tests := []struct {
		plans []*engine.NodePlan
		want  engine.Code
	}{
		{plans(engine.Unreachable, engine.Differs), engine.OK},
		{plans(engine.Unreachable, engine.Unreachable, engine.Unreachable), engine.Unreachable},
		{plans(engine.Unreachable, engine.Invalid), engine.Unreachable},
		{plans(engine.Differs, engine.LimitHit), engine.Differs},
	}
	for _, tt := range tests {
		got := engine.OK
		if e := rollout.Refusal(tt.plans, 2); e != nil {
			got = e.Code
		}
		if got != tt.want {
			t.Errorf("refused with %d, want %d", got, tt.want)
		}
	}
}

func TestDurationBoundsALivePass(t *testing.T) {
	f, infos := newFleet(1)
	p := addRoute(nil, 0)
	p.header.Limits = engine.Limits{engine.LimitDuration: {N: int64(300 * time.Millisecond)}}
	add := p.run
	p.run = func(ctx context.Context, node string, h engine.Host) error {
		if err := add(ctx, node, h); err != nil {
			return err
		}
		return h.Sleep(ctx, time.Minute)
	}
	r, _ := newRun(f, infos, p)
	_, err := r.Apply(t.Context(), predicted(t, r))
	if err == nil || err.Code != engine.LimitHit || !strings.Contains(err.Error(), "duration") {
		t.Errorf("got %v, want the limit", err)
	}
	if got := f.changed(t); len(got) != 0 {
		t.Errorf("not put back: %v", got)
	}
}

// Waiting between two waves takes of the run's time, too.
func TestNoNodeStartsPastTheDuration(t *testing.T) {
	f, infos := newFleet(2)
	p := addRoute([]string{"1"}, 1)
	p.header.Limits = engine.Limits{engine.LimitDuration: {N: int64(time.Second)}}
	p.header.Rollout.Bake = engine.Duration(time.Second)
	r, _ := newRun(f, infos, p)
	states, err := r.Apply(t.Context(), predicted(t, r))
	if err == nil || err.Code != engine.LimitHit || !strings.Contains(err.Error(), "duration") {
		t.Errorf("got %v, want the limit", err)
	}
	if states["node-1"] != engine.NodeDone || states["node-2"] != engine.NodeUntried {
		t.Errorf("states: %v", states)
	}
}

// mortal is a program that ends for good in the live pass of its second node.
type mortal struct {
	goProgram
	live, ended *bool
}

func (m mortal) Ended() bool { return *m.ended }

func (m mortal) Run(ctx context.Context, n engine.NodeInfo, h engine.Host) error {
	if err := m.goProgram.Run(ctx, n, h); err != nil || !*m.live || n.Name != "node-2" {
		return err
	}
	*m.ended = true
	return engine.LimitHit.Errorf("the script needs more memory")
}

// However many may fail: a program that has ended can do nothing to any further node.
func TestEndedProgramStopsTheRun(t *testing.T) {
	f, infos := newFleet(5)
	live, ended := false, false
	r, _ := newRun(f, infos, mortal{addRoute([]string{"1", "2", "3", "100%"}, 5), &live, &ended})
	plans := predicted(t, r)
	live = true
	states, err := r.Apply(t.Context(), plans)
	if err == nil || !strings.Contains(err.Cause, "needs more memory") {
		t.Errorf("got %v", err)
	}
	want := map[string]engine.NodeState{"node-1": engine.NodeDone, "node-2": engine.NodeFailed, "node-3": engine.NodeUntried, "node-4": engine.NodeUntried, "node-5": engine.NodeUntried}
	if !reflect.DeepEqual(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if got := f.changed(t); len(got) != 1 {
		t.Errorf("changed: %v", got)
	}
}

// How far the prediction is, is told to the end also where a node cannot be reached.
func TestPredictionIsTold(t *testing.T) {
	f, infos := newFleet(40)
	f.dead["node-7"] = true
	r, events := newRun(f, infos, addRoute([]string{"1", "100%"}, 1))
	predicted(t, r)
	planned := map[string]engine.Event{}
	for _, e := range *events {
		if e.Kind == engine.EventPlanned {
			planned[e.Node] = e
		}
	}
	if first := (*events)[0]; first.Kind != engine.EventPredict || first.Nodes != 40 || len(planned) != 40 || len(*events) != 41 {
		t.Errorf("%+v, then %d nodes in %d events", first, len(planned), len(*events))
	}
	if e := planned["node-7"]; e.Err == nil || e.Wave != 2 || e.Info.Name != "node-7" {
		t.Errorf("the node that cannot be reached: %+v", e)
	}
	if e := planned["node-1"]; e.Err != nil || e.Wave != 1 || len(e.Diff) != 1 || e.Plan == nil {
		t.Errorf("the first one: %+v", e)
	}
}

// Where the first nodes have nothing to do, or are not there, as many others go before the rest: what
// is changed everywhere at once has been tried somewhere.
func TestCanaryThatHasNothingToDo(t *testing.T) {
	for _, c := range []struct {
		name  string
		waves []string
		spoil func(f *fleet, route resource.State)
		want  string
	}{
		{"all are to be changed", []string{"1", "100%"}, func(*fleet, resource.State) {}, "1 5"},
		{"the first has it", []string{"1", "100%"}, func(f *fleet, route resource.State) {
			f.nodes["node-1"].Apply(t.Context(), engine.Edit{Want: route}) //nolint:errcheck // it would be changed
		}, "1 4"},
		{"the first is dead", []string{"1", "100%"}, func(f *fleet, _ resource.State) { f.dead["node-1"] = true }, "1 4"},
		{"the first two are dead", []string{"1", "2", "3", "100%"}, func(f *fleet, _ resource.State) { f.dead["node-1"], f.dead["node-2"] = true, true }, "1 3"},
		{"the others are dead", []string{"2", "100%"}, func(f *fleet, _ resource.State) {
			for i := 3; i < 7; i++ {
				f.dead[fmt.Sprint("node-", i)] = true
			}
		}, "2"},
		{"one wave", nil, func(f *fleet, _ resource.State) { f.dead["node-1"] = true }, "5"},
	} {
		f, infos := newFleet(6)
		p := addRoute(c.waves, 6)
		whole, _ := newRun(f, infos, p)
		c.spoil(f, predicted(t, whole)[0].Changes()[0].Edit.Want)
		r, events := newRun(f, infos, p)
		if _, err := r.Apply(t.Context(), predicted(t, r)); err != nil && err.Code != engine.Unreachable {
			t.Errorf("%s: %v", c.name, err)
		}
		var sizes []string
		for _, e := range *events {
			if e.Kind == engine.EventWave {
				sizes = append(sizes, fmt.Sprint(e.Nodes))
			}
		}
		if got := strings.Join(sizes, " "); got != c.want {
			t.Errorf("%s: waves of %s, want %s", c.name, got, c.want)
		}
	}
}
