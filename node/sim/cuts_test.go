package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// group is sessions from local to peer over dev, by the route to dst.
func group(local, peer, dev, dst string, count int) resource.Sessions {
	s := resource.Sessions{Local: netip.MustParseAddr(local), Peer: netip.MustParseAddrPort(peer), Dev: dev, Count: count}
	p := netip.MustParsePrefix(dst)
	s.Route = resource.RouteKey(p, resource.TableMain, resource.DefaultMetric(p))
	return s
}

// cutNode is a lab's node with a default route over eth0, and networks behind eth1.
func cutNode(more ...resource.Resource) resource.State {
	s := LabNode("node-1", 1)
	gw := route("0.0.0.0/0", "10.99.0.1")
	gw.Hops[0].Dev = "eth0"
	six := route("fd00:20::/64", "fd00:98::1")
	six.Metric = 1024
	ecmp := route("10.40.0.0/16", "10.98.0.1")
	ecmp.Hops = []resource.Hop{{Via: netip.MustParseAddr("10.98.0.1"), Dev: "eth1", Weight: 1}, {Via: netip.MustParseAddr("10.99.0.1"), Dev: "eth0", Weight: 1}}
	maps.Copy(s, resource.Of(gw, route("10.20.0.0/16", "10.98.0.1"), six, ecmp))
	maps.Copy(s, resource.Of(more...))
	return s
}

// cutSessions are what cutNode serves and uses.
func cutSessions() []resource.Sessions {
	link6 := group("fd00:98::2", "[fd00:98::7]:443", "eth1", "fd00:98::/64", 3)
	link6.Route = resource.RouteKey(netip.MustParsePrefix("fd00:98::/64"), resource.TableMain, 256)
	within := group("10.98.0.2", "10.98.0.2:443", "lo", "10.98.0.2/32", 4)
	within.Route = resource.RouteKey(netip.MustParsePrefix("10.98.0.2/32"), resource.TableLocal, 0)
	own := group("10.99.0.2", "192.0.2.1:0", "eth0", "0.0.0.0/0", 1)
	own.Port, own.Own = 22, true
	return []resource.Sessions{
		group("10.98.0.2", "10.98.0.7:443", "eth1", "10.98.0.0/16", 2),
		link6, within, own,
		group("10.98.0.2", "10.20.0.1:5432", "eth1", "10.20.0.0/16", 62),
		group("10.98.0.2", "10.20.9.9:5432", "eth1", "10.20.0.0/16", 5),
		group("fd00:98::2", "[fd00:20::1]:5432", "eth1", "fd00:20::/64", 6),
		group("10.98.0.2", "10.40.0.1:80", "eth1", "10.40.0.0/16", 7),
		group("10.99.0.2", "10.40.0.2:80", "eth0", "10.40.0.0/16", 8),
	}
}

// The changes of tests, by what they make of a state.
type change func(resource.State)

func set(rs ...resource.Resource) change {
	return func(s resource.State) { maps.Copy(s, resource.Of(rs...)) }
}

func unset(keys ...resource.Key) change {
	return func(s resource.State) {
		for _, k := range keys {
			delete(s, k)
		}
	}
}

// mainRoute is the key of an IPv4 route.
func mainRoute(dst string) resource.Key {
	return resource.RouteKey(netip.MustParsePrefix(dst), resource.TableMain, 0)
}

func relink(dev string, f func(*resource.Link)) change {
	return func(s resource.State) {
		l, _ := resource.Get[resource.Link](s, resource.LinkKey(dev))
		f(&l)
		s[l.Key()] = l
	}
}

// down takes a link down with all that goes then.
func down(dev string) change {
	return func(s resource.State) {
		relink(dev, func(l *resource.Link) { l.Up, l.Carrier = false, false })(s)
		maps.DeleteFunc(s, func(_ resource.Key, r resource.Resource) bool {
			switch r := r.(type) {
			case resource.Route:
				return len(r.Hops) == 1 && r.Hops[0].Dev == dev && r.Type == resource.Unicast
			case resource.Addr:
				return r.Dev == dev && r.Prefix.Addr().Is6()
			}
			return false
		})
	}
}

