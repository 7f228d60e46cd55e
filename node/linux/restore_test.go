//go:build linux

package linux_test

import (
	"errors"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/linux"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

// mixed is what a busy node holds on eth1, and beside it, of every sort that is
// easily lost: what has a lifetime, what is carried as bytes, what others rest on.
const mixed = `
addr add 10.98.0.3/16 dev eth1
addr add 10.98.0.4/16 dev eth1 label eth1:web
addr add 10.55.0.7/24 broadcast 10.55.0.255 dev eth1 label eth1:db
addr add 10.56.0.7/24 dev eth1 valid_lft 3000 preferred_lft 2000
addr add 10.57.0.7 peer 10.57.0.9/32 dev eth1
addr add 10.58.0.7/24 dev eth1 noprefixroute metric 77
addr add fd00:55::7/64 dev eth1 nodad
addr add fd00:56::7/64 dev eth1 nodad metric 77
addr add fd00:57::7/64 dev eth1 nodad noprefixroute
addr add fd00:59::7/64 dev eth1 nodad preferred_lft 0
addr add 10.59.0.7/24 dev eth1 preferred_lft 0
nexthop add id 7 via 10.98.0.7 dev eth1
nexthop add id 8 via 10.99.0.8 dev eth0
nexthop add id 9 group 7,3/8,12
nexthop add id 10 via fd00:98::7 dev eth1 proto bird
nexthop add id 11 blackhole
route add 10.1.0.0/16 via 10.98.0.1 dev eth1
route add 10.2.0.0/16 via 10.98.0.1 dev eth1 mtu lock 1400 advmss 1300 initcwnd 20 rto_min 300ms
route add 10.3.0.0/16 nexthop via 10.98.0.1 dev eth1 weight 3 nexthop via 10.99.0.1 dev eth0 weight 200
route add 10.4.0.0/16 encap mpls 100 via 10.98.0.1 dev eth1
route add 10.5.0.0/16 encap ip id 5 dst 10.98.0.9 src 10.98.0.2 dev eth1
route add blackhole 10.6.0.0/16
route add unreachable 10.6.1.0/24 metric 5
route add throw 10.6.3.0/24 table 100
route add 10.7.0.0/16 dev eth1 src 10.98.0.3 metric 50 proto bird
route add 10.8.0.0/16 via 172.16.0.1 dev eth1 onlink table 1000
route add 10.9.0.0/16 nhid 7
route add 10.10.0.0/16 nhid 9
route add 10.11.0.0/16 tos 0x10 via 10.98.0.1
route add 10.11.0.0/16 via 10.98.0.1
route add 10.12.0.0/16 via inet6 fe80::1 dev eth1
route add 10.13.0.0/16 via 10.98.0.1 realm 5
route append 10.14.0.0/16 via 10.98.0.3 dev eth1
route append 10.14.0.0/16 via 10.99.0.5 dev eth0
route append 10.14.0.0/16 via 10.98.0.9 dev eth1
route append 10.19.0.0/16 via 10.98.0.1 dev eth1
route append 10.19.0.0/16 via 10.99.0.1 dev eth0
route add default via 10.98.0.1 dev eth1
route add default via 10.99.0.1 dev eth0 table 100
route add 10.16.0.0/16 via 10.55.0.1 dev eth1 congctl reno
route add 10.17.0.0/16 nexthop via 10.98.0.1 dev eth1 onlink nexthop encap mpls 200 via 10.99.0.1 dev eth0
route add 10.18.0.0/16 via 10.1.2.3 dev eth1 onlink src 10.55.0.7
-6 route add 2001:db8:1::/48 via fd00:98::1 dev eth1
-6 route add 2001:db8:2::/48 via fd00:98::1 dev eth1 mtu lock 1400 metric 77
-6 route add 2001:db8:3::/48 nexthop via fd00:98::1 dev eth1 weight 5 nexthop via fe80::9 dev eth0
-6 route add blackhole 2001:db8:4::/48
-6 route add 2001:db8:6::/48 from 2001:db8:7::/48 via fd00:98::1 dev eth1
-6 route add 2001:db8:8::/48 via fd00:98::1 dev eth1 pref high
-6 route add 2001:db8:9::/48 dev eth1 src fd00:98::2
-6 route add 2001:db8:a::/48 encap seg6 mode encap segs 2001:db8:ff::1 dev eth1
-6 route add 2001:db8:c::/48 nhid 10
-6 route add 2001:db8:d::/48 via fd00:55::1 dev eth1 src fd00:55::7 pref low table 100
-6 route add default via fe80::1 dev eth1 table 100
neigh add 10.98.0.9 lladdr 02:00:00:00:00:09 dev eth1 nud permanent
neigh add 10.98.0.10 lladdr 02:00:00:00:00:0a dev eth1 nud permanent proto bgp
neigh add fd00:98::9 lladdr 02:00:00:00:00:09 dev eth1 nud permanent router
neigh add proxy 10.98.0.77 dev eth1
neigh add proxy fd00:98::77 dev eth1
rule add from 10.98.0.0/16 to 10.77.0.0/16 lookup 100 priority 100
rule add fwmark 0x10/0xff lookup 1000 priority 110
rule add iif eth1 prohibit priority 120
-6 rule add from fd00:55::/64 lookup 100 priority 100`

// limited is what of eth1 has a lifetime and goes with it.
const limited = `
addr add fd00:58::7/64 dev eth1 nodad valid_lft 3000 preferred_lft 2000
-6 route add 2001:db8:b::/48 via fd00:98::1 dev eth1 expires 3000
-6 route add 2001:db8:e::/48 via fd00:98::1 dev eth1 src fd00:58::7`

// busy makes a node that holds what these commands make, and counts what of it the kernel took.
func busy(t *testing.T, holds string) (n *linux.Node, ns string) {
	t.Helper()
	n, ns, _ = peered(t)
	before := everything(t, n)
	for line := range strings.Lines(strings.TrimSpace(holds)) {
		out, err := exec.Command("ip", append([]string{"-n", ns}, strings.Fields(line)...)...).CombinedOutput()
		switch {
		case err == nil:
		case strings.Contains(line, "encap"):
			t.Logf("left out, for this kernel lacks it: %s: %s", strings.TrimSpace(line), out)
		default:
			t.Fatalf("%s: %s", line, out)
		}
	}
	objects := resource.Compare(before, everything(t, n))
	kinds := map[resource.Kind]int{}
	for _, c := range objects {
		kinds[c.Key.Kind()]++
	}
	t.Logf("%d objects beside the kernel's own: %v", len(objects), kinds)
	if len(objects) < 50 {
		t.Errorf("only %d objects", len(objects))
	}
	return n, ns
}

func everything(t *testing.T, n *linux.Node) resource.State {
	t.Helper()
	s, err := n.Read(t.Context(), nodetest.Everything)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lifetime is what a dump says of how long something still lives.
var lifetime = regexp.MustCompile(`\b(expires|valid_lft|preferred_lft) ([0-9]+)sec`)

// dump is all that ip says of a namespace, one sorted line for each object: without
// lifetimes, which it returns by line. It waits until no address is being detected.
func dump(t *testing.T, ns string) (lines []string, lives map[string][]int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); nodetest.IP(t, "-n", ns, "addr", "show", "tentative") != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("duplicate address detection does not end")
		}
	}
	lives = map[string][]int{}
	for _, what := range []string{
		"-4 route show table all", "-6 route show table all", "addr show", "link show", "-4 rule show", "-6 rule show",
		"neigh show nud permanent", "neigh show proxy", "nexthop show",
	} {
		out := nodetest.IP(t, append([]string{"-n", ns, "-d", "-o"}, strings.Fields(what)...)...)
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(line)
			plain := what + ": " + lifetime.ReplaceAllString(line, "$1")
			for _, m := range lifetime.FindAllStringSubmatch(line, -1) {
				left, _ := strconv.Atoi(m[2])
				lives[plain] = append(lives[plain], left)
			}
			lines = append(lines, plain)
		}
	}
	slices.Sort(lines)
	return lines, lives
}

