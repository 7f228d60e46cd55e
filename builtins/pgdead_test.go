package builtins

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// What can be proved of a session, and what stands in the way.
func TestProve(t *testing.T) {
	addr, end := netip.MustParseAddr, netip.MustParseAddrPort
	nodes := map[string]resource.Sockets{
		"web-1": {Addrs: []netip.Addr{addr("10.0.0.1"), addr("fd00::1"), addr("10.0.9.9")}, Open: []netip.AddrPort{end("10.0.0.1:1000"), end("[fd00::1]:1000")}},
		"web-2": {Addrs: []netip.Addr{addr("10.0.0.2"), addr("10.0.9.9")}, Open: []netip.AddrPort{end("10.0.9.9:1000"), end("10.0.0.1:4000")}},
		"box-1": {Addrs: []netip.Addr{addr("10.0.0.3")}, Open: []netip.AddrPort{end("10.0.0.3:1000")}, Forwards: true},
	}
	for _, c := range []struct{ client, is, node, why string }{
		{"10.0.0.1:1000", alive, "web-1", ""},
		{"10.0.0.1:2000", dead, "web-1", ""},
		{"[fd00::1]:1000", alive, "web-1", ""},
		{"[fd00::1]:2000", dead, "web-1", ""},
		{"[::ffff:10.0.0.1]:1000", alive, "web-1", ""},
		{"[::ffff:10.0.0.2]:1000", dead, "web-2", ""},
		{"10.0.0.1:4000", dead, "web-1", ""}, // another node's socket of that number is none of its own
		{"10.0.9.9:1000", alive, "web-2", ""},
		{"10.0.9.9:2000", unproved, "", "10.0.9.9 is an address of several nodes: web-1, web-2"},
		{"10.0.0.3:1000", alive, "box-1", ""},
		{"10.0.0.3:2000", unproved, "box-1", "box-1 sends packets of others on"},
		{"10.0.0.4:1000", unproved, "", "a NAT or a pooler may stand between"},
		{"127.0.0.1:1000", unproved, "", "the server's own machine"},
		{"[::1]:1000", unproved, "", "the server's own machine"},
		{"", unproved, "", "a unix socket"},
	} {
		b := resource.Backend{PID: 1}
		if c.client != "" {
			b.Client = end(c.client)
		}
		got := prove([]resource.Backend{b}, nodes)[0]
		if got.Is != c.is || got.Node != c.node || !strings.Contains(got.Why, c.why) || (got.Why == "") != (c.why == "") {
			t.Errorf("%s: %s %s %q, want %+v", c.client, got.Is, got.Node, got.Why, c)
		}
	}
	if got := prove([]resource.Backend{{Client: end("10.0.0.1:2000")}}, nil)[0]; got.Is != unproved {
		t.Errorf("no node has answered, and it is %s", got.Is)
	}
}

// silent is a fleet of which some nodes do not answer.
type silent map[string]error

func (f silent) ReadAll(context.Context, resource.Query) (map[string]resource.State, map[string]error) {
	return nil, f
}

// Of a client whose node may be one that does not answer it is said that there are such, and why.
func TestNodesThatDoNotAnswer(t *testing.T) {
	const server = "service=main"
	n := sim.New(resource.Of(
		resource.Postgres{Server: server, SeesAll: true},
		resource.Backend{Server: server, PID: 1, Type: resource.ClientBackend, Client: netip.MustParseAddrPort("10.0.0.1:1000")},
	))
	for want, f := range map[string]silent{
		"10.0.0.1 is the address of no node that was asked: a NAT or a pooler may stand between, or its node is not selected":           nil,
		"10.0.0.1 is the address of no node that has answered; web-1 did not answer: no route to host":                                  {"web-1": errors.New("no route to host")},
		"10.0.0.1 is the address of no node that has answered; web-1, web-2, web-3 and 1 more did not answer: it refuses the handshake": {"web-1": engine.Unreachable.Errorf("it refuses the handshake"), "web-2": errors.New("x"), "web-3": errors.New("x"), "web-4": errors.New("x")},
	} {
		_, all, err := judged(t.Context(), n, f, server)
		if err != nil || len(all) != 1 || all[0].Is != unproved || all[0].Why != want {
			t.Errorf("%v, %+v\nwant %s", err, all, want)
		}
	}
}
