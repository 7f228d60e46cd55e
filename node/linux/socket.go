//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"runbook/engine"
)

// dumpTries is how often a dump is tried that the kernel says was interrupted
// by a change. On a busy node every third is.
const dumpTries = 30

// idleSockets is how many sockets are kept for later requests.
const idleSockets = 4

// socket is an rtnetlink socket. One request at a time may use it.
type socket struct {
	nl.SocketHandle
	words bool // the kernel gives its own words with an error
}

// say has the kernel give its own words with an error, or not.
func (s *socket) say(words bool) error {
	if s.words == words {
		return nil
	}
	err := s.Socket.SetExtAck(words)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) { // from Linux 4.12 on
		return fmt.Errorf("ask netlink for its own words: %w", err)
	}
	s.words = words
	return nil
}

// socket takes an idle socket or opens one.
func (n *Node) socket() (*socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, os.ErrClosed
	}
	if last := len(n.idle) - 1; last >= 0 {
		s := n.idle[last]
		n.idle = n.idle[:last]
		return s, nil
	}
	ns, err := nl.GetNetlinkSocketAt(n.ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// Strict checking makes the kernel filter dumps by table, from Linux 4.20
	// on. Without it, everything is dumped, and filtered here.
	err = unix.SetsockoptInt(ns.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		ns.Close()
		return nil, fmt.Errorf("ask netlink for filtered dumps: %w", err)
	}
	if err := prime(ns); err != nil {
		ns.Close()
		return nil, err
	}
	return &socket{SocketHandle: nl.SocketHandle{Socket: ns}}, nil
}

// prime has the kernel see how much s can receive at once. Before it has, it
// makes the first part of a dump so small that a route of many hops does not
// fit, and then ends the dump as if there were no routes at all.
func prime(s *nl.NetlinkSocket) error {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	msg := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(msg[4:], 1) // the loopback link, which is always there
	req.AddRawData(msg)
	if err := s.Send(req); err != nil {
		return fmt.Errorf("ask netlink for a first answer: %w", err)
	}
	_, _, err := s.Receive()
	return err
}

// release gives s back after a request that was answered to its end.
func (n *Node) release(s *socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || len(n.idle) >= idleSockets {
		s.Close()
		return
	}
	n.idle = append(n.idle, s)
}

// exchange sends one request and hands every answer of the type answers to
// each. The bytes are valid until the next one. When ctx ends, so does
// exchange; the request itself may or may not have been carried out.
func (n *Node) exchange(ctx context.Context, kind, flags int, payload []byte, answers int, each func([]byte)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := n.socket()
	if err != nil {
		return err
	}
	// nl panics on the words of a dump that fails: it takes them for an echoed request
	if err := s.say(flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP); err != nil {
		s.Close()
		return err
	}
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: &s.SocketHandle}
	req.AddRawData(payload)
	stop := context.AfterFunc(ctx, s.Close) // frees a blocked receive
	err = req.ExecuteIter(unix.NETLINK_ROUTE, uint16(answers), func(msg []byte) bool {
		if each != nil {
			each(msg)
		}
		return true
	})
	if !stop() {
		s.Close()
		return ctx.Err()
	}
	var errno unix.Errno
	if err == nil || errors.Is(err, nl.ErrDumpInterrupted) || errors.As(err, &errno) {
		n.release(s)
	} else {
		s.Close()
	}
	return err
}

// dump asks for a table of the kernel, and again for as long as it changes
// meanwhile. start is called before each try and must forget the one before.
func (n *Node) dump(ctx context.Context, kind int, payload []byte, answers int, start func(), each func([]byte)) error {
	for range dumpTries {
		start()
		err := n.exchange(ctx, kind, unix.NLM_F_DUMP, payload, answers, each)
		switch {
		case errors.Is(err, unix.ENOENT), // the routing table that was asked for does not exist
			errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT): // the kernel has nothing of the kind
			return nil
		case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
			return err
		case !errors.Is(err, nl.ErrDumpInterrupted):
			return unreadable(err)
		}
	}
	return engine.Unreachable.Errorf("its network state changes too fast to be read: %d dumps were interrupted", dumpTries)
}

// unreadable is the error of a read. It is not a refusal, which would say that
// the node is as it was.
func unreadable(err error) error {
	return &engine.Error{Code: engine.Unreachable, Cause: "its network state cannot be read", Kernel: err.Error()}
}

// refusal is err as an *engine.NodeError, where the kernel said it.
func refusal(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	// nl gives "errno's text: the kernel's words", or the first alone
	words := strings.TrimPrefix(err.Error(), errno.Error()+": ")
	return &engine.NodeError{Errno: unix.ErrnoName(errno), Words: words}
}

// linkName is the name of the link with this index, or "" where there is none.
// It costs one system call, so that no cache of names can be out of date.
func (n *Node) linkName(index uint32) (string, error) {
	ifr, err := n.ifreq(unix.SIOCGIFNAME, "", index)
	if err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// linkIndex is the index of the link with this name. Where there is none, the
// error is ENODEV.
func (n *Node) linkIndex(name string) (uint32, error) {
	ifr, err := n.ifreq(unix.SIOCGIFINDEX, name, 0)
	if err != nil {
		return 0, err
	}
	return ifr.Uint32(), nil
}

func (n *Node) ifreq(op uint, name string, index uint32) (*unix.Ifreq, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil { // too long for any link
		return nil, unix.ENODEV
	}
	ifr.SetUint32(index)
	s, err := n.socket()
	if err != nil {
		return nil, err
	}
	defer n.release(s)
	return ifr, unix.IoctlIfreq(s.Socket.GetFd(), op, ifr)
}
