package script

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"runbook/engine"
)

// selfCommand is the running program, also where its file has been replaced
// since: both processes must have the same table of operations.
func selfCommand() (string, error) {
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err != nil {
		return os.Executable()
	}
	return self, nil
}

const fdDir = "/proc/self/fd"

// confineMore sets the limits that the kernel holds a process to, and takes
// its files, its network and the other processes from it. What needs a file
// comes first.
func confineMore(memory int64) ([]Layer, error) {
	bound, err := boundMemory(memory)
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread() // seccomp copies to all threads what this one has
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no_new_privs: %w", err)
	}
	layers := []Layer{bound, {"no_new_privs", true, "no program that it started could gain rights"}, landlock()}
	limits, err := limitResources()
	if err != nil {
		return nil, err
	}
	return append(append(layers, limits...), seccomp()), nil
}

func boundMemory(memory int64) (Layer, error) {
	if raceEnabled {
		return Layer{"memory", false, "the race detector maps more than any limit allows"}, nil
	}
	if err := limitMemory(0, memory); err != nil {
		return Layer{}, fmt.Errorf("the limit of memory: %w", err)
	}
	info, _ := engine.LimitMemory.Info()
	return Layer{"memory", true, info.Show(memory) + " of data, RLIMIT_DATA and RLIMIT_AS"}, nil
}

func limitResources() ([]Layer, error) {
	layers := []Layer{{"core", true, "no dump of its memory is written, RLIMIT_CORE"}}
	for _, l := range []struct {
		name     string
		resource int
		max      uint64
		detail   string
	}{
		{"files", unix.RLIMIT_NOFILE, 0, "none can be opened, RLIMIT_NOFILE"},
		{"file size", unix.RLIMIT_FSIZE, 0, "none can be written, RLIMIT_FSIZE"},
		{"cpu", unix.RLIMIT_CPU, maxCPU, "an hour of all threads together, RLIMIT_CPU"},
	} {
		// The soft limit of the CPU's time ends the process with a word on why, the hard one without.
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.max, Max: l.max + l.max/60}); err != nil {
			return nil, fmt.Errorf("the limit of %s: %w", l.name, err)
		}
		layers = append(layers, Layer{l.name, true, l.detail})
	}
	return layers, nil
}

// limitMemory makes allocations of the process pid (0: this one) beyond max
// fail, which ends it. It can be changed later, by the controller only.
//
// RLIMIT_DATA counts what can be written. The kernel does not look at it when
// reserved address space is made writable, as long as max has not been reached
// before; and Go allocates in just that way, so one large allocation can go
// far beyond. Reserving is what RLIMIT_AS counts, so that bounds this one. Its
// number alone would say little: gigabytes are reserved at the start.
func limitMemory(pid int, max int64) error {
	proc := "/proc/self/statm"
	if pid != 0 {
		proc = fmt.Sprintf("/proc/%d/statm", pid)
	}
	b, err := os.ReadFile(proc)
	if err != nil {
		return err
	}
	var pages int64
	if _, err := fmt.Sscan(string(b), &pages); err != nil {
		return err
	}
	hard := uint64(math.MaxInt64)
	space := uint64(pages)*uint64(os.Getpagesize()) + 2*uint64(max)
	if err := unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: space, Max: hard}, nil); err != nil {
		return err
	}
	return unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: uint64(max), Max: hard}, nil)
}

// changeMemory gives a running evaluator another limit, if it has one at all.
func (p *process) changeMemory(max int64) error {
	var has unix.Rlimit
	pid := p.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, nil, &has); err != nil {
		return err
	}
	if has.Cur == math.MaxUint64 {
		return nil // it was built with the race detector
	}
	return limitMemory(pid, max)
}

// memory is how many bytes the process has of what its limit counts, or 0.
func (p *process) memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0 // it has ended
	}
	_, rest, _ := strings.Cut(string(text), "\nVmData:")
	line, _, _ := strings.Cut(rest, " kB\n")
	kb, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}

// watchMemory is for kernels that do not count what a process allocates.
func (p *process) watchMemory(func(rss int64)) {}

// allThreads makes a system call in every thread that there is; those that
// come later inherit what it did. Go cannot do that in a program with C in it.
func allThreads(number, a, b, c uintptr) syscall.Errno {
	_, _, errno := syscall.AllThreadsSyscall(number, a, b, c)
	return errno
}
