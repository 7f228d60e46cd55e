//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"runbook/engine"
)

// This file is the life of the holder: process 1 of the lab, whose namespaces
// hold the networks and whose end is the end of every node.

// The files that a holder inherits, after its control socket.
const (
	listenFD = controlFD + 1 + iota // the lab's socket
	dirFD                           // the lab's folder, locked for as long as the holder lives
	parentFD                        // of a folder that is to go with the lab: what it lies in
)

// holderConfig is what the maker of a lab tells the holder.
type holderConfig struct {
	NetNS     string   `json:"netns"` // the maker's
	Dir       string   `json:"dir"`
	Base      string   `json:"base,omitempty"` // the folder's name in parentFD, if it is to go with the lab
	HostKeys  [][]byte `json:"host_keys"`      // the seed of each node's private key
	ClientKey string   `json:"client_key"`
}

// stay is what the maker of a standing lab says last: from then on its own end
// does not end the lab.
const stay = "stay"

type holder struct {
	config  holderConfig
	network *network
	nodes   []*heldNode
	since   time.Time
	pid     int // as the machine counts
	ready   atomic.Bool
}

// heldNode is a node as the holder knows it.
type heldNode struct {
	info  NodeInfo
	index int
	init  *net.UnixConn
	pid   int // as the machine counts
	dead  atomic.Bool
}

func holderMain() error {
	maker, err := control()
	if err != nil {
		return err
	}
	h := &holder{since: time.Now()}
	if _, err := receive(maker, &h.config); err != nil {
		return err
	}
	if err := inOwnNamespaces(h.config.NetNS); err != nil {
		return err
	}
	inherited := []int{listenFD, dirFD, parentFD}
	if h.config.Base == "" {
		inherited = inherited[:2]
	}
	for _, fd := range inherited {
		unix.CloseOnExec(fd)
	}
	go h.endWith(maker)
	go h.endOnSignal()

	l, err := net.FileListener(os.NewFile(listenFD, sockName))
	if err != nil {
		return err
	}
	go h.serve(l.(*net.UnixListener))
	if err := h.setUp(); err != nil {
		return send(maker, reply{Error: engine.AsError(err)})
	}
	h.ready.Store(true)
	status := h.status()
	if err := send(maker, reply{Status: &status}); err != nil {
		return err
	}
	select {}
}

// endWith ends the lab when its maker ends, however that comes about: then the
// kernel closes the other end of the control socket.
func (h *holder) endWith(maker *net.UnixConn) {
	for {
		var word string
		_, err := receive(maker, &word)
		if err == nil && word == stay {
			return
		}
		if err != nil {
			h.end()
		}
	}
}

func (h *holder) endOnSignal() {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	h.end()
}

// end removes the lab's files and exits, at which the kernel ends everything
// else in the PID namespace. The folder is reached by a file opened outside, for
// in here it is read-only.
func (h *holder) end() {
	for _, name := range labFiles {
		unix.Unlinkat(dirFD, name, 0)
	}
	if h.config.Base != "" {
		unix.Unlinkat(parentFD, h.config.Base, unix.AT_REMOVEDIR)
	}
	os.Exit(0)
}

func (h *holder) setUp() error {
	var err error
	if h.pid, err = machinePID(); err != nil {
		return err
	}
	unix.Sethostname([]byte("lab"))
	if h.network, err = newNetwork(); err != nil {
		return err
	}
	if err := sealMounts(); err != nil {
		return err
	}
	h.nodes = make([]*heldNode, len(h.config.HostKeys))
	penalties := sshdHasPenalties()
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	var all errgroup.Group
	all.SetLimit(startsAtOnce)
	for i := range h.nodes {
		all.Go(func() error {
			c := nodeConfig{
				Index: i + 1, Nodes: len(h.nodes), HostKey: h.config.HostKeys[i],
				ClientKey: h.config.ClientKey, Penalties: penalties, NetNS: ns,
			}
			var err error
			h.nodes[i], err = h.startNode(c)
			return err
		})
	}
	return all.Wait()
}

// startsAtOnce is how many nodes are made at a time. Each waits for the others
// at the kernel's lock for links anyway.
const startsAtOnce = 8

// sshdHasPenalties tells whether sshd is of 9.8 or later. It would then refuse
// the holder, which connects to see whether a node is up, and knows how not to;
// an older one would not start with that option.
func sshdHasPenalties() bool {
	out, _ := exec.Command(sshdPath, "-V").CombinedOutput() // before 9.2 an error, which says the version too
	m := regexp.MustCompile(`OpenSSH_(\d+)\.(\d+)`).FindSubmatch(out)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return major > 9 || major == 9 && minor >= 8
}

