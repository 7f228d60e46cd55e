package sim_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/linux"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

// answerTime is how long a session may take to answer that is said to go on.
// What stalled is sent again by TCP after a second or two.
const answerTime = 10 * time.Second

// silence is how long a session is listened to that is said to be cut.
const silence = 3 * time.Second

// session is a real one, as the node has it.
type session struct {
	conn        *net.TCPConn // the end that asks
	local, peer netip.AddrPort
}

// sessionWorld is a node with sessions of every kind.
type sessionWorld struct {
	t        *testing.T
	node     *linux.Node
	ns, peer string
	sessions []session
}

func newSessionWorld(t *testing.T, prepare string) *sessionWorld {
	w := &sessionWorld{t: t}
	w.ns, w.peer = nodetest.Peered(t)
	w.ip("-n NODE route add default via 10.99.0.1 dev eth0\n" +
		"-n NODE route add 10.20.0.0/16 via 10.98.0.1 dev eth1\n" +
		"-n NODE -6 route add fd00:20::/64 via fd00:98::1 dev eth1\n" + prepare)
	var err error
	if w.node, err = linux.OpenAt("/run/netns/" + w.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.node.Close() })
	nodetest.Echo(t, w.peer, "[::]:5432")
	nodetest.Echo(t, w.ns, "[::]:443")
	for i := range 20 {
		w.dial(w.ns, "", fmt.Sprintf("10.20.0.%d:5432", i%9+1))
		w.dial(w.ns, "", fmt.Sprintf("[fd00:20::%d]:5432", i%9+1))
		for _, to := range []string{"10.98.0.1:5432", "[fd00:98::1]:5432", "10.99.0.1:5432", "10.98.0.2:443", "127.0.0.1:443", "[fd00:98::2]:443"} {
			w.dial(w.ns, "", to)
		}
		for _, to := range []string{"10.99.0.2:443", "10.98.0.2:443", "[fd00:98::2]:443"} {
			w.dial(w.peer, "", to)
		}
	}
	return w
}

// ip runs commands of ip, one a line.
func (w *sessionWorld) ip(commands string) {
	w.t.Helper()
	names := strings.NewReplacer("NODE", w.ns, "PEER", w.peer)
	for line := range strings.Lines(commands) {
		if line = strings.TrimSpace(line); line != "" {
			nodetest.IP(w.t, strings.Fields(names.Replace(line))...)
		}
	}
}

func (w *sessionWorld) dial(ns, local, to string) {
	w.t.Helper()
	c := nodetest.DialTCP(w.t, ns, local, to)
	s := session{conn: c, local: unmapped(c.LocalAddr()), peer: unmapped(c.RemoteAddr())}
	if ns == w.peer {
		s.local, s.peer = s.peer, s.local
	}
	w.sessions = append(w.sessions, s)
}

