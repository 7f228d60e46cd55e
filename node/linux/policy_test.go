//go:build linux

package linux

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"runbook/engine"
	"runbook/engine/resource"
)

// othersScript makes rules, neighbours and nexthop objects with every
// attribute that this kernel can be given and that has a field, and some that
// have none.
const othersScript = `
	rule add pref 100 not from 10.1.0.0/16 to 10.2.0.0/16 iif eth1 oif nope lookup 100 protocol static
	rule add pref 100 from 10.1.0.0/16 lookup 100
	rule add pref 110 fwmark 0x10/0xff tos 0x10 lookup 70000
	rule add pref 120 uidrange 0-1000 ipproto tcp sport 10 dport 20-30 prohibit
	rule add pref 130 goto 32766
	rule add pref 140 lookup main suppress_prefixlength 0
	rule add pref 150 lookup main suppress_ifgroup 4
	rule add pref 160 tun_id 4 nop
	neigh add 10.98.0.9 lladdr 02:00:00:00:00:09 dev eth0
	neigh add 10.98.0.10 lladdr 02:00:00:00:00:09 dev eth0 protocol bgp
	neigh add 10.98.0.11 lladdr 02:00:00:00:00:09 dev eth0 extern_learn
	neigh add 10.98.0.12 dev eth0 managed
	neigh add 10.98.0.13 dev eth0 lladdr 02:00:00:00:00:09 nud reachable
	neigh add fd00:98::9 lladdr 02:00:00:00:00:09 dev eth0 router
	neigh add proxy 10.98.0.14 dev eth0
	neigh add proxy fd00:98::14 dev eth1 protocol static
	nexthop add id 1 via 10.98.0.1 dev eth0
	nexthop add id 2 via 192.0.2.1 dev eth0 onlink protocol bgp
	nexthop add id 3 blackhole
	nexthop add id 4 via fd00:98::1 dev eth0
	nexthop add id 5 dev eth1
	nexthop add id 6 via 10.98.0.1 encap ip id 7 dst 192.0.2.9 dev eth0
	nexthop add id 7 via 10.98.0.1 fdb
	nexthop add id 10 group 1/2,200
	nexthop add id 11 group 1/2 type resilient buckets 8`

// makeOthers makes what othersScript says, and rules of IPv6, which a batch
// of ip commands cannot.
func makeOthers(t *testing.T, ns string) {
	t.Helper()
	ip(t, ns, othersScript)
	for _, rule := range []string{"pref 100 from fd00::/8 unreachable", "pref 110 l3mdev"} {
		args := append([]string{"-n", ns, "-6", "rule", "add"}, strings.Fields(rule)...)
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip: %v\n%s", err, out)
		}
	}
}

// others is the kinds that the script makes.
var others = resource.Query{{Kind: resource.KindRule}, {Kind: resource.KindNeigh}, {Kind: resource.KindNexthop}}

