//go:build linux

package linux

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
)

var count atomic.Int32

// testNode is a node in a network namespace of its own: eth0 (10.98.0.2/16 and
// fd00:98::2/64) and eth1 (10.99.0.2/16), each with its veth peer up beside it.
func testNode(t testing.TB) (*Node, string) {
	t.Helper()
	integration.Need(t, "root", "ip")
	name := fmt.Sprintf("rb-linux-%d-%d", os.Getpid(), count.Add(1))
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		integration.Missing(t, "no network namespace can be made: %s", out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	ip(t, name, `
		link set lo up
		link add eth0 type veth peer name peer0
		link add eth1 type veth peer name peer1
		link set eth0 up
		link set peer0 up
		link set eth1 up
		link set peer1 up
		addr add 10.98.0.2/16 dev eth0
		addr add fd00:98::2/64 dev eth0 nodad
		addr add 10.99.0.2/16 dev eth1`)
	n, err := OpenAt("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n, name
}

// ip runs one ip command for each line of script.
func ip(t testing.TB, ns, script string) string {
	t.Helper()
	cmd := exec.Command("ip", "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.TrimSpace(script) + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ip: %v\n%s", err, out)
	}
	return string(out)
}

// dumpAll is every route as the kernel wrote it, sorted, without RTA_CACHEINFO.
func dumpAll(t *testing.T, n *Node) []string {
	t.Helper()
	var out []string
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, unix.SizeofRtMsg)
		req[0] = family
		err := n.dump(t.Context(), unix.RTM_GETROUTE, req, unix.RTM_NEWROUTE, func() {}, func(msg []byte) {
			var b bytes.Buffer
			b.Write(msg[:8])
			native.PutUint32(msg[8:], native.Uint32(msg[8:])&unix.RTNH_F_ONLINK)
			b.Write(msg[8:12])
			for kind, a := range attrs(msg[unix.SizeofRtMsg:]) {
				if kind != unix.RTA_CACHEINFO {
					b.Write(a)
				}
			}
			out = append(out, hex.EncodeToString(b.Bytes()))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(out)
	return out
}

// variety is one route of each kind that the resource types must carry.
const variety = `
	nexthop add id 7 via 10.98.0.7 dev eth0
	nexthop add id 8 via 10.98.0.8 dev eth0
	nexthop add id 9 group 7,3/8,12
	route add 10.1.0.0/16 via 10.98.0.1 dev eth0
	route add 10.2.0.0/16 via 10.98.0.1 dev eth0 mtu lock 1400 advmss 1300 initcwnd 20 rto_min 300ms
	route add 10.3.0.0/16 nexthop via 10.98.0.1 dev eth0 weight 3 nexthop via 10.99.0.1 dev eth1 weight 200
	route add 10.4.0.0/16 encap mpls 100 via 10.98.0.1 dev eth0
	route add 10.5.0.0/16 encap ip id 5 dst 10.98.0.9 src 10.98.0.2 dev eth0
	route add blackhole 10.6.0.0/16
	route add unreachable 10.6.1.0/24 metric 5
	route add prohibit 10.6.2.0/24
	route add throw 10.6.3.0/24 table 100
	route add 10.7.0.0/16 dev eth0 src 10.98.0.2 metric 50 proto bird
	route add 10.8.0.0/16 via 172.16.0.1 dev eth0 onlink table 1000
	route add 10.9.0.0/16 nhid 7
	route add 10.10.0.0/16 nhid 9
	route add 10.11.0.0/16 tos 0x10 via 10.98.0.1
	route add 10.11.0.0/16 via 10.98.0.1
	route add 10.12.0.0/16 via inet6 fe80::1 dev eth0
	route add 10.13.0.0/16 via 10.98.0.1 realm 5
	route append 10.14.0.0/16 via 10.98.0.3
	route append 10.14.0.0/16 via 10.99.0.5 dev eth1
	route append 10.14.0.0/16 via 10.98.0.4
	route add local 10.15.0.1 dev eth0 table local
	route add default via 10.98.0.1
	route add 10.16.0.0/16 scope link dev eth1 congctl reno
	route add 10.17.0.0/16 nexthop via 10.98.0.1 dev eth0 onlink nexthop encap mpls 200 via 10.99.0.1 dev eth1
	-6 route add 2001:db8:1::/48 via fd00:98::1
	-6 route add 2001:db8:2::/48 via fd00:98::1 dev eth0 mtu 1400 metric 77
	-6 route add 2001:db8:3::/48 nexthop via fd00:98::1 dev eth0 weight 5 nexthop via fe80::9 dev eth1
	-6 route add blackhole 2001:db8:4::/48
	-6 route add unreachable 2001:db8:5::/48 metric 9
	-6 route add 2001:db8:6::/48 from 2001:db8:7::/48 via fd00:98::1
	-6 route add 2001:db8:8::/48 via fd00:98::1 pref high
	-6 route add 2001:db8:9::/48 dev eth0 src fd00:98::2
	-6 route add 2001:db8:a::/48 encap seg6 mode encap segs 2001:db8:ff::1 dev eth0
	-6 route add default via fe80::1 dev eth1 table 100
	-6 route append 2001:db8:b::/48 dev eth0
	-6 route append 2001:db8:b::/48 dev eth1`

// made selects what variety makes, out of what it found there before.
func made(t *testing.T, n *Node, ns string) (resource.Query, resource.State) {
	t.Helper()
	// The kernel makes the links' own addresses, and routes for them, when it gets to it.
	ready := func() bool {
		addrs := ip(t, ns, "addr show")
		return strings.Count(addrs, "inet6 fe80:") == 4 && !strings.Contains(addrs, "tentative")
	}
	for end := time.Now().Add(30 * time.Second); !ready(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the links have no addresses of their own")
		}
	}
	q := resource.Query{{Kind: resource.KindRoute}}
	before, err := n.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimSpace(variety)) {
		cmd := exec.Command("ip", append([]string{"-n", ns}, strings.Fields(line)...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("left out, for this kernel or iproute2 lacks it: %s: %s", strings.TrimSpace(line), out)
		}
	}
	after, err := n.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return q, resource.Compare(before, after).After()
}

func TestEveryRouteIsPutBackExactly(t *testing.T) {
	n, ns := testNode(t)
	q, routes := made(t, n, ns)
	if len(routes) < 30 {
		t.Errorf("only %d routes were made", len(routes))
	}
	for _, k := range routes.Keys() {
		t.Logf("%-50s %s", k, routes[k])
	}
	want := dumpAll(t, n)
	all, err := n.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	without := all.Clone()
	remove := resource.State{}
	for k := range routes {
		delete(without, k)
		remove[k] = nil
	}
	e := engine.Edit{Want: remove, Query: q, Before: all, After: without, Settle: engine.Duration(time.Second)}
	found, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if d := resource.Compare(without, found); len(d) > 0 {
		t.Fatalf("after deleting:\n%s", d)
	}
	found, err = n.Apply(t.Context(), e.Reverse())
	if err != nil {
		t.Fatal(err)
	}
	if d := resource.Compare(all, found); len(d) > 0 {
		t.Errorf("after putting back:\n%s", d)
	}
	if got := dumpAll(t, n); !slices.Equal(got, want) {
		t.Errorf("the kernel's own dump differs:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// Each route alone is deleted, put back, changed and changed back, so that a
// message that hits another route of the variety shows.
func TestEachRouteAlone(t *testing.T) {
	n, ns := testNode(t)
	q, routes := made(t, n, ns)
	want := dumpAll(t, n)
	for _, k := range routes.Keys() {
		r := routes[k].(resource.Route)
		other := r
		other.Proto = 77
		for _, to := range []resource.Resource{nil, other} {
			before, err := n.Read(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			e := engine.Edit{Want: resource.State{k: to}, Query: q, Before: before}
			after, err := n.Apply(t.Context(), e)
			if err != nil {
				t.Errorf("%s to %v: %v", k, to, err)
				continue
			}
			for _, c := range resource.Compare(before, after) {
				if !sharesIdentity(c.Key, k) {
					t.Errorf("%s to %v changed %s", k, to, c.Key)
				}
			}
			e.After = after
			if _, err := n.Apply(t.Context(), e.Reverse()); err != nil {
				t.Fatalf("%s back: %v", k, err)
			}
			if got := dumpAll(t, n); !slices.Equal(got, want) {
				t.Fatalf("%s to %v and back:\n got %s\nwant %s", k, to, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
		}
	}
}

func sharesIdentity(a, b resource.Key) bool {
	x, _ := parseKey(a)
	y, _ := parseKey(b)
	return x.first == y.first
}

func TestRefusedEditIsPutBack(t *testing.T) {
	n, _ := testNode(t)
	want := dumpAll(t, n)
	good := route4("10.20.0.0/16", "10.98.0.1", "eth0")
	for _, c := range []struct {
		bad   resource.Route
		errno string
		words string
	}{
		{route4("10.21.0.0/16", "192.0.2.1", "eth0"), "ENETUNREACH", "Nexthop has invalid gateway"},
		{route4("10.21.0.0/16", "10.98.0.1", "eth9"), "ENODEV", "no such device"},
		{route4("10.21.0.0/16", "10.98.0.1", "a-name-that-no-link-can-have"), "ENODEV", "no such device"},
	} {
		_, err := n.Apply(t.Context(), engine.Edit{Want: resource.Of(good, c.bad)})
		var refused *engine.NodeError
		if !errors.As(err, &refused) || refused.Errno != c.errno || refused.Words != c.words {
			t.Errorf("%s: %#v, want %s: %s", c.bad, err, c.errno, c.words)
		}
		if got := dumpAll(t, n); !slices.Equal(got, want) {
			t.Errorf("%s: the good route is still there", c.bad)
		}
	}
}

func TestLinkRoutesComeFirst(t *testing.T) {
	n, _ := testNode(t)
	link := route4("192.0.2.0/24", "", "eth0")
	link.Scope = resource.ScopeLink
	gateway := route4("10.20.0.0/16", "192.0.2.1", "eth0")
	e := engine.Edit{Want: resource.Of(link, gateway), Query: resource.Query{{Kind: resource.KindRoute}}}
	after, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	e.Before, e.After = after.Clone(), after
	delete(e.Before, link.Key())
	delete(e.Before, gateway.Key())
	back, err := n.Apply(t.Context(), e.Reverse())
	if d := resource.Compare(e.Before, back); err != nil || len(d) > 0 {
		t.Errorf("taken back: %v\n%s", err, d)
	}
}

func TestDriftChangesNothing(t *testing.T) {
	n, ns := testNode(t)
	ip(t, ns, "route add 10.20.0.0/16 via 10.98.0.9")
	r := route4("10.20.0.0/16", "10.98.0.1", "eth0")
	q := resource.Query{{Kind: resource.KindRoute, Dst: r.Dst}}
	_, err := n.Apply(t.Context(), engine.Edit{Want: resource.Of(r), Query: q, Before: resource.State{}})
	var drift *engine.DriftError
	if !errors.As(err, &drift) || len(drift.Found) != 1 {
		t.Fatalf("%v, want drift with the route that is there", err)
	}
}

func TestLinksAddrsFacts(t *testing.T) {
	n, ns := testNode(t)
	ip(t, ns, `
		link add br0 type bridge
		link set peer1 master br0
		link set eth1 mtu 1400 alias uplink
		link set eth1 address 02:00:00:00:00:01
		addr add 10.98.0.3/16 dev eth0 label eth0:1 metric 7
		addr add 192.0.2.1 peer 192.0.2.9/32 dev eth0 noprefixroute
		addr add fd00:98::3/64 dev eth0 nodad valid_lft 100 preferred_lft 100`)
	s, err := n.Read(t.Context(), resource.Query{{Kind: resource.KindLink}, {Kind: resource.KindAddr, Name: "eth0"}, {Kind: resource.KindFacts}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range s.Keys() {
		t.Logf("%s: %s", k, s[k])
	}
	eth1, _ := resource.Get[resource.Link](s, resource.LinkKey("eth1"))
	want := resource.Link{Name: "eth1", Type: "veth", MAC: "02:00:00:00:00:01", MTU: 1400, Up: true, Carrier: true, Lower: "peer1", Alias: "uplink"}
	if want.MaxMTU, want.Conf = eth1.MaxMTU, eth1.Conf; eth1 != want {
		t.Errorf("eth1 is %+v, want %+v", eth1, want)
	}
	if peer, _ := resource.Get[resource.Link](s, resource.LinkKey("peer1")); peer.Master != "br0" || peer.Lower != "eth1" {
		t.Errorf("peer1 is %+v, want master br0 and lower eth1", peer)
	}
	if lo, _ := resource.Get[resource.Link](s, resource.LinkKey("lo")); lo.Type != "loopback" {
		t.Errorf("lo is %+v", lo)
	}
	for _, want := range []resource.Addr{
		{Dev: "eth0", Prefix: netip.MustParsePrefix("10.98.0.3/16"), Label: "eth0:1", Metric: 7, Permanent: true, Secondary: true},
		{Dev: "eth0", Prefix: netip.MustParsePrefix("192.0.2.1/32"), Peer: netip.MustParsePrefix("192.0.2.9/32"), Permanent: true, NoPrefixRoute: true},
		{Dev: "eth0", Prefix: netip.MustParsePrefix("fd00:98::3/64"), Flags: unix.IFA_F_NODAD},
	} {
		got := s[want.Key()]
		if len(resource.Compare(resource.Of(want), resource.State{want.Key(): got})) > 0 {
			t.Errorf("%s\n got %+v\nwant %+v", want.Key(), got, want)
		}
	}
	f, _ := resource.Get[resource.Facts](s, resource.FactsKey)
	if f.Kernel == "" || f.CPUs == 0 || f.Memory == 0 || f.BootID == "" || f.Hostname == "" {
		t.Errorf("facts: %+v", f)
	}
	one, err := n.Read(t.Context(), resource.Query{{Kind: resource.KindLink, Name: "eth1"}, {Kind: resource.KindLink, Name: "eth9"}})
	if err != nil || len(one) != 1 || one[eth1.Key()] != resource.Resource(eth1) {
		t.Errorf("eth1 and eth9 by name: %v, %v", one, err)
	}
}

func TestReadEndsWithContext(t *testing.T) {
	n, _ := testNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := route4("10.20.0.0/16", "10.98.0.1", "eth0")
	e := engine.Edit{Want: resource.Of(r), Query: resource.Query{{Kind: resource.KindRoute, Dst: r.Dst}}, After: resource.State{}, Settle: engine.Duration(time.Minute)}
	start := time.Now()
	if _, err := n.Apply(ctx, e); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want a deadline", err)
	}
	if d := time.Since(start); d > 200*time.Millisecond {
		t.Errorf("it returned after %v", d)
	}
}

// A node with a full table: what is not selected must cost next to nothing.
func TestHundredThousandRoutes(t *testing.T) {
	n, ns := testNode(t)
	const many = 100_000
	var b strings.Builder
	for i := range many {
		fmt.Fprintf(&b, "route add 100.%d.%d.%d/32 via 10.98.0.1 dev eth0\n", i>>16, i>>8&255, i&255)
	}
	b.WriteString("route add 10.20.0.0/16 via 10.98.0.1 dev eth0\nroute add 10.21.0.0/16 via 10.98.0.1 dev eth0 table 100")
	ip(t, ns, b.String())
	for _, q := range []resource.Query{
		{{Kind: resource.KindRoute, Dst: netip.MustParsePrefix("10.20.0.0/16")}, {Kind: resource.KindAddr, Name: "eth0", Family: 4}},
		{{Kind: resource.KindRoute, Name: "eth1"}},
		{{Kind: resource.KindRoute, Table: 100}},
		{{Kind: resource.KindRoute, Covers: netip.MustParseAddr("100.1.2.3")}, {Kind: resource.KindRoute, Dst: netip.MustParsePrefix("10.21.0.0/16")}},
	} {
		var s resource.State
		start := time.Now()
		allocs := testing.AllocsPerRun(1, func() {
			var err error
			if s, err = n.Read(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		})
		d := time.Since(start) / 2 // AllocsPerRun runs it once before
		t.Logf("%v: %d found in %v, %.0f allocations", q, len(s), d, allocs)
		if len(s) == 0 || allocs > many/10 {
			t.Errorf("%v: %d found with %.0f allocations", q, len(s), allocs)
		}
	}
}

func route4(dst, via, dev string) resource.Route {
	h := resource.Hop{Dev: dev}
	if via != "" {
		h.Via = netip.MustParseAddr(via)
	}
	return resource.Route{
		Dst: netip.MustParsePrefix(dst), Table: resource.TableMain, Type: resource.Unicast,
		Proto: resource.ProtoStatic, Hops: []resource.Hop{h},
	}
}

// A route of many hops does not fit what the kernel first thinks that it may send.
func TestManyHops(t *testing.T) {
	n, ns := testNode(t)
	many := route4("10.20.0.0/16", "10.98.0.1", "eth0")
	many.Hops[0].Weight = 1
	many.Hops = slices.Repeat(many.Hops, 256)
	if _, err := n.Apply(t.Context(), engine.Edit{Want: resource.Of(many)}); err != nil {
		t.Fatal(err)
	}
	fresh, err := OpenAt("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	for _, n := range []*Node{fresh, n} {
		s, err := n.Read(t.Context(), resource.Query{{Kind: resource.KindRoute, Table: resource.TableMain, Family: 4}})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := resource.Get[resource.Route](s, resource.RouteKey(netip.MustParsePrefix("10.20.0.0/16"), resource.TableMain, 0))
		if len(r.Hops) != 256 {
			t.Errorf("%d routes, and %d hops of 256", len(s), len(r.Hops))
		}
	}
}
