//go:build linux

package linux_test

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
	"runbook/node/nodetest"
)

// BenchmarkSessions reads the sessions of nodes with few and with many sockets,
// and what a snapshot costs with them in it, and without.
//
// "one peer" is 10,050 sessions to one server, "many peers" as many to 10,050
// of them, each of which the kernel must be asked the way to.
func BenchmarkSessions(b *testing.B) {
	for _, c := range []struct {
		name         string
		count, peers int
	}{{"none", 0, 1}, {"few", 10, 1}, {"one peer", 10050, 1}, {"many peers", 10050, 10050}} {
		b.Run(c.name, func(b *testing.B) {
			n, ns, peer := peered(b)
			for i := range (c.peers + 249) / 250 { // each a net of its own, routed to the peer
				nodetest.IP(b, "-n", ns, "route", "add", fmt.Sprintf("10.30.%d.0/24", i), "via", "10.98.0.1", "dev", "eth1")
			}
			nodetest.IP(b, "-n", peer, "route", "add", "local", "10.30.0.0/16", "dev", "lo")
			fill(b, ns, peer, c.count, c.peers)
			for _, what := range []struct {
				name string
				do   func() error
			}{
				{"sessions", func() error {
					_, err := n.Read(b.Context(), resource.Query{{Kind: resource.KindSession}})
					return err
				}},
				{"snapshot without", func() error {
					_, err := n.Read(b.Context(), resource.Query{{Kind: resource.KindLink}, {Kind: resource.KindAddr}, {Kind: resource.KindRoute}})
					return err
				}},
				{"snapshot", func() error {
					_, _, err := n.Snapshot(b.Context(), 300)
					return err
				}},
			} {
				b.Run(what.name, func(b *testing.B) {
					for b.Loop() {
						if err := what.do(); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// fill opens sessions from the node to the peer, spread over so many of its
// addresses. Nobody takes them there, so that they need half of the open files.
func fill(b *testing.B, ns, peer string, count, peers int) {
	b.Helper()
	nodetest.IP(b, "netns", "exec", peer, "sysctl", "-q", "-w", "net.core.somaxconn=65535", "net.ipv4.tcp_max_syn_backlog=65535")
	socket := func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			b.Cleanup(func() { unix.Close(fd) })
		}
		return fd, err
	}
	nodetest.Inside(b, peer, func() error {
		fd, err := socket()
		return errors.Join(err, unix.Bind(fd, &unix.SockaddrInet4{Port: 5432}), unix.Listen(fd, 65535))
	})
	nodetest.Inside(b, ns, func() error {
		for i := range count {
			p := i % peers
			fd, err := socket()
			if err != nil {
				return err
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 5432, Addr: [4]byte{10, 30, byte(p / 250), byte(p%250 + 1)}}); err != nil {
				return fmt.Errorf("session %d: %w", i, err)
			}
		}
		return nil
	})
}
