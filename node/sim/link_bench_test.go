package sim_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// BenchmarkRestart predicts the restart of a link over which few and many routes
// lead. The ratio is that of the least times: of ten times the routes.
func BenchmarkRestart(b *testing.B) {
	for _, sort := range []string{"one gateway", "a gateway each", "a gateway each, rules"} {
		took := map[int]time.Duration{}
		for _, routes := range []int{500, 5000} {
			b.Run(fmt.Sprintf("%s/%d routes", sort, routes), func(b *testing.B) {
				src := sim.New(manyRoutes(routes, sort != "one gateway", sort == "a gateway each, rules"))
				least := time.Hour
				for b.Loop() {
					e, start := engine.Edit{Restart: "eth1"}, time.Now()
					if err := sim.Over(src).Predict(b.Context(), &e); err != nil {
						b.Fatal(err)
					}
					if least = min(least, time.Since(start)); len(e.Lost) < routes {
						b.Fatalf("%d resources are lost", len(e.Lost))
					}
				}
				took[routes] = least
				b.ReportMetric(float64(least.Microseconds()), "least-us")
				if took[500] > 0 && routes == 5000 {
					b.ReportMetric(float64(took[5000])/float64(took[500]), "times-500")
				}
			})
		}
	}
}

// manyRoutes is a lab's node with routes over eth1, through one gateway or one for each.
func manyRoutes(n int, each, rules bool) resource.State {
	s := sim.LabNode("node-1", 1)
	if rules {
		r := resource.Rule{Family: 4, Priority: 100, Action: resource.RuleLookup, Table: 100}
		s[r.Key()] = r
	}
	for i := range n {
		gw := 2
		if each {
			gw += i + 254
		}
		r := resource.Route{
			Dst:   netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 24),
			Table: resource.TableMain, Type: resource.Unicast, Proto: resource.ProtoStatic,
			Hops: []resource.Hop{{Via: netip.AddrFrom4([4]byte{10, 98, byte(gw >> 8), byte(gw)}), Dev: "eth1"}},
		}
		s[r.Key()] = r
	}
	return s
}
