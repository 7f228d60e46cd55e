package nodetest

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/sim"
)

// Start is a state that a case starts from, in two forms that say the same: as
// a State, and as commands that make it in a network namespace.
type Start struct {
	Name string
	// State is complete but for the facts.
	State resource.State
	// commands are the arguments of ip, with NODE for the namespace of the
	// node and PEER for that of the other ends of its links.
	commands []string
}

// Usual is a node with two links that are up.
//
//	eth0  10.99.0.2/16  fe80::ff:fe00:1/64
//	eth1  10.98.0.2/16  fe80::ff:fe00:101/64  fd00:98::2/64
var Usual = Start{
	Name:  "usual",
	State: usualState(),
	commands: []string{
		"-n NODE link set lo up",
		"-n NODE link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 netns PEER",
		"-n NODE link add eth1 address 02:00:00:00:01:01 type veth peer name eth1 netns PEER",
		"-n NODE link set eth0 addrgenmode none",
		"-n NODE link set eth1 addrgenmode none",
		"-n PEER link set eth0 up",
		"-n PEER link set eth1 up",
		"-n NODE link set eth0 up",
		"-n NODE link set eth1 up",
		"-n NODE addr add 10.99.0.2/16 broadcast + dev eth0",
		"-n NODE addr add 10.98.0.2/16 broadcast + dev eth1",
		"-n NODE addr add fe80::ff:fe00:1/64 dev eth0 nodad",
		"-n NODE addr add fe80::ff:fe00:101/64 dev eth1 nodad",
		"-n NODE addr add fd00:98::2/64 dev eth1 nodad",
	},
}

// Eth1Down is Usual after eth1 was taken down: its IPv4 address stays, with
// the route to it; its IPv6 addresses and all other routes are gone.
var Eth1Down = Start{
	Name:     "eth1 down",
	State:    eth1DownState(),
	commands: append(Usual.commands[:len(Usual.commands):len(Usual.commands)], "-n NODE link set eth1 down"),
}

// NoCarrier is Usual with the other end of eth1 down: nothing else changes.
var NoCarrier = Start{
	Name:     "no carrier",
	State:    noCarrierState(),
	commands: append(Usual.commands[:len(Usual.commands):len(Usual.commands)], "-n PEER link set eth1 down"),
}

// NoIPv6 is Usual with IPv6 disabled on eth1.
var NoIPv6 = Start{
	Name:     "no IPv6",
	State:    noIPv6State(),
	commands: append(Usual.commands[:len(Usual.commands):len(Usual.commands)], "netns exec NODE sysctl -q -w net.ipv6.conf.eth1.disable_ipv6=1"),
}

// NoARP is Usual with eth1 asking nobody for addresses.
var NoARP = Start{
	Name:     "no ARP",
	State:    withEth1(usualState(), func(l *resource.Link) { l.NoARP = true }),
	commands: append(Usual.commands[:len(Usual.commands):len(Usual.commands)], "-n NODE link set eth1 arp off"),
}

// Promoting is Usual where a secondary address takes the place of its primary one.
var Promoting = Start{
	Name:     "promoting",
	State:    promotingState(),
	commands: append([]string{"netns exec NODE sysctl -q -w net.ipv4.conf.all.promote_secondaries=1"}, Usual.commands...),
}

// Lab is the first node of a simulated lab, as the kernel would make it: with
// link-local addresses of its own making.
var Lab = Start{
	Name:  "lab",
	State: labState(),
	commands: []string{
		"-n NODE link set lo up",
		"-n NODE link add eth0 address 02:00:00:63:00:02 type veth peer name eth0 netns PEER",
		"-n NODE link add eth1 address 02:00:00:62:00:02 type veth peer name eth1 netns PEER",
		"-n PEER link set eth0 up",
		"-n PEER link set eth1 up",
		"-n NODE link set eth0 up",
		"-n NODE link set eth1 up",
		"-n NODE addr add 10.99.0.2/16 broadcast + dev eth0",
		"-n NODE addr add 10.98.0.2/16 broadcast + dev eth1",
		"-n NODE addr add fd00:98::2/64 dev eth1",
	},
}

// Starts are all states that the suite starts from.
var Starts = []Start{Usual, Eth1Down, NoCarrier, NoIPv6, NoARP, Promoting, Lab}

const nodad = 0x02 // IFA_F_NODAD

