//go:build linux

package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// recording is a node that can all that a node can, and keeps what it was asked.
type recording struct {
	engine.Node
	asked []string
}

func (r *recording) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	r.asked = append(r.asked, fmt.Sprint("read ", len(q)))
	return r.Node.Read(ctx, q)
}

func (r *recording) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	r.asked = append(r.asked, fmt.Sprint("apply ", len(e.Want), e.Run))
	return r.Node.Apply(ctx, e)
}

func (r *recording) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	r.asked = append(r.asked, fmt.Sprint("all ", len(edits)))
	var out []resource.State
	for _, e := range edits {
		s, err := r.Node.Apply(ctx, e)
		if err != nil {
			return out, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (r *recording) Snapshot(context.Context, int) (resource.State, bool, error) {
	return resource.State{}, true, nil
}
func (r *recording) Lost() bool                                { return true }
func (r *recording) Release()                                  { r.asked = append(r.asked, "release") }
func (r *recording) Confirm(_ context.Context, t string) error { return errors.New(t) }
func (r *recording) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("dialed")
}
func (r *recording) Close() error {
	r.asked = append(r.asked, "close")
	return nil
}

// neighbour is an edit of a node that makes one.
func neighbour(n byte) engine.Edit {
	e := resource.Neigh{Dev: "eth1", Addr: netip.AddrFrom4([4]byte{10, 98, 9, n}), MAC: "02:00:00:00:00:09", Permanent: true}
	return engine.Edit{Want: resource.Of(e), Query: resource.Query{{Kind: resource.KindNeigh, Name: "eth1", Covers: e.Addr}}, Before: resource.State{}, After: resource.Of(e)}
}

func TestBeside(t *testing.T) {
	p := shared(t)
	r := &recording{Node: sim.New(sim.LabNode("web-1", 1))}
	n := Beside(r, nil)
	defer n.Close()
	name := p.DSN("")
	s := open(t, name)

	// One question for both.
	both := read(t, n, resource.Selector{Kind: resource.KindLink}, resource.Selector{Kind: resource.KindPostgres, Name: name}, resource.Selector{Kind: resource.KindPostgres, Name: p.TCP("")})
	if len(resource.All[resource.Link](both)) != 3 || len(resource.All[resource.Postgres](both)) != 2 {
		t.Errorf("%v", both)
	}
	// What follows each other for the node goes out together.
	set := setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to("8MB"), "configuration file", "8192" })
	r.asked = nil
	found, err := engine.ApplyAll(t.Context(), n, []engine.Edit{neighbour(1), neighbour(2), set, neighbour(3)})
	if err != nil || len(found) != 4 || !reflect.DeepEqual(r.asked, []string{"all 2", "all 1"}) {
		t.Fatalf("%v %v %v", found, err, r.asked)
	}
	// A look at both that changes nothing, as before a change is taken back.
	look, err := n.Apply(t.Context(), engine.Edit{Query: append(set.Query, neighbour(3).Query...), Run: "R"})
	if err != nil || len(look) != 2 || r.asked[len(r.asked)-1] != "apply 0R" {
		t.Errorf("%v %v %v", look, err, r.asked)
	}
	back, _ := set.TakeBack(nil, set.After)
	apply(t, n, back)
	// It stops at what has drifted.
	stale := neighbour(4)
	stale.Before = neighbour(5).After
	found, err = engine.ApplyAll(t.Context(), n, []engine.Edit{stale, neighbour(6)})
	var drift *engine.DriftError
	if !errors.As(err, &drift) || len(found) != 0 {
		t.Errorf("%v %v", found, err)
	}
	if _, err = n.Apply(t.Context(), engine.Edit{Want: resource.State{set.Want.Keys()[0]: nil, neighbour(1).Want.Keys()[0]: nil}}); err == nil {
		t.Error("an edit changed a node and a server")
	}
	_, err = n.Read(t.Context(), resource.Query{{Kind: resource.KindBackend}})
	judge(t, err, engine.Internal, "of no server")
	_, err = n.Read(t.Context(), resource.Query{{Kind: resource.KindBackend, Name: "host=a password=" + password}})
	judge(t, err, engine.Invalid, "has a password in it")
	if _, few, _ := n.(engine.Snapshotter).Snapshot(t.Context(), 1); !few || !n.(engine.Line).Lost() || n.(engine.Confirmer).Confirm(t.Context(), "token").Error() != "token" {
		t.Error("it cannot what the node can")
	}
	n.(engine.Holder).Release()
	n.Close()
	if end := r.asked[len(r.asked)-2:]; !reflect.DeepEqual(end, []string{"release", "close"}) {
		t.Error(end)
	}
}

// Servers alone, with nothing beside them, and from a node that cannot connect.
func TestBesideNothing(t *testing.T) {
	p := shared(t)
	n := Beside(nil, nil)
	defer n.Close()
	found := read(t, n, resource.Selector{Kind: resource.KindPostgres, Name: p.DSN("")}, resource.Selector{Kind: resource.KindFacts}, resource.Selector{Kind: resource.KindMemory})
	if len(found) != 1 {
		t.Errorf("%v", found)
	}
	if _, err := n.Apply(t.Context(), neighbour(1)); err == nil {
		t.Error("nothing was changed")
	}
	plain := sim.New(sim.LabNode("web-1", 1))
	from := Beside(plain, Through(plain))
	defer from.Close()
	_, err := from.Read(t.Context(), resource.Query{{Kind: resource.KindPostgres, Name: p.TCP("")}})
	judge(t, err, engine.Unreachable, "no connection can be made from this node to others")
}
