package ssh

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxJumps is how many jump hosts may lie one behind the other.
const maxJumps = 8

// throughJump connects by way of the last jump host of s, which is reached by
// way of those before it.
func throughJump(ctx context.Context, t Target, s settings, depth int) (net.Conn, []func(), error) {
	if depth >= maxJumps {
		return nil, nil, fmt.Errorf("more than %d jump hosts lie before %s: do they go in a circle?", maxJumps, s.name)
	}
	before, last := "", s.jump
	if i := strings.LastIndex(s.jump, ","); i >= 0 {
		before, last = s.jump[:i], s.jump[i+1:]
	}
	via, err := parseJump(last)
	if err != nil {
		return nil, nil, err
	}
	via.ConfigFile, via.KnownHosts, via.DialContext, via.ProxyJump = t.ConfigFile, t.KnownHosts, t.DialContext, before
	if t.ConfigFile == "none" { // nothing else can say which key to use there
		via.IdentityFiles = t.IdentityFiles
	}
	hop, err := jumps.get(ctx, via, depth+1)
	if err != nil {
		return nil, nil, err
	}
	conn, err := hop.client.DialContext(ctx, "tcp", s.addr())
	if err != nil {
		if _, refused := err.(*ssh.OpenChannelError); !refused {
			jumps.forget(hop) // the connection itself is lost
		}
		hop.release()
		return nil, nil, dialError(ctx, s.addr()+" by way of "+last, err)
	}
	return conn, []func(){hop.release}, nil
}

// parseJump reads [ssh://][user@]host[:port].
func parseJump(text string) (Target, error) {
	rest := strings.TrimPrefix(strings.TrimSpace(text), "ssh://")
	var t Target
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		t.User, rest = rest[:i], rest[i+1:]
	}
	t.Host = rest
	if host, port, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return t, fmt.Errorf("jump host %q: port %q is no number", text, port)
		}
		t.Host, t.Port = host, int(n)
	}
	t.Host = strings.Trim(t.Host, "[]")
	t.Name = t.Host
	return t, nil
}

// jump is a connection to a jump host, shared by all nodes behind it: an sshd
// drops connections when ten are shaking hands.
type jump struct {
	pool   *jumpPool
	key    string
	ready  chan struct{} // closed when client or err is set
	client *connection
	err    error
	users  int // guarded by pool.mu
}

// jumpCount numbers the connections that are not shared.
var jumpCount atomic.Int64

type jumpPool struct {
	mu    sync.Mutex
	jumps map[string]*jump
}

var jumps = jumpPool{jumps: map[string]*jump{}}

// get connects to the jump host t, or shares the connection that is there.
// The caller must release it.
func (p *jumpPool) get(ctx context.Context, t Target, depth int) (*jump, error) {
	s, err := settingsOf(ctx, t)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%+v", s)
	if t.DialContext != nil { // two dialers may lead to two hosts, and cannot be told apart
		key += fmt.Sprint(" ", jumpCount.Add(1))
	}
	p.mu.Lock()
	j := p.jumps[key]
	if j == nil {
		j = &jump{pool: p, key: key, ready: make(chan struct{})}
		p.jumps[key] = j
		go func() {
			// not the first user's context: the others would fail with it
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTime)
			defer cancel()
			j.client, j.err = dial(ctx, t, s, depth)
			if j.err != nil {
				p.forget(j)
			}
			close(j.ready)
			j.release() // its own use, so that it is not closed before it is ready
		}()
		j.users++
	}
	j.users++
	p.mu.Unlock()
	select {
	case <-j.ready:
		if j.err != nil {
			return nil, j.err
		}
		return j, nil
	case <-ctx.Done():
		j.release()
		return nil, dialError(ctx, s.addr(), ctx.Err())
	}
}

// forget has later users connect anew.
func (p *jumpPool) forget(j *jump) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.jumps[j.key] == j {
		delete(p.jumps, j.key)
	}
}

// release ends one use of j. After the last it is closed.
func (j *jump) release() {
	j.pool.mu.Lock()
	j.users--
	unused := j.users == 0
	if unused && j.pool.jumps[j.key] == j {
		delete(j.pool.jumps, j.key)
	}
	j.pool.mu.Unlock()
	if unused && j.client != nil {
		j.client.close()
	}
}

// throughCommand connects by the ProxyCommand of the user's configuration.
// ssh runs it in a shell, so a shell runs it here; host and user, which are
// put into it, were checked.
func throughCommand(s settings) (net.Conn, error) {
	for what, word := range map[string]string{"host": s.host, "user": s.user} {
		if err := checkWord(what, word); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command("/bin/sh", "-c", "exec "+s.tokens(s.command))
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the ProxyCommand for %s: %w", s.name, err)
	}
	return &commandConn{Reader: out, WriteCloser: in, cmd: cmd, addr: s.addr()}, nil
}

// commandConn is the stdin and stdout of a process as a net.Conn without deadlines.
type commandConn struct {
	io.Reader
	io.WriteCloser
	cmd  *exec.Cmd
	addr string
	once sync.Once
}

func (c *commandConn) Close() error {
	c.once.Do(func() {
		c.WriteCloser.Close()
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	return nil
}

// Network and String make it its own address.
func (c *commandConn) Network() string                  { return "command" }
func (c *commandConn) String() string                   { return c.addr }
func (c *commandConn) LocalAddr() net.Addr              { return c }
func (c *commandConn) RemoteAddr() net.Addr             { return c }
func (c *commandConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *commandConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *commandConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
