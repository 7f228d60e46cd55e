package script

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"runbook/engine"
)

// This file is how the evaluator gives up, before it reads the first byte, all
// that a script has no use for. Whatever the kernel does not have is noted, so
// that it can be said: see [Probe].

const (
	maxProcs = 4        // threads that compute
	maxCPU   = 3600     // seconds of all threads; a backstop behind the limit on steps and the deadline
	maxStack = 64 << 20 // bytes of one goroutine's stack; what goes beyond ends the process
)

// Layer is one part of the evaluator's confinement.
type Layer struct {
	Name    string `json:"name"`     // "landlock"
	InForce bool   `json:"in_force"` // whether it holds
	Detail  string `json:"detail"`   // what it forbids, or why it does not
}

// confine confines this process: memory is how many bytes it may have, and
// pipes are made before, since they need what is then forbidden.
func confine(memory int64) ([]Layer, error) {
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), maxProcs)) // with cgo, every thread has a stack of 8 MB
	debug.SetMaxStack(maxStack)
	debug.SetGCPercent(400) // the limit below is what holds; until there, collecting only takes time
	collectFrom(memory)
	if err := closeInherited(); err != nil {
		return nil, err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return nil, err
	}
	return confineMore(memory)
}

// collectFrom makes the collector work hard from half of the memory on.
func collectFrom(memory int64) { debug.SetMemoryLimit(memory / 2) }

// closeInherited closes all files but stdin, stdout and stderr that whoever
// started the controller has left open for it. Go's own are marked to be
// closed on exec, so an inherited one is one that is not.
func closeInherited() error {
	entries, err := os.ReadDir(fdDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// memoryArg is the memory that an evaluator is started with: its second argument.
func memoryArg() (int64, error) {
	info, _ := engine.LimitMemory.Info()
	if len(os.Args) < 3 {
		return info.Default, nil
	}
	n, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err == nil {
		err = info.Check(n)
	}
	if err != nil {
		return 0, fmt.Errorf("the memory of an evaluator: %w", err)
	}
	return n, nil
}
