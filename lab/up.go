//go:build linux

package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"

	"runbook/engine"
)

// The files in a lab's folder. The folder itself is what a holder keeps locked.
const (
	sockName       = "sock"
	keyName        = "key"
	knownHostsName = "known_hosts"
	logName        = "log"
)

var labFiles = []string{sockName, keyName, knownHostsName, logName}

// Up makes a lab and returns when every node's sshd accepts connections. When
// ctx ends before that, nothing is left of it; afterwards ctx means nothing to it.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	if err := prerequisites(); err != nil {
		return nil, err
	}
	dir, temporary, err := makeDir(o)
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, temporary: temporary}
	if err := l.up(ctx, o); err != nil {
		if l.locked {
			l.sweep()
		}
		return nil, err
	}
	return l, nil
}

// makeDir makes the folder of a lab. A temporary one goes with the lab.
func makeDir(o Options) (dir string, temporary bool, err error) {
	if o.Dir == "" && !o.Standing {
		base := os.Getenv("XDG_RUNTIME_DIR")
		if info, err := os.Stat(base); err != nil || !info.IsDir() {
			base = ""
		}
		dir, err = os.MkdirTemp(base, "runbook-lab-")
		if err != nil {
			return "", false, engine.Internal.Errorf("the lab's folder: %w", err)
		}
		return dir, true, nil
	}
	if dir = o.Dir; dir == "" {
		dir = DefaultDir()
	}
	if dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", false, engine.Invalid.Errorf("the lab's folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", false, engine.Invalid.Errorf("the lab's folder: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return "", false, &engine.Error{Code: engine.Invalid, Cause: "others may write to the lab's folder " + dir,
			Hint: "use a folder of its own"}
	}
	return dir, false, nil
}

// up starts the holder and waits until the lab is ready.
func (l *Lab) up(ctx context.Context, o Options) error {
	dir, err := lockDir(l.dir)
	if err != nil {
		return err
	}
	defer dir.Close() // the holder keeps its copy, and with it the lock
	l.locked = true
	removeFiles(dir) // of a lab whose holder was killed
	config, err := l.writeKeys(o)
	if err != nil {
		return engine.Internal.Errorf("the lab's keys: %w", err)
	}
	files, err := l.holderFiles(dir)
	if err != nil {
		return engine.Internal.Errorf("the lab's socket: %w", err)
	}
	defer closeAll(files)
	maker, theirs, err := socketPair()
	if err != nil {
		return engine.Internal.Errorf("the lab's control socket: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(l.dir, logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return engine.Internal.Errorf("the lab's log: %w", err)
	}
	cmd := child(holderArg)
	cmd.ExtraFiles = append([]*os.File{theirs}, files...)
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	log.Close()
	theirs.Close()
	if err != nil {
		maker.Close()
		return engine.Invalid.Errorf("no lab here: making namespaces: %w", err)
	}
	l.maker = maker
	l.died = make(chan struct{})
	go func() {
		cmd.Wait()
		close(l.died)
	}()
	if err := l.awaitReady(ctx, config); err != nil {
		l.abandon(cmd)
		return err
	}
	if o.Standing {
		defer maker.Close()
		l.maker = nil
		return send(maker, stay)
	}
	return nil
}

// abandon ends a lab that did not become ready.
func (l *Lab) abandon(cmd *exec.Cmd) {
	l.maker.Close()
	cmd.Process.Kill()
	<-l.died
}

// lockDir opens a lab's folder and locks it. The lock goes with the open file:
// it lasts until the last process that has inherited it ends, and so tells a
// lab that is up from one that was killed.
func lockDir(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, engine.Invalid.Errorf("the lab's folder: %w", err)
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return dir, nil
	}
	dir.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &engine.Error{Code: engine.Invalid, Cause: "a lab is up already, in " + path,
			Hint: "use it with -i lab, or end it with runbook lab down", Err: err}
	}
	return nil, engine.Internal.Errorf("locking the lab's folder %s: %w", path, err)
}

