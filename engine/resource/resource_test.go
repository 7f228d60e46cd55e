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
		Link{Name: "eth1", Type: "veth", MAC: "02:00:00:00:00:01", MTU: 1500, Up: true, Carrier: true, Master: "br0", NoARP: true, Alias: "a"},
		Addr{Dev: "eth1", Prefix: prefix("10.98.0.2/16"), Peer: prefix("10.98.0.3/32"), Broadcast: netip.MustParseAddr("10.98.255.255"),
			Label: "eth1:1", Scope: ScopeLink, Secondary: true, Permanent: true, NoPrefixRoute: true, Metric: 5, Proto: 3, Flags: 2},
		Route{Dst: prefix("2001:db8::/32"), Src: prefix("2001:db9::/32"), TOS: 4, Metric: 1024, Table: 100, Nth: 1, Type: Unicast, Scope: ScopeSite,
			Proto: ProtoBoot, PrefSrc: netip.MustParseAddr("fd00::1"), NHID: 7, Expires: true, Pref: 1, Extra: Raw{1, 2},
			Hops: []Hop{{Via: netip.MustParseAddr("fe80::1"), Dev: "eth1", Weight: 2, Onlink: true, Extra: Raw{3}}, {Dev: "eth0", Weight: 1}}},
		Facts{Hostname: "n", OS: "debian", Version: "12", Kernel: "6", Arch: "amd64", CPUs: 2, Memory: 1 << 30, BootID: "b"},
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

// The fast comparison of routes sees every field that there is.
func TestEqualIsDeepEqual(t *testing.T) {
	routes := All[Route](one())
	full := routes[0]
	v := reflect.ValueOf(&full).Elem()
	for i := range v.NumField() {
		r := full
		f := reflect.ValueOf(&r).Elem().Field(i)
		f.SetZero()
		if r.equal(full) || full.equal(r) {
			t.Errorf("a difference in %s is not seen", v.Type().Field(i).Name)
		}
	}
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
	if !full.equal(full) {
		t.Error("a route differs from itself")
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
