package incident

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/lab"
)

// This file is the services: on each node one that lives off the database. Its
// pool keeps its connections open and asks over each all the time. A connection
// that does not answer in time is given up at once and replaced by a new one.

// Habits are how a service uses the database.
type Habits struct {
	Pool    int           // how many connections it keeps
	Every   time.Duration // how often it asks over each
	Timeout time.Duration // how long it waits for an answer before it gives the connection up
	Retry   time.Duration // how long it waits after a failure before it tries again
	// Orderly is a service that closes a connection as one usually does: the kernel repeats
	// what it says of that until it is heard. Else a connection is given up with a reset.
	Orderly bool
	// Settings are what each connection asks of the server, such as tcp_keepalives_idle.
	Settings map[string]string
}

// service is a service on a node, as its sockets are: they are made in the node's network.
type service struct {
	node    string
	net     *lab.NetNS
	server  netip.AddrPort
	habits  Habits
	sockets *sockets
	tell    func(node string, err error) // of each request how it ended: nil, it was served
}

// run keeps the pool until ctx ends.
func (s *service) run(ctx context.Context) {
	var all sync.WaitGroup
	for range s.habits.Pool {
		all.Go(func() { s.keep(ctx) })
	}
	all.Wait()
}

// keep is the life of one place in the pool.
func (s *service) keep(ctx context.Context) {
	var c *client
	defer func() { c.giveUp() }()
	wait := rand.N(s.habits.Every) // so that the places do not ask in step
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		var err error
		if c, err = s.request(ctx, c); ctx.Err() != nil {
			return
		}
		s.tell(s.node, err)
		if wait = s.habits.Every; err != nil {
			wait = s.habits.Retry
		}
	}
}

// request makes one request, over c or else over a new connection, and returns the connection if it can go on.
func (s *service) request(ctx context.Context, c *client) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.habits.Timeout)
	defer cancel()
	var err error
	if c == nil {
		if c, err = s.connect(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := c.conn.Exec(ctx, "select 1").ReadAll(); err != nil {
		c.giveUp()
		return nil, err
	}
	return c, nil
}

// client is one connection of a pool.
type client struct {
	conn    *pgconn.PgConn
	socket  *net.TCPConn
	sockets *sockets
}

var errGivenUp = errors.New("the connection was given up")

func (s *service) connect(ctx context.Context) (*client, error) {
	config, err := connection(s.server.Addr().String(), app, s.habits.Settings)
	if err != nil {
		return nil, err
	}
	c := &client{sockets: s.sockets}
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		if c.socket != nil { // the library would cancel the request of a connection that timed out
			return nil, errGivenUp
		}
		conn, err := s.net.Dial(ctx, network, s.server.String())
		if err != nil {
			return nil, err
		}
		c.socket = conn.(*net.TCPConn)
		if !s.habits.Orderly {
			c.socket.SetLinger(0) //nolint:errcheck // it is a setting of an open socket
		}
		s.sockets.add(c.socket)
		return conn, nil
	}
	c.conn, err = pgconn.ConnectConfig(ctx, &config.Config)
	if err != nil {
		c.giveUp()
		return nil, err
	}
	return c, nil
}

// giveUp closes the connection there and then: with a reset, which the kernel sends
// once and does not repeat. Where the link is down, that is lost.
func (c *client) giveUp() {
	if c == nil || c.socket == nil {
		return
	}
	c.sockets.remove(c.socket)
	c.socket.Close() //nolint:errcheck // it is given up
}

// sockets are the open connections of services, by the address that the server knows them by.
type sockets struct {
	mu   sync.Mutex
	open map[netip.AddrPort]bool
}

func address(c *net.TCPConn) netip.AddrPort {
	a := c.LocalAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (s *sockets) add(c *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[address(c)] = true
}

func (s *sockets) remove(c *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, address(c))
}

func (s *sockets) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// dead counts the backends of services whose client has closed its socket.
func (s *sockets) dead(all []backend) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range all {
		if b.role == app && !s.open[b.client] {
			n++
		}
	}
	return n
}
