// Package ssh reaches a node over SSH: it connects as the user's ssh would,
// starts the agent there, installing it first where it is missing, and is then
// an engine.Node of package agent.
//
// This package never accepts a host key that known_hosts does not have, never
// asks anything, and never passes an operator's data to a shell. Whatever goes
// wrong is an *engine.Error of the code Unreachable that names the node.
//
//	ssh.go      Target, Dial, the handshake
//	config.go   what the user's ssh configuration says of a host
//	hostkey.go  known_hosts
//	auth.go     keys from files and from ssh-agent
//	proxy.go    jump hosts and proxy commands
//	stream.go   the connection to the agent, from its start
//	dial.go     other connections through it
//	script.go   the shell lines that find, start and install the agent
//	eager.go    acknowledging at once, so that an sshd does not wait
package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"runbook/engine"
	"runbook/node/agent"
)

// Target says which node to reach, and how. What is zero is taken from the
// user's ssh configuration.
type Target struct {
	Name          string   // of the node, for errors
	Host          string   // a name of the configuration, a DNS name or an address
	Port          int      // 22 where nobody says
	User          string   // the operator's own name where nobody says
	IdentityFiles []string // private keys; given, no others are tried
	KnownHosts    []string // known_hosts files; given, no others are read
	ProxyJump     string   // [user@]host[:port], several with commas; "none" for none
	Become        string   // "": the agent runs as User; "sudo": as root, by sudo -n
	ConfigFile    string   // "": the user's and the system's; "none": none; else this one

	// DialContext replaces the dialer of package net.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Agents gives the agent for a platform, "linux/amd64" or "linux/arm64".
	Agents func(platform string) (Agent, error)
}

// Agent is an agent that can be installed on a node.
type Agent struct {
	Gzip   func() ([]byte, error) // the executable, compressed: asked for where a node does not have it
	SHA256 string                 // of the executable, in lower-case hexadecimal
}

// connectTime bounds connecting and shaking hands where ctx does not.
const connectTime = 30 * time.Second

// Dial connects to t and starts its agent. It returns once the agent was asked to
// start; if that fails, the first call of the node says why.
func Dial(ctx context.Context, t Target) (engine.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	lines, err := linesFor(t)
	if err != nil {
		return nil, t.fail(err)
	}
	s, err := settingsOf(ctx, t)
	if err != nil {
		return nil, t.fail(err)
	}
	c, err := dial(ctx, t, s, 0)
	if err != nil {
		return nil, t.fail(err)
	}
	st := &stream{target: t, addr: s.addr(), user: s.user, conn: c, lines: lines}
	stop := context.AfterFunc(ctx, c.close)
	err = st.start()
	if !stop() {
		err = fmt.Errorf("%s did not answer in time: %w", s.addr(), context.Cause(ctx))
	}
	if err != nil {
		c.close()
		return nil, t.fail(err)
	}
	return agent.NewClient(st, agent.Peer{Name: t.Name, Addr: s.addr()}), nil
}

// fail makes err an error of the node.
func (t Target) fail(err error) error {
	var known *engine.Error
	if errors.As(err, &known) {
		e := *known // a copy: nodes behind one jump host share its error
		e.Node = t.Name
		return &e
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &engine.Error{Code: engine.Unreachable, Node: t.Name, Cause: err.Error(), Err: err}
}

// connection is an SSH connection and all that it goes through.
type connection struct {
	*ssh.Client
	eager *eagerConn
	under []func() // closes what it goes through
	once  sync.Once
}

// close ends the connection. It may be called more than once.
func (c *connection) close() {
	c.once.Do(func() {
		c.Client.Close()
		c.Client.Wait()
		for _, f := range c.under {
			f()
		}
	})
}

// dial connects to the host that s describes. depth counts the jumps behind it. A
// server that turns a connection away before hands are shaken is asked again.
func dial(ctx context.Context, t Target, s settings, depth int) (*connection, error) {
	for try := 1; ; try++ {
		c, err := dialOnce(ctx, t, s, depth)
		if try == tries || !turnedAway(err) {
			return c, err
		}
		select {
		case <-time.After(time.Duration(try) * turnedAwayWait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func dialOnce(ctx context.Context, t Target, s settings, depth int) (*connection, error) {
	keys, err := hostKeysFor(s)
	if err != nil {
		return nil, err
	}
	leave := func() {}
	if s.jump == "" { // behind a jump host the way there comes first, or two could wait for each other
		if leave, err = entries.enter(ctx, s.door()); err != nil {
			return nil, fmt.Errorf("%s was not asked in time: %w", s.addr(), err)
		}
	}
	conn, under, err := connect(ctx, t, s, depth)
	if err == nil && s.jump != "" {
		if leave, err = entries.enter(ctx, s.door()); err != nil {
			conn.Close()
			for _, f := range under {
				f()
			}
			return nil, fmt.Errorf("%s was not asked in time: %w", s.addr(), err)
		}
	}
	if err != nil {
		leave()
		return nil, err
	}
	defer leave()
	eager := &eagerConn{Conn: conn}
	conn = eager
	undo := func() {
		conn.Close()
		for _, f := range under {
			f()
		}
	}
	offer := &offer{settings: s}
	defer offer.close()
	config := &ssh.ClientConfig{
		User:              s.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(offer.signers)},
		HostKeyCallback:   keys.check,
		HostKeyAlgorithms: keys.algorithms(),
	}
	// x/crypto/ssh waits for a dead peer for ever, and not every conn has deadlines
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	sc, channels, requests, err := ssh.NewClientConn(conn, s.addr(), config)
	if !stop() && err == nil {
		sc.Close()
		err = ctx.Err()
	}
	if err != nil {
		undo()
		switch {
		case keys.refused != nil:
			return nil, keys.refused
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%s did not answer in time: %w", s.addr(), context.Cause(ctx))
		default:
			return nil, offer.explain(err)
		}
	}
	return &connection{Client: ssh.NewClient(sc, channels, requests), eager: eager, under: under}, nil
}

// connect makes the byte stream to the host that s describes. The functions
// close what lies under it.
func connect(ctx context.Context, t Target, s settings, depth int) (net.Conn, []func(), error) {
	switch {
	case s.jump != "":
		return throughJump(ctx, t, s, depth)
	case s.command != "":
		conn, err := throughCommand(s)
		return conn, nil, err
	}
	dialContext := t.DialContext
	if dialContext == nil {
		dialContext = (&net.Dialer{}).DialContext
	}
	conn, err := dialContext(ctx, "tcp", s.addr())
	if err != nil {
		return nil, nil, dialError(ctx, s.addr(), err)
	}
	return conn, nil, nil
}

// dialError is err in our words: net's repeat the address, and syscalls.
func dialError(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s did not answer in time: %w", addr, context.Cause(ctx))
	}
	words := err.Error()
	var op *net.OpError
	var call *os.SyscallError
	known := &engine.Error{} // of a dialer that is not net's
	switch {
	case errors.As(err, &known):
		words = known.Cause
	case errors.As(err, &call):
		words = call.Err.Error()
	case errors.As(err, &op):
		words = op.Err.Error()
	}
	return &engine.Error{Code: engine.Unreachable, Cause: fmt.Sprintf("cannot connect to %s: %s", addr, words), Kernel: known.Kernel, Err: err}
}

func joinPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
