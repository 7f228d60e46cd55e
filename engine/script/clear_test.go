package script

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// clearCloexec makes f one that a new process inherits.
func clearCloexec(t *testing.T, f *os.File) {
	t.Helper()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
}
