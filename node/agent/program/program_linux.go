// Package program is the agent as a program: what cmd/runbook-agent is, and
// what a development build of runbook is when it has sent itself to a node.
package program

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"runbook/node/agent"
	"runbook/node/guard"
	"runbook/node/linux"
)

// Main serves the kernel of this machine on stdin and stdout, and exits with
// its controller. The argument "check" makes it exit at once: it can be executed.
// With "guard DIR" it is the guardian of what the folder DIR says, and nobody's child.
func Main() {
	do := serve
	switch {
	case len(os.Args) == 2 && os.Args[1] == "check":
		os.Exit(0)
	case len(os.Args) == 3 && os.Args[1] == "guard":
		do = func(n guard.Kernel) error { return guard.Watch(context.Background(), n, os.Args[2]) }
	}
	// A node has more important things to do. Next to nothing is kept between
	// requests, so above this only garbage is collected sooner.
	debug.SetMemoryLimit(32 << 20)
	debug.SetGCPercent(200)
	// It works on one thing at a time, and threads that look for work cost more than that.
	runtime.GOMAXPROCS(1)
	// The end of the connection is the end of stdin. Being killed by one of
	// these instead could leave a change half made.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT)

	if err := open(do); err != nil {
		fmt.Fprintln(os.Stderr, "runbook-agent:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func open(do func(guard.Kernel) error) error {
	n, err := linux.Open()
	if err != nil {
		return err
	}
	defer n.Close() //nolint:errcheck // the process ends
	return do(n)
}

func serve(k guard.Kernel) error {
	ctx := context.Background()
	n := guard.Over(k, guard.Folder())
	if err := n.Recover(ctx); err != nil { // what still waits refuses other changes by itself
		fmt.Fprintln(os.Stderr, "runbook-agent:", err)
	}
	return agent.Serve(ctx, os.Stdin, os.Stdout, n)
}
