//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"runbook/engine"
)

// The hidden first arguments that make this program a part of a lab.
const (
	holderArg = "_lab-holder"
	nodeArg   = "_lab-node"
	initArg   = "_lab-init" // what a node's process becomes when the node is set up
	probeArg  = "_lab-probe"
)

// controlFD is where a child finds the socket to the process that made it.
const controlFD = 3

// hooked is whether the program has called IsChild. One that has not would,
// started again as a child, do its ordinary work a second time.
var hooked bool

// IsChild reports whether this process was started to be a part of a lab. It
// must be asked before anything else is done; where it says yes, [ChildMain] follows.
func IsChild() bool {
	hooked = true
	if len(os.Args) != 2 {
		return false
	}
	switch os.Args[1] {
	case holderArg, nodeArg, initArg, probeArg:
		return true
	}
	return false
}

// ChildMain is the life of a process that is a part of a lab. It does not return.
func ChildMain() {
	var err error
	switch os.Args[1] {
	case holderArg:
		err = holderMain()
	case nodeArg:
		err = nodeMain()
	case initArg:
		err = initMain()
	case probeArg:
		err = probeMain()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", strings.TrimPrefix(os.Args[1], "_"), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child prepares this program to run as a part of a lab, in namespaces of its own.
//
// It is a session of its own, so that a Ctrl-C meant for the controller does not
// end the nodes before the controller could put them back.
func child(arg string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", arg)
	cmd.Args[0] = "runbook"
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + nodePath, "GOMAXPROCS=2", "GOTRACEBACK=single"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	return cmd
}

// inOwnNamespaces refuses to go on unless this process was made by [child]:
// what follows would else be done to the machine. theirs is the network
// namespace of the process that made this one.
func inOwnNamespaces(theirs string) error {
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	if os.Getpid() != 1 || theirs == "" || ours == theirs {
		return engine.Internal.Errorf("not in namespaces of its own")
	}
	return nil
}

// Probe says in one line why there can be no lab on this machine, or nil. It
// finds out by making bridges, links and mounts as a lab does, in namespaces
// that end with the probe.
func Probe() error {
	if err := prerequisites(); err != nil {
		return err
	}
	net, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return engine.Invalid.Errorf("no lab here: %w", err)
	}
	cmd := child(probeArg)
	cmd.Stdin = strings.NewReader(net)
	out, err := cmd.Output()
	var failed engine.Error
	switch {
	case json.Unmarshal(out, &failed) == nil && failed.Cause != "":
		return &failed
	case err != nil:
		return engine.Invalid.Errorf("no lab here: making namespaces: %w", err)
	}
	return nil
}

// prerequisites says what a lab lacks without trying to make one.
func prerequisites() error {
	if !hooked {
		return engine.Internal.Errorf("no lab here: this program does not ask lab.IsChild when it starts")
	}
	if os.Geteuid() != 0 {
		return engine.Invalid.Errorf("no lab here: it needs root for now")
	}
	if _, err := os.Stat(sshdPath); err != nil {
		return engine.Invalid.Errorf("no lab here: sshd is not installed (%s)", sshdPath)
	}
	return nil
}

// probeMain makes what a lab is made of, and says on stdout what could not be made.
func probeMain() error {
	var theirs string
	if _, err := fmt.Scan(&theirs); err != nil {
		return err
	}
	if err := inOwnNamespaces(theirs); err != nil {
		return err
	}
	err := func() error {
		n, err := newNetwork()
		if err != nil {
			return err
		}
		if err := n.attach(1, os.Getpid()); err != nil {
			return err
		}
		if err := sealMounts(); err != nil {
			return err
		}
		if err := mountTmpfs("/tmp", "1777"); err != nil {
			return err
		}
		return mountProc()
	}()
	if err != nil {
		return json.NewEncoder(os.Stdout).Encode(engine.Invalid.Errorf("no lab here: %w", err))
	}
	return nil
}
