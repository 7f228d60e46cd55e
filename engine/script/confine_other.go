//go:build !linux

package script

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func selfCommand() (string, error) { return os.Executable() }

const fdDir = "/dev/fd"

// confineMore limits files; no other kernel than Linux counts what Go
// allocates, or lets a process give up its rights without a library in C.
func confineMore(int64) ([]Layer, error) {
	for _, r := range []int{unix.RLIMIT_NOFILE, unix.RLIMIT_FSIZE} {
		if err := unix.Setrlimit(r, &unix.Rlimit{}); err != nil {
			return nil, err
		}
	}
	not := "needs Linux, and this is " + runtime.GOOS
	return []Layer{
		{"memory", false, "the controller looks at its size four times a second, which a fast script outruns"},
		{"files", true, "none can be opened, RLIMIT_NOFILE"},
		{"file size", true, "none can be written, RLIMIT_FSIZE"},
		{"core", true, "no dump of its memory is written, RLIMIT_CORE"},
		{"landlock", false, not},
		{"seccomp", false, not},
	}, nil
}

func (p *process) changeMemory(int64) error { return nil }

// memory is not known but for what watchMemory tells.
func (p *process) memory() int64 { return 0 }

// watchMemory tells over how many bytes the process has, until that ends.
func (p *process) watchMemory(tell func(rss int64)) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.gone:
			return
		case <-tick.C:
		}
		out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(p.cmd.Process.Pid)).Output()
		if err != nil {
			continue // it is ending
		}
		if kb, err := strconv.ParseInt(string(bytes.TrimSpace(out)), 10, 64); err == nil {
			tell(kb << 10)
		}
	}
}

// tries is empty: what was given up is all limits, which need no trying.
func tries() []Layer { return nil }
