package nodetest

import "runbook/engine/resource"

// rule is a rule of a priority that looks into table 100.
func rule(family int, priority uint32, with ...func(*resource.Rule)) resource.Rule {
	r := resource.Rule{Family: family, Priority: priority, Action: resource.RuleLookup, Table: table100, Proto: resource.ProtoStatic}
	for _, f := range with {
		f(&r)
	}
	return r
}

// What a rule can have besides.

func from(p string) func(*resource.Rule)   { return func(r *resource.Rule) { r.Src = prefix(p) } }
func to(p string) func(*resource.Rule)     { return func(r *resource.Rule) { r.Dst = prefix(p) } }
func iif(name string) func(*resource.Rule) { return func(r *resource.Rule) { r.IIF = name } }
func oif(name string) func(*resource.Rule) { return func(r *resource.Rule) { r.OIF = name } }
func mark(v, mask uint32) func(*resource.Rule) {
	return func(r *resource.Rule) { r.Mark, r.Mask = v, mask }
}
func tos(v uint8) func(*resource.Rule) { return func(r *resource.Rule) { r.TOS = v } }
func not(r *resource.Rule)             { r.Not = true }
func l3mdev(r *resource.Rule)          { r.L3MDev, r.Table = true, 0 }
func uids(a, b uint32) func(*resource.Rule) {
	return func(r *resource.Rule) { r.UIDs = &resource.Range{First: a, Last: b} }
}
func ipproto(v uint8) func(*resource.Rule) { return func(r *resource.Rule) { r.IPProto = v } }
func sports(a, b uint32) func(*resource.Rule) {
	return func(r *resource.Rule) { r.SPorts = &resource.Range{First: a, Last: b} }
}
func dports(a, b uint32) func(*resource.Rule) {
	return func(r *resource.Rule) { r.DPorts = &resource.Range{First: a, Last: b} }
}
func suppress(n uint32) func(*resource.Rule)       { return func(r *resource.Rule) { r.Suppress = &n } }
func lookup(t resource.Table) func(*resource.Rule) { return func(r *resource.Rule) { r.Table = t } }
func made(by resource.Proto) func(*resource.Rule)  { return func(r *resource.Rule) { r.Proto = by } }
func nth(i int) func(*resource.Rule)               { return func(r *resource.Rule) { r.Nth = i } }
func jump(priority uint32) func(*resource.Rule) {
	return func(r *resource.Rule) { r.Action, r.Table, r.Goto = resource.RuleGoto, 0, priority }
}
func act(a resource.RuleAction) func(*resource.Rule) {
	return func(r *resource.Rule) { r.Action, r.Table = a, 0 }
}

func all(rs ...resource.Resource) resource.State { return resource.Of(rs...) }

// each is a state for each of rs.
func each(rs ...resource.Resource) []resource.State {
	var out []resource.State
	for _, r := range rs {
		out = append(out, all(r))
	}
	return out
}

// gone is a state without these.
func gone(keys ...resource.Key) resource.State {
	s := resource.State{}
	for _, k := range keys {
		s[k] = nil
	}
	return s
}

// and is the union of states.
func and(ss ...resource.State) resource.State {
	out := resource.State{}
	for _, s := range ss {
		for k, r := range s {
			out[k] = r
		}
	}
	return out
}

func ruleKey(family int, priority uint32, nth int) resource.Key {
	return resource.RuleKey(family, priority, nth)
}

var (
	ten   = from("10.1.0.0/16")
	fd    = from("fd01::/16")
	ruleA = rule(4, 100, ten)
	ruleB = rule(4, 100, from("10.2.0.0/16"))
	ruleC = rule(4, 100, from("10.3.0.0/16"))
)

// at is r in another place of its priority.
func at(r resource.Rule, i int) resource.Rule { r.Nth = i; return r }

