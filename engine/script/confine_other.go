//go:build !linux

package script

import "os"

func selfCommand() (string, error) { return os.Executable() }

const fdDir = "/dev/fd"

// limitMemory does nothing: no other kernel counts what Go allocates. What is
// left is the collector's own limit, which is soft.
func limitMemory(uint64) error { return nil }
