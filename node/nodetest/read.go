package nodetest

import (
	"slices"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// testRead reads the same node through many selectors.
func testRead(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	other := via("10.20.0.0/16", "10.98.0.1", "eth1")
	other.Table, other.Metric = 100, 7
	two := multi("10.30.0.0/16", hop("10.98.0.1", "eth1", 1), hop("10.99.0.1", "eth0", 3))
	apply(t, n, engine.Edit{Want: resource.Of(other, two)})

	route := resource.KindRoute
	for _, c := range []struct {
		name string
		q    resource.Query
		want []resource.Key
	}{
		{"nothing", nil, nil},
		{"no such route", resource.Query{{Kind: route, Dst: prefix("10.77.0.0/16")}}, nil},
		{"an exact destination", resource.Query{{Kind: route, Dst: prefix("10.98.0.0/16")}}, []resource.Key{
			"route 10.98.0.0/16 table 254 metric 0",
		}},
		{"in any table", resource.Query{{Kind: route, Dst: other.Dst}}, []resource.Key{other.Key()}},
		{"in another table", resource.Query{{Kind: route, Dst: other.Dst, Table: resource.TableMain}}, nil},
		{"a table", resource.Query{{Kind: route, Table: 100}}, []resource.Key{other.Key()}},
		{"no such table", resource.Query{{Kind: route, Table: 101}}, nil},
		{"covers", resource.Query{{Kind: route, Covers: addr("10.98.0.2")}}, []resource.Key{
			"route 10.98.0.0/16 table 254 metric 0", "route 10.98.0.2/32 table 255 metric 0",
		}},
		{"covers IPv6", resource.Query{{Kind: route, Covers: addr("fd00:98::2")}}, []resource.Key{
			"route fd00:98::/64 table 254 metric 256", "route fd00:98::2/128 table 255 metric 0 dev eth1",
		}},
		{"one of two hops", resource.Query{{Kind: route, Name: "eth0", Family: 4, Table: resource.TableMain}}, []resource.Key{
			two.Key(), "route 10.99.0.0/16 table 254 metric 0",
		}},
		{"of one identity", resource.Query{{Kind: route, Dst: prefix("fe80::/64")}}, []resource.Key{
			"route fe80::/64 table 254 metric 256 dev eth0", "route fe80::/64 table 254 metric 256 dev eth1",
		}},
		{"the second of one identity", resource.Query{{Kind: route, Dst: prefix("fe80::/64"), Name: "eth1"}}, []resource.Key{
			"route fe80::/64 table 254 metric 256 dev eth1",
		}},
		{"a family", resource.Query{{Kind: route, Family: 6, Table: resource.TableMain}}, []resource.Key{
			"route fd00:98::/64 table 254 metric 256",
			"route fe80::/64 table 254 metric 256 dev eth0", "route fe80::/64 table 254 metric 256 dev eth1",
		}},
		{"a link", resource.Query{{Kind: resource.KindLink, Name: "eth1"}}, []resource.Key{"link eth1"}},
		{"no such link", resource.Query{{Kind: resource.KindLink, Name: "eth9"}}, nil},
		{"links", resource.Query{{Kind: resource.KindLink}}, []resource.Key{"link eth0", "link eth1", "link lo"}},
		{"addresses of a link", resource.Query{{Kind: resource.KindAddr, Name: "eth1"}}, []resource.Key{
			"addr eth1 10.98.0.2/16", "addr eth1 fd00:98::2/64", "addr eth1 fe80::ff:fe00:101/64",
		}},
		{"an address", resource.Query{{Kind: resource.KindAddr, Dst: prefix("10.98.0.2/16")}}, []resource.Key{"addr eth1 10.98.0.2/16"}},
		{"the subnet of an address", resource.Query{{Kind: resource.KindAddr, Covers: addr("fd00:98::77")}}, []resource.Key{"addr eth1 fd00:98::2/64"}},
		{"several at once", resource.Query{
			{Kind: route, Table: 100}, {Kind: resource.KindLink, Name: "lo"}, {Kind: route, Dst: other.Dst},
		}, []resource.Key{"link lo", other.Key()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := read(t, n, c.q)
			slices.Sort(c.want)
			if !slices.Equal(got.Keys(), c.want) {
				t.Errorf("got %q\nwant %q", got.Keys(), c.want)
			}
			for k, r := range got {
				if r == nil || r.Key() != k {
					t.Errorf("%s holds %v", k, r)
				}
			}
		})
	}
}
