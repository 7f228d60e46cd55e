//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine"
)

// Lab is a lab that is up. It is safe for concurrent use.
type Lab struct {
	dir       string
	temporary bool
	nodes     []NodeInfo
	holder    int

	// Of the process that made the lab only.
	locked bool          // the folder was this lab's, at some time
	maker  *net.UnixConn // while it is open, a lab that does not stand lives
	died   chan struct{} // closed when the holder has been waited for
}

// Open finds the standing lab in dir, or in [DefaultDir] where dir is empty.
func Open(dir string) (*Lab, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, engine.Invalid.Errorf("the lab's folder: %w", err)
	}
	l := &Lab{dir: dir}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	l.holder = s.Holder
	for _, n := range s.Nodes {
		l.nodes = append(l.nodes, n.NodeInfo)
	}
	return l, nil
}

// Nodes returns the nodes in the order of their numbers.
func (l *Lab) Nodes() []NodeInfo { return append([]NodeInfo(nil), l.nodes...) }

// Dir is the folder of the lab's files.
func (l *Lab) Dir() string { return l.dir }

// KeyFile is the private key that [User] and [Operator] accept.
func (l *Lab) KeyFile() string { return filepath.Join(l.dir, keyName) }

// KnownHosts is the known_hosts file of the nodes, by name and by address.
func (l *Lab) KnownHosts() string { return filepath.Join(l.dir, knownHostsName) }

// HolderPID is the process that holds the lab, as this machine counts: a program
// in its network namespace, such as by nsenter -t PID -n, reaches the nodes' addresses.
func (l *Lab) HolderPID() int { return l.holder }

// Dial connects to a node's sshd. The connection is an ordinary one, though it
// lives in the lab's network.
func (l *Lab) Dial(ctx context.Context, node string) (net.Conn, error) {
	wait := 10 * time.Second
	if t, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(t))
	}
	_, files, err := l.ask(ctx, 0, request{Op: "dial", Node: node, Port: sshPort, Wait: max(1, wait.Milliseconds())})
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	if len(files) != 1 {
		return nil, engine.Internal.Errorf("the lab answered with %d connections", len(files))
	}
	return net.FileConn(files[0])
}

// Exec runs a program as root in a node's namespaces, without a shell, and
// returns its exit code, or 128 and the number of the signal that ended it. A
// program that cannot be run is an error and exit code 127 or 126, as in a shell.
// A nil file is /dev/null. When ctx ends, so does the program.
func (l *Lab) Exec(ctx context.Context, node string, argv []string, stdin, stdout, stderr *os.File) (int, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	files := []*os.File{stdin, stdout, stderr}
	for i, f := range files {
		if f == nil {
			files[i] = null
		}
	}
	r, _, err := l.ask(ctx, execGrace, request{Op: "exec", Node: node, Argv: argv, Term: os.Getenv("TERM")}, files...)
	return r.Exit, err
}

// Status asks the lab what it is made of.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	r, _, err := l.ask(ctx, 0, request{Op: "status"})
	if err != nil {
		return Status{}, err
	}
	return *r.Status, nil
}

// Down ends the lab. When it returns, no process of the lab is left. It goes on
// when ctx ends, for a few seconds at most: half a lab is of no use.
func (l *Lab) Down(ctx context.Context) error {
	defer l.sweep()
	// Opened before the holder answers, so that it cannot be another process by then.
	fd, err := unix.PidfdOpen(l.holder, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return engine.Internal.Errorf("process %d, which holds the lab: %w", l.holder, err)
	}
	defer unix.Close(fd)
	asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _, err = l.ask(asked, 0, request{Op: "down"})
	if err == nil {
		err = awaitEnd(fd)
	}
	if err != nil && l.alive() { // so its number is still its own
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		if err := awaitEnd(fd); err != nil {
			return err
		}
	}
	if l.maker != nil {
		l.maker.Close()
	}
	if l.died != nil {
		<-l.died
	}
	return nil
}

// alive tells whether the lab's holder, or that of a lab after it, still has the folder.
func (l *Lab) alive() bool {
	dir, err := lockDir(l.dir)
	if err == nil {
		dir.Close()
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

// awaitEnd waits for a process to end. For the holder that is when all of its
// PID namespace has ended.
func awaitEnd(pidfd int) error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 1000)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return engine.Internal.Errorf("waiting for the lab to end: %w", err)
		}
	}
	return engine.Internal.Errorf("the lab does not end")
}

// execGrace is how long Exec waits, when ctx has ended, for word that the
// program has ended too.
const execGrace = 2 * time.Second

// ask sends one request to the holder and waits for the reply. When ctx ends it
// hangs up, which also ends what was asked for, and returns after grace at most.
func (l *Lab) ask(ctx context.Context, grace time.Duration, r request, files ...*os.File) (reply, []*os.File, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, nil, engine.AsError(err)
	}
	c, err := l.connect()
	if err != nil {
		return reply{}, nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() {
		c.CloseWrite()
		c.SetReadDeadline(time.Now().Add(grace))
	})()
	if err := send(c, r, files...); err != nil {
		return reply{}, nil, fmt.Errorf("asking the lab: %w", err)
	}
	var answer reply
	got, err := receive(c, &answer)
	switch {
	case ctx.Err() != nil:
		closeAll(got)
		return reply{}, nil, engine.AsError(ctx.Err())
	case err != nil:
		return reply{}, nil, engine.Internal.Errorf("the lab has ended before it answered: %w", err)
	case answer.Error != nil:
		closeAll(got)
		return answer, nil, answer.Error
	}
	return answer, got, nil
}

func (l *Lab) connect() (*net.UnixConn, error) {
	dir, err := os.Open(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noLab("there is no " + l.dir)
	}
	if err != nil {
		return nil, engine.Invalid.Errorf("the lab's folder: %w", err)
	}
	defer dir.Close()
	c, err := net.DialUnix("unixpacket", nil, socketAddr(dir))
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, noLab("there is none in " + l.dir)
	case errors.Is(err, unix.ECONNREFUSED):
		return nil, noLab("the one in " + l.dir + " was killed")
	}
	return nil, engine.Invalid.Errorf("the lab in %s: %w", l.dir, err)
}
