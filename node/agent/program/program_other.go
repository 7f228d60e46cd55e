//go:build !linux

package program

import (
	"fmt"
	"os"
)

// Main says that nodes are Linux machines.
func Main() {
	fmt.Fprintln(os.Stderr, "runbook-agent: nodes are Linux machines")
	os.Exit(1)
}
