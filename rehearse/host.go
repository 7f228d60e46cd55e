package rehearse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/engine/script"
	"runbook/node/sim"
	"runbook/tui"
)

// host is what one test can reach: an engine.Host for its operations.
type host struct {
	file     string // the test's
	cfg      script.Config
	expected map[int]*regexp.Regexp // by the line that is to fail
	met      map[int]bool           // those that were reached
	nodes    map[string]engine.Node
	sockets  map[string][]netip.AddrPort // what nodes have of them, of which the test says so
	targets  map[string]engine.Node      // servers that hooks share, by their DSNs
	order    []engine.NodeInfo
	programs map[string]*script.Program
	cover    script.Coverage
	prints   []string
	given    int  // bytes of arguments and snapshots that nodes are made of
	failed   bool // an operation ended the test: it was judged then
}

// What one test can have, since the controller keeps it.
const (
	maxNodes    = 1000
	maxGiven    = 64 << 20 // bytes
	maxRunbooks = 10
)

// Print implements [engine.Host]: what a test prints is for whoever writes it.
func (h *host) Print(_, line string) error {
	h.prints = append(h.prints, line)
	return nil
}

// Sleep implements [engine.Host]. Nothing changes meanwhile.
func (h *host) Sleep(context.Context, time.Duration) error { return nil }

