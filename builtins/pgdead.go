package builtins

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["pg.dead"] = PgDead{}
	Operations["pg.reap_dead"] = PgReapDead{}
}

// This file tells dead sessions from living ones. A session lives at two ends: the server's backend,
// and a socket of its client's node. A backend whose socket is not there is dead, whatever the server
// still takes it for. That is a proof only where nothing stands between that gives sessions another
// address: where it may, nothing is claimed.

// What can be said of a session.
const (
	alive    = "alive"
	dead     = "dead"
	unproved = "unproved"
)

// verdict is what is known of one session, and why.
type verdict struct {
	resource.Backend
	Is   string
	Node string // that has its client's address; "" where that is not known, or no node's
	Why  string // nothing can be proved

	stray bool // its address is that of no node that has answered
}

// ends are the clients' ends of sessions, which nodes are asked for.
func ends(sessions []resource.Backend) []netip.AddrPort {
	var out []netip.AddrPort
	for _, b := range sessions {
		if b.Client.IsValid() {
			out = append(out, end(b))
		}
	}
	return out
}

func end(b resource.Backend) netip.AddrPort {
	return netip.AddrPortFrom(b.Client.Addr().Unmap(), b.Client.Port())
}

// prove judges sessions by what nodes have answered since these were read: a session that begins
// between the two has its socket already, and one that ends is one that may be ended.
func prove(sessions []resource.Backend, nodes map[string]resource.Sockets) []verdict {
	owners := map[netip.Addr][]string{}
	open := map[netip.AddrPort]string{} // to the node that has it
	for name, s := range nodes {
		for _, a := range s.Addrs {
			owners[a.Unmap()] = append(owners[a.Unmap()], name)
		}
		for _, e := range s.Open {
			open[e] = name
		}
	}
	out := make([]verdict, len(sessions))
	for i, b := range sessions {
		out[i] = judge(b, owners[end(b).Addr()], open, nodes)
	}
	return out
}

// judge is the verdict on b, whose client's address the nodes owners have.
func judge(b resource.Backend, owners []string, open map[netip.AddrPort]string, nodes map[string]resource.Sockets) verdict {
	v := verdict{Backend: b, Is: unproved}
	addr := end(b).Addr()
	node, held := open[end(b)]
	switch {
	case !b.Client.IsValid():
		v.Why = "it came by a unix socket of the server's own machine"
	case addr.IsLoopback():
		v.Why = "it came from the server's own machine"
	case len(owners) == 0:
		v.stray, v.Why = true, fmt.Sprintf("%s is the address of no node that was asked: a NAT or a pooler may stand between, or its node is not selected", addr)
	case held && slices.Contains(owners, node):
		v.Is, v.Node = alive, node
	case len(owners) > 1:
		slices.Sort(owners)
		v.Why = fmt.Sprintf("%s is an address of several nodes: %s", addr, strings.Join(owners, ", "))
	case nodes[owners[0]].Forwards:
		v.Node, v.Why = owners[0], fmt.Sprintf("%s sends packets of others on, perhaps as its own: the session may be a container's, or another machine's", owners[0])
	default:
		v.Is, v.Node = dead, owners[0]
	}
	return v
}

// judged reads the sessions of clients at a server, then the sockets of the fleet, and judges.
func judged(ctx context.Context, n engine.Reader, f engine.Fleet, server string) (resource.Postgres, []verdict, error) {
	if f == nil {
		return resource.Postgres{}, nil, &engine.Error{
			Code: engine.Invalid, Cause: "this looks at all nodes of the fleet, and here is one", Hint: "it is for the hooks: before, gate and after",
		}
	}
	p, s, err := askServer(ctx, n, server, resource.Selector{Kind: resource.KindBackend, Name: server, Where: &resource.Where{}})
	if err == nil {
		err = needsSight(p)
	}
	if err != nil {
		return p, nil, err
	}
	sessions := resource.All[resource.Backend](s)
	found, missing := f.ReadAll(ctx, resource.Query{{Kind: resource.KindSockets, Ask: resource.AskSockets(ends(sessions))}})
	nodes := map[string]resource.Sockets{}
	for name, s := range found { // of the others nothing is known: nothing is proved by them
		for _, answer := range resource.All[resource.Sockets](s) {
			nodes[name] = answer
		}
	}
	all := prove(sessions, nodes)
	if silent := unanswered(missing); silent != "" {
		for i, v := range all {
			if v.stray {
				all[i].Why = fmt.Sprintf("%s is the address of no node that has answered; %s", end(v.Backend).Addr(), silent)
			}
		}
	}
	return p, all, nil
}

