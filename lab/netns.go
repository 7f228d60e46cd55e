//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"runbook/engine"
)

// NetNS is the network namespace of a node: a socket that is made in it is the
// node's own, as if a program there had made it. It is safe for concurrent use.
type NetNS struct{ file *os.File }

// NetNS opens the network namespace of a node. It lasts until it is closed,
// even if the lab ends before.
func (l *Lab) NetNS(ctx context.Context, node string) (*NetNS, error) {
	s, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.Nodes, func(n NodeStatus) bool { return n.Name == node })
	if i < 0 {
		return nil, &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("the lab has no node %q", node)}
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.Nodes[i].PID))
	if err != nil {
		return nil, &engine.Error{Code: engine.Unreachable, Node: node, Cause: "its network has ended with it", Kernel: err.Error()}
	}
	return &NetNS{f}, nil
}

// Close lets go of the namespace. Sockets that are in it keep it.
func (n *NetNS) Close() error { return n.file.Close() }

// Do calls f on a thread that is in the namespace, and waits for it.
func (n *NetNS) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Dial connects from the node. The address is a literal one and a port: a name
// would be looked up by this machine.
func (n *NetNS) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}