// startNode makes one node and waits until its sshd accepts connections.
func (h *holder) startNode(c nodeConfig) (*heldNode, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := child(nodeArg)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", nodeName(c.Index), err)
	}
	n := &heldNode{info: nodeInfo(c.Index), index: c.Index, init: ours}
	go func() {
		err := cmd.Wait()
		n.dead.Store(true)
		fmt.Fprintf(os.Stderr, "%s has ended: %v\n", n.info.Name, err)
	}()
	if err := h.network.attach(c.Index, cmd.Process.Pid); err != nil {
		return nil, err
	}
	if err := send(ours, c); err != nil {
		return nil, err
	}
	var ready nodeReady
	if _, err := receive(ours, &ready); err != nil {
		return nil, fmt.Errorf("%s has ended before it was up: %w", n.info.Name, err)
	}
	if ready.Error != nil {
		return nil, ready.Error
	}
	n.pid = ready.PID
	return n, n.awaitSSHD()
}

// sshdPatience is how long a node's sshd has to start. Many start at once.
const sshdPatience = 30 * time.Second

func (n *heldNode) awaitSSHD() error {
	// The first packet is lost if the link's carrier is a moment late, and TCP
	// sends the next after a second: a new connection is sooner.
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	for deadline := time.Now().Add(sshdPatience); ; time.Sleep(5 * time.Millisecond) {
		c, err := d.Dial("tcp", n.info.Addr)
		switch {
		case err == nil:
			return c.Close()
		case n.dead.Load() || time.Now().After(deadline):
			return fmt.Errorf("sshd of %s does not answer: %w", n.info.Name, err)
		}
	}
}

// serve answers the lab's clients.
func (h *holder) serve(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			fmt.Fprintf(os.Stderr, "accepting a client: %s\n", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go func() {
			defer c.Close()
			if err := h.answer(c); err != nil && !errors.Is(err, io.EOF) {
				send(c, reply{Error: engine.AsError(err)})
			}
		}()
	}
}

func (h *holder) answer(c *net.UnixConn) error {
	var r request
	files, err := receive(c, &r)
	if err != nil {
		return err
	}
	defer closeAll(files)
	if r.Op == "down" {
		send(c, reply{})
		h.end()
	}
	if !h.ready.Load() {
		return noLab("its nodes are still being made")
	}
	switch r.Op {
	case "status":
		s := h.status()
		return send(c, reply{Status: &s})
	case "dial":
		return h.dial(c, r)
	case "exec":
		return h.exec(c, r, files)
	}
	return engine.Internal.Errorf("the lab was made by another version of runbook: it does not know %q", r.Op)
}

func (h *holder) status() Status {
	s := Status{Dir: h.config.Dir, Since: h.since, Holder: h.pid}
	for _, n := range h.nodes {
		s.Nodes = append(s.Nodes, NodeStatus{
			NodeInfo: n.info, PID: n.pid, Running: !n.dead.Load(),
			Data: []string{address(dataNet, n.index+1).String(), address(dataNet6, n.index+1).String()},
		})
	}
	return s
}

// node finds a node that runs.
func (h *holder) node(name string) (*heldNode, error) {
	for _, n := range h.nodes {
		switch {
		case n.info.Name != name:
		case n.dead.Load():
			return nil, &engine.Error{Code: engine.Unreachable, Node: name, Cause: "its init has died"}
		default:
			return n, nil
		}
	}
	hint := "it has node-1 only"
	if n := len(h.nodes); n > 1 {
		hint = "it has node-1 to " + nodeName(n)
	}
	return nil, &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("the lab has no node %q", name), Hint: hint}
}

// dial connects to a node from in here, and hands the connection over.
func (h *holder) dial(c *net.UnixConn, r request) error {
	n, err := h.node(r.Node)
	if err != nil {
		return err
	}
	addr := net.JoinHostPort(address(mgmtNet, n.index+1).Addr().String(), strconv.Itoa(int(r.Port)))
	d := net.Dialer{Timeout: time.Duration(r.Wait) * time.Millisecond}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return &engine.Error{Code: engine.Unreachable, Node: r.Node, Cause: "no connection", Kernel: err.Error()}
	}
	defer conn.Close()
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer f.Close()
	return send(c, reply{}, f)
}

// exec hands the client itself over to the node's init, which answers it.
func (h *holder) exec(c *net.UnixConn, r request, files []*os.File) error {
	n, err := h.node(r.Node)
	if err != nil {
		return err
	}
	client, err := c.File()
	if err != nil {
		return err
	}
	defer client.Close()
	return send(n.init, r, append([]*os.File{client}, files...)...)
}
