// Package lab makes throw-away nodes on this machine, from Linux namespaces.
//
// A lab is one holder process in namespaces of its own, and one init process
// for each node in namespaces of the node's own. The machine itself is never
// touched: every bridge and link is born inside the holder's network
// namespace, every mount inside its mount namespace, where "/" is read-only
// throughout. When the holder dies, its PID namespace takes the whole lab along.
//
//	this machine          holder                        node-1
//	lab.Up ---control---> bridges mgmt and data         eth0 10.99.0.2/16
//	Dial, Exec --sock---> 10.99.0.1                     eth1 10.98.0.2/16, fd00:98::2/64
//	                      10.98.0.1, fd00:98::1         sshd
//
// The holder and the inits are this same program, started again with a hidden
// first argument. So a program that uses the package begins with
//
//	if lab.IsChild() {
//		lab.ChildMain()
//	}
//
// A lab needs Linux, root and sshd for now; [Probe] says what is missing.
package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"runbook/engine"
)

// MaxNodes is how many nodes a lab can have. The kernel has one neighbour table
// for the whole machine, and more nodes than this could overflow it.
const MaxNodes = 250

// The users that a lab's key lets in.
const (
	User     = "root"
	Operator = "ops" // may become root by sudo, and asks for no password
)

// sshPort is where a node's sshd listens.
const sshPort = 22

// Options say what lab to make.
type Options struct {
	Nodes int // 1 to MaxNodes
	// Dir is the folder of the lab's socket, client key, known_hosts and log.
	// It is made where there is none. Where it is empty, a standing lab uses
	// DefaultDir, any other one a temporary folder.
	Dir string
	// Standing is a lab that outlives this process. Any other lab ends with it,
	// however it ends.
	Standing bool
}

// NodeInfo is how a node is reached from within the lab.
type NodeInfo struct {
	Name string `json:"name"`
	Addr string `json:"addr"` // of its sshd: "10.99.0.2:22"
}

// Status is what a lab is made of.
type Status struct {
	Dir    string       `json:"dir"`
	Since  time.Time    `json:"since"`
	Holder int          `json:"holder"` // its process, as this machine counts
	Nodes  []NodeStatus `json:"nodes"`
}

// NodeStatus is what a node is made of.
type NodeStatus struct {
	NodeInfo
	Data    []string `json:"data"`    // the addresses of eth1
	PID     int      `json:"pid"`     // its init, as this machine counts
	Running bool     `json:"running"` // false: its init has died
}

// DefaultDir is the folder of the standing lab.
func DefaultDir() string {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "runbook", "lab")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	return filepath.Join(home, ".local", "state", "runbook", "lab")
}

// A node's place in each network is its number plus one; the first is the gateway's.
var (
	mgmtNet  = netip.MustParsePrefix("10.99.0.0/16")
	dataNet  = netip.MustParsePrefix("10.98.0.0/16")
	dataNet6 = netip.MustParsePrefix("fd00:98::/64")
)

// address is the nth address of a network, with the network's length.
func address(network netip.Prefix, nth int) netip.Prefix {
	b := network.Addr().AsSlice()
	b[len(b)-2], b[len(b)-1] = byte(nth>>8), byte(nth)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, network.Bits())
}

// gateway is the address of the holder in a network.
func gateway(network netip.Prefix) netip.Prefix { return address(network, 1) }

func nodeName(i int) string { return fmt.Sprintf("node-%d", i) }

func nodeInfo(i int) NodeInfo {
	return NodeInfo{nodeName(i), netip.AddrPortFrom(address(mgmtNet, i+1).Addr(), sshPort).String()}
}

func checkOptions(o Options) error {
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return &engine.Error{Code: engine.Invalid,
			Cause: fmt.Sprintf("a lab of %d nodes cannot be made", o.Nodes),
			Hint:  fmt.Sprintf("a lab has 1 to %d nodes", MaxNodes)}
	}
	return nil
}

// noLab says that no lab is up, and why it is thought so.
func noLab(why string) error {
	return &engine.Error{Code: engine.Invalid, Cause: "no lab is up: " + why, Hint: "runbook lab up N makes one of N nodes"}
}
