package script

import (
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

// limitMemory makes an allocation beyond max fail, which ends the process. It
// is RLIMIT_DATA: address space, which RLIMIT_AS counts, is reserved by the
// gigabyte by Go itself.
func limitMemory(max uint64) error {
	if raceEnabled {
		return nil
	}
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: max, Max: max})
}
