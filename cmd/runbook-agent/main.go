//go:build linux

// Command runbook-agent serves the kernel of its machine on stdin and stdout.
// It is started over SSH, takes no arguments, opens no port, and exits with
// its controller. See runbook/node/agent.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"runbook/node/agent"
	"runbook/node/linux"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "check" { // may it be executed where it lies?
		return
	}
	// A node has many things to do that matter more. Nothing is kept between
	// requests, so what the limit costs is collecting garbage while a large answer is made.
	debug.SetMemoryLimit(8 << 20)
	// The end of the connection is the end of stdin. Being killed by one of
	// these instead could leave a change half made.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT)

	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "runbook-agent:", err)
		os.Exit(1)
	}
}

func serve() error {
	n, err := linux.Open()
	if err != nil {
		return err
	}
	defer n.Close()
	return agent.Serve(context.Background(), os.Stdin, os.Stdout, n)
}
