//go:build linux

package linux_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"runbook/engine/resource"
	"runbook/node/linux"
)

// childVar has the test binary be the process that a test starts: it prints what it takes for its own sessions.
const childVar = "RUNBOOK_TEST_PRINT_OWN"

func init() {
	if os.Getenv(childVar) == "" {
		return
	}
	n, err := linux.Open()
	if err != nil {
		panic(err)
	}
	all, err := n.Read(context.Background(), resource.Query{{Kind: resource.KindSession}})
	if err != nil {
		panic(err)
	}
	for _, s := range resource.All[resource.Sessions](all) {
		if s.Own && !s.Hidden() {
			fmt.Printf("own: %d from %s at port %d\n", s.Count, s.Peer.Addr(), s.Port)
		}
	}
	os.Exit(0)
}

// Where a process was handed the connection itself, that is its own session. One
// that it has besides is not, and neither are those of the process that started it.
func TestOwnSessionOnStdin(t *testing.T) {
	own, client := socketFile(t, "127.0.0.2")
	other, _ := socketFile(t, "127.0.0.3")
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{childVar + "=1"}
	cmd.Stdin, cmd.ExtraFiles = own, []*os.File{other}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := fmt.Sprintf("own: 1 from %s at port %d\n", client.Addr(), client.Port())
	if string(out) != want {
		t.Errorf("got %s, want %s", out, want)
	}
}

// socketFile is the server's end of a new session from an address of this
// machine. The client's address is returned with the port of the server.
func socketFile(t *testing.T, from string) (*os.File, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	f, err := far.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, netip.AddrPortFrom(netip.MustParseAddr(from), l.Addr().(*net.TCPAddr).AddrPort().Port())
}
