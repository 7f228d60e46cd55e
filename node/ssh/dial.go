package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"

	"runbook/engine"
)

// Dial connects from the node, for [agent.Client]: by direct-tcpip, or direct-streamlocal for "unix".
func (s *stream) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := s.conn.DialContext(ctx, network, addr)
	var refused *ssh.OpenChannelError
	switch {
	case errors.As(err, &refused) && refused.Reason == ssh.Prohibited:
		return nil, &engine.Error{
			Code: engine.Unreachable, Cause: fmt.Sprintf("sshd there allows no connection to %s: %s", addr, refused.Message),
			Hint: "AllowTcpForwarding, AllowStreamLocalForwarding and PermitOpen in sshd_config say what it allows",
		}
	case errors.As(err, &refused):
		return nil, engine.Unreachable.Errorf("cannot connect from %s to %s: %s", s.target.Name, addr, refused.Message)
	case err != nil:
		return nil, s.target.fail(dialError(ctx, addr+" by way of "+s.target.Name, err))
	}
	return withDeadlines(c), nil
}

// withDeadlines is c with deadlines, which a channel of an SSH connection has none of: without
// them nothing that waits for an answer can be given up.
func withDeadlines(c net.Conn) net.Conn {
	near, far := net.Pipe()
	var over sync.Once
	end := func() {
		far.Close()
		c.Close()
	}
	for _, way := range []struct{ to, from net.Conn }{{c, far}, {far, c}} {
		go func() {
			io.Copy(way.to, way.from) //nolint:errcheck // either end may close it
			over.Do(end)
		}()
	}
	return near
}
