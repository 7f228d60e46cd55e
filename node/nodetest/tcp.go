package nodetest

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netns"
)

// Peered makes the namespace of [Usual], and gives addresses to the machine at
// the other ends of its links: 10.99.0.1 on eth0; 10.98.0.1, 10.98.0.9,
// fd00:98::1 and fd00:98::9 on eth1; and behind these 10.20.0.1 to 10.20.0.9
// and fd00:20::1 to fd00:20::9. It returns the names of both namespaces.
func Peered(t testing.TB) (node, peer string) {
	t.Helper()
	node = Usual.Namespace(t)
	peer = node + "-peer"
	add := func(dev string, prefixes ...string) {
		for _, p := range prefixes {
			args := []string{"-n", peer, "addr", "add", p, "dev", dev}
			if strings.Contains(p, ":") {
				args = append(args, "nodad")
			}
			IP(t, args...)
		}
	}
	IP(t, "-n", peer, "link", "set", "lo", "up")
	add("eth0", "10.99.0.1/16")
	add("eth1", "10.98.0.1/16", "10.98.0.9/16", "fd00:98::1/64", "fd00:98::9/64")
	for i := 1; i < 10; i++ {
		add("lo", fmt.Sprintf("10.20.0.%d/32", i), fmt.Sprintf("fd00:20::%d/128", i))
	}
	return node, peer
}

// Inside runs f on a thread that is in a network namespace: the sockets that f
// makes belong to it.
func Inside(t testing.TB, ns string, f func() error) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		there, err := netns.GetFromName(ns)
		if err == nil {
			err = netns.Set(there)
			there.Close()
		}
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// Echo listens in a namespace and sends back what comes, until the test ends.
func Echo(t testing.TB, ns, addr string) {
	t.Helper()
	var l net.Listener
	Inside(t, ns, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			go echo(c)
		}
	}()
}

func echo(c net.Conn) {
	b := make([]byte, 64)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// DialTCP opens a session from a namespace, from a local address where one is given.
func DialTCP(t testing.TB, ns, local, to string) *net.TCPConn {
	t.Helper()
	var near *net.TCPAddr
	if local != "" {
		near = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 0))
	}
	var c *net.TCPConn
	Inside(t, ns, func() (err error) { // a Dialer would try on other threads
		c, err = net.DialTCP("tcp", near, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}