// rejecting is a route that leads nowhere.
func rejecting(t resource.RouteType, dst string) resource.Route {
	r := route(dst, "10.98.0.9")
	r.Type, r.Hops = t, nil
	return r
}

func inTable(r resource.Route, t resource.Table, metric uint32) resource.Route {
	r.Table, r.Metric = t, metric
	return r
}

func TestCuts(t *testing.T) {
	booted := route("10.20.0.0/16", "10.98.0.1")
	booted.Proto = resource.ProtoBoot
	toItself := inTable(rejecting(resource.Local, "10.20.0.1/32"), resource.TableLocal, 0)
	toItself.Hops = []resource.Hop{{Dev: "eth1"}}
	more := cutNode()[mainRoute("10.40.0.0/16")].(resource.Route)
	more.Hops = append(slices.Clone(more.Hops), resource.Hop{Via: netip.MustParseAddr("10.98.0.9"), Dev: "eth1", Weight: 1})
	for _, c := range []struct {
		name    string
		restart string
		change  change
		want    []string
	}{
		{"nothing", "", set(), nil},
		{"restart of the data link", "eth1", set(), []string{
			"stalls 62 10.20.0.1:5432", "stalls 7 10.40.0.1:80", "stalls 6 [fd00:20::1]:5432", "stalls 5 10.20.9.9:5432", "stalls 3 [fd00:98::7]:443", "stalls 2 10.98.0.7:443"}},
		{"restart of the management link", "eth0", set(), []string{"stalls 8 10.40.0.2:80", "stalls 1 clients of port 22, own"}},
		{"data link down: what has a default route takes that", "", down("eth1"), []string{
			"stalls 62 10.20.0.1:5432 then via 10.99.0.1 dev eth0", "stalls 7 10.40.0.1:80 then via 10.99.0.1 dev eth0", "cuts 6 [fd00:20::1]:5432",
			"stalls 5 10.20.9.9:5432 then via 10.99.0.1 dev eth0", "cuts 3 [fd00:98::7]:443", "stalls 2 10.98.0.7:443 then via 10.99.0.1 dev eth0"}},
		{"management link down", "", down("eth0"), []string{"stalls 8 10.40.0.2:80 then via 10.98.0.1 dev eth1", "cuts 1 clients of port 22, own"}},
		{"address gone", "", unset("addr eth1 10.98.0.2/16"), []string{
			"cuts 62 10.20.0.1:5432", "cuts 7 10.40.0.1:80", "cuts 5 10.20.9.9:5432", "cuts 4 10.98.0.2:443", "cuts 2 10.98.0.7:443"}},
		{"address on another link instead", "", func(s resource.State) {
			delete(s, "addr eth1 fd00:98::2/64")
			set(resource.Addr{Dev: "eth0", Prefix: netip.MustParsePrefix("fd00:98::2/128"), Permanent: true})(s)
		}, nil},
		{"route gone: the default route", "", unset(mainRoute("10.20.0.0/16")), []string{
			"stalls 62 10.20.0.1:5432 then via 10.99.0.1 dev eth0", "stalls 5 10.20.9.9:5432 then via 10.99.0.1 dev eth0"}},
		{"default route gone", "", unset(mainRoute("0.0.0.0/0")), []string{"cuts 1 clients of port 22, own"}},
		{"another gateway", "", set(route("10.20.0.0/16", "10.98.0.9")),
			[]string{"stalls 62 10.20.0.1:5432 then via 10.98.0.9 dev eth1", "stalls 5 10.20.9.9:5432 then via 10.98.0.9 dev eth1"}},
		{"another route, the same way", "", set(booted), nil},
		{"more specific", "", set(route("10.20.9.0/24", "10.98.0.9")), []string{"stalls 5 10.20.9.9:5432 then via 10.98.0.9 dev eth1"}},
		{"more specific, the same way", "", set(route("10.20.9.0/24", "10.98.0.1")), nil},
		{"a route that nobody needs", "", set(route("10.21.0.0/16", "10.98.0.9")), nil},
		{"a higher metric", "", set(inTable(route("10.20.0.0/16", "10.98.0.9"), resource.TableMain, 5)), nil},
		{"blackhole", "", set(rejecting(resource.Blackhole, "10.20.0.1/32")), []string{"cuts 62 10.20.0.1:5432"}},
		{"throw", "", set(rejecting(resource.Throw, "10.20.0.1/32")), []string{"cuts 62 10.20.0.1:5432"}},
		{"a table that nobody looks at", "", set(inTable(route("10.20.0.1/32", "10.98.0.9"), 100, 0)), nil},
		{"the peer's address becomes the node's own", "", set(toItself), []string{"stalls 62 10.20.0.1:5432 then dev lo"}},
		{"a hop less", "", set(route("10.40.0.0/16", "10.98.0.1")), []string{"stalls 8 10.40.0.2:80 then via 10.98.0.1 dev eth1"}},
		{"a hop more", "", set(more), []string{
			"stalls perhaps 8 10.40.0.2:80 then via 10.98.0.1 dev eth1 or via 10.99.0.1 dev eth0 or via 10.98.0.9 dev eth1",
			"stalls perhaps 7 10.40.0.1:80 then via 10.98.0.1 dev eth1 or via 10.99.0.1 dev eth0 or via 10.98.0.9 dev eth1"}},
		{"the link that runbook comes by", "", relink("eth0", func(l *resource.Link) { l.MTU = 9000 }), []string{"cuts perhaps 1 clients of port 22, own"}},
		{"the rule for the main table gone", "", unset(resource.RuleKey(4, 32766, 0)), []string{
			"cuts 62 10.20.0.1:5432", "cuts 8 10.40.0.2:80", "cuts 7 10.40.0.1:80", "cuts 5 10.20.9.9:5432", "cuts 2 10.98.0.7:443", "cuts 1 clients of port 22, own"}},
		{"the rule for the main table gone, IPv6", "", unset(resource.RuleKey(6, 32766, 0)), []string{"cuts perhaps 6 [fd00:20::1]:5432", "cuts perhaps 3 [fd00:98::7]:443"}},
		{"the rule for the local table gone", "", unset(resource.RuleKey(4, 0, 0)), []string{
			"cuts 62 10.20.0.1:5432", "cuts 8 10.40.0.2:80", "cuts 7 10.40.0.1:80", "cuts 5 10.20.9.9:5432", "cuts 4 10.98.0.2:443", "cuts 2 10.98.0.7:443", "cuts 1 clients of port 22, own"}},
		{"the route to an address of its own gone", "", unset(resource.RouteKey(netip.MustParsePrefix("10.99.0.2/32"), resource.TableLocal, 0)),
			[]string{"cuts 8 10.40.0.2:80", "cuts 1 clients of port 22, own"}},
		{"a rule for what comes in by another link", "", set(resource.Rule{Family: 4, Nth: 1, IIF: "eth1", Dst: netip.MustParsePrefix("10.99.0.0/16"), Action: resource.RuleBlackhole}), nil},
		{"neighbour", "", set(resource.Neigh{Dev: "eth1", Addr: netip.MustParseAddr("10.98.0.1"), MAC: "02:00:00:00:00:09", Permanent: true}),
			[]string{"cuts perhaps 62 10.20.0.1:5432", "cuts perhaps 7 10.40.0.1:80", "cuts perhaps 5 10.20.9.9:5432"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := cutNode(), cutNode()
			c.change(after)
			found, left := cuts(cutSessions(), before, after, c.restart)
			checkCuts(t, found, c.want)
			lost := 0
			for _, f := range found {
				if !f.Stalls && !f.Perhaps {
					lost++
				}
			}
			if len(left)+lost != len(cutSessions()) {
				t.Errorf("%d groups go on and %d are cut, of %d", len(left), lost, len(cutSessions()))
			}
		})
	}
}

