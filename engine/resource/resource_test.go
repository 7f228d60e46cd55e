package resource

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// one is a resource of each kind, with every field set.
func one() State {
	return Of(
		Link{Name: "eth1", Type: "veth", MAC: "02:00:00:00:00:01", MTU: 1500, Up: true, Carrier: true, Master: "br0", Lower: "eth0", NoARP: true, Alias: "a",
			MaxMTU: 65535, Conf: LinkConf{NoRA: true}},
		Addr{Dev: "eth1", Prefix: prefix("10.98.0.2/16"), Peer: prefix("10.98.0.3/32"), Broadcast: netip.MustParseAddr("10.98.255.255"),
			Label: "eth1:1", Scope: ScopeLink, Secondary: true, Permanent: true, NoPrefixRoute: true, Metric: 5, Proto: 3, Flags: 2, Place: 1},
		Route{Dst: prefix("2001:db8::/32"), Src: prefix("2001:db9::/32"), TOS: 4, Metric: 1024, Table: 100, Nth: 1, Type: Unicast, Scope: ScopeSite,
			Proto: ProtoBoot, PrefSrc: netip.MustParseAddr("fd00::1"), NHID: 7, Expires: true, Pref: 1, Extra: Raw{1, 2},
			Hops: []Hop{{Via: netip.MustParseAddr("fe80::1"), Dev: "eth1", Weight: 2, Onlink: true, Extra: Raw{3}}, {Dev: "eth0", Weight: 1}}},
		Rule{Family: 4, Priority: 100, Nth: 1, Not: true, Src: prefix("10.1.0.0/16"), Dst: prefix("10.2.0.0/16"), IIF: "eth0", OIF: "eth1",
			Mark: 1, Mask: 3, TOS: 4, L3MDev: true, UIDs: &Range{0, 0}, IPProto: 6, SPorts: &Range{1, 2}, DPorts: &Range{80, 80},
			Action: RuleGoto, Table: 100, Goto: 200, Suppress: new(uint32), Proto: ProtoStatic, Extra: Raw{1}},
		Neigh{Dev: "eth1", Addr: netip.MustParseAddr("10.98.0.9"), MAC: "02:00:00:00:00:09", Permanent: true, Proxy: true, NoARP: true,
			Router: true, Managed: true, External: true, Proto: ProtoStatic, Extra: Raw{1}},
		Nexthop{ID: 7, Family: 4, Hop: Hop{Dev: "eth1"}, Blackhole: true, FDB: true, Group: []GroupMember{{ID: 1, Weight: 300}},
			Scope: ScopeLink, Proto: ProtoStatic, Extra: Raw{1}},
		Facts{Hostname: "n", OS: "debian", Version: "12", Kernel: "6", Arch: "amd64", CPUs: 2, Memory: 1 << 30, BootID: "b", Machine: "m"},
	)
}

func TestStateSurvivesJSON(t *testing.T) {
	s := one()
	s["route 10.0.0.0/8 table 254 metric 0"] = nil
	for _, want := range []State{s, {}, nil} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got State
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nbecame %v", b, got)
		}
	}
	for _, bad := range []string{`{"bridge":[]}`, `{"route":{}}`, `{"route":[{"dst":"x"}]}`, `[]`, `{"absent":[1]}`} {
		var s State
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s is read as %v", bad, s)
		}
	}
}

