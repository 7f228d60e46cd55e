package nodetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// RandomAddrs makes random changes of addresses, with routes between them, to
// nodes that f makes, holds each to what was predicted, and takes some back. It
// returns how many were made, and how many of these the kernel refused, the model does not cover, or were taken back.
func RandomAddrs(t *testing.T, f Factory) (made, refusals, unpredicted, undone int) {
	for _, s := range []Start{Usual, Promoting, Eth1Down, NoIPv6, routing} {
		n := open(t, f, s)
		start := read(t, n, Everything)
		rapid.Check(t, func(rt *rapid.T) {
			back := resource.Compare(read(t, n, Everything), start).After()
			if _, err := n.Apply(t.Context(), engine.Edit{Want: back, After: start, Query: Everything, Settle: engine.Duration(time.Second)}); err != nil {
				rt.Fatalf("back to the start: %v", err)
			}
			for range rapid.IntRange(1, 16).Draw(rt, "changes") {
				a := randomAddr(rt)
				want := resource.Of(a)
				if rapid.IntRange(0, 4).Draw(rt, "delete") < 2 {
					want = gone(a.Key())
				}
				if rapid.IntRange(0, 3).Draw(rt, "a route") == 0 {
					r := randomRoute(rt)
					want = resource.Of(r)
				}
				made++
				switch randomEdit(t, rt, n, want) {
				case editRefused:
					refusals++
				case editUnpredicted:
					unpredicted++
				case editUndone:
					undone++
				}
			}
		})
	}
	return made, refusals, unpredicted, undone
}

// routing is Usual with eth1 routing IPv6: an address then brings one of the subnet's routers, too. eth1 does so before it has
// addresses: an address of which a busy kernel has not finished the beginning would bring that twice, and take it away once.
var routing = Start{
	Name:     "routing",
	State:    usualState(),
	commands: slices.Insert(slices.Clone(Usual.commands), 3, "netns exec NODE sysctl -q -w net.ipv6.conf.eth1.forwarding=1"),
}

// What became of a random edit.
const (
	editMade = iota
	editRefused
	editUnpredicted
	editUndone
)

// randomEdit predicts want, makes it, and compares; of the edits that changed something
// it takes one in three back.
func randomEdit(t *testing.T, rt *rapid.T, n engine.Node, want resource.State) int {
	m := sim.Over(n)
	before := read(t, n, Everything)
	e := engine.Edit{Want: want}
	expected := m.Predict(t.Context(), &e)
	e.Settle = engine.Duration(2 * time.Second) // a busy kernel makes the route to an IPv6 address late
	if errors.Is(expected, engine.ErrUnpredictable) {
		return editUnpredicted
	}
	_, err := n.Apply(t.Context(), e)
	var p, a *engine.NodeError
	if errors.As(expected, &p) != errors.As(err, &a) || p != nil && *p != *a || p == nil && err != nil {
		rt.Fatalf("%v\npredicted: %v\nthe node:  %v\non:\n%s", want, expected, err, resource.Compare(nil, before))
	}
	foreseen, err := m.Read(t.Context(), Everything)
	if err != nil {
		rt.Fatal(err)
	}
	sameNode(t, rt, want, "from the model to the node", foreseen, read(t, n, Everything))
	switch {
	case p != nil:
		return editRefused
	case len(e.Diff()) == 0 || rapid.IntRange(0, 2).Draw(rt, "take back") > 0:
		return editMade
	}
	if _, err := n.Apply(t.Context(), e.Reverse()); err != nil {
		rt.Fatalf("%v\ntake back: %v\nfrom:\n%s", want, err, e.Diff())
	}
	sameNode(t, rt, want, "from before to after taking back", before, read(t, n, Everything))
	return editUndone
}

// sameNode wants two states to be equal, the order of addresses included.
func sameNode(t *testing.T, rt *rapid.T, want resource.State, what string, expected, got resource.State) {
	t.Helper()
	if d := resource.Compare(expected, got); len(d) > 0 {
		rt.Fatalf("%v\n%s:\n%s", want, what, d)
	}
	for _, a := range resource.All[resource.Addr](expected) {
		if b, _ := resource.Get[resource.Addr](got, a.Key()); a.Place != b.Place && a.Place != 0 {
			rt.Fatalf("%v\n%s: the place of %s: %d, %d", want, what, a, a.Place, b.Place)
		}
	}
}

// The words of a random address.
var (
	randomAddrs = []string{
		"10.98.0.2/16", "10.98.0.3/16", "10.98.0.4/16", "10.98.0.3/24", "10.98.0.2/24", "10.98.0.2/32", "10.98.0.9/31", "10.98.255.255/16",
		"192.0.2.1/24", "192.0.2.2/24", "192.0.2.1/32", "10.99.0.2/16", "10.99.0.3/16", "127.0.0.9/8", "10.98.0.0/16", "192.0.2.255/25",
		"fd00:98::2/64", "fd00:98::3/64", "fd00:98::3/128", "fd00:98::4/96", "fd00:98::/64", "2001:db8::1/64", "2001:db8::2/64",
		"fe80::9/64", "fe80::ff:fe00:101/64", "fe80::a/128", "::1/128", "ff02::9/128", "fec0::1/64",
	}
	randomPeers = []string{"", "", "", "", "", "10.98.0.7", "192.0.2.9", "10.98.0.2", "fd00:98::7", "2001:db8::9"}
)

// randomAddr is an address. There are few, so that they meet.
func randomAddr(rt *rapid.T) resource.Addr {
	a := resource.Addr{
		Dev:       rapid.SampledFrom([]string{"eth0", "eth1", "eth1", "eth1", "lo", "eth9"}).Draw(rt, "dev"),
		Prefix:    prefix(rapid.SampledFrom(randomAddrs).Draw(rt, "prefix")),
		Permanent: true,
	}
	four := a.Prefix.Addr().Is4()
	if p := rapid.SampledFrom(randomPeers).Draw(rt, "peer"); p != "" && addr(p).Is4() == four && addr(p) != a.Prefix.Addr() {
		a.Peer = prefixOf(p, a.Prefix.Bits())
	}
	if rapid.IntRange(0, 4).Draw(rt, "other metric") == 0 {
		a.Metric = rapid.SampledFrom([]uint32{5, 256, 300}).Draw(rt, "metric")
	}
	a.NoPrefixRoute = rapid.IntRange(0, 5).Draw(rt, "noprefixroute") == 0
	if four {
		if b := rapid.SampledFrom([]string{"", "", "10.98.255.255", "192.0.2.255", "10.98.0.3", "255.255.255.255"}).Draw(rt, "broadcast"); b != "" {
			a.Broadcast = addr(b)
		}
		a.Scope = rapid.SampledFrom([]resource.Scope{global, global, global, global, link, host}).Draw(rt, "scope")
		if rapid.IntRange(0, 5).Draw(rt, "label") == 0 {
			a.Label = a.Dev + ":1"
		}
	} else {
		a.Flags = nodad
	}
	return a
}