func usualState() resource.State {
	s := sim.Loopback()
	veth := func(name, mac string) resource.Link {
		return resource.Link{
			Name: name, Type: "veth", MAC: mac, MTU: 1500, MaxMTU: 65535, Up: true, Carrier: true, Conf: resource.LinkConf{AddrGenMode: 1},
		}
	}
	p := netip.MustParsePrefix
	sim.Attach(s, veth("eth0", "02:00:00:00:00:01"), nodad, p("10.99.0.2/16"), p("fe80::ff:fe00:1/64"))
	sim.Attach(s, veth("eth1", "02:00:00:00:01:01"), nodad, p("10.98.0.2/16"), p("fe80::ff:fe00:101/64"), p("fd00:98::2/64"))
	return s
}

func eth1DownState() resource.State {
	s := withoutIPv6(usualState(), "eth1")
	maps.DeleteFunc(s, func(_ resource.Key, r resource.Resource) bool {
		route, ok := r.(resource.Route)
		return ok && route.Hops[0].Dev == "eth1" && route.Scope != resource.ScopeHost
	})
	return withEth1(s, func(l *resource.Link) { l.Up, l.Carrier = false, false })
}

func noCarrierState() resource.State {
	return withEth1(usualState(), func(l *resource.Link) { l.Carrier = false })
}

func noIPv6State() resource.State {
	return withEth1(withoutIPv6(usualState(), "eth1"), func(l *resource.Link) { l.Conf.DisableIPv6 = true })
}

func promotingState() resource.State {
	s := usualState()
	for _, l := range resource.All[resource.Link](s) {
		if l.Type == "loopback" {
			continue
		}
		l.Conf.PromoteSecondaries = true
		s[l.Key()] = l
	}
	return s
}

func labState() resource.State {
	s := sim.LabNode("node-1", 1)
	delete(s, resource.FactsKey)
	return s
}

// withoutIPv6 takes from s the IPv6 addresses and routes of the link dev, which
// must be the last.
func withoutIPv6(s resource.State, dev string) resource.State {
	maps.DeleteFunc(s, func(_ resource.Key, r resource.Resource) bool {
		switch r := r.(type) {
		case resource.Addr:
			return r.Dev == dev && r.Prefix.Addr().Is6()
		case resource.Route:
			return r.Hops[0].Dev == dev && r.Family() == 6
		}
		return false
	})
	return s
}

func withEth1(s resource.State, f func(*resource.Link)) resource.State {
	l, _ := resource.Get[resource.Link](s, resource.LinkKey("eth1"))
	f(&l)
	s[l.Key()] = l
	return s
}

var namespaces atomic.Int64

// Namespace makes a network namespace that holds s, and removes it when the
// test ends. It returns its name, as ip netns knows it: it lies under
// /run/netns. Without root or ip the test is skipped, or fails where
// integration tests are required.
func (s Start) Namespace(t testing.TB) string {
	t.Helper()
	integration.Need(t, "root", "ip", "sysctl")
	node := fmt.Sprintf("nodetest-%d-%d", os.Getpid(), namespaces.Add(1))
	peer := node + "-peer"
	for _, name := range []string{node, peer} {
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			integration.Missing(t, "this test needs network namespaces: ip netns add: %s", out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
				t.Errorf("ip netns delete %s: %s", name, out)
			}
		})
	}
	names := strings.NewReplacer("NODE", node, "PEER", peer)
	for _, c := range s.commands {
		IP(t, strings.Fields(names.Replace(c))...)
	}
	s.await(t, node)
	return node
}

// await waits for the routes to the node's own IPv6 addresses, which the kernel
// adds a moment after the addresses, even without duplicate address detection.
func (s Start) await(t testing.TB, node string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		out := IP(t, "-n", node, "-6", "route", "show", "table", "local")
		missing := ""
		for _, r := range resource.All[resource.Route](s.State) {
			if line := fmt.Sprintf("local %s dev %s ", r.Dst.Addr(), r.Hops[0].Dev); r.Type == resource.Local && r.Family() == 6 && !strings.Contains(out, line) {
				missing = line
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the namespace %s still lacks the route: %s\n%s", node, missing, out)
		}
	}
}

// IP runs the program ip with args and returns what it printed; the test ends
// where it fails.
func IP(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("ip", args...)
	var errs strings.Builder
	cmd.Stderr = &errs // it complains, and succeeds, where the namespace of a test beside this one has just gone
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, &errs)
	}
	return string(out)
}