// The fast comparisons see every field that there is.
func TestIdenticalIsDeepEqual(t *testing.T) {
	for _, full := range one() {
		if !Identical(full, full) || Identical(full, nil) || Identical(nil, full) {
			t.Errorf("%T: it differs from itself, or does not from nothing", full)
		}
		for i := range reflect.TypeOf(full).NumField() {
			other := reflect.New(reflect.TypeOf(full)).Elem()
			other.Set(reflect.ValueOf(full))
			if other.Field(i).IsZero() {
				t.Errorf("%T: %s is not set in this test", full, other.Type().Field(i).Name)
			}
			other.Field(i).SetZero()
			if r := other.Interface().(Resource); Identical(r, full) || Identical(full, r) {
				t.Errorf("%T: a difference in %s is not seen", full, other.Type().Field(i).Name)
			}
		}
	}
	full := All[Route](one())[0]
	hop := full.Hops[0]
	hv := reflect.ValueOf(hop)
	for i := range hv.NumField() {
		h := hop
		reflect.ValueOf(&h).Elem().Field(i).SetZero()
		r := full
		r.Hops = []Hop{h, full.Hops[1]}
		if r.equal(full) {
			t.Errorf("a difference in a hop's %s is not seen", hv.Type().Field(i).Name)
		}
	}
}

func TestCompare(t *testing.T) {
	a, b := Route{Dst: prefix("10.1.0.0/16"), Proto: ProtoStatic}, Route{Dst: prefix("10.2.0.0/16"), Proto: ProtoStatic}
	ra := Route{Dst: prefix("::/0"), Proto: ProtoRA}
	changed := a
	changed.Proto = ProtoBoot
	tests := []struct {
		before, after State
		want          string
	}{
		{Of(a), Of(a), ""},
		{Of(a), Of(a, b), "add"},
		{Of(a, b), Of(a), "delete"},
		{Of(a), Of(changed), "change"},
		{Of(a), Of(a, ra), ""},
		{State{a.Key(): nil}, State{}, ""},
		{nil, nil, ""},
	}
	for _, tt := range tests {
		got := ""
		for _, c := range Compare(tt.before, tt.after) {
			got += c.Action()
		}
		if got != tt.want {
			t.Errorf("%v to %v: %q, want %q", tt.before, tt.after, got, tt.want)
		}
	}
}

// The keys of the kinds that are parsed again say what they were made of.
func TestKeys(t *testing.T) {
	for _, n := range []Neigh{
		{Dev: "eth1", Addr: netip.MustParseAddr("10.98.0.9")}, {Dev: "eth1", Addr: netip.MustParseAddr("fe80::1"), Proxy: true},
		{Addr: netip.MustParseAddr("10.98.0.9"), Proxy: true},
	} {
		if got, err := ParseNeighKey(n.Key()); err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%s is read as %v, %v", n.Key(), got, err)
		}
	}
	for _, nth := range []int{0, 1, 9} {
		k := RuleKey(6, 1<<32-1, nth)
		if f, p, n, err := ParseRuleKey(k); f != 6 || p != 1<<32-1 || n != nth || err != nil {
			t.Errorf("%s is read as %d, %d, %d, %v", k, f, p, n, err)
		}
	}
	if id, err := ParseNexthopKey(NexthopKey(7)); id != 7 || err != nil {
		t.Errorf("the key of a nexthop object is read as %d, %v", id, err)
	}
	for _, bad := range []Key{"", "rule", "rule ipv4 priority 7 #1", "rule ipv4 priority 7 ", "neigh eth1", "neigh eth1 x", "neigh eth1 10.0.0.1 x", "nexthop", "nexthop 7 "} {
		_, _, _, err := ParseRuleKey(bad)
		_, err2 := ParseNeighKey(bad)
		if _, err3 := ParseNexthopKey(bad); err == nil || err2 == nil || err3 == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}

func TestRange(t *testing.T) {
	for text, want := range map[string]Range{"0": {}, "80": {80, 80}, "1-65535": {1, 65535}, "5-4": {5, 4}} {
		var got Range
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want || got.String() != text {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "-", "5-", "-5", "x", "1-2-3", "4294967296"} {
		if err := new(Range).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is a range", bad)
		}
	}
}

func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Proto(rapid.Byte().Draw(t, "proto"))
		text, _ := want.MarshalText()
		var got Proto
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Fatalf("%d is written %s and read as %d, %v", uint8(want), text, uint8(got), err)
		}
	})
	var table Table
	if err := table.UnmarshalText([]byte("mian")); err == nil {
		t.Error("a name that nothing has is read")
	}
}
