package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// Postgres is a server of a test's own, in a folder of its own: its superuser is postgres, who
// needs no password, and neither does anybody else until its pg_hba.conf says so.
type Postgres struct {
	Dir  string // of its data
	Port int    // on the loopback, and of its unix socket in Dir
	Log  bytes.Buffer
	as   *syscall.Credential // nil: whoever runs the test
	bin  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// StartPostgres makes a server with lines of postgresql.conf and starts it. Whoever has
// started it must call Stop. Should the test's process be killed, it ends too.
func StartPostgres(settings ...string) (*Postgres, error) {
	bin, err := PostgresBin()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/dev/shm", "pg") // in memory; and short, as a unix socket's path is
	if err != nil {
		dir, err = os.MkdirTemp("", "pg")
	}
	if err != nil {
		return nil, err
	}
	p := &Postgres{Dir: dir, bin: bin}
	if err := p.make(settings); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := p.Start(); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Postgres) make(settings []string) error {
	if os.Geteuid() == 0 { // as whom it does not run
		name := "postgres"
		if _, err := user.Lookup(name); err != nil {
			name = "nobody"
		}
		u, err := user.Lookup(name)
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(p.Dir, uid, gid); err != nil {
			return err
		}
	}
	cmd := p.command("initdb", "-D", p.Dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	lines := append([]string{
		fmt.Sprintf("port = %d", p.Port), "listen_addresses = '127.0.0.1'", fmt.Sprintf("unix_socket_directories = '%s'", p.Dir),
		"fsync = off", "shared_buffers = 4MB", "max_connections = 20", "autovacuum = off",
	}, settings...)
	return p.Append("postgresql.conf", lines...)
}

// command is one of Postgres's programs, run as who it runs as.
func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir, cmd.Env = p.Dir, []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Append adds lines to a file of its folder, which it reads at a reload or a start.
func (p *Postgres) Append(file string, lines ...string) error {
	f, err := os.OpenFile(filepath.Join(p.Dir, file), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}

// enter moves the thread to the network namespace ns, if it is one.
func enter(ns string) error {
	if ns == "" {
		return nil
	}
	h, err := netns.GetFromName(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return netns.Set(h)
}

// Write writes a file of its folder that only it can read.
func (p *Postgres) Write(file string, text []byte) error {
	path := filepath.Join(p.Dir, file)
	if err := os.WriteFile(path, text, 0o600); err != nil || p.as == nil {
		return err
	}
	return os.Chown(path, int(p.as.Uid), int(p.as.Gid))
}

// Start starts it, once it is made or halted, and waits until it lets people in.
func (p *Postgres) Start() error { return p.start(0, "") }

// StartApart is Start in a pid namespace of its own, where pids can be chosen without
// touching those of the machine. It needs root.
func (p *Postgres) StartApart() error { return p.start(syscall.CLONE_NEWPID, "") }

// StartIn is Start in the network namespace ns. It needs root.
func (p *Postgres) StartIn(ns string) error { return p.start(0, ns) }

// Pid is that of its first process.
func (p *Postgres) Pid() int { return p.cmd.Process.Pid }

func (p *Postgres) start(namespaces uintptr, ns string) error {
	os.Remove(filepath.Join(p.Dir, "postmaster.pid")) //nolint:errcheck // which says that it is ready
	p.cmd = p.command("postgres", "-D", p.Dir)
	p.cmd.SysProcAttr.Cloneflags = namespaces
	p.cmd.Stderr, p.done = &p.Log, make(chan struct{})
	started := make(chan error, 1)
	go func() { // the thread that started it must live as long as it does: see prctl(2), PR_SET_PDEATHSIG
		runtime.LockOSThread()
		defer close(p.done)
		err := enter(ns) // the thread is never used again
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			p.cmd.Wait() //nolint:errcheck // it is told to end
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(filepath.Join(p.Dir, "postmaster.pid")); err == nil && strings.Contains(string(b), "\nready") {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("Postgres ended at once: %s", p.Log.String())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("Postgres is not ready after a minute")
		}
	}
}

// DSN is how to reach it through its unix socket, with further words.
func (p *Postgres) DSN(more string) string {
	return strings.TrimSpace(fmt.Sprintf("host=%s port=%d dbname=postgres user=postgres %s", p.Dir, p.Port, more))
}

// TCP is how to reach it through the loopback, with further words. It asks for no TLS where
// these do not, for a server without it ends a connection that tries.
func (p *Postgres) TCP(more string) string {
	return strings.TrimSpace(fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres user=postgres sslmode=disable %s", p.Port, more))
}

// Version is its major version, as 15.
func (p *Postgres) Version() int {
	b, err := os.ReadFile(filepath.Join(p.Dir, "PG_VERSION"))
	if err != nil {
		return 0
	}
	v, _ := strconv.Atoi(strings.TrimSpace(string(b))) // initdb has written it
	return v
}

// Halt ends it at once, as a crash does, and keeps its folder.
func (p *Postgres) Halt() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGQUIT) //nolint:errcheck // it may have ended
	<-p.done
}

// Stop ends it and removes its folder.
func (p *Postgres) Stop() {
	p.Halt()
	os.RemoveAll(p.Dir)
}

// As is who runs it, for other programs that do not run as root; nil: whoever runs the test.
func (p *Postgres) As() *syscall.Credential { return p.as }