var casesRule = []editCase{
	{name: "add from", want: all(ruleA)},
	{name: "add all", want: all(rule(4, 100))},
	{name: "add to", want: all(rule(4, 100, to("10.1.0.0/16")))},
	{name: "add host bits", want: all(rule(4, 100, from("10.1.2.3/16")))},
	{name: "add not", want: all(rule(4, 100, ten, not))},
	{name: "add iif", want: all(rule(4, 100, iif("eth1")))},
	{name: "add iif of a link that is not there", want: all(rule(4, 100, iif("eth9")))},
	{name: "add oif", want: all(rule(4, 100, oif("eth1")))},
	{name: "add oif of a link that is not there", want: all(rule(4, 100, oif("eth9")))},
	{name: "add mark", want: all(rule(4, 100, mark(5, 1<<32-1)))},
	{name: "add mark and mask", want: all(rule(4, 100, mark(0x10, 0xff)))},
	{name: "add no mark and mask", want: all(rule(4, 100, mark(0, 0xff)))},
	{name: "add mark without mask", want: all(rule(4, 100, mark(5, 0)))},
	{name: "add tos", want: all(rule(4, 100, tos(0x1c)))},
	{name: "add l3mdev", want: all(rule(4, 100, l3mdev))},
	{name: "add users", want: all(rule(4, 100, uids(0, 1000)))},
	{name: "add root", want: all(rule(4, 100, uids(0, 0)))},
	{name: "add ipproto", want: all(rule(4, 100, ipproto(6)))},
	{name: "add ports", want: all(rule(4, 100, ipproto(17), sports(10, 10), dports(20, 30)))},
	{name: "add suppress", want: all(rule(4, 100, lookup(resource.TableMain), suppress(0)))},
	{name: "add a large table", want: all(rule(4, 100, lookup(table70000)))},
	{name: "add goto", want: all(rule(4, 100, jump(32766)))},
	{name: "add goto nowhere", want: all(rule(4, 100, jump(200)))},
	{name: "add nop", want: all(rule(4, 100, act(resource.RuleNop)))},
	{name: "add blackhole", want: all(rule(4, 100, act(resource.RuleBlackhole)))},
	{name: "add unreachable", want: all(rule(4, 100, act(resource.RuleUnreachable)))},
	{name: "add prohibit", want: all(rule(4, 100, act(resource.RuleProhibit)))},
	{name: "add made by nobody", want: all(rule(4, 100, ten, made(0)))},
	{name: "add made by bgp", want: all(rule(4, 100, ten, made(186)))},
	{name: "add first of all", want: all(rule(4, 0, ten, nth(1)))},
	{name: "add last of all", want: all(rule(4, 1<<32-1))},
	{name: "add beside another priority", given: each(ruleA), want: all(rule(4, 99, ten))},
	{name: "add behind", given: each(ruleA), want: all(at(ruleB, 1))},
	{name: "add behind two", given: each(ruleA, at(ruleB, 1)), want: all(at(ruleC, 2))},
	{name: "add behind, place left out", given: each(ruleA), want: all(at(ruleB, 7)), then: and(all(at(ruleB, 1)), gone(ruleKey(4, 100, 7)))},
	{name: "add two at once", want: all(ruleA, at(ruleB, 1))},
	{name: "add what only differs in who made it", given: each(ruleA), want: all(at(rule(4, 100, ten, made(186)), 1))},
	{name: "add wider behind a link", given: each(rule(4, 100, ten, iif("eth1"))), want: all(at(ruleA, 1))},
	{name: "change", given: each(ruleA), want: all(ruleB)},
	{name: "change the first of two", given: each(ruleA, at(ruleB, 1)), want: all(ruleC)},
	{name: "change to not", given: each(ruleA), want: all(rule(4, 100, ten, not))},
	{name: "change the order", given: each(ruleA, at(ruleB, 1), at(ruleC, 2)), want: all(ruleC, at(ruleA, 1), at(ruleB, 2))},
	{name: "change nothing", given: each(ruleA), want: all(ruleA)},
	{name: "delete", given: each(ruleA), want: gone(ruleKey(4, 100, 0))},
	{name: "delete what is not there", want: gone(ruleKey(4, 100, 0))},
	{name: "delete the last of two", given: each(ruleA, at(ruleB, 1)), want: gone(ruleKey(4, 100, 1))},
	{name: "delete the first of two", given: each(ruleA, at(ruleB, 1)), want: and(all(ruleB), gone(ruleKey(4, 100, 1)))},
	{name: "delete the first of two, the other moves", given: each(ruleA, at(ruleB, 1)),
		want: gone(ruleKey(4, 100, 0)), then: and(all(ruleB), gone(ruleKey(4, 100, 1)))},
	{name: "delete two of three", given: each(ruleA, at(ruleB, 1), at(ruleC, 2)),
		want: gone(ruleKey(4, 100, 0), ruleKey(4, 100, 1)), then: and(all(ruleC), gone(ruleKey(4, 100, 1), ruleKey(4, 100, 2)))},
	{name: "delete the wider behind what it names too", given: each(rule(4, 100, ten, iif("eth1")), at(ruleA, 1)),
		want: gone(ruleKey(4, 100, 1))},
	{name: "delete not behind its opposite", given: each(rule(4, 100, ten, jump(200)), at(rule(4, 100, ten, mark(1, 1), jump(300), not), 1)),
		want: gone(ruleKey(4, 100, 1))},
	{name: "delete a target", given: each(rule(4, 100, jump(200)), rule(4, 200)), want: gone(ruleKey(4, 200, 0))},
	{name: "delete local", want: gone(ruleKey(4, 0, 0)), cutsLoopback: true},
	{name: "delete main", want: gone(ruleKey(4, 32766, 0))},
	{name: "delete default", want: gone(ruleKey(4, 32767, 0))},
	{name: "delete all", want: gone(ruleKey(4, 0, 0), ruleKey(4, 32766, 0), ruleKey(4, 32767, 0)), cutsLoopback: true},
	{name: "IPv6 add from", want: all(rule(6, 100, fd))},
	{name: "IPv6 add to and not", want: all(rule(6, 100, to("fd01::/16"), not))},
	{name: "IPv6 add all", want: all(rule(6, 100))},
	{name: "IPv6 add tos", want: all(rule(6, 100, tos(0xfc)))},
	{name: "IPv6 add prohibit", want: all(rule(6, 100, fd, act(resource.RuleProhibit)))},
	{name: "IPv6 add goto", want: all(rule(6, 100, jump(32766)))},
	{name: "IPv6 add suppress", want: all(rule(6, 100, lookup(resource.TableMain), suppress(0)))},
	{name: "IPv6 add l3mdev", want: all(rule(6, 100, l3mdev))},
	{name: "IPv6 add ports", want: all(rule(6, 100, ipproto(6), dports(443, 443)))},
	{name: "IPv6 add beside IPv4", given: each(ruleA), want: all(rule(6, 100, fd))},
	{name: "IPv6 delete the first of two", given: each(rule(6, 100, fd), rule(6, 100, nth(1), from("fd02::/16"))),
		want: gone(ruleKey(6, 100, 0)), then: and(all(rule(6, 100, from("fd02::/16"))), gone(ruleKey(6, 100, 1)))},
	{name: "IPv6 delete main", want: gone(ruleKey(6, 32766, 0))},
	{name: "of both families", want: all(ruleA, rule(6, 100, fd))},
}