// unchanged compares two dumps, and wants lifetimes to go on from where they were.
func unchanged(t *testing.T, ns string, before []string, lives map[string][]int) {
	t.Helper()
	after, left := dump(t, ns)
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("- %s", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("+ %s", l)
		}
	}
	if !t.Failed() && !slices.Equal(before, after) {
		t.Error("something is there twice, or once no more")
	}
	for line, was := range lives {
		for i, now := range left[line] {
			if now > was[i] || now < was[i]-60 {
				t.Errorf("%d s were left, and now %d s: %s", was[i], now, line)
			}
		}
	}
	t.Logf("%d lines of the dumps are as they were, %d of them with lifetimes", len(after), len(left))
}

// made predicts e on a model of n, has n make it, and wants the two to agree.
func made(t *testing.T, n *linux.Node, e engine.Edit) engine.Edit {
	t.Helper()
	e.Settle = engine.Duration(engine.DefaultSettle)
	if err := sim.Over(n).Predict(t.Context(), &e); err != nil {
		t.Fatalf("predict: %v", err)
	}
	found, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	if d := resource.Compare(e.After, found); len(d) > 0 {
		t.Fatalf("from the prediction to the node:\n%s", d)
	}
	return e
}

// takenBack has n take e back, which made the node another than before.
func takenBack(t *testing.T, n *linux.Node, ns string, e engine.Edit, before []string) {
	t.Helper()
	if now, _ := dump(t, ns); slices.Equal(before, now) {
		t.Error("nothing was changed")
	}
	found, err := n.Apply(t.Context(), e.Reverse())
	if err != nil {
		t.Fatalf("take back: %v", err)
	}
	if d := resource.Compare(e.Before, found); len(d) > 0 {
		t.Errorf("from before to the node:\n%s", d)
	}
}

