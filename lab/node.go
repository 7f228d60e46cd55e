//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine"
)

// This file is the life of process 1 of a node. It sets the node up, then starts
// this program once more in its place, as an init that may do less: it keeps sshd
// running, runs what Exec asks for, and reaps orphans.

// nodeConfig is what the holder tells a node's init.
type nodeConfig struct {
	Index     int    `json:"index"`
	Nodes     int    `json:"nodes"`      // of the whole lab
	HostKey   []byte `json:"host_key"`   // the seed of its private key
	ClientKey string `json:"client_key"` // a line for authorized_keys
	Penalties bool   `json:"penalties"`  // sshd has PerSourcePenalties
	NetNS     string `json:"netns"`      // the holder's
}

// nodeReady is what a node's init answers when it is set up.
type nodeReady struct {
	PID   int           `json:"pid"` // as the machine counts
	Error *engine.Error `json:"error,omitempty"`
}

func nodeMain() error {
	holder, err := control()
	if err != nil {
		return err
	}
	var c nodeConfig
	if _, err := receive(holder, &c); err != nil {
		return err
	}
	if err := inOwnNamespaces(c.NetNS); err != nil {
		return err
	}
	ready := nodeReady{}
	if ready.PID, err = machinePID(); err == nil {
		err = setUpNode(c)
	}
	if err != nil {
		ready.Error = engine.Internal.Errorf("%s: %w", nodeName(c.Index), err)
		return errors.Join(err, send(holder, ready))
	}
	if err := send(holder, ready); err != nil {
		return err
	}
	return becomeInit()
}

// machinePID is this process's id as the machine counts, for /proc is still the machine's.
func machinePID() (int, error) {
	var pid int
	self, err := os.Readlink("/proc/self")
	if err == nil {
		_, err = fmt.Sscan(self, &pid)
	}
	return pid, err
}

func setUpNode(c nodeConfig) error {
	syscall.Umask(0o022)
	if err := unix.Sethostname([]byte(nodeName(c.Index))); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	if err := mountNode(c); err != nil {
		return err
	}
	if err := os.Chdir("/root"); err != nil { // until here it was in what that covers
		return err
	}
	return configureNode(c.Index)
}

// denied is what root in a node may not do, for it would be done to the machine:
// remount what is read-only, make devices, load modules, set the clock.
var denied = []uintptr{
	unix.CAP_SYS_ADMIN, unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_SYS_BOOT, unix.CAP_SYS_TIME,
	unix.CAP_MKNOD, unix.CAP_SYSLOG, unix.CAP_MAC_ADMIN, unix.CAP_MAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH,
	unix.CAP_SYS_PACCT, unix.CAP_LINUX_IMMUTABLE, unix.CAP_AUDIT_CONTROL, unix.CAP_WAKE_ALARM,
	unix.CAP_BLOCK_SUSPEND, unix.CAP_PERFMON, unix.CAP_BPF,
}

// becomeInit starts this program again in this process, with fewer capabilities.
// Not only the node's programs need to have fewer: root could take them from
// process 1. A capability is a thread's own, and exec leaves one thread only.
func becomeInit() error {
	runtime.LockOSThread()
	if err := dropCapabilities(); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(controlFD, unix.F_SETFD, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{"runbook", initArg}, os.Environ())
}

func dropCapabilities() error {
	for _, c := range denied {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // a kernel that does not know it
			return fmt.Errorf("giving up a capability: %w", err)
		}
	}
	// Root gets back at exec what it could inherit, whatever the bounding set says.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// initProcess starts a node's programs and waits for them.
type initProcess struct {
	node string

	mu      sync.Mutex // held while a program starts, so that its end finds it in waiting
	waiting map[int]chan syscall.WaitStatus
}

func initMain() error {
	holder, err := control()
	if err != nil {
		return err
	}
	n := &initProcess{waiting: map[int]chan syscall.WaitStatus{}}
	if n.node, err = os.Hostname(); err != nil {
		return err
	}
	go n.reap()
	go n.keepSSHD()
	for {
		var r request
		files, err := receive(holder, &r)
		if err != nil {
			return nil // the holder has gone, and the kernel is about to end this too
		}
		go n.exec(r, files)
	}
}

