package nodetest

import (
	"testing"

	"pgregory.net/rapid"

	"runbook/engine/resource"
)

// RandomPolicy is [Random] for rules and neighbours, and for routes among them:
// up to three at once, for a rule may decide whether a route can be made.
func RandomPolicy(t *testing.T, f Factory) {
	random(t, f, func(rt *rapid.T) resource.State {
		want := resource.State{}
		for range rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(rt, "at once") {
			var r resource.Resource
			switch rapid.SampledFrom([]resource.Kind{resource.KindRule, resource.KindRule, resource.KindNeigh, resource.KindRoute}).Draw(rt, "kind") {
			case resource.KindRule:
				r = randomRule(rt)
			case resource.KindNeigh:
				r = randomNeigh(rt)
			default:
				r = randomRoute(rt)
			}
			if want[r.Key()] = r; rapid.IntRange(0, 2).Draw(rt, "delete") == 0 {
				want[r.Key()] = nil
			}
		}
		return want
	})
}

// The words of random rules and neighbours. What is drawn most often is there more often.
var (
	randomPrefixes = map[int][]string{
		4: {"10.1.0.0/16", "10.98.0.0/16", "10.98.0.1/32", "0.0.0.0/8", "192.0.2.0/24"},
		6: {"fd01::/16", "fd00:98::/64", "fd00:98::1/128", "2001:db8::/32"},
	}
	randomPriorities = []uint32{0, 99, 100, 100, 100, 200, 32766, 32767, 1<<32 - 1}
	randomActions    = []resource.RuleAction{1, 1, 1, 1, resource.RuleGoto, resource.RuleGoto, resource.RuleNop,
		resource.RuleBlackhole, resource.RuleUnreachable, resource.RuleProhibit}
	randomRuleTables = []resource.Table{table100, table100, resource.TableMain, local, table70000, resource.TableDefault, 0}
	randomOptions    = []func(*resource.Rule){
		not, iif("eth1"), iif("lo"), iif("eth9"), oif("eth1"), oif("eth0"), mark(1, 1), mark(0, 7), mark(8, 7), tos(4), tos(5), tos(0x20), l3mdev,
		uids(0, 5), uids(1, 5), uids(5, 1), ipproto(6), sports(1, 5), sports(5, 1), dports(80, 80), dports(0, 80), suppress(0), suppress(16), suppress(32),
		made(0), made(2), made(186), func(r *resource.Rule) { r.Goto = 200 },
	}
)

// randomRule is a rule at one of the first places of its priority: where there
// are fewer, it goes behind them.
func randomRule(rt *rapid.T) resource.Rule {
	family := rapid.SampledFrom([]int{4, 6}).Draw(rt, "family")
	r := rule(family, rapid.SampledFrom(randomPriorities).Draw(rt, "priority"))
	r.Nth = rapid.IntRange(0, 3).Draw(rt, "place")
	r.Table = rapid.SampledFrom(randomRuleTables).Draw(rt, "table")
	if r.Action = rapid.SampledFrom(randomActions).Draw(rt, "action"); r.Action != resource.RuleLookup {
		r.Table = 0
	}
	if r.Action == resource.RuleGoto {
		r.Goto = rapid.SampledFrom(randomPriorities).Draw(rt, "goto")
	}
	for _, set := range []func(*resource.Rule){
		from(rapid.SampledFrom(randomPrefixes[family]).Draw(rt, "src")), to(rapid.SampledFrom(randomPrefixes[family]).Draw(rt, "dst")),
	} {
		if rapid.IntRange(0, 2).Draw(rt, "with prefix") == 0 {
			set(&r)
		}
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 1, 2}).Draw(rt, "options") {
		randomOptions[rapid.IntRange(0, len(randomOptions)-1).Draw(rt, "option")](&r)
	}
	return r
}

func randomNeigh(rt *rapid.T) resource.Neigh {
	addrs := []string{gw4, gw4, far4, "10.98.0.2", "224.0.0.9", "10.98.255.255", "127.0.0.9", gw6, gw6, far6, own6, ll0, "ff02::99", "::1"}
	n := resource.Neigh{Addr: addr(rapid.SampledFrom(addrs).Draw(rt, "addr")), Dev: rapid.SampledFrom([]string{"eth1", "eth1", "eth0", "eth9", "lo"}).Draw(rt, "dev")}
	switch rapid.IntRange(0, 4).Draw(rt, "sort") {
	case 0:
		n.Proxy = true
	case 1:
		n.Managed = true
	default:
		n.Permanent, n.MAC = true, rapid.SampledFrom([]string{mac1, mac2, "01:00:5e:00:00:09", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"}).Draw(rt, "MAC")
	}
	n.Router = rapid.IntRange(0, 4).Draw(rt, "router") == 0
	n.External = rapid.IntRange(0, 4).Draw(rt, "external") == 0
	n.Proto = rapid.SampledFrom([]resource.Proto{0, 0, resource.ProtoStatic, 186}).Draw(rt, "proto")
	return n
}
