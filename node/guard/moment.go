//go:build linux

package guard

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// moment is a point in time that holds its place when clocks are set and machines start again.
type moment struct {
	Boot  string        `json:"boot"`       // the kernel's id of the time between two starts
	Since time.Duration `json:"since_boot"` // by CLOCK_BOOTTIME: nobody sets it, and it counts while the machine sleeps
	Wall  time.Time     `json:"wall"`
}

var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

func now() moment {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) //nolint:errcheck // Linux has it
	return moment{bootID(), time.Duration(t.Nano()), time.Now().Round(0)}
}

// age is how long before n m was; never negative: what seems to come from the
// future, for a clock was wrong, is taken to be new.
func (m moment) age(n moment) time.Duration {
	if m.Boot == n.Boot {
		return max(0, n.Since-m.Since)
	}
	return max(0, n.Wall.Sub(m.Wall))
}