func checkCuts(t *testing.T, found []engine.Cut, want []string) {
	t.Helper()
	var got []string
	for _, c := range found {
		got = append(got, cutText(c))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func cutText(c engine.Cut) string {
	text := "cuts"
	if c.Stalls {
		text = "stalls"
	}
	if c.Perhaps {
		text += " perhaps"
	}
	text += fmt.Sprintf(" %d %s", c.Count, c.Far())
	if c.To != "" {
		text += " then " + c.To
	}
	if c.Own {
		text += ", own"
	}
	return text
}

// Where it cannot be told how runbook comes in, whatever takes something away may cut it.
func TestCutsOwnWithoutSeeingIt(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart string
		change  change
		risky   bool
	}{
		{"nothing", "", set(), false},
		{"restart", "eth1", set(), true},
		{"link down", "", relink("eth1", func(l *resource.Link) { l.Up = false }), true},
		{"address gone", "", unset("addr eth1 10.98.0.2/16"), true},
		{"route added", "", set(route("10.77.0.0/16", "10.98.0.1")), true},
		{"address added", "", set(resource.Addr{Dev: "eth1", Prefix: netip.MustParsePrefix("10.98.0.3/32")}), false},
	} {
		before, after := cutNode(), cutNode()
		c.change(after)
		found, left := cuts([]resource.Sessions{resource.HiddenOwn}, before, after, c.restart)
		if got := (engine.Edit{Cuts: found}).CutsOwn(); got != c.risky || len(left) != 1 {
			t.Errorf("%s: risky %t: %v", c.name, got, found)
		}
	}
}

// What leaves by another link than the one that has its address comes in by that one, most likely.
func TestCutsOfSessionsThatLeaveByAnotherLink(t *testing.T) {
	within := group("10.99.0.2", "10.99.0.2:443", "lo", "10.99.0.2/32", 4)
	within.Route = resource.RouteKey(netip.MustParsePrefix("10.99.0.2/32"), resource.TableLocal, 0)
	own := group("10.99.0.2", "10.20.0.1:0", "eth1", "10.20.0.0/16", 1)
	own.Port, own.Own = 22, true
	for _, c := range []struct {
		name    string
		restart string
		change  change
		want    []string
	}{
		{"restart of that one", "eth0", set(), []string{"stalls perhaps 1 clients of port 22, own"}},
		{"that one down", "", down("eth0"), []string{"cuts perhaps 1 clients of port 22, own"}},
		{"restart of the other", "eth1", set(), []string{"stalls 1 clients of port 22, own"}},
		{"MTU of that one", "", relink("eth0", func(l *resource.Link) { l.MTU = 1400 }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := cutNode(), cutNode()
			c.change(after)
			found, _ := cuts([]resource.Sessions{own, within}, before, after, c.restart)
			checkCuts(t, found, c.want)
		})
	}
}

// Sessions that are only known in sum, or that the kernel sends by what the
// model does not see, are said to be hit perhaps, and never not at all.
func TestCutsOfUnclearSessions(t *testing.T) {
	sum := resource.Sessions{Local: netip.MustParseAddr("10.98.0.2"), Dev: "eth1", Count: 900, Route: mainRoute("10.20.0.0/16")}
	all := resource.Sessions{Dev: "eth1", Count: 9000}
	marked := group("10.98.0.2", "10.20.0.1:5432", "eth1", "10.0.0.0/8", 62)
	for _, c := range []struct {
		name    string
		restart string
		change  change
		want    []string
	}{
		{"more specific", "", set(route("10.20.9.0/24", "10.98.0.9")), []string{"stalls perhaps 9000 ", "stalls perhaps 900 "}},
		{"more specific for the marked", "", set(route("10.20.0.0/24", "10.98.0.9")), []string{"stalls perhaps 9000 ", "stalls perhaps 900 ", "stalls perhaps 62 10.20.0.1:5432"}},
		{"another route", "", set(route("10.21.0.0/16", "10.98.0.9")), []string{"stalls perhaps 9000 "}},
		{"their route gone", "", unset(sum.Route), []string{"cuts perhaps 9000 ", "cuts perhaps 900 ", "cuts perhaps 62 10.20.0.1:5432"}},
		{"address gone", "", unset("addr eth1 10.98.0.2/16"), []string{"cuts perhaps 9000 ", "cuts 900 ", "cuts 62 10.20.0.1:5432"}},
		{"link down", "", down("eth1"), []string{"cuts perhaps 9000 ", "cuts perhaps 900 ", "cuts perhaps 62 10.20.0.1:5432"}},
		{"restart", "eth1", set(), []string{"stalls 9000 ", "stalls 900 ", "stalls 62 10.20.0.1:5432"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := cutNode(), cutNode()
			c.change(after)
			found, _ := cuts([]resource.Sessions{sum, all, marked}, before, after, c.restart)
			checkCuts(t, found, c.want)
		})
	}
}

func TestCutsByRules(t *testing.T) {
	to := func(dst string, action resource.RuleAction) resource.Rule {
		return resource.Rule{Family: 4, Priority: 100, Dst: netip.MustParsePrefix(dst), Action: action, Table: 100, Proto: resource.ProtoStatic}
	}
	toDB := to("10.20.0.1/32", resource.RuleLookup)
	others := toDB
	others.Not = true
	past := resource.Rule{Family: 4, Priority: 50, Src: netip.MustParsePrefix("10.99.0.2/32"), Action: resource.RuleGoto, Goto: 32767}
	viaNine := inTable(route("0.0.0.0/0", "10.98.0.9"), 100, 0)
	with := func(rs ...resource.Resource) resource.State {
		for _, r := range resource.DefaultRules() {
			rs = append(rs, r)
		}
		return cutNode(rs...)
	}
	for _, c := range []struct {
		name          string
		before, after resource.State
		want          []string
	}{
		{"rule added", with(viaNine), with(viaNine, toDB), []string{"stalls 62 10.20.0.1:5432 then via 10.98.0.9 dev eth1"}},
		{"route in its table", with(toDB), with(toDB, viaNine), []string{"stalls 62 10.20.0.1:5432 then via 10.98.0.9 dev eth1"}},
		{"rule for others", with(viaNine), with(viaNine, to("10.20.0.2/32", resource.RuleLookup)), nil},
		{"rule of an empty table", with(), with(toDB), nil},
		{"rule for all but it", with(viaNine), with(viaNine, others), []string{
			"stalls 8 10.40.0.2:80 then via 10.98.0.9 dev eth1", "stalls 7 10.40.0.1:80 then via 10.98.0.9 dev eth1", "stalls 5 10.20.9.9:5432 then via 10.98.0.9 dev eth1",
			"stalls 2 10.98.0.7:443 then via 10.98.0.9 dev eth1", "stalls 1 clients of port 22 then via 10.98.0.9 dev eth1, own"}},
		{"goto past main", with(), with(past), []string{"cuts 8 10.40.0.2:80", "cuts 1 clients of port 22, own"}},
		{"prohibit", with(), with(to("10.20.0.0/16", resource.RuleProhibit)), []string{"cuts 62 10.20.0.1:5432", "cuts 5 10.20.9.9:5432"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, _ := cuts(cutSessions(), c.before, c.after, "")
			checkCuts(t, found, c.want)
		})
	}
}

// Sessions are read once, and follow what was predicted before.
func TestCutsInOnePrediction(t *testing.T) {
	state := cutNode()
	for _, s := range cutSessions() {
		state[s.Key()] = s
	}
	src := &moving{state: state}
	m := Over(src)
	predict := func(r resource.Route, gone bool, want ...string) {
		t.Helper()
		e := engine.Edit{Want: resource.Of(r)}
		if gone {
			e.Want[r.Key()] = nil
		}
		if err := m.Predict(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
		checkCuts(t, e.Cuts, want)
	}
	blackhole := rejecting(resource.Blackhole, "10.20.0.1/32")
	predict(route("10.50.0.0/24", "10.98.0.9"), false)
	predict(route("10.20.0.0/24", "10.98.0.9"), false, "stalls 62 10.20.0.1:5432 then via 10.98.0.9 dev eth1")
	predict(route("10.20.0.0/24", "10.98.0.9"), true, "stalls 62 10.20.0.1:5432 then via 10.98.0.1 dev eth1")
	predict(blackhole, false, "cuts 62 10.20.0.1:5432")
	predict(blackhole, true) // they are gone
	predict(route("10.20.0.0/16", "10.98.0.9"), false, "stalls 5 10.20.9.9:5432 then via 10.98.0.9 dev eth1")
	sessions := 0
	for _, q := range src.reads {
		for _, s := range q {
			if s.Kind == resource.KindSession {
				sessions++
			}
		}
	}
	if sessions != 1 {
		t.Errorf("sessions were read %d times: %v", sessions, src.reads)
	}
}
