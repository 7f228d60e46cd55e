//go:build linux

package linux

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// This file finds the sockets through which this process is worked with. No
// name and no variable says so, for those can be anything: what serves the
// connection (sshd) is an ancestor of this process, and holds its socket.

// ownSockets returns the inodes of the TCP sockets, of those that is knows, that
// the nearest process from this one upwards holds. There are none where that
// cannot be told: because a process on the way does not let itself be looked
// into, or because the way ends before: at process 1, or where the parent is in
// another pid namespace.
func ownSockets(is func(inode uint32) bool) []uint32 {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil // /proc is of another pid namespace: its numbers mean other processes
	}
	// Of this process only what it speaks through counts. It may have others open.
	own, err := heldSockets("/proc/self/fd", []string{"0", "1"}, is)
	for pid := os.Getppid(); err == nil && len(own) == 0 && pid != 0; {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		var files []string
		if files, err = list(dir); err != nil {
			break
		}
		if own, err = heldSockets(dir, files, is); err == nil {
			pid, err = parent(pid)
		}
	}
	if err != nil {
		return nil
	}
	return own
}

func list(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// heldSockets returns the inodes of the sockets among a process's open files
// that is knows.
func heldSockets(dir string, files []string, is func(inode uint32) bool) ([]uint32, error) {
	var out []uint32
	for _, f := range files {
		to, err := os.Readlink(dir + "/" + f) // "socket:[12345]"
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		} else if err != nil {
			return nil, err
		}
		digits, socket := strings.CutPrefix(to, "socket:[")
		inode, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 32)
		if socket && err == nil && is(uint32(inode)) {
			out = append(out, uint32(inode))
		}
	}
	return out, nil
}

// parent returns the parent of a process, 0 where it has none here.
func parent(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// "PID (NAME) STATE PPID …", where NAME can have anything in it
	rest := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(rest) < 2 {
		return 0, fmt.Errorf("process %d has no parent in %q", pid, b)
	}
	return strconv.Atoi(rest[1])
}