var refusedRule = []editCase{
	{name: "twice", given: each(ruleA), want: all(at(ruleA, 1)), errno: "EEXIST", words: "file exists"},
	{name: "twice, but for not", given: each(ruleA), want: all(at(rule(4, 100, ten, not), 1)), errno: "EEXIST", words: "file exists"},
	{name: "twice, but for the target", given: each(rule(4, 100, jump(200))), want: all(at(rule(4, 100, jump(300)), 1)), errno: "EEXIST", words: "file exists"},
	{name: "wider", given: each(ruleA), want: all(at(rule(4, 100), 1)), errno: "EEXIST", words: "file exists"},
	{name: "without the tos", given: each(rule(4, 100, tos(4))), want: all(at(rule(4, 100), 1)), errno: "EEXIST", words: "file exists"},
	{name: "IPv6 wider", given: each(rule(6, 100, fd)), want: all(at(rule(6, 100), 1)), errno: "EEXIST", words: "file exists"},
	{name: "goto back", want: all(rule(4, 100, jump(50))), errno: "EINVAL", words: "Backward goto not supported"},
	{name: "goto itself", want: all(rule(4, 100, jump(100))), errno: "EINVAL", words: "Backward goto not supported"},
	{name: "a target without goto", want: all(rule(4, 100, func(r *resource.Rule) { r.Goto = 200 })), errno: "EINVAL", words: "Unexpected goto"},
	{name: "l3mdev and table", want: all(rule(4, 100, func(r *resource.Rule) { r.L3MDev = true })), errno: "EINVAL", words: "l3mdev and table are mutually exclusive"},
	{name: "no users", want: all(rule(4, 100, uids(6, 5))), errno: "EINVAL", words: "Invalid uid range"},
	{name: "source port 0", want: all(rule(4, 100, sports(0, 5))), errno: "EINVAL", words: "Invalid sport range"},
	{name: "no destination ports", want: all(rule(4, 100, dports(6, 5))), errno: "EINVAL", words: "Invalid dport range"},
	{name: "ECN", want: all(rule(4, 100, tos(5))), errno: "EINVAL", words: "Invalid dsfield (tos): ECN bits must be 0"},
	{name: "a high tos", want: all(rule(4, 100, tos(0xfc))), errno: "EINVAL", words: "Invalid tos"},
	{name: "ECN and goto back", want: all(rule(4, 100, tos(5), jump(50))), errno: "EINVAL", words: "Backward goto not supported"},
	{name: "IPv6 ECN", want: all(rule(6, 100, tos(3))), errno: "EINVAL", words: "Invalid dsfield (tos): ECN bits must be 0"},
	{name: "IPv6 no table", want: all(rule(6, 100, lookup(0))), errno: "EINVAL", words: "Invalid table"},
	{name: "the second of two", want: all(ruleA, at(ruleA, 1)), errno: "EEXIST", words: "file exists"},
	{name: "after a change of the first", given: each(ruleA), want: all(ruleB, at(rule(4, 100, tos(5)), 1)), errno: "EINVAL", words: "Invalid dsfield (tos): ECN bits must be 0"},
	{name: "beside a rule that is made", want: all(rule(4, 100, ten), rule(6, 100, lookup(0))), errno: "EINVAL", words: "Invalid table"},
	{name: "beside a deleted rule and a route", given: each(ruleA, at(ruleB, 1)),
		want: and(gone(ruleKey(4, 100, 0)), all(ruleB, via(net4, far4, "eth1"))), errno: "EEXIST", words: "file exists"},
}

