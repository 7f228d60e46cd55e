package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"runbook/engine"
	"runbook/internal/integration"
)

func init() {
	roles["filler"] = fillDisk
	roles["reader"] = openReadOnly
}

// openReadOnly opens a journal in a folder that not even root can write to.
func openReadOnly(dir string) error {
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		fmt.Println("skip:", err)
		return nil
	}
	_, err := Open(dir)
	fmt.Println(err)
	return nil
}

// fillDisk appends on a small file system of its own until it is full, and
// shows that the journal is whole and goes on when there is room again.
func fillDisk(dir string) error {
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		fmt.Println("skip:", err)
		return nil
	}
	j, err := Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	run, err := j.Begin(ctx, record)
	if err != nil {
		return err
	}
	ballast := dir + "/ballast"
	if err := os.WriteFile(ballast, make([]byte, 64<<10), 0o600); err != nil {
		return err
	}
	n := 0
	for ; err == nil; n++ {
		err = j.Append(ctx, engine.Entry{Run: run, Text: string(make([]byte, 2000))})
	}
	fmt.Println(err)
	if err := errors.Join(os.Remove(ballast), j.Append(ctx, engine.Entry{Run: run})); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	_, entries, err := j.Run(ctx, run)
	if err == nil && len(entries) != n {
		err = fmt.Errorf("%d entries, want %d", len(entries), n)
	}
	return errors.Join(err, j.Close())
}

// isolated plays a role with mounts of its own and returns what it prints.
func isolated(t *testing.T, role string) string {
	t.Helper()
	c := again(role, t.TempDir())
	isolate(c)
	out, err := c.Output()
	switch {
	case strings.HasPrefix(string(out), "skip:"), isStartError(err):
		integration.Missing(t, "this test needs mounts of its own: %s%v", out, err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestReadOnlyFolder(t *testing.T) {
	out := isolated(t, "reader")
	if !strings.Contains(out, "read-only file system") || !strings.Contains(out, "writable") {
		t.Errorf("got %s", out)
	}
}

func TestFullDisk(t *testing.T) {
	out := isolated(t, "filler")
	if !strings.Contains(out, "journal.db: the disk is full\n  hint: make room") {
		t.Errorf("got %s", out)
	}
}

func isStartError(err error) bool {
	_, exited := err.(*exec.ExitError) //nolint:errorlint // Output returns it bare
	return err != nil && !exited
}

// isolate gives c mounts of its own.
func isolate(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
}
