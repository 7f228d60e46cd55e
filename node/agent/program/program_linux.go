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
	"runbook/node/linux"
)

// Main serves the kernel of this machine on stdin and stdout, and exits with
// its controller. The argument "check" makes it exit at once: it can be executed.
func Main() {
	if len(os.Args) == 2 && os.Args[1] == "check" {
		os.Exit(0)
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

	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "runbook-agent:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve() error {
	n, err := linux.Open()
	if err != nil {
		return err
	}
	defer n.Close() //nolint:errcheck // the process ends
	return agent.Serve(context.Background(), os.Stdin, os.Stdout, n)
}
