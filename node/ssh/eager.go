package ssh

import (
	"net"
	"sync/atomic"
	"syscall"
)

// eagerConn acknowledges what it reads at once, until it is relaxed.
//
// Until the agent runs, an sshd leaves Nagle's algorithm on: it holds its next
// small packet back until the last is acknowledged, and this machine would
// wait 40 ms with that. Every connection would stand still for so long.
type eagerConn struct {
	net.Conn
	relaxed atomic.Bool
}

func (c *eagerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.relaxed.Load() || n < 2 { // x/crypto/ssh reads the first line byte by byte
		return n, err
	}
	if s, ok := c.Conn.(syscall.Conn); ok {
		if raw, rawErr := s.SyscallConn(); rawErr == nil {
			raw.Control(acknowledge)
		}
	}
	return n, err
}
