//go:build linux

package integration

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Processes are running processes: number to start time, which tells one from another of its number.
type Processes map[int]string

// Family returns a process and all that descend from it.
func Family(t testing.TB, root int) Processes {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	parent, started := map[int]int{}, map[int]string{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if f := stat(pid); f != nil {
				parent[pid], _ = strconv.Atoi(f[1])
				started[pid] = f[19]
			}
		}
	}
	out := Processes{}
	for pid := range parent {
		for p := pid; p != 0; p = parent[p] {
			if p == root {
				out[pid] = started[pid]
				break
			}
		}
	}
	return out
}

// stat returns the fields of /proc/PID/stat after the name, from the state on.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := strings.LastIndexByte(string(b), ')')
	if err != nil || i < 0 {
		return nil
	}
	return strings.Fields(string(b)[i+1:])
}

// AwaitNone waits until none of the processes is left. One that has ended but
// that its parent, the machine's own init, has not looked after yet does not count.
func AwaitNone(t testing.TB, processes Processes, patience time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var left []int
		for pid, started := range processes {
			if f := stat(pid); f != nil && f[19] == started && f[0] != "Z" {
				left = append(left, pid)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(left)
			t.Fatalf("%s later processes %v are left", patience, left)
		}
	}
}
