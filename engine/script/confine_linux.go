package script

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
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

// limitMemory makes allocations beyond max fail, which ends the process.
//
// RLIMIT_DATA counts what can be written. The kernel does not look at it when
// reserved address space is made writable, as long as max has not been reached
// before; and Go allocates in just that way, so one large allocation can go
// far beyond. Reserving is what RLIMIT_AS counts, so that bounds this one. Its
// number alone would say little: gigabytes are reserved at the start.
func limitMemory(max uint64) error {
	if raceEnabled {
		return nil
	}
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(b), &pages); err != nil {
		return err
	}
	space := pages*uint64(os.Getpagesize()) + 2*max
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: space, Max: space}); err != nil {
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: max, Max: max})
}
