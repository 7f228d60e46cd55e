//go:build linux

package linux

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// facts reads what this machine is.
func facts() (resource.Facts, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return resource.Facts{}, fmt.Errorf("uname: %w", err)
	}
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		return resource.Facts{}, fmt.Errorf("sysinfo: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return resource.Facts{}, err
	}
	release := osRelease()
	return resource.Facts{
		Hostname: unix.ByteSliceToString(u.Nodename[:]),
		OS:       release["ID"],
		Version:  release["VERSION_ID"],
		Kernel:   unix.ByteSliceToString(u.Release[:]),
		Arch:     runtime.GOARCH,
		CPUs:     cpus(),
		Memory:   int64(s.Totalram) * int64(s.Unit),
		BootID:   strings.TrimSpace(string(boot)),
		Machine:  machine(),
	}, nil
}

// machine is made of machine-id(5), which is not to be shown to others as it
// is. A machine without one, or whose first boot has not ended, has "".
func machine() string {
	b, err := os.ReadFile("/etc/machine-id")
	id, bad := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || bad != nil || len(id) != 16 {
		return ""
	}
	sum := hmac.New(sha256.New, id)
	sum.Write([]byte("runbook"))
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// osRelease reads os-release(5). A machine without one has no OS and no Version.
func osRelease() map[string]string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		b, _ = os.ReadFile("/usr/lib/os-release")
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[k] = strings.Trim(v, `"'`)
		}
	}
	return out
}

// cpus counts the processors that are online, whatever this process may use.
func cpus() int {
	b, err := os.ReadFile("/sys/devices/system/cpu/online") // "0-3,6"
	if err != nil {
		return runtime.NumCPU()
	}
	n := 0
	for part := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		f, err1 := strconv.Atoi(from)
		t, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			return runtime.NumCPU()
		}
		n += t - f + 1
	}
	return n
}