// writeKeys makes the client's key and the nodes', and what ssh needs of them.
func (l *Lab) writeKeys(o Options) (holderConfig, error) {
	c := holderConfig{Dir: l.dir}
	if l.temporary {
		c.Base = filepath.Base(l.dir)
	}
	var err error
	if c.NetNS, err = os.Readlink("/proc/self/ns/net"); err != nil {
		return c, err
	}
	seed := newSeed()
	private, err := privateKeyPEM(seed, "runbook-lab")
	if err != nil {
		return c, err
	}
	public, err := publicKeyLine(seed)
	if err != nil {
		return c, err
	}
	c.ClientKey = public + " runbook-lab\n"
	var known strings.Builder
	for i := 1; i <= o.Nodes; i++ {
		seed := newSeed()
		c.HostKeys = append(c.HostKeys, seed)
		public, err := publicKeyLine(seed)
		if err != nil {
			return c, err
		}
		info := nodeInfo(i)
		fmt.Fprintf(&known, "%s,%s %s\n", info.Name, knownhosts.Normalize(info.Addr), public)
	}
	return c, errors.Join(
		os.WriteFile(filepath.Join(l.dir, keyName), []byte(private), 0o600),
		os.WriteFile(filepath.Join(l.dir, knownHostsName), []byte(known.String()), 0o600))
}

func newSeed() []byte {
	b := make([]byte, ed25519.SeedSize)
	rand.Read(b)
	return b
}

// holderFiles opens what the holder inherits, in the order of its numbers.
func (l *Lab) holderFiles(dir *os.File) ([]*os.File, error) {
	listener, err := net.ListenUnix("unixpacket", socketAddr(dir))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(filepath.Join(l.dir, sockName), 0o600); err != nil {
		return nil, err
	}
	socket, err := listener.File()
	if err != nil {
		return nil, err
	}
	locked, err := unix.FcntlInt(dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		socket.Close()
		return nil, err
	}
	files := []*os.File{socket, os.NewFile(uintptr(locked), l.dir)}
	if l.temporary {
		parent, err := os.Open(filepath.Dir(l.dir))
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files = append(files, parent)
	}
	return files, nil
}

// awaitReady tells the holder what to make and waits for its word.
func (l *Lab) awaitReady(ctx context.Context, c holderConfig) error {
	defer context.AfterFunc(ctx, func() { l.maker.SetDeadline(time.Now()) })()
	if err := send(l.maker, c); err != nil {
		return l.deathOf(ctx, err)
	}
	var r reply
	if _, err := receive(l.maker, &r); err != nil {
		return l.deathOf(ctx, err)
	}
	if r.Error != nil {
		return r.Error
	}
	l.holder = r.Status.Holder
	for _, n := range r.Status.Nodes {
		l.nodes = append(l.nodes, n.NodeInfo)
	}
	return nil
}

// deathOf says why a holder gave no answer: its log knows.
func (l *Lab) deathOf(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return engine.Internal.Errorf("the lab was not up in time: %w", ctx.Err())
	case ctx.Err() != nil:
		return engine.AsError(ctx.Err())
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("its holder has ended")
	}
	b, _ := os.ReadFile(filepath.Join(l.dir, logName))
	if text := strings.TrimSpace(string(b)); text != "" {
		first, _, _ := strings.Cut(text, "\n")
		return engine.Internal.Errorf("the lab could not be made: %s", first)
	}
	return engine.Internal.Errorf("the lab could not be made: %w", err)
}

// removeFiles removes a lab's files from its folder, which the caller has locked.
func removeFiles(dir *os.File) {
	for _, name := range labFiles {
		unix.Unlinkat(int(dir.Fd()), name, 0)
	}
}

// sweep removes what a lab that has ended left behind. A holder does it itself,
// unless it was killed; and by now there may be another lab in the folder.
func (l *Lab) sweep() {
	dir, err := lockDir(l.dir)
	if err != nil {
		return
	}
	defer dir.Close()
	removeFiles(dir)
	if l.temporary {
		os.Remove(l.dir)
	}
}