// Do implements [engine.Host].
func (h *host) Do(ctx context.Context, c engine.Call) (any, error) {
	var v any
	err := h.take(c)
	if err == nil {
		v, err = h.do(ctx, c.Op)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err, met := h.judge(c.Pos, err); met {
		return map[string]any{"error": v, "diff": "", "changes": 0, "prints": []string{}, "hooks": []string{}}, err
	} else if err != nil {
		e := engine.AsError(err)
		out := *e
		if out.Pos != c.Pos && out.Pos != "" {
			out.Hint = strings.TrimPrefix(out.Hint+"\n  from: "+e.Pos, "\n  ")
		}
		out.Pos, out.Err = c.Pos, nil // nothing of it can be caught
		h.failed = true
		return nil, &out
	}
	return v, nil
}

// judge holds what happened at a position to what is expected on its line. met
// says that the error was expected.
func (h *host) judge(pos string, err error) (_ error, met bool) {
	line := lineOf(pos)
	want := h.expected[line]
	if want == nil {
		return err, false
	}
	h.met[line] = true
	switch {
	case err == nil:
		return &engine.Error{Code: engine.Invalid, Pos: pos, Cause: fmt.Sprintf("this was to fail with %q, and did not", want)}, false
	case !want.MatchString(err.Error()):
		return &engine.Error{Code: engine.Invalid, Pos: pos, Cause: fmt.Sprintf("this was to fail with %q; it failed with: %s", want, err)}, false
	}
	return nil, true
}

// lineOf is the line of file:line:col.
func lineOf(pos string) int {
	parts := strings.Split(pos, ":")
	if len(parts) < 3 {
		return 0
	}
	n, _ := strconv.Atoi(parts[len(parts)-2])
	return n
}

// take counts what a call makes nodes of.
func (h *host) take(c engine.Call) error {
	switch op := c.Op.(type) {
	case Postgres, Bouncer: // the rest is counted when it is known how much it is
		h.given += len(c.Args)
		return nil
	case Node:
		h.given += len(c.Args)
	case Snapshot:
		if info, err := os.Stat(filepath.Join(filepath.Dir(h.file), op.File)); err == nil {
			h.given += int(min(info.Size(), maxSnapshot))
		}
	default:
		return nil
	}
	switch {
	case len(h.order) >= maxNodes:
		return engine.LimitHit.Errorf("a test can have %d nodes", maxNodes)
	case h.given > maxGiven:
		return engine.LimitHit.Errorf("the nodes of a test can be made of %d MB, and with this one they are of more", maxGiven>>20)
	}
	return nil
}

func (h *host) do(ctx context.Context, op engine.Operation) (any, error) {
	switch op := op.(type) {
	case Node:
		return nil, h.node(ctx, op)
	case Postgres:
		s, err := op.state()
		return nil, h.server(op.DSN, op.Node, s, err)
	case Bouncer:
		s, err := op.state()
		return nil, h.server(op.DSN, op.Node, s, err)
	case Snapshot:
		return nil, h.snapshot(op)
	case RunBook:
		return h.run(ctx, op, true)
	case PlanBook:
		return h.run(ctx, RunBook(op), false)
	case Read:
		return h.read(ctx, op)
	}
	return nil, engine.Internal.Errorf("a test has no operation %T", op)
}

func (h *host) add(info engine.NodeInfo, s resource.State) error {
	if h.nodes[info.Name] != nil {
		return engine.Invalid.Errorf("node %s is made twice", info.Name)
	}
	h.nodes[info.Name] = &sim.Remembering{Node: sim.New(s)}
	h.order = append(h.order, info)
	return nil
}

// node makes a node from literals.
func (h *host) node(ctx context.Context, op Node) error {
	s := sim.LabNode(op.Name, 1)
	if op.Links != nil {
		facts := s[resource.FactsKey]
		s = sim.Loopback()
		s[resource.FactsKey] = facts
		names := make([]string, 0, len(op.Links))
		for name := range op.Links {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			var addrs []netip.Prefix
			for _, text := range op.Links[name] {
				p, err := netip.ParsePrefix(text)
				if err != nil {
					return engine.Invalid.Errorf("links: %s: %q is not an address with its length, such as 192.0.2.7/24", name, text)
				}
				addrs = append(addrs, p)
			}
			l := resource.Link{Name: name, Type: "ether", MAC: fmt.Sprintf("02:00:00:00:01:%02x", i), MTU: 1500, Up: true, Carrier: true}
			sim.Attach(s, l, 0, addrs...)
		}
	}
	if err := h.add(engine.NodeInfo{Name: op.Name, Groups: op.Groups, Vars: op.Vars}, s); err != nil {
		return err
	}
	if op.Sockets != nil {
		ends, err := sockets(op.Sockets)
		if err != nil {
			return err
		}
		h.sockets[op.Name] = ends
	}
	for i, r := range op.Routes {
		if err := h.route(ctx, h.nodes[op.Name], r); err != nil {
			return engine.Invalid.Errorf("routes[%d]: %w", i, err)
		}
	}
	return nil
}

// route adds a route as node.route.add does.
func (h *host) route(ctx context.Context, n engine.Node, fields map[string]any) error {
	args, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	op, err := h.cfg.Ops.Decode("route.add", args)
	if err != nil {
		return err
	}
	want, err := op.(engine.Change).Plan(ctx, n)
	if err != nil {
		return err
	}
	_, err = n.Apply(ctx, engine.Edit{Want: want})
	return err
}

func (h *host) snapshot(op Snapshot) error {
	s, err := snapshotIn(filepath.Dir(h.file), op.File)
	if err != nil {
		return err
	}
	if op.Name != "" {
		s.Node.Name = op.Name
	}
	return h.add(s.Node, s.State)
}

func (h *host) read(ctx context.Context, op Read) (any, error) {
	n := h.nodes[op.Node]
	if n == nil {
		n = h.targets[op.Node]
	}
	if n == nil {
		return nil, engine.Invalid.Errorf("the test has no node %s", op.Node)
	}
	s, err := n.Read(ctx, resource.Query{{Kind: resource.Kind(op.Kind)}})
	if err != nil {
		return nil, err
	}
	lines := []string{}
	for _, k := range s.Keys() {
		lines = append(lines, s[k].String())
	}
	return lines, nil
}

// program starts the runbook, once for each test; again, where a limit has ended it.
func (h *host) program(ctx context.Context, name string) (*script.Program, error) {
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(h.file), Suffix) + ".star"
	}
	if p := h.programs[name]; p != nil && !p.Ended() {
		return p, nil
	}
	switch {
	case !filepath.IsLocal(name):
		return nil, engine.Invalid.Errorf("the runbook %s does not lie beside the test file, or below", name)
	case h.programs[name] == nil && len(h.programs) == maxRunbooks:
		return nil, engine.LimitHit.Errorf("a test can run %d runbooks", maxRunbooks)
	}
	cfg := h.cfg
	cfg.Cover = true
	p, err := script.Start(ctx, cfg, engine.Source{Main: filepath.Join(filepath.Dir(h.file), name)})
	if err != nil {
		return nil, err
	}
	h.keep(h.programs[name])
	h.programs[name] = p
	return p, nil
}

