//go:build linux

package linux_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/linux"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

// many is what TestAddressesAreTakenBack puts on a node: addresses of many sorts, and routes that go with them.
const many = `
	addr add 10.98.0.3/16 dev eth1 label eth1:1
	addr add 10.98.0.4/16 dev eth1 noprefixroute
	addr add 10.98.0.3/24 dev eth1 metric 7
	addr add 192.0.2.1/24 brd 192.0.2.99 dev eth1
	addr add 192.0.2.2/24 dev eth1
	addr add 198.51.100.1/32 peer 198.51.100.9 dev eth1
	addr add 203.0.113.1/24 scope link dev eth1
	addr add 10.98.0.5/16 dev eth0
	addr add 192.0.2.1/32 dev lo
	addr add 2001:db8::1/64 dev eth1 nodad
	addr add 2001:db8::2/64 dev eth1 nodad
	addr add 2001:db8::3/128 dev eth1 nodad
	addr add 2001:db8:1::1/64 dev eth1 nodad metric 7
	addr add 2001:db8:2::1/64 dev eth1 nodad noprefixroute
	addr add 2001:db8:3::1 peer 2001:db8:3::9/64 dev eth1 nodad
	addr add fe80::9/64 dev eth1 nodad
	addr add 2001:db8::1/64 dev eth0 nodad
	route add 10.20.0.0/16 via 10.98.0.1 src 10.98.0.3
	route add 10.21.0.0/16 via 10.98.0.1 mtu lock 1400 src 192.0.2.2
	route add 10.22.0.0/16 via 192.0.2.9 dev eth1 table 100 src 192.0.2.2
	route add 10.23.0.0/16 via 10.99.0.1 dev eth0 src 10.98.0.3
	route add blackhole 10.24.0.0/16 src 192.0.2.2
	route add 10.25.0.0/16 nexthop via 10.98.0.1 weight 2 nexthop via 10.98.0.9
	-6 route add 2001:db8:20::/64 via 2001:db8::9 dev eth1 src 2001:db8::2
	-6 route add 2001:db8:21::/64 via fe80::1 dev eth1 src 2001:db8::2 table 100
	-6 route add 2001:db8::/64 dev eth1 metric 5
	neigh add 10.98.0.77 lladdr 02:00:00:00:00:77 dev eth1 nud permanent`

// dumps are what ip says of the namespace: addresses in their order, routes sorted.
func dumps(t *testing.T, ns string) string {
	var out strings.Builder
	out.WriteString(nodetest.IP(t, "-n", ns, "-d", "-o", "addr"))
	for _, family := range []string{"-4", "-6"} {
		lines := strings.Split(nodetest.IP(t, "-n", ns, family, "-d", "route", "show", "table", "all"), "\n")
		slices.Sort(lines)
		out.WriteString(strings.Join(lines, "\n"))
	}
	out.WriteString(nodetest.IP(t, "-n", ns, "neigh", "show", "nud", "permanent"))
	return out.String()
}

// TestAddressesAreTakenBack deletes each address of a node with many, and puts
// it back: the dumps of ip are as they were, with the order of the addresses.
func TestAddressesAreTakenBack(t *testing.T) {
	for _, start := range []nodetest.Start{nodetest.Usual, nodetest.Promoting} {
		t.Run(start.Name, func(t *testing.T) { takeBackAll(t, start) })
	}
}

func takeBackAll(t *testing.T, start nodetest.Start) {
	ns := start.Namespace(t)
	for _, line := range strings.Split(strings.TrimSpace(many), "\n") {
		nodetest.IP(t, append([]string{"-n", ns}, strings.Fields(line)...)...)
	}
	n, err := linux.OpenAt("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	time.Sleep(50 * time.Millisecond) // the routes to IPv6 addresses come a moment later
	before := dumps(t, ns)
	state, err := n.Read(t.Context(), resource.Query{{Kind: resource.KindAddr}})
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, k := range state.Keys() {
		e := engine.Edit{Want: resource.State{k: nil}, Settle: engine.Duration(engine.DefaultSettle)}
		err := sim.Over(n).Predict(t.Context(), &e)
		if errors.Is(err, engine.ErrUnpredictable) {
			t.Logf("%s: %v", k, err)
			continue
		}
		if err != nil {
			t.Fatal(k, err)
		}
		found, err := n.Apply(t.Context(), e)
		if err != nil {
			t.Fatal(k, err)
		}
		if d := resource.Compare(e.After, found); len(d) > 0 {
			t.Fatalf("%s: from the prediction to the node:\n%s", k, d)
		}
		found, err = n.Apply(t.Context(), e.Reverse())
		if err != nil {
			t.Fatal(k, err)
		}
		if d := resource.Compare(e.Before, found); len(d) > 0 {
			t.Errorf("%s: from before to after taking back:\n%s", k, d)
		}
		if after := dumps(t, ns); after != before {
			t.Fatalf("%s: before:\n%s\nafter:\n%s", k, before, after)
		}
		done++
	}
	if done < 20 {
		t.Errorf("only %d addresses of %d were deleted", done, len(state))
	}
	t.Logf("%d of %d addresses deleted and taken back", done, len(state))
}
