//go:build linux

package linux_test

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"runbook/engine/resource"
	"runbook/node/nodetest"
)

func TestSockets(t *testing.T) {
	n, ns, peer := peered(t)
	nodetest.Echo(t, peer, "10.98.0.1:5432")
	held := nodetest.DialTCP(t, ns, "", "10.98.0.1:5432").LocalAddr().String()
	ended := nodetest.DialTCP(t, ns, "", "10.98.0.1:5432")
	gone := ended.LocalAddr().String()
	ended.SetLinger(0)
	ended.Close() // at once, and the peer is told
	asked := []netip.AddrPort{netip.MustParseAddrPort(held), netip.MustParseAddrPort("10.98.0.2:1"), netip.MustParseAddrPort("10.9.9.9:5432")}
	ask := func(ends []netip.AddrPort) resource.Sockets {
		t.Helper()
		found, err := n.Read(t.Context(), resource.Query{{Kind: resource.KindSockets, Ask: resource.AskSockets(ends)}})
		if err != nil {
			t.Fatal(err)
		}
		return resource.All[resource.Sockets](found)[0]
	}
	got := ask(asked)
	if !slices.Equal(got.Open, asked[:1]) || !slices.Contains(got.Addrs, netip.MustParseAddr("10.98.0.2")) || slices.Contains(got.Addrs, netip.MustParseAddr("127.0.0.1")) || got.Forwards {
		t.Errorf("%+v", got)
	}
	if got = ask([]netip.AddrPort{netip.MustParseAddrPort(gone)}); len(got.Open) > 0 {
		t.Errorf("%+v", got)
	}
	if out, err := exec.Command("ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv4.ip_forward=1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got = ask(nil); !got.Forwards || len(got.Open) > 0 {
		t.Errorf("%+v", got)
	}
}
