//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"runbook/engine"
)

// This file is how the processes of a lab talk: over unix sockets that keep
// packets apart. A packet is one value in JSON, and files that go with it.
// A lab's client sends one request over a connection and gets one reply.

// maxPacket bounds a packet; an argv is the longest thing in one.
const maxPacket = 128 << 10

// request is what is asked of the holder, or of a node's init.
type request struct {
	Op   string   `json:"op"` // dial, exec, status, down
	Node string   `json:"node,omitempty"`
	Port uint16   `json:"port,omitempty"`
	Wait int64    `json:"wait,omitempty"` // dial: for how many milliseconds
	Argv []string `json:"argv,omitempty"`
	Term string   `json:"term,omitempty"` // exec: the kind of the terminal, if any
}

// reply is what comes back. A dialled connection is the file that goes with it.
type reply struct {
	Error  *engine.Error `json:"error,omitempty"`
	Exit   int           `json:"exit,omitempty"`
	Status *Status       `json:"status,omitempty"`
}

// send sends v and files as one packet. The receiver gets copies of the files.
func send(c *net.UnixConn, v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxPacket {
		return engine.Invalid.Errorf("a request of %d bytes is longer than the %d that a lab takes", len(b), maxPacket)
	}
	var oob []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}

// receive waits for a packet. The files are the caller's to close.
func receive(c *net.UnixConn, v any) ([]*os.File, error) {
	b, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	if err := json.Unmarshal(b[:n], v); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("a packet of a lab's socket: %w", err)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// socketPair returns a connection, and the other end of it for a child.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, err := unixConn(os.NewFile(uintptr(fds[0]), "control"))
	theirs := os.NewFile(uintptr(fds[1]), "control")
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// control is the socket to the process that made this one. controlFD itself
// stays open too.
func control() (*net.UnixConn, error) {
	unix.CloseOnExec(controlFD)
	fd, err := unix.FcntlInt(controlFD, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return unixConn(os.NewFile(uintptr(fd), "control"))
}

// unixConn makes a connection of f, which it closes.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s is not a unix socket", f.Name())
	}
	return u, nil
}

// socketAddr names the socket in a lab's open folder. A socket's path may have
// 107 bytes only, so it is never named by the folder's own path.
func socketAddr(dir *os.File) *net.UnixAddr {
	return &net.UnixAddr{Net: "unixpacket", Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + sockName}
}