func TestReadOthers(t *testing.T) {
	n, name := testNode(t)
	makeOthers(t, name)
	s, err := n.Read(t.Context(), others)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range s.Keys() {
		if !s[k].Volatile() {
			got = append(got, string(k.Kind())+" "+s[k].String())
		}
	}
	want := strings.Split(strings.TrimSpace(othersRead), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("read:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, c := range []struct {
		q    resource.Selector
		want []resource.Key
	}{
		{resource.Selector{Kind: resource.KindRule, Name: "nope"}, []resource.Key{"rule ipv4 priority 100"}},
		{resource.Selector{Kind: resource.KindRule, Family: 6, Table: resource.TableMain}, []resource.Key{"rule ipv6 priority 32766"}},
		{resource.Selector{Kind: resource.KindNeigh, Name: "eth1"}, []resource.Key{"neigh eth1 fd00:98::14 proxy"}},
		{resource.Selector{Kind: resource.KindNeigh, Name: "eth9"}, nil},
		{resource.Selector{Kind: resource.KindNeigh, Covers: netip.MustParseAddr("10.98.0.14")}, []resource.Key{"neigh eth0 10.98.0.14 proxy"}},
		{resource.Selector{Kind: resource.KindNexthop, Name: "eth1"}, []resource.Key{"nexthop 5"}},
	} {
		found, err := n.Read(t.Context(), resource.Query{c.q})
		if err != nil {
			t.Fatal(err)
		}
		keys := slices.DeleteFunc(found.Keys(), func(k resource.Key) bool { return found[k].Volatile() })
		if !slices.Equal(keys, c.want) {
			t.Errorf("%+v selects %q, want %q", c.q, keys, c.want)
		}
	}
}

// What is deleted and put back is, in the kernel's own bytes and order, what it was.
func TestPutBackOthers(t *testing.T) {
	n, name := testNode(t)
	makeOthers(t, name)
	before, err := n.Read(t.Context(), others)
	if err != nil {
		t.Fatal(err)
	}
	dumped := dumpOthers(t, n)
	want := resource.State{}
	for k, r := range before {
		if h, ok := r.(resource.Nexthop); !r.Volatile() && !(ok && resilient(h)) {
			want[k] = nil
		}
	}
	resilientGroup := resource.NexthopKey(11)
	after, err := n.Apply(t.Context(), engine.Edit{Want: want, Query: others})
	if err != nil {
		t.Fatal(err)
	}
	for k, r := range after {
		if !r.Volatile() {
			t.Errorf("left: %s", k)
		}
	}
	if err := ipFails(name, "nexthop", "del", "id", "11"); err == nil {
		t.Error("the resilient group outlived its members")
	}
	if _, err := n.Apply(t.Context(), engine.Edit{Want: resource.State{resilientGroup: before[resilientGroup]}}); err == nil || !strings.Contains(err.Error(), "resilient group") {
		t.Errorf("a resilient group is made again: %v", err)
	}
	for k := range want {
		want[k] = before[k]
	}
	found, err := n.Apply(t.Context(), engine.Edit{Want: want, Query: others})
	if err != nil {
		t.Fatal(err)
	}
	delete(before, resilientGroup)
	if d := resource.Compare(before, found); len(d) > 0 {
		t.Errorf("put back:\n%s", d)
	}
	if again := dumpOthers(t, n); !slices.Equal(dumped, again) {
		t.Errorf("the kernel's own words were:\n%s\nand are:\n%s", strings.Join(dumped, "\n"), strings.Join(again, "\n"))
	}
}

// A refusal in the middle leaves nothing of what was made before it.
func TestPutBackOthersAfterRefusal(t *testing.T) {
	n, name := testNode(t)
	makeOthers(t, name)
	dumped := dumpOthers(t, n)
	before, err := n.Read(t.Context(), others)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := resource.Get[resource.Rule](before, resource.RuleKey(4, 100, 1))
	first.Nth = 0
	other := resource.Neigh{Dev: "eth0", Addr: netip.MustParseAddr("10.98.0.10"), MAC: "02:00:00:00:00:01", Permanent: true}
	single := resource.Nexthop{ID: 1, Family: 4, Hop: resource.Hop{Via: netip.MustParseAddr("10.98.0.7"), Dev: "eth0"}, Scope: resource.ScopeLink, Proto: 4}
	group := resource.Nexthop{ID: 12, Group: []resource.GroupMember{{ID: 1, Weight: 1}, {ID: 2, Weight: 200}}, Proto: 4}
	refused := resource.Route{
		Dst: netip.MustParsePrefix("10.20.0.0/16"), Table: resource.TableMain, Type: resource.Unicast, Proto: 4,
		Hops: []resource.Hop{{Via: netip.MustParseAddr("192.0.2.77"), Dev: "eth1"}},
	}
	want := resource.Of(first, other, single, group, refused)
	want[resource.RuleKey(4, 100, 1)], want[resource.RuleKey(4, 110, 0)] = nil, nil
	_, err = n.Apply(t.Context(), engine.Edit{Want: want})
	var kernel *engine.NodeError
	if !errors.As(err, &kernel) || kernel.Errno != "ENETUNREACH" {
		t.Fatalf("got %v, want that the route is refused", err)
	}
	if again := dumpOthers(t, n); !slices.Equal(dumped, again) {
		t.Errorf("the kernel's own words were:\n%s\nand are:\n%s", strings.Join(dumped, "\n"), strings.Join(again, "\n"))
	}
}

// ipFails runs one ip command and returns its error.
func ipFails(ns string, args ...string) error {
	return exec.Command("ip", append([]string{"-n", ns}, args...)...).Run()
}

// dumpOthers is what ip says of rules, in their order, and of neighbours and
// nexthop objects, sorted: without what was learned, and without resilient groups.
func dumpOthers(t *testing.T, n *Node) []string {
	t.Helper()
	var out []string
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, sizeofRuleHdr)
		req[0] = family
		err := n.dump(t.Context(), unix.RTM_GETRULE, req, unix.RTM_NEWRULE, func() {}, func(msg []byte) {
			out = append(out, "rule "+hex.EncodeToString(msg))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rules := len(out)
	for _, flags := range []byte{0, unix.NTF_PROXY} {
		req := make([]byte, unix.SizeofNdMsg)
		req[10] = flags
		err := n.dump(t.Context(), unix.RTM_GETNEIGH, req, unix.RTM_NEWNEIGH, func() {}, func(msg []byte) {
			e, err := decodeNeigh(msg, &names{node: n})
			if err != nil {
				t.Fatal(err)
			}
			if e.Volatile() || e.Managed {
				return
			}
			line := "neigh " + hex.EncodeToString(msg[:unix.SizeofNdMsg])
			for kind, a := range attrs(msg[unix.SizeofNdMsg:]) {
				if kind != unix.NDA_CACHEINFO {
					line += " " + hex.EncodeToString(a)
				}
			}
			out = append(out, line)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := n.dump(t.Context(), unix.RTM_GETNEXTHOP, make([]byte, unix.SizeofNhmsg), unix.RTM_NEWNEXTHOP, func() {}, func(msg []byte) {
		if h, err := decodeNexthop(msg, &names{node: n}); err != nil || !resilient(h) {
			out = append(out, "nexthop "+hex.EncodeToString(msg))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out[rules:])
	return out
}

// othersRead is what TestReadOthers reads, the kernel's own rules first.
const othersRead = `
rule 0: from all lookup local proto kernel
rule 32766: from all lookup main proto kernel
rule 32767: from all lookup default proto kernel
rule ipv6 0: from all lookup local proto kernel
rule ipv6 32766: from all lookup main proto kernel
rule 100: not from 10.1.0.0/16 to 10.2.0.0/16 iif eth1 oif nope lookup 100
rule 100: from 10.1.0.0/16 lookup 100 proto unspec
rule 110: from all fwmark 0x10/0xff tos 0x10 lookup 70000 proto unspec
rule 120: from all uidrange 0-1000 sport 10 dport 20-30 ipproto 6 prohibit proto unspec
rule 130: from all goto 32766 proto unspec
rule 140: from all lookup main suppress_prefixlength 0 proto unspec
rule 150: from all lookup main proto unspec raw 08000d0004000000
rule 160: from all nop proto unspec raw 0c000c000000000000000004
rule 100: from fd00::/8 unreachable proto unspec
rule ipv6 110: from all l3mdev proto unspec
neigh 10.98.0.9 dev eth0 lladdr 02:00:00:00:00:09 permanent
neigh 10.98.0.10 dev eth0 lladdr 02:00:00:00:00:09 permanent proto bgp
neigh 10.98.0.11 dev eth0 lladdr 02:00:00:00:00:09 permanent extern_learn
neigh 10.98.0.12 dev eth0 managed
neigh 10.98.0.14 dev eth0 proxy
neigh fd00:98::9 dev eth0 lladdr 02:00:00:00:00:09 permanent router
neigh fd00:98::14 dev eth1 proxy proto static
nexthop id 1 via 10.98.0.1 dev eth0 scope link proto unspec
nexthop id 2 via 192.0.2.1 dev eth0 onlink scope link proto bgp
nexthop id 3 blackhole proto unspec
nexthop id 4 via fd00:98::1 dev eth0 scope link proto unspec
nexthop id 5 dev eth1 scope host proto unspec
nexthop id 6 via 10.98.0.1 dev eth0 scope link proto unspec raw 0600070002000000380008000c000100000000000000000708000200c00002090800030000000000050005000000000005000400000000000600060000000000
nexthop id 7 via 10.98.0.1 fdb scope link proto unspec
nexthop id 10 group 1/2,200 proto unspec
nexthop id 11 group 1/2 proto unspec raw 06000300010000001c000c00060001000800000008000200e02e00000800030000000000`
