package resource

import (
	"net/netip"
	"testing"
)

// Equal must say what Compare does, for resources that differ, lack, are known
// to be absent, or come and go by themselves.
func TestEqualIsCompareWithoutAList(t *testing.T) {
	route := Route{Dst: netip.MustParsePrefix("10.20.0.0/16"), Table: TableMain, Type: Unicast, Proto: ProtoStatic}
	longer := route
	longer.Hops = []Hop{{Dev: "eth1"}}
	volatile := route
	volatile.Proto = ProtoRA
	link := Link{Name: "eth1", MTU: 1500}
	larger := Link{Name: "eth1", MTU: 9000}
	conf := Link{Name: "eth1", MTU: 1500, Conf: LinkConf{NoRA: true}}
	states := []State{
		nil, {}, Of(route), Of(longer), Of(volatile), Of(link), Of(larger), Of(conf), Of(route, link), Of(longer, link),
		{route.Key(): nil}, {route.Key(): nil, link.Key(): link},
	}
	for _, a := range states {
		for _, b := range states {
			if d := Compare(a, b); Equal(a, b) != (len(d) == 0) {
				t.Errorf("Equal(%v, %v) is %v, and they differ in:\n%s", a, b, Equal(a, b), d)
			}
		}
	}
}
