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
)

func init() { roles["filler"] = fillDisk }

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

func TestFullDisk(t *testing.T) {
	c := again("filler", t.TempDir())
	isolate(c)
	out, err := c.Output()
	switch {
	case strings.HasPrefix(string(out), "skip:"), isStartError(err):
		t.Skip(string(out), err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "journal.db: the disk is full\n  hint: make room") {
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