// run runs the runbook, as a run of the command line does.
func (h *host) run(ctx context.Context, op RunBook, live bool) (any, error) {
	p, err := h.program(ctx, op.Runbook)
	if err != nil {
		return nil, err
	}
	params := map[string]string{}
	for k, v := range op.Params {
		switch v := v.(type) {
		case string, bool, json.Number:
			params[k] = fmt.Sprint(v) // a bool is true or false
		default:
			return nil, engine.Invalid.Errorf("params: %s: want text, a number or a bool: what the command line can say", k)
		}
	}
	if err := p.Bind(params); err != nil {
		return nil, err
	}
	var nodes []engine.NodeInfo
	for _, n := range h.order {
		if op.Nodes == nil || slices.Contains(op.Nodes, n.Name) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 || op.Nodes != nil && len(nodes) != len(op.Nodes) {
		return nil, &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("the test has not all of the nodes %v", op.Nodes), Hint: `make them first: t.node("web-1")`}
	}
	var hooks hooked
	r := &rollout.Run{
		Program: unhurried{p}, Nodes: rollout.Spread(nodes, p.Header().Rollout.Spread), Dialer: dialer{h.nodes, h.targets, h.sockets}, Journal: forgetful{}, ID: "test", Emit: hooks.take,
		Model: func(r engine.Reader) engine.Model { return sim.Over(r) },
	}
	plans, err := r.Predict(ctx)
	if err != nil {
		return nil, err
	}
	if refused := r.Refusal(plans); refused != nil {
		return nil, refused
	}
	if refused := r.Watch(ctx); refused != nil {
		return nil, refused
	}
	diff, changes := tui.Changes(append(slices.Clone(plans), r.Targets()...))
	if op.Diff != nil && plain(*op.Diff) != plain(diff) {
		return nil, engine.Invalid.Errorf("the diff is\n%s\nand was to be\n%s", indent(plain(diff)), indent(plain(*op.Diff)))
	}
	if live {
		if err := p.Bind(params); err != nil { // the live passes have all their steps
			return nil, err
		}
		if _, failed := r.Apply(ctx, plans); failed != nil {
			return nil, failed
		}
	}
	prints := []string{}
	for _, np := range plans {
		prints = append(prints, np.Prints...)
	}
	return map[string]any{"diff": diff, "changes": changes, "prints": append(prints, hooks.prints...), "hooks": append([]string{}, hooks.names...), "error": nil}, nil
}

// unhurried is a runbook that does not wait between its waves.
type unhurried struct{ *script.Program }

// Header implements [engine.Program].
func (u unhurried) Header() engine.Header {
	h := u.Program.Header()
	h.Rollout.Bake = 0
	return h
}

// hooked is what a run's events tell of its hooks.
type hooked struct {
	mu     sync.Mutex
	names  []string // of those that were called, in order
	prints []string
}

func (o *hooked) take(e engine.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case e.Kind == engine.EventGate:
		o.names = append(o.names, e.Op)
	case e.Kind == engine.EventPrint && e.Node == "":
		o.prints = append(o.prints, e.Text)
	}
}

// plain is a diff without the indentation that it has in a test.
func plain(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, "\n")
}

func indent(s string) string {
	if s == "" {
		return "      nothing"
	}
	return "      " + strings.ReplaceAll(s, "\n", "\n      ")
}

// close ends the runbooks and keeps what was reached of them.
func (h *host) close() {
	for _, p := range h.programs {
		h.keep(p)
	}
}

// keep ends a runbook, if there is one, and keeps what was reached of it.
func (h *host) keep(p *script.Program) {
	if p == nil {
		return
	}
	for file, lines := range p.Coverage() {
		if h.cover[file] == nil {
			h.cover[file] = map[int]bool{}
		}
		for line, reached := range lines {
			h.cover[file][line] = h.cover[file][line] || reached
		}
	}
	p.Close() //nolint:errcheck // it ends by itself
}

// dialer reaches the nodes of a test, and its servers, through whatever node and for whatever
// they are asked.
type dialer struct {
	nodes, targets map[string]engine.Node
	sockets        map[string][]netip.AddrPort
}

// Dial implements [engine.Dialer].
func (d dialer) Dial(_ context.Context, name string) (engine.Node, error) {
	if n, ok := d.nodes[name]; ok {
		if ends, told := d.sockets[name]; told {
			return open{n, ends}, nil
		}
		return n, nil
	}
	if t, is := engine.ParseTarget(name); is {
		if s := d.targets[t.Server]; s != nil {
			return s, nil
		}
		return nil, &engine.Error{Code: engine.Invalid, Cause: "the test has no server " + t.Server, Hint: fmt.Sprintf("make it first: t.%s(%q)", t.Domain, t.Server)}
	}
	return nil, errors.New("the test has no such node")
}

// forgetful is a journal of what is not worth keeping.
type forgetful struct{}

// Begin implements [engine.Journal].
func (forgetful) Begin(context.Context, engine.RunRecord) (string, error) { return "test", nil }

// Append implements [engine.Journal].
func (forgetful) Append(context.Context, ...engine.Entry) error { return nil }

// Reserve implements [engine.Journal].
func (forgetful) Reserve(context.Context, engine.Reservation) (engine.Used, error) { return nil, nil }

// End implements [engine.Journal].
func (forgetful) End(context.Context, string, engine.Outcome) error { return nil }
