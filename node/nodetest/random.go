package nodetest

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// Random makes random changes of routes to a node that f makes, one after the
// other, and holds each to what was predicted: the same refusal, or the same
// state of the whole node. The addresses are few, so that routes meet.
func Random(t *testing.T, f Factory) {
	random(t, f, func(rt *rapid.T) resource.State {
		r := randomRoute(rt)
		if rapid.IntRange(0, 4).Draw(rt, "delete") == 0 {
			return gone(r.Key())
		}
		return all(r)
	})
}

// random makes what draw says, again and again.
func random(t *testing.T, f Factory, draw func(*rapid.T) resource.State) {
	n := open(t, f, Usual)
	var counted tally
	rapid.Check(t, func(rt *rapid.T) {
		now := read(t, n, Everything)
		back := resource.Compare(now, Usual.State).After()
		if _, err := n.Apply(t.Context(), engine.Edit{Want: back}); err != nil {
			rt.Fatalf("back to the start: %v", err)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			counted.randomChange(t, rt, n, draw(rt))
		}
	})
	t.Logf("%d made, %d refused, %d not predicted; differences: 0", counted.made, counted.refused, counted.unpredicted)
}

// tally counts what became of random changes.
type tally struct{ made, refused, unpredicted int }

func (c *tally) randomChange(t *testing.T, rt *rapid.T, n engine.Node, want resource.State) {
	m := sim.Over(n)
	e := engine.Edit{Want: want, Settle: engine.Duration(50 * time.Millisecond)} // short, for a failure is retried many times while it is made smaller
	expected := m.Predict(t.Context(), &e)
	if errors.Is(expected, engine.ErrUnpredictable) {
		c.unpredicted++
		return
	}
	_, err := n.Apply(t.Context(), e)
	var p, a *engine.NodeError
	if errors.As(expected, &p) != errors.As(err, &a) || p != nil && *p != *a || p == nil && err != nil {
		rt.Fatalf("%v\npredicted: %v\nthe node:  %v", want, expected, err)
	}
	if c.made++; p != nil {
		c.made--
		c.refused++
	}
	foreseen, err := m.Read(t.Context(), Everything)
	if err != nil {
		rt.Fatal(err)
	}
	if d := resource.Compare(foreseen, read(t, n, Everything)); len(d) > 0 {
		rt.Fatalf("%v\nfrom the model to the node:\n%s", want, d)
	}
}

// The words of a random route, by family. What is there twice is drawn twice as often.
var (
	randomDsts = map[int][]string{
		4: {net4, net4, "10.98.0.1/32", "10.98.0.0/24", "192.0.2.0/24", "0.0.0.0/0", "10.98.0.0/16", "127.0.0.9/32"},
		6: {net6, net6, "fd00:98::1/128", "fd00:98::/96", "2001:db8::/64", "::/0", "fd00:98::/64", "fd00:98::2/128"},
	}
	randomVias = map[int][]string{
		4: {"", "", gw4, gw4, "10.98.0.9", "10.99.0.1", far4, "10.98.0.2", "10.98.255.255", "127.0.0.9", "224.0.0.9"},
		6: {"", "", gw6, gw6, "fd00:98::9", near6, near6, far6, own6, ll0, "::1", "ff02::1"},
	}
	randomSrcs = map[int][]string{
		4: {"", "", "", "", "", "10.98.0.2", "10.99.0.2", "10.98.0.3", "127.0.0.9", far4},
		6: {"", "", "", "", "", own6, ll0, ll1, "::1", far6},
	}
	randomDevs   = []string{"", "", "eth0", "eth1", "eth1", "eth1", "eth9"}
	randomTypes  = []resource.RouteType{1, 1, 1, 1, 1, 1, resource.Blackhole, resource.Unreachable, resource.Prohibit, resource.Throw}
	randomTables = []resource.Table{resource.TableMain, resource.TableMain, resource.TableMain, table100, local, resource.TableDefault}
	randomScopes = []resource.Scope{global, global, site, link, host, nowhere}
)

func randomRoute(rt *rapid.T) resource.Route {
	family := rapid.SampledFrom([]int{4, 6}).Draw(rt, "family")
	r := typed(rapid.SampledFrom(randomTypes).Draw(rt, "type"), rapid.SampledFrom(randomDsts[family]).Draw(rt, "dst"))
	r.Table = rapid.SampledFrom(randomTables).Draw(rt, "table")
	if rapid.IntRange(0, 3).Draw(rt, "other metric") == 0 {
		r.Metric = 256
	}
	hops := rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(rt, "hops")
	if r.Type != resource.Unicast && rapid.IntRange(0, 4).Draw(rt, "with hops") > 0 {
		hops = 0
	}
	for range hops {
		h := hop("", rapid.SampledFrom(randomDevs).Draw(rt, "dev"), 0)
		if via := rapid.SampledFrom(randomVias[family]).Draw(rt, "via"); via != "" {
			h.Via = addr(via)
		}
		if hops > 1 {
			h.Weight = rapid.SampledFrom([]int{1, 2, 256}).Draw(rt, "weight")
		}
		h.Onlink = rapid.IntRange(0, 4).Draw(rt, "onlink") == 0
		r.Hops = append(r.Hops, h)
	}
	r.Scope = resource.DefaultScope(r)
	if rapid.IntRange(0, 3).Draw(rt, "other scope") == 0 {
		r.Scope = rapid.SampledFrom(randomScopes).Draw(rt, "scope")
	}
	if a := rapid.SampledFrom(randomSrcs[family]).Draw(rt, "src"); a != "" {
		r.PrefSrc = addr(a)
	}
	return r
}
