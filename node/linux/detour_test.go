//go:build linux

package linux_test

import (
	"net/netip"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/nodetest"
)

// What a change took along, or away, is put back also where the kernel would not make it anew, because
// the route by which its gateway was found has gone since. Packets still go through the gateway.
func TestDetour(t *testing.T) {
	n, ns, _ := peered(t)
	for line := range strings.Lines(`
route add 10.1.0.0/16 via 10.98.0.1 dev eth1
route add 10.2.0.0/16 via 10.98.0.1 dev eth1 table 100
route add 10.3.0.0/16 nexthop via 10.98.0.1 dev eth1 nexthop via 10.98.0.9 dev eth1
route add 10.98.0.1/32 via 10.98.0.1 dev eth1
nexthop add id 7 via 10.98.0.9 dev eth1
route add 10.4.0.0/16 nhid 7
-6 route add 2001:db8:1::/48 via fd00:98::1 dev eth1
route del 10.98.0.0/16 dev eth1
route add prohibit 10.98.0.0/16 scope link
-6 route del fd00:98::/64 dev eth1`[1:]) {
		nodetest.IP(t, append([]string{"-n", ns}, strings.Fields(line)...)...)
	}
	before, lives := dump(t, ns)
	ways := func() string {
		var out strings.Builder
		for _, dst := range []string{"10.1.0.1", "10.3.0.1", "10.4.0.1", "2001:db8:1::1"} {
			out.WriteString(nodetest.IP(t, "-n", ns, "route", "get", dst))
		}
		return out.String()
	}
	was := ways()
	if strings.Count(was, " via ") != 4 {
		t.Fatalf("not through gateways:\n%s", was)
	}
	made(t, n, engine.Edit{Restart: "eth1"})
	unchanged(t, ns, before, lives)
	for _, dst := range []string{"10.1.0.0/16", "2001:db8:1::/48"} {
		r := resource.Route{Dst: netip.MustParsePrefix(dst), Table: resource.TableMain}
		r.Metric = resource.DefaultMetric(r.Dst)
		e := made(t, n, engine.Edit{Want: resource.State{r.Key(): nil}})
		back, left := e.TakeBack(nil, e.After)
		if len(left) > 0 || len(e.Diff()) != 1 {
			t.Fatalf("%s\nleft alone: %s", e.Diff(), left)
		}
		if _, err := n.Apply(t.Context(), back); err != nil {
			t.Fatalf("take back %s: %v", dst, err)
		}
		unchanged(t, ns, before, lives)
	}
	if now := ways(); now != was {
		t.Errorf("packets went\n%s\nand now go\n%s", was, now)
	}
}