// unanswered says which nodes have not answered, and why the first of them has not; "": all have.
func unanswered(missing map[string]error) string {
	names := slices.Sorted(maps.Keys(missing))
	if len(names) == 0 {
		return ""
	}
	shown := strings.Join(names[:min(len(names), 3)], ", ")
	if more := len(names) - 3; more > 0 {
		shown += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s did not answer: %s", shown, engine.AsError(missing[names[0]]).Cause)
}

// PgDead tells which sessions at a Postgres server are dead: whose client's node has no such socket any more, though
// the server still holds them. It is for hooks, which see all nodes of the run.
//
// It returns dead, alive and unproved, each a list of pid, user, db, application, client, state, wait, node, why, and age,
// state_for, xact_for and query_for in seconds. Where nothing can be proved, why says what stands in the way: a client whose
// address is no node's, behind a NAT or a pooler perhaps; a node that sends packets of others on, such as one with containers.
//
//	print("%d dead sessions" % len(pg.connect("service=main").dead().dead))
type PgDead struct {
	Server string `json:"server"` // its DSN, without a password
}

func (o PgDead) String() string { return o.Server }

// Validate checks the arguments.
func (o PgDead) Validate() error { return resource.CheckServer(o.Server) }

// OnFleet implements [engine.OnFleet].
func (o PgDead) OnFleet(f engine.Fleet) engine.Operation { return pgDeadOf{o, f} }

// Look implements [engine.Probe].
func (o PgDead) Look(ctx context.Context, n engine.Reader) (any, error) {
	return pgDeadOf{o, nil}.Look(ctx, n)
}

// pgDeadOf is a PgDead that has the fleet to look at.
type pgDeadOf struct {
	PgDead
	fleet engine.Fleet
}

// Look implements [engine.Probe].
func (o pgDeadOf) Look(ctx context.Context, n engine.Reader) (any, error) {
	_, all, err := judged(ctx, n, o.fleet, o.Server)
	if err != nil {
		return nil, err
	}
	out := map[string][]any{dead: {}, alive: {}, unproved: {}}
	for _, v := range all {
		s := session(v.Backend)
		s["node"], s["why"] = v.Node, v.Why
		out[v.Is] = append(out[v.Is], s)
	}
	return out, nil
}

// PgReapDead ends the sessions at a Postgres server that pg.dead proves to be dead, and no others: each a change
// of its own to the limits. It is for hooks, which see all nodes of the run.
//
// A session is ended only if it is the one that was judged. None can be put back, and nobody misses them.
//
// It returns changed (a bool) and terminated, a list of pid, user, db, application, client, state, wait, and
// age, state_for, xact_for and query_for in seconds.
//
//	pg.connect("service=main").reap_dead()
type PgReapDead struct {
	Server string `json:"server"` // its DSN, without a password
}

func (o PgReapDead) String() string { return o.Server }

// Validate checks the arguments.
func (o PgReapDead) Validate() error { return resource.CheckServer(o.Server) }

// OnFleet implements [engine.OnFleet].
func (o PgReapDead) OnFleet(f engine.Fleet) engine.Operation { return pgReapDeadOf{o, f} }

// Plan implements [engine.Change].
func (o PgReapDead) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	return pgReapDeadOf{o, nil}.Plan(ctx, n)
}

// Shape implements [engine.Shaper].
func (o PgReapDead) Shape(e *engine.Edit) { about(e, nil) }

// Result implements [engine.Change].
func (o PgReapDead) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// Tell implements [engine.Teller].
func (o PgReapDead) Tell(e engine.Edit) any { return terminated(e) }

// pgReapDeadOf is a PgReapDead that has the fleet to look at.
type pgReapDeadOf struct {
	PgReapDead
	fleet engine.Fleet
}

// Plan implements [engine.Change].
func (o pgReapDeadOf) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	p, all, err := judged(ctx, n, o.fleet, o.Server)
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	var protected []resource.Backend
	for _, v := range all {
		if v.Is != dead {
			continue
		}
		want[v.Key()] = nil
		if v.Protected {
			protected = append(protected, v.Backend)
		}
	}
	return want, mayEnd(p, len(want), protected)
}
