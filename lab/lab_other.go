//go:build !linux

package lab

import (
	"context"
	"net"
	"os"
	"runtime"

	"runbook/engine"
)

// Lab is a lab that is up. Only Linux has one.
type Lab struct{}

// IsChild reports whether this process is a part of a lab.
func IsChild() bool { return false }

// ChildMain is the life of a process that is a part of a lab.
func ChildMain() {}

// Probe says why there can be no lab on this machine.
func Probe() error {
	return engine.Invalid.Errorf("a lab is made of Linux namespaces; this is %s", runtime.GOOS)
}

// Up says why there can be no lab on this machine.
func Up(_ context.Context, o Options) (*Lab, error) {
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	return nil, Probe()
}

// Open finds no lab.
func Open(string) (*Lab, error) { return nil, noLab("there is none on " + runtime.GOOS) }

// Nodes returns the nodes in the order of their numbers.
func (*Lab) Nodes() []NodeInfo { return nil }

// Dir is the folder of the lab's files.
func (*Lab) Dir() string { return "" }

// KeyFile is the private key that User and Operator accept.
func (*Lab) KeyFile() string { return "" }

// KnownHosts is the known_hosts file of the nodes.
func (*Lab) KnownHosts() string { return "" }

// HolderPID is the process that holds the lab.
func (*Lab) HolderPID() int { return 0 }

// Dial connects to a node's sshd.
func (*Lab) Dial(context.Context, string) (net.Conn, error) { return nil, Probe() }

// Exec runs a program in a node.
func (*Lab) Exec(context.Context, string, []string, *os.File, *os.File, *os.File) (int, error) {
	return 0, Probe()
}

// Status asks the lab what it is made of.
func (*Lab) Status(context.Context) (Status, error) { return Status{}, Probe() }

// Down ends the lab.
func (*Lab) Down(context.Context) error { return Probe() }

// NetNS is the network namespace of a node.
type NetNS struct{}

// NetNS opens the network namespace of a node.
func (*Lab) NetNS(context.Context, string) (*NetNS, error) { return nil, Probe() }

// Close lets go of the namespace.
func (*NetNS) Close() error { return nil }

// Do calls nothing.
func (*NetNS) Do(func() error) error { return Probe() }

// Dial connects to nothing.
func (*NetNS) Dial(context.Context, string, string) (net.Conn, error) { return nil, Probe() }
