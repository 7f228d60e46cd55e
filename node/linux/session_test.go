//go:build linux

package linux_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"runbook/engine/resource"
	"runbook/node/linux"
	"runbook/node/nodetest"
)

// peered opens the node of nodetest.Peered.
func peered(t testing.TB) (n *linux.Node, ns, peer string) {
	t.Helper()
	ns, peer = nodetest.Peered(t)
	n, err := linux.OpenAt("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n, ns, peer
}

func sessions(t testing.TB, n *linux.Node, s resource.Selector) []resource.Sessions {
	t.Helper()
	s.Kind = resource.KindSession
	found, err := n.Read(t.Context(), resource.Query{s})
	if err != nil {
		t.Fatal(err)
	}
	return resource.All[resource.Sessions](found)
}

func TestSessions(t *testing.T) {
	n, ns, peer := peered(t)
	for _, c := range []string{
		"route add 10.20.0.0/16 via 10.98.0.1 dev eth1 metric 7",
		"route add 10.20.0.3/32 via 10.98.0.9 dev eth1",
		"route add default via 10.99.0.1 dev eth0 table 100", // by a rule: what leaves from 10.98.0.2 to 10.20.0.4
		"rule add from 10.98.0.2 to 10.20.0.4 lookup 100",
		"-6 route add fd00:20::/64 via fd00:98::1 dev eth1",
	} {
		nodetest.IP(t, append([]string{"-n", ns}, strings.Fields(c)...)...)
	}
	nodetest.Echo(t, peer, "[::]:5432") // IPv6 sockets that speak IPv4 on that side
	nodetest.Echo(t, ns, "[::]:443")    // and on this
	for range 3 {
		for _, to := range []string{"10.20.0.1:5432", "10.20.0.3:5432", "10.20.0.4:5432", "[fd00:98::1]:5432", "[fd00:20::1]:5432", "10.98.0.2:443"} {
			nodetest.DialTCP(t, ns, "", to)
		}
		nodetest.DialTCP(t, peer, "", "10.99.0.2:443")
	}
	nodetest.DialTCP(t, ns, "", "10.20.0.2:5432")
	nodetest.DialTCP(t, ns, "", "[::1]:443")
	var got []string
	for _, s := range sessions(t, n, resource.Selector{}) {
		got = append(got, fmt.Sprintf("%s: %s: %s", s.Local, s, s.Route))
	}
	slices.Sort(got)
	want := []string{
		"10.98.0.2: 1 with 10.20.0.2:5432 dev eth1: route 10.20.0.0/16 table 254 metric 7",
		"10.98.0.2: 3 with 10.20.0.1:5432 dev eth1: route 10.20.0.0/16 table 254 metric 7",
		"10.98.0.2: 3 with 10.20.0.3:5432 dev eth1: route 10.20.0.3/32 table 254 metric 0",
		"10.98.0.2: 3 with 10.20.0.4:5432 dev eth0: route 0.0.0.0/0 table 100 metric 0",
		"10.98.0.2: 3 with 10.98.0.2:443 dev lo: route 10.98.0.2/32 table 255 metric 0",
		"10.98.0.2: 3 with clients of port 443 at 10.98.0.2 dev lo: route 10.98.0.2/32 table 255 metric 0",
		"10.99.0.2: 3 with clients of port 443 at 10.99.0.1 dev eth0: route 10.99.0.0/16 table 254 metric 0",
		"::1: 1 with [::1]:443 dev lo: route ::1/128 table 255 metric 0 dev lo",
		"::1: 1 with clients of port 443 at ::1 dev lo: route ::1/128 table 255 metric 0 dev lo",
		"fd00:98::2: 3 with [fd00:20::1]:5432 dev eth1: route fd00:20::/64 table 254 metric 1024",
		"fd00:98::2: 3 with [fd00:98::1]:5432 dev eth1: route fd00:98::/64 table 254 metric 256",
		"invalid IP: runbook's own, whose way could not be told: ", // this process has nothing to do with the namespace
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if all := sessions(t, n, resource.Selector{Name: "eth0"}); len(all) != 2 {
		t.Errorf("over eth0: %v", all)
	}
	whole, few, err := n.Snapshot(t.Context(), 300)
	if err != nil || !few || len(resource.All[resource.Sessions](whole)) != len(want) {
		t.Errorf("in a snapshot: %v, few %t, %v", resource.All[resource.Sessions](whole), few, err)
	}
}

// A session whose address or route has gone already cannot be cut any more.
func TestSessionsThatAreDead(t *testing.T) {
	n, ns, peer := peered(t)
	nodetest.IP(t, "-n", ns, "route", "add", "10.20.0.0/16", "via", "10.98.0.1")
	nodetest.Echo(t, peer, "[::]:5432")
	nodetest.DialTCP(t, ns, "", "10.20.0.1:5432")
	nodetest.DialTCP(t, ns, "", "10.99.0.1:5432")
	nodetest.DialTCP(t, ns, "", "[fd00:98::1]:5432")
	if all := sessions(t, n, resource.Selector{}); len(all) != 4 {
		t.Fatalf("before: %v", all)
	}
	nodetest.IP(t, "-n", ns, "route", "del", "10.20.0.0/16")
	nodetest.IP(t, "-n", ns, "addr", "del", "fd00:98::2/64", "dev", "eth1")
	if all := sessions(t, n, resource.Selector{}); len(all) != 2 || all[0].Peer.String() != "10.99.0.1:5432" {
		t.Errorf("after: %v", all)
	}
}

// Few groups, however many sessions: the largest alone are told apart.
func TestManySessions(t *testing.T) {
	n, ns, peer := peered(t)
	nodetest.Echo(t, peer, "[::]:5432")
	nodetest.IP(t, "-n", peer, "route", "add", "local", "10.30.0.0/16", "dev", "lo")
	nodetest.IP(t, "-n", ns, "route", "add", "10.30.0.0/16", "via", "10.98.0.1")
	const peers = 150
	for i := range peers {
		nodetest.DialTCP(t, ns, "", fmt.Sprintf("10.30.0.%d:5432", i+1))
		if i < 10 {
			nodetest.DialTCP(t, ns, "", fmt.Sprintf("10.30.0.%d:5432", i+1))
		}
	}
	all := sessions(t, n, resource.Selector{})
	total, two, rest := 0, 0, 0
	for _, s := range all {
		total += s.Count
		switch {
		case s.Count == 2:
			two++
		case !s.Peer.IsValid() && !s.Own:
			rest = s.Count
			if s.Dev != "eth1" || s.Local.String() != "10.98.0.2" || s.Route == "" {
				t.Errorf("the rest: %+v", s)
			}
		}
	}
	if len(all) > 64 || total != peers+10 || two != 10 || rest < peers/2 {
		t.Errorf("%d groups with %d sessions, %d of two, %d in the rest", len(all), total, two, rest)
	}
}
