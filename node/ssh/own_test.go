//go:build linux

package ssh

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

// from dials the server from an address of its own, by which the session can be told from others.
func from(local string) func(context.Context, string, string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	return d.DialContext
}

// The session that runbook works through is found from the kernel: the same
// with sudo in between, and where nothing in the environment tells of it. Where
// it cannot be found, that is known.
func TestOwnSession(t *testing.T) {
	integration.Need(t, "sudo", "unshare")
	force := func(words string) string { return "ForceCommand exec " + words + ` /bin/sh -c "$SSH_ORIGINAL_COMMAND"` }
	for _, c := range []struct {
		name, config, user, become string
		hidden                     bool
	}{
		{name: "root"},
		{name: "sudo", user: "rbtest", become: "sudo"},
		{name: "empty environment", config: force("env -i HOME=/root")},
		{name: "a shell and its child between", config: force("/bin/sh -c '\"$@\"; exit' sh")},
		{name: "not root: sshd does not let itself be looked into", user: "rbtest", hidden: true},
		{name: "another pid namespace", config: force("unshare --pid --fork --mount-proc"), hidden: true},
		{name: "another pid namespace, with the old /proc", config: force("unshare --pid --fork"), hidden: true},
		{name: "another network namespace", config: force("unshare --net"), hidden: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t, setup{user: "rbtest", config: c.config, script: sudoers("rbtest ALL=(root) NOPASSWD: ALL")})
			var nodes []engine.Node
			for _, local := range []string{"127.0.0.2", "127.0.0.3"} { // each must see its own, and not the other's
				to := s.target(t)
				to.DialContext = from(local)
				if c.user != "" {
					to.User, to.Become = c.user, c.become
				}
				n, err := reach(t, to)
				if err != nil {
					t.Fatal(err)
				}
				nodes = append(nodes, n)
			}
			for i, n := range nodes {
				want := resource.Of(resource.HiddenOwn) // also where it was found: it goes over lo, and a proxy may be behind that
				if !c.hidden {
					found := resource.Sessions{
						Local: netip.MustParseAddr("127.0.0.1"), Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)}), 0),
						Port: uint16(s.port), Dev: "lo", Own: true, Count: 1,
						Route: resource.RouteKey(netip.MustParsePrefix("127.0.0.0/8"), resource.TableLocal, 0),
					}
					want[found.Key()] = found
				}
				if own := ownSessions(t, n); !reflect.DeepEqual(own, want) {
					t.Errorf("connection %d: own %v, want %v", i, own, want)
				}
			}
		})
	}
}

// ownSessions are those that the node takes for runbook's own.
func ownSessions(t *testing.T, n engine.Reader) resource.State {
	t.Helper()
	s, err := n.Read(t.Context(), resource.Query{{Kind: resource.KindSession}})
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(s, func(_ resource.Key, r resource.Resource) bool { return !r.(resource.Sessions).Own })
	return s
}

// On a link over others it is seen, but not how it gets out of the node.
func TestOwnSessionOverABridge(t *testing.T) {
	ns, peer := nodetest.Peered(t)
	for _, c := range []string{"link add br0 type bridge", "addr del 10.99.0.2/16 dev eth0", "link set eth0 master br0", "link set br0 up", "addr add 10.99.0.2/16 dev br0"} {
		nodetest.IP(t, append([]string{"-n", ns}, strings.Fields(c)...)...)
	}
	n := overEth0(t, ns, peer)
	own := resource.All[resource.Sessions](ownSessions(t, n))
	if len(own) != 2 || own[0].Dev != "br0" || own[0].Count != 1 || !own[1].Hidden() {
		t.Errorf("own: %v", own)
	}
}

// overEth0 reaches a node of nodetest.Peered from its peer, by its address 10.99.0.2.
func overEth0(t *testing.T, ns, peer string) engine.Node {
	t.Helper()
	s := startServer(t, setup{ns: ns, config: "ListenAddress 10.99.0.2:2222\n"})
	to := s.target(t)
	to.DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nodetest.DialTCP(t, peer, "", "10.99.0.2:2222"), nil
	}
	n, err := reach(t, to)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A change that would cut the controller off is known to, and does; one beside
// it is not, and does not.
func TestOwnSessionIsCutAsPredicted(t *testing.T) {
	ns, peer := nodetest.Peered(t)
	n := overEth0(t, ns, peer)
	blackhole := func(dst string) engine.Edit {
		r := resource.Route{Dst: netip.MustParsePrefix(dst), Table: resource.TableMain, Type: resource.Blackhole, Proto: resource.ProtoStatic}
		e := engine.Edit{Want: resource.Of(r)}
		if err := sim.Over(n).Predict(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	answers := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := n.Read(ctx, factsQuery)
		return err == nil
	}
	if beside := blackhole("10.98.0.1/32"); beside.CutsOwn() {
		t.Errorf("beside: %v", beside.Cuts)
	}
	nodetest.IP(t, "-n", ns, "route", "add", "blackhole", "10.98.0.1/32")
	if !answers() {
		t.Error("cut by a route beside it")
	}
	cut := blackhole("10.99.0.1/32")
	if !cut.CutsOwn() || len(cut.Cuts) != 1 || cut.Cuts[0].Count != 1 || cut.Cuts[0].Stalls || cut.Cuts[0].Perhaps {
		t.Errorf("its own route: %v", cut.Cuts)
	}
	nodetest.IP(t, "-n", ns, "route", "add", "blackhole", "10.99.0.1/32")
	if answers() {
		t.Error("not cut, though predicted")
	}
	nodetest.IP(t, "-n", ns, "route", "del", "blackhole", "10.99.0.1/32")
	for end := time.Now().Add(20 * time.Second); !answers(); {
		if time.Now().After(end) {
			t.Fatal("it does not come back")
		}
	}
}