// TestRestore wants all that ip shows of a busy node to be as it was after what takes it away.
func TestRestore(t *testing.T) {
	t.Run("restart", func(t *testing.T) {
		n, ns := busy(t, mixed+limited)
		before, lives := dump(t, ns)
		e := made(t, n, engine.Edit{Restart: "eth1"})
		t.Logf("lost and put back: %d", len(e.Lost))
		if k := resource.AddrKey("eth1", netip.MustParsePrefix("fd00:58::7/64")); e.Lost[k] == nil {
			t.Errorf("nothing says that %s is lost", k)
		}
		unchanged(t, ns, before, lives)
	})
	t.Run("routes changed and put back", func(t *testing.T) {
		n, ns := busy(t, mixed+limited)
		before, lives := dump(t, ns)
		takenBack(t, n, ns, made(t, n, engine.Edit{Want: changedRoutes(t, n)}), before)
		unchanged(t, ns, before, lives)
	})
	t.Run("link down and up", func(t *testing.T) {
		n, ns := busy(t, mixed)
		before, lives := dump(t, ns)
		takenBack(t, n, ns, made(t, n, engine.Edit{Want: downOf(t, n, "eth1")}), before)
		unchanged(t, ns, before, lives)
	})
	for what, command := range map[string]string{
		"address": "addr add fd00:58::7/64 dev eth1 nodad valid_lft 3000 preferred_lft 2000",
		"route":   "-6 route add 2001:db8:b::/48 via fd00:98::1 dev eth1 expires 3000",
	} {
		t.Run("link with a lifetime of an "+what, func(t *testing.T) { // it could not go on from where it was
			n, ns, _ := peered(t)
			nodetest.IP(t, append([]string{"-n", ns}, strings.Fields(command)...)...)
			err := sim.Over(n).Predict(t.Context(), &engine.Edit{Want: downOf(t, n, "eth1")})
			if !errors.Is(err, engine.ErrUnpredictable) || !strings.Contains(err.Error(), "has a lifetime") {
				t.Errorf("got %v, want that it cannot be predicted", err)
			}
		})
	}
}

// TestLinksThatFollow wants no change of a link foreseen that another link, end2, follows.
func TestLinksThatFollow(t *testing.T) {
	for command, link := range map[string]string{
		"link add end1 type veth peer name end2":            "end1",
		"link add end2 link eth1 type macvlan mode private": "eth1",
	} {
		t.Run(link, func(t *testing.T) {
			n, ns, _ := peered(t)
			if out, err := exec.Command("ip", append([]string{"-n", ns}, strings.Fields(command)...)...).CombinedOutput(); err != nil {
				t.Skipf("this kernel lacks it: %s", out)
			}
			l, _ := resource.Get[resource.Link](everything(t, n), resource.LinkKey(link))
			up, mtu := l, l
			up.Up, up.Carrier, mtu.MTU = !l.Up, !l.Up, 1400
			for _, e := range []engine.Edit{{Want: resource.Of(up)}, {Want: resource.Of(mtu)}} {
				err := sim.Over(n).Predict(t.Context(), &e)
				if !errors.Is(err, engine.ErrUnpredictable) || !strings.Contains(err.Error(), "end2") {
					t.Errorf("got %v, want that it cannot be predicted", err)
				}
			}
		})
	}
}

// changedRoutes adds a route, leads others elsewhere, and deletes some.
func changedRoutes(t *testing.T, n *linux.Node) resource.State {
	t.Helper()
	s, want := everything(t, n), resource.State{}
	key := func(dst string, metric uint32) resource.Key {
		return resource.RouteKey(netip.MustParsePrefix(dst), resource.TableMain, metric)
	}
	elsewhere := func(k resource.Key, via string) resource.Route {
		r, ok := resource.Get[resource.Route](s, k)
		if !ok {
			t.Fatalf("there is no %s", k)
		}
		r.Hops = []resource.Hop{{Via: netip.MustParseAddr(via), Dev: "eth1"}}
		want[r.Key()] = r
		return r
	}
	added := elsewhere(key("10.1.0.0/16", 0), "10.98.0.9")
	added.Dst = netip.MustParsePrefix("10.20.0.0/16")
	want[added.Key()] = added
	elsewhere(key("10.3.0.0/16", 0), "10.98.0.9")         // it had two hops
	elsewhere(key("2001:db8:3::/48", 1024), "fd00:98::9") // it, too
	elsewhere(key("2001:db8:8::/48", 1024), "fd00:98::9") // of high preference
	for _, k := range []resource.Key{key("0.0.0.0/0", 0), key("10.6.1.0/24", 5), key("10.7.0.0/16", 50), key("2001:db8:9::/48", 1024)} {
		if s[k] == nil {
			t.Fatalf("there is no %s", k)
		}
		want[k] = nil
	}
	return want
}

// downOf is the link called name, taken down.
func downOf(t *testing.T, n *linux.Node, name string) resource.State {
	t.Helper()
	l, ok := resource.Get[resource.Link](everything(t, n), resource.LinkKey(name))
	if !ok {
		t.Fatalf("there is no link %s", name)
	}
	l.Up, l.Carrier = false, false
	return resource.Of(l)
}