// casesByRule are routes whose gateways are found, or not, by the rules of the node.
var casesByRule = []editCase{
	{name: "through a table", given: each(inTable(dev("192.0.2.0/24", "eth1"), table100), rule(4, 100)),
		want: all(via(net4, far4, "eth1"))},
	{name: "through a table, link not given", given: each(inTable(dev("192.0.2.0/24", "eth1"), table100), rule(4, 100, to("192.0.2.0/24"))),
		want: all(via(net4, far4, "")), then: all(via(net4, far4, "eth1"))},
	{name: "through a table for the link", given: each(inTable(dev("192.0.2.0/24", "eth1"), table100), rule(4, 100, oif("eth1"))),
		want: all(via(net4, far4, "eth1"))},
	{name: "through a table for lo", given: each(inTable(dev("192.0.2.0/24", "eth1"), table100), rule(4, 100, iif("lo"))),
		want: all(via(net4, far4, "eth1"))},
	{name: "past what is not for it", given: each(rule(4, 100, ten, act(resource.RuleProhibit)), rule(4, 101, mark(1, 1), act(resource.RuleProhibit)),
		rule(4, 102, oif("eth0"), act(resource.RuleProhibit)), rule(4, 103, uids(1, 5), act(resource.RuleProhibit)), rule(4, 104, act(resource.RuleNop))),
		want: all(via(net4, gw4, "eth1"))},
	{name: "past a jump", given: each(rule(4, 100, jump(200)), rule(4, 150, act(resource.RuleProhibit)), rule(4, 200, act(resource.RuleNop))),
		want: all(via(net4, gw4, "eth1"))},
	{name: "past a jump to nowhere", given: each(rule(4, 100, jump(200))), want: all(via(net4, gw4, "eth1"))},
	{name: "in its own table first", given: each(inTable(dev("192.0.2.0/24", "eth1"), table100), rule(4, 100, act(resource.RuleProhibit))),
		want: all(inTable(via(net4, far4, "eth1"), table100))},
	{name: "suppressed", given: each(via("0.0.0.0/0", gw4, "eth1"), rule(4, 32000, lookup(resource.TableMain), suppress(0))),
		want: all(via(net4, gw4, "eth1"))},
	{name: "IPv6 through a table", given: each(inTable(dev("fd00:77::/64", "eth1"), table100), rule(6, 100)),
		want: all(via(net6, "fd00:77::1", "eth1"))},
	{name: "IPv6 through a table, link not given", given: each(inTable(dev("fd00:77::/64", "eth1"), table100), rule(6, 100)),
		want: all(via(net6, "fd00:77::1", "")), then: all(via(net6, "fd00:77::1", "eth1"))},
	{name: "IPv6 past what is not for it", given: each(rule(6, 100, fd, act(resource.RuleProhibit)), rule(6, 101, iif("lo"), act(resource.RuleProhibit))),
		want: all(via(net6, gw6, "eth1"))},
	{name: "IPv6 suppresses nothing", given: each(rule(6, 0, nth(1), lookup(resource.TableMain), suppress(128))),
		want: all(via(net6, gw6, "eth1"))},
	{name: "prefsrc without the local rule", given: []resource.State{gone(ruleKey(4, 0, 0))}, want: all(src(dev(net4, "eth1"), "10.98.0.2"))},
	{name: "with the rule that makes it reachable", given: each(inTable(dev("192.0.2.0/24", "eth1"), table100)),
		want: all(rule(4, 100), via(net4, far4, "eth1"))},
	{name: "blackholed", given: each(rule(4, 100, act(resource.RuleBlackhole))), want: all(via(net4, gw4, "eth1")),
		errno: "EINVAL", words: "Nexthop has invalid gateway"},
	{name: "unreachable", given: each(rule(4, 100, act(resource.RuleUnreachable))), want: all(via(net4, gw4, "eth1")),
		errno: "ENETUNREACH", words: "Nexthop has invalid gateway"},
	{name: "prohibited", given: each(rule(4, 100, act(resource.RuleProhibit))), want: all(via(net4, gw4, "eth1")),
		errno: "EACCES", words: "Nexthop has invalid gateway"},
	{name: "prohibited for root", given: each(rule(4, 100, uids(0, 0), act(resource.RuleProhibit))), want: all(via(net4, gw4, "eth1")),
		errno: "EACCES", words: "Nexthop has invalid gateway"},
	{name: "prohibited by not", given: each(rule(4, 100, ten, not, act(resource.RuleProhibit))), want: all(via(net4, gw4, "eth1")),
		errno: "EACCES", words: "Nexthop has invalid gateway"},
	{name: "without main", given: []resource.State{gone(ruleKey(4, 32766, 0))}, want: all(via(net4, gw4, "eth1")),
		errno: "ENETUNREACH", words: "Nexthop has invalid gateway"},
	{name: "suppressed for good", given: each(rule(4, 100, lookup(resource.TableMain), suppress(32)), rule(4, 101, act(resource.RuleProhibit))),
		want: all(via(net4, gw4, "eth1")), errno: "EACCES", words: "Nexthop has invalid gateway"},
	{name: "IPv6 prohibited", given: each(rule(6, 100, act(resource.RuleProhibit))), want: all(via(net6, gw6, "eth1")),
		then: all(via(net6, gw6, "eth1"))}, // main is asked before the rules
	{name: "IPv6 prohibited in another table", given: each(rule(6, 100, act(resource.RuleProhibit))), want: all(inTable(via(net6, gw6, "eth1"), table100)),
		errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "IPv6 without main", given: append(each(rule(6, 100, act(resource.RuleNop))), gone(ruleKey(6, 32766, 0))), want: all(inTable(via(net6, gw6, "eth1"), table100)),
		errno: "EHOSTUNREACH", words: "no route to host"},
}