func unmapped(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func (w *sessionWorld) read(kinds ...resource.Kind) resource.State {
	w.t.Helper()
	var q resource.Query
	for _, k := range kinds {
		q = append(q, resource.Selector{Kind: k})
	}
	s, err := w.node.Read(w.t.Context(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// ask sends a byte on every session.
func (w *sessionWorld) ask() {
	for _, s := range w.sessions {
		s.conn.Write([]byte("x")) //nolint:errcheck // whether it arrives is what answers says
	}
}

// answers waits on every session for the answer to ask, and returns those that
// gave one in time.
func (w *sessionWorld) answers(wait func(session) time.Duration) map[session]bool {
	var all sync.WaitGroup
	var mu sync.Mutex
	out := map[session]bool{}
	for _, s := range w.sessions {
		all.Go(func() {
			s.conn.SetReadDeadline(time.Now().Add(wait(s))) //nolint:errcheck // of an open connection
			if n, err := s.conn.Read(make([]byte, 1)); n == 1 && err == nil {
				mu.Lock()
				defer mu.Unlock()
				out[s] = true
			}
		})
	}
	all.Wait()
	return out
}

// of returns what is predicted of s, where it is not to go on as it was. One that
// is within the node has both ends there.
func (s session) of(cuts []engine.Cut) []engine.Cut {
	var out []engine.Cut
	for _, c := range cuts {
		for _, end := range [][2]netip.AddrPort{{s.local, s.peer}, {s.peer, s.local}} {
			if c.Local == end[0].Addr() && (c.Peer == end[1] || c.Peer.Port() == 0 && c.Peer.Addr() == end[1].Addr() && c.Port == end[0].Port()) {
				out = append(out, c)
			}
		}
	}
	return out
}

const restartEth1 = `-n NODE link set eth1 down
ASK
-n NODE link set eth1 up
-n NODE addr add fd00:98::2/64 dev eth1 nodad
-n NODE route add 10.20.0.0/16 via 10.98.0.1 dev eth1
-n NODE -6 route add fd00:20::/64 via fd00:98::1 dev eth1
`

// kernelCase is a change that is made by commands of ip. At the line ASK, or
// after the last, something is sent on each session.
type kernelCase struct {
	name, prepare, commands string
	restart                 string
	deadEnd                 string // a way on which nobody answers here
}

// tally counts sessions by what was predicted of them.
type tally struct{ all, cut, stalled, moved atomic.Int64 }

// Changes are made by ip, and each of the sessions is asked afterwards: those
// that are cut are exactly those that were said to be.
func TestCutsOnTheKernel(t *testing.T) {
	var n tally
	t.Cleanup(func() { // after all cases
		t.Logf("%d sessions: %d cut, %d stalled, %d led another way, as predicted", n.all.Load(), n.cut.Load(), n.stalled.Load(), n.moved.Load())
	})
	for _, c := range []kernelCase{
		{"restart", "", restartEth1, "eth1", ""},
		{"link down", "", "-n NODE link set eth1 down", "", "via 10.99.0.1 dev eth0"}, // the peer lost its link, too
		{"link down, and no default route", "-n NODE route del default", "-n NODE link set eth1 down", "", ""},
		{"other link down", "", "-n NODE link set eth0 down", "", ""},
		{"IPv4 address gone", "", "-n NODE addr del 10.98.0.2/16 dev eth1", "", ""},
		{"IPv6 address gone", "", "-n NODE addr del fd00:98::2/64 dev eth1", "", ""},
		{"route gone", "", "-n NODE route del 10.20.0.0/16", "", ""},
		{"routes gone, and no default route", "-n NODE route del default", "-n NODE route del 10.20.0.0/16\n-n NODE -6 route del fd00:20::/64", "", ""},
		{"other gateway", "", "-n NODE route replace 10.20.0.0/16 via 10.98.0.9 dev eth1", "", ""},
		{"other gateway that nobody has", "", "-n NODE route replace 10.20.0.0/16 via 10.98.0.77 dev eth1", "", "via 10.98.0.77 dev eth1"},
		{"more specific routes", "", "-n NODE route add 10.20.0.4/31 via 10.98.0.9 dev eth1\n-n NODE -6 route add fd00:20::4/127 via fd00:98::9 dev eth1", "", ""},
		{"blackholes", "", "-n NODE route add blackhole 10.20.0.4/31\n-n NODE -6 route add unreachable fd00:20::4/127", "", ""},
		{"throw", "", "-n NODE route add throw 10.20.0.4/31", "", ""},
		{"the way is the same", "", "-n NODE route add 10.20.0.4/31 via 10.98.0.1 dev eth1\n-n NODE route replace 10.20.0.0/16 via 10.98.0.1 dev eth1 proto bird", "", ""},
		{"lower metric", "", "-n NODE -6 route add fd00:20::/64 via fd00:98::9 dev eth1 metric 5", "", ""},
		{"rule to another table", "-n NODE route add default via 10.98.0.9 dev eth1 table 100\n-n NODE -6 route add unreachable default table 100",
			"-n NODE rule add to 10.20.0.4/31 ipproto tcp dport 5432 lookup 100\n-n NODE -6 rule add from fd00:98::2 to fd00:20::4/127 lookup 100", "", ""},
		{"rule that prohibits", "", "-n NODE rule add to 10.20.0.4/31 prohibit", "", ""},
		{"rule that leaves the default route out", "", "-n NODE route del 10.20.0.0/16\n-n NODE rule add to 10.20.0.4/31 lookup 99\n-n NODE rule del priority 32766\n-n NODE rule add priority 32766 lookup main suppress_prefixlength 0", "", ""},
		{"rule for the main table gone", "", "-n NODE rule del priority 32766", "", ""},
		{"rule for the local table gone", "", "-n NODE rule del priority 0", "", ""},
		{"rule for the main table gone, IPv6", "", "-n NODE -6 rule del priority 32766", "", ""},
		{"rule for the local table gone, IPv6", "", "-n NODE -6 rule del priority 0", "", ""},
		{"route to an address of its own gone", "", "-n NODE route del local 10.98.0.2/32 dev eth1 table local", "", ""},
		{"local table after a rule that keeps some out", "-n NODE rule add priority 10 lookup local\n-n NODE rule del priority 0", "-n NODE rule add priority 5 iif eth1 to 10.98.0.2 blackhole", "", ""},
		{"rule that is not for them", "-n NODE route add unreachable default table 100", "-n NODE rule add to 10.20.0.4/31 ipproto udp lookup 100\n-n NODE rule add not from 10.98.0.0/15 lookup 100 iif eth0", "", ""},
		{"several at once", "", "-n NODE addr del 10.98.0.2/16 dev eth1\n-n NODE link set eth0 down\n-n NODE -6 route add unreachable fd00:20::4/127", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newSessionWorld(t, c.prepare), &n)
		})
	}
}

func (c kernelCase) run(w *sessionWorld, n *tally) {
	cuts := c.change(w)
	dead := func(s session) bool {
		return slices.ContainsFunc(s.of(cuts), func(p engine.Cut) bool { return !p.Stalls || p.To != "" && p.To == c.deadEnd })
	}
	answered := w.answers(func(s session) time.Duration {
		if dead(s) {
			return silence
		}
		return answerTime
	})
	for _, s := range w.sessions {
		n.all.Add(1)
		said := s.of(cuts)
		perhaps := slices.ContainsFunc(said, func(p engine.Cut) bool { return p.Perhaps })
		if answered[s] == dead(s) && !perhaps {
			w.t.Errorf("%s to %s answers: %t; predicted: %v", s.local, s.peer, answered[s], said)
		}
		switch {
		case len(said) > 0 && said[0].To != "":
			n.moved.Add(1)
			w.checkWay(s, said[0].To)
		case dead(s):
			n.cut.Add(1)
		case len(said) > 0:
			n.stalled.Add(1)
		}
	}
}

// change makes the change, asks all sessions, and returns what was predicted of
// them from the states before and after it.
func (c kernelCase) change(w *sessionWorld) []engine.Cut {
	network := []resource.Kind{resource.KindLink, resource.KindAddr, resource.KindRoute, resource.KindRule}
	before := w.read(network...)
	sessions := resource.All[resource.Sessions](w.read(resource.KindSession))
	first, then, asked := strings.Cut(c.commands, "ASK\n")
	w.ip(first)
	if asked { // in the middle of a restart: what is sent then is lost
		w.ask()
	}
	w.ip(then)
	after := w.read(network...)
	if c.restart != "" {
		after = before
	}
	if !asked {
		w.ask()
	}
	cuts, _ := sim.Cuts(sessions, before, after, c.restart)
	return cuts
}

// checkWay compares a predicted way with what the kernel says.
func (w *sessionWorld) checkWay(s session, to string) {
	w.t.Helper()
	out := nodetest.IP(w.t, "-n", w.ns, "route", "get", s.peer.Addr().String(), "from", s.local.Addr().String(),
		"ipproto", "tcp", "sport", fmt.Sprint(s.local.Port()), "dport", fmt.Sprint(s.peer.Port()))
	if !strings.Contains(out, to+" ") {
		w.t.Errorf("%s to %s was predicted to go %s, and goes %s", s.local, s.peer, to, out)
	}
}

// Of sessions that take a route of two hops, those over one of them die with
// it: those that were read to leave by it.
func TestSessionsOverSeveralHops(t *testing.T) {
	for _, c := range []struct{ name, policy, local, net string }{
		{"IPv4 by addresses", "ipv4.fib_multipath_hash_policy=0", "10.97.0.2", "10.40.0.%d:5432"},
		{"IPv4 by ports", "ipv4.fib_multipath_hash_policy=1", "10.97.0.2", "10.40.0.%d:5432"},
		{"IPv6 by addresses", "ipv6.fib_multipath_hash_policy=0", "fd00:97::2", "[fd00:40::%d]:5432"},
		{"IPv6 by ports", "ipv6.fib_multipath_hash_policy=1", "fd00:97::2", "[fd00:40::%d]:5432"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newSessionWorld(t, "netns exec NODE sysctl -q -w net."+c.policy+"\n"+twoHops)
			w.sessions = nil
			for i := range 60 {
				w.dial(w.ns, c.local, fmt.Sprintf(c.net, i%6+1))
			}
			w.ask()
			if n := len(w.answers(func(session) time.Duration { return answerTime })); n != len(w.sessions) {
				t.Fatalf("%d of %d sessions answer before anything is done", n, len(w.sessions))
			}
			ways, over := map[string]int{}, map[string]int{} // by peer and link, and by link
			for _, s := range resource.All[resource.Sessions](w.read(resource.KindSession)) {
				if s.Local.String() == c.local {
					ways[s.Peer.String()+" "+s.Dev] += s.Count
					over[s.Dev] += s.Count
				}
			}
			w.ip("-n PEER link set eth0 down")
			w.ask()
			alive := map[string]int{}
			for s := range w.answers(func(session) time.Duration { return silence }) {
				alive[s.peer.String()]++
			}
			for i := range 6 {
				peer := fmt.Sprintf(c.net, i+1)
				if alive[peer] != ways[peer+" eth1"] {
					t.Errorf("%d sessions to %s are alive; they were read to leave so: %v", alive[peer], peer, ways)
				}
			}
			if over["eth0"]+over["eth1"] != len(w.sessions) || over["eth0"] == 0 || over["eth1"] == 0 {
				t.Errorf("over %v of %d sessions", over, len(w.sessions))
			}
			t.Logf("over %v", over)
		})
	}
}

// twoHops are routes of two hops, and a local address that is of neither link,
// so that no hop is preferred for its sake.
const twoHops = `-n NODE route add 10.40.0.0/16 nexthop via 10.98.0.1 dev eth1 nexthop via 10.99.0.1 dev eth0
-n PEER route add local 10.40.0.0/16 dev lo
-n NODE addr add 10.97.0.2/32 dev lo
-n PEER route add 10.97.0.2/32 via 10.98.0.2
-n NODE addr add fd00:99::2/64 dev eth0 nodad
-n PEER addr add fd00:99::1/64 dev eth0 nodad
-n NODE -6 route add fd00:40::/64 nexthop via fd00:98::1 dev eth1 nexthop via fd00:99::1 dev eth0
-n PEER -6 route add local fd00:40::/64 dev lo
-n NODE addr add fd00:97::2/128 dev lo nodad
-n PEER -6 route add fd00:97::2/128 via fd00:98::2
`
