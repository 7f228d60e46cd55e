//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

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

// socket is a netlink socket. One request at a time may use it.
//
// It is opened by the nl layer, but asks and listens by itself: that layer makes
// new memory for all that could come, 64 KB, each time that it listens, which for
// a request of many changes was half of all that the agent did.
type socket struct {
	*nl.NetlinkSocket
	seq     uint32 // of the last request
	out, in []byte
}

// largestAnswer is the most that the kernel puts into one answer.
const largestAnswer = 64 << 10

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
	s, err := openNetlink(n.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// Strict checking makes the kernel filter dumps by table, from Linux 4.20
	// on. Without it, everything is dumped, and filtered here. Its own words
	// come from 4.12 on.
	for _, option := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK} {
		err := unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, option, 1)
		if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
			s.Close()
			return nil, fmt.Errorf("ask netlink for filtered dumps and its own words: %w", err)
		}
	}
	if err := s.prime(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// openNetlink opens a socket of a netlink protocol in a network namespace.
func openNetlink(ns netns.NsHandle, protocol int) (*socket, error) {
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), protocol)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return &socket{NetlinkSocket: s, in: make([]byte, largestAnswer)}, nil
}

// prime has the kernel see how much s can receive at once. Before it has, it
// makes the first part of a dump so small that a route of many hops does not
// fit, and then ends the dump as if there were no routes at all.
func (s *socket) prime() error {
	msg := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(msg[4:], 1) // the loopback link, which is always there
	if err := s.ask(context.Background(), unix.RTM_GETLINK, 0, msg, 0, nil); err != nil {
		return fmt.Errorf("ask netlink for a first answer: %w", err)
	}
	return nil
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
	err = s.ask(ctx, kind, flags, payload, answers, each)
	var said *kernelError
	if err == nil || errors.Is(err, errInterrupted) || errors.As(err, &said) {
		n.release(s)
	} else { // more may come
		s.Close()
	}
	return err
}

// errInterrupted is the error of a dump during which something changed: what came may lack something.
var errInterrupted = errors.New("the dump was interrupted")

// kernelError is what the kernel says of a request that it refuses.
type kernelError struct {
	errno unix.Errno
	words string // its own, or those for errno
}

func (e *kernelError) Error() string { return e.words }
func (e *kernelError) Unwrap() error { return e.errno }

// ask sends one request and hands every answer of the type answers (0: any) to
// each, up to the last.
func (s *socket) ask(ctx context.Context, kind, flags int, payload []byte, answers int, each func([]byte)) error {
	s.seq++
	s.out = native.AppendUint32(s.out[:0], uint32(unix.SizeofNlMsghdr+len(payload)))
	s.out = native.AppendUint16(s.out, uint16(kind))
	s.out = native.AppendUint16(s.out, uint16(unix.NLM_F_REQUEST|flags))
	s.out = native.AppendUint32(s.out, s.seq)
	s.out = native.AppendUint32(s.out, 0) // its port is the kernel's to fill in
	s.out = append(s.out, payload...)
	if err := unix.Sendto(s.GetFd(), s.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	interrupted := false
	for over := false; !over; {
		size, err := s.listen(ctx)
		if err != nil {
			return err
		}
		for b := s.in[:size]; len(b) >= unix.SizeofNlMsghdr && !over; {
			n := int(native.Uint32(b))
			if n < unix.SizeofNlMsghdr || n > len(b) {
				return unix.EBADMSG
			}
			kind, flags, data := int(native.Uint16(b[4:])), int(native.Uint16(b[6:])), b[unix.SizeofNlMsghdr:n]
			mine := native.Uint32(b[8:]) == s.seq
			b = b[min(align(n), len(b)):]
			switch {
			case !mine:
			case kind == unix.NLMSG_ERROR || kind == unix.NLMSG_DONE:
				if err := verdict(kind, flags, data); err != nil {
					return err
				}
				over = true
			default:
				if each != nil && (answers == 0 || kind == answers) {
					each(data)
				}
				over = flags&unix.NLM_F_MULTI == 0
			}
			interrupted = interrupted || mine && flags&unix.NLM_F_DUMP_INTR != 0
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

// listenFor is how long a listener waits at a time: it does not hear ctx end meanwhile.
const listenFor = 50 * time.Millisecond

// listen receives what comes next into s.in, and returns its size. The kernel has
// answered most requests when it returns from sending them, so that there is mostly no wait.
func (s *socket) listen(ctx context.Context) (int, error) {
	for {
		n, _, err := unix.Recvfrom(s.GetFd(), s.in, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case err == nil && n > len(s.in):
			return 0, unix.EMSGSIZE
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN):
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(s.GetFd()), Events: unix.POLLIN}}, int(listenFor.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
	}
}

// verdict is the error in the last answer to a request, nil where all went well.
func verdict(kind, flags int, data []byte) error {
	if len(data) < 4 { // a DONE need not say how it went
		return nil
	}
	errno := unix.Errno(-int32(native.Uint32(data)))
	if errno == 0 {
		return nil
	}
	e := &kernelError{errno, errno.Error()}
	if flags&unix.NLM_F_ACK_TLVS == 0 {
		return e
	}
	words := data[4:]
	if kind == unix.NLMSG_ERROR { // the request comes first, or its header
		if len(words) < unix.SizeofNlMsghdr {
			return e
		}
		echoed := unix.SizeofNlMsghdr
		if flags&unix.NLM_F_CAPPED == 0 {
			echoed = align(int(native.Uint32(words)))
		}
		words = words[min(max(echoed, 0), len(words)):]
	}
	for kind, a := range attrs(words) {
		if kind == errMsg {
			e.words = text(a)
		}
	}
	return e
}

// errMsg is NLMSGERR_ATTR_MSG: the kernel's own words.
const errMsg = 1

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
		case !errors.Is(err, errInterrupted):
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
	words := errno.Error()
	var said *kernelError
	if errors.As(err, &said) {
		words = said.words
	}
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
	return ifr, unix.IoctlIfreq(s.GetFd(), op, ifr)
}