// start runs a program in a session of its own. The channel gets how it ended.
func (n *initProcess) start(path string, argv, env []string, files ...*os.File) (int, <-chan syscall.WaitStatus, error) {
	attr := &syscall.ProcAttr{Dir: "/root", Env: env, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	ended := make(chan syscall.WaitStatus, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err == nil {
		n.waiting[pid] = ended
	}
	runtime.KeepAlive(files)
	return pid, ended, err
}

// reap waits for every process that ends: those started here, and the orphans
// that become children of process 1.
func (n *initProcess) reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			n.mu.Lock()
			if c := n.waiting[pid]; c != nil {
				c <- status
				delete(n.waiting, pid)
			}
			n.mu.Unlock()
		}
		<-ended
	}
}

// keepSSHD runs sshd, again if it ends: a node without it could not be reached.
func (n *initProcess) keepSSHD() {
	null, err := os.Open(os.DevNull)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", n.node, err)
		return
	}
	for {
		argv := []string{sshdPath, "-D", "-e", "-f", "/etc/ssh/sshd_config"}
		_, ended, err := n.start(sshdPath, argv, []string{"PATH=" + nodePath}, null, os.Stderr, os.Stderr)
		if err == nil {
			fmt.Fprintf(os.Stderr, "%s: sshd has ended: %s\n", n.node, describe(<-ended))
		} else {
			fmt.Fprintf(os.Stderr, "%s: sshd: %s\n", n.node, err)
		}
		time.Sleep(time.Second)
	}
}

func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return s.Signal().String()
	}
	return fmt.Sprintf("exit %d", s.ExitStatus())
}

// exec runs what a client asks for. files are the client's connection, then the
// program's stdin, stdout and stderr. The connection's end ends the program.
func (n *initProcess) exec(r request, files []*os.File) {
	defer closeAll(files)
	if len(files) != 4 {
		return
	}
	client, err := unixConn(files[0])
	if err != nil {
		return
	}
	defer client.Close()

	path, exit, err := lookup(r.Argv)
	var pid int
	var ended <-chan syscall.WaitStatus
	if err == nil {
		env := []string{"PATH=" + nodePath, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "LANG=C.UTF-8"}
		if r.Term != "" {
			env = append(env, "TERM="+r.Term)
		}
		exit = 126
		pid, ended, err = n.start(path, r.Argv, env, files[1:]...)
	}
	closeAll(files) // so that a pipe ends with the program
	if err != nil {
		send(client, reply{Exit: exit, Error: &engine.Error{Code: engine.Invalid, Node: n.node, Cause: execCause(r.Argv, err), Err: err}})
		return
	}
	gone := make(chan struct{})
	go func() {
		client.Read(make([]byte, 1)) // a client says nothing more: this is its end
		close(gone)
	}()
	select {
	case status := <-ended:
		send(client, reply{Exit: exitCode(status)})
	case <-gone:
		send(client, reply{Exit: exitCode(stop(pid, ended))})
	}
}

// lookup finds the program, and else returns the exit code that a shell would.
func lookup(argv []string) (path string, exit int, err error) {
	if len(argv) == 0 || argv[0] == "" {
		return "", 127, fs.ErrNotExist
	}
	if strings.Contains(argv[0], "/") {
		if _, err := os.Stat(argv[0]); err != nil {
			return "", 127, err
		}
		return argv[0], 0, nil
	}
	for _, dir := range filepath.SplitList(nodePath) {
		path := filepath.Join(dir, argv[0])
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, 0, nil
		}
	}
	return "", 127, fs.ErrNotExist
}

func execCause(argv []string, err error) string {
	if len(argv) == 0 || argv[0] == "" {
		return "no command is given"
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "command not found: " + argv[0]
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fmt.Sprintf("%s cannot be run: %s", argv[0], errno)
	}
	return fmt.Sprintf("%s cannot be run: %s", argv[0], err)
}

// stop ends a program and its process group: politely, then surely.
func stop(pid int, ended <-chan syscall.WaitStatus) syscall.WaitStatus {
	syscall.Kill(-pid, syscall.SIGTERM)
	select {
	case s := <-ended:
		syscall.Kill(-pid, syscall.SIGKILL) // what is left of its group
		return s
	case <-time.After(time.Second):
		syscall.Kill(-pid, syscall.SIGKILL)
		return <-ended
	}
}

func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
