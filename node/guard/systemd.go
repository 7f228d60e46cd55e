//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// This file takes a guardian out of the reach of whoever ends SSH sessions:
// systemd may kill all that a session has left behind, sessions of their own or
// not. So a guardian starts another one as a transient service, and leaves once that is there. It needs
// no timer, whose accuracy would have to be set: a guardian waits by itself.
//
// A unit for the next boot puts back what the machine's end has interrupted. It is
// there only while something waits.

// relieveWithin bounds the wait for systemd, and then for the other guardian to leave.
const relieveWithin = 10 * time.Second

// units is where administrators' units lie; a variable for tests.
var units = "/etc/systemd/system"

// bootUnit is the unit for the next boot, and the link that has it started.
func bootUnit() (unit, wanted string) {
	const name = "runbook-guardian.service"
	return filepath.Join(units, name), filepath.Join(units, "multi-user.target.wants", name)
}

// underSystemd reports whether systemd started this machine, and means the same
// network and files as this process does.
func underSystemd() bool {
	_, err := os.Stat("/run/systemd/system")
	_, net := namespace("net")
	_, mnt := namespace("mnt")
	return err == nil && net && mnt && os.Geteuid() == 0
}

// relieve has systemd start a guardian for dir, and returns once it runs.
func relieve(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, relieveWithin)
	defer cancel()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	conn, err := systemd.NewWithContext(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	done := make(chan string, 1)
	name := fmt.Sprintf("runbook-guardian-%d.service", os.Getpid())
	property := func(name string, v any) systemd.Property {
		return systemd.Property{Name: name, Value: dbus.MakeVariant(v)}
	}
	_, err = conn.StartTransientUnitContext(ctx, name, "fail", []systemd.Property{
		systemd.PropDescription("runbook: put back what is not confirmed"),
		systemd.PropExecStart([]string{self, "guard", dir}, false),
		systemd.PropType("exec"),
		property("Environment", []string{relieveVar + "=1"}),
		property("CollectMode", "inactive-or-failed"),
		property("Restart", "on-failure"), // somebody killed it
		property("TimerSlackNSec", uint64(time.Millisecond)),
		property("TimeoutStopUSec", uint64(time.Second/time.Microsecond)), // it ignores SIGTERM, and the next boot goes on
	}, done)
	if err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd answers %q", result)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// atBoot has the next boot put back what waits in dir then. Nothing is lost
// where it cannot be written: most of a kernel's state ends with it, and the next agent looks too.
func atBoot(dir string) error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	text := fmt.Sprintf(`# Written by runbook while changes to this machine wait to be confirmed.
[Unit]
Description=runbook: put back what was not confirmed before this machine stopped
After=network.target
RequiresMountsFor=%[1]s %[2]s

[Service]
Type=oneshot
Environment=%[3]s=1
ExecStart=%[4]s guard %[5]s
`, unitPath(self), unitPath(dir), relieveVar, unitPath(self), argument(dir))
	unit, wanted := bootUnit()
	if err := (folder{dir: units}).write(filepath.Base(unit), []byte(text), 0o644); err != nil { // an empty one would be a masked one
		return err
	}
	if err := os.MkdirAll(filepath.Dir(wanted), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(unit, wanted); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(folder{dir: units}.sync(), folder{dir: filepath.Dir(wanted)}.sync())
}

// unitPath is a path as a unit's file has it, where % begins a specifier.
func unitPath(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(path) + `"`
}

// argument is a path as an argument in a unit's file, where $ begins a variable besides.
func argument(path string) string { return strings.ReplaceAll(unitPath(path), "$", "$$") }

// notAtBoot removes what atBoot wrote.
func notAtBoot() {
	unit, wanted := bootUnit()
	os.Remove(wanted) //nolint:errcheck // there is none, or it finds nothing to do
	os.Remove(unit)   //nolint:errcheck // as above
}
