//go:build linux

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/internal/integration"
)

// lifetime is how long a lab may outlive what kept it.
const lifetime = 10 * time.Second

// killableMaker starts another process that makes a lab of two nodes.
func killableMaker(t *testing.T, dir string) (maker *exec.Cmd, holder int, at string) {
	t.Helper()
	integration.Need(t, "root", "sshd")
	if err := Probe(); err != nil {
		integration.Missing(t, "%v", err)
	}
	maker = exec.Command("/proc/self/exe")
	maker.Env = append(os.Environ(), makeLabVar+"="+dir)
	maker.Stderr = os.Stderr
	out, err := maker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := maker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { maker.Process.Kill(); maker.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &holder, &at); err != nil {
		t.Fatal(err)
	}
	return maker, holder, at
}

func TestMakerKilled(t *testing.T) {
	maker, holder, dir := killableMaker(t, "temporary")
	processes := integration.Family(t, holder)
	if len(processes) < 5 { // the holder, and init and sshd of each node
		t.Fatalf("the lab has only processes %v", processes)
	}
	if err := maker.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	integration.AwaitNone(t, processes, lifetime)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lab has left its folder %s: %v", dir, err)
	}
}

func TestStandingOutlivesItsMaker(t *testing.T) {
	t.Setenv(standingVar, "1")
	maker, holder, dir := killableMaker(t, filepath.Join(t.TempDir(), "lab"))
	kill(t, maker.Process.Pid)
	maker.Wait()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if code, out := run(t, l, "node-1", "hostname"); out != "node-1\n" {
		t.Errorf("hostname: exit %d, %q", code, out)
	}
	processes := integration.Family(t, holder)
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	integration.AwaitNone(t, processes, lifetime)
}

// TestHolderTerminated sends what a machine sends when it shuts down.
func TestHolderTerminated(t *testing.T) {
	l := up(t, Options{Nodes: 2})
	processes := integration.Family(t, l.HolderPID())
	if err := syscall.Kill(l.HolderPID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-l.died
	integration.AwaitNone(t, processes, lifetime)
	if left, _ := filepath.Glob(l.Dir() + "/*"); len(left) > 0 {
		t.Errorf("the lab has left %v", left)
	}
}

func TestHolderKilled(t *testing.T) {
	l := up(t, Options{Nodes: 2})
	processes := integration.Family(t, l.HolderPID())
	kill(t, l.HolderPID())
	<-l.died // this process made it, so that it stays until it is waited for
	integration.AwaitNone(t, processes, lifetime)
	_, err := l.Dial(t.Context(), "node-1")
	wantCode(t, err, engine.Invalid, "was killed")
	if err := l.Down(t.Context()); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(l.Dir() + "/*"); len(left) > 0 {
		t.Errorf("the lab has left %v", left)
	}
}

// TestStaleFolder makes a lab where another was killed with its maker at once.
func TestStaleFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	maker, holder, _ := killableMaker(t, dir)
	processes := integration.Family(t, holder)
	kill(t, holder)
	kill(t, maker.Process.Pid)
	integration.AwaitNone(t, processes, lifetime)
	_, err := Open(dir)
	wantCode(t, err, engine.Invalid, "no lab is up")
	l := up(t, Options{Nodes: 1, Dir: dir, Standing: true})
	if code, _ := run(t, l, "node-1", "true"); code != 0 {
		t.Errorf("exit code is %d", code)
	}
}

func TestStanding(t *testing.T) {
	// Longer than a unix socket's path may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "lab")
	_, err := Open(dir)
	wantCode(t, err, engine.Invalid, "runbook lab up N")
	made := up(t, Options{Nodes: 2, Dir: dir, Standing: true})
	for _, standing := range []bool{true, false} {
		_, err = Up(t.Context(), Options{Nodes: 2, Dir: dir, Standing: standing})
		wantCode(t, err, engine.Invalid, "a lab is up already")
	}

	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Holder != made.HolderPID() || len(s.Nodes) != 2 || time.Since(s.Since) > time.Minute || s.Dir != dir {
		t.Errorf("status is %+v", s)
	}
	for _, n := range s.Nodes {
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.PID)); !strings.HasSuffix(string(comm), initArg+"\x00") {
			t.Errorf("%s has process %d, which is %q, %v", n.Name, n.PID, comm, err)
		}
		if !n.Running {
			t.Errorf("%s does not run", n.Name)
		}
	}
	if code, out := run(t, l, "node-2", "hostname"); out != "node-2\n" {
		t.Errorf("hostname: exit %d, %q", code, out)
	}

	kill(t, s.Nodes[0].PID)
	for deadline := time.Now().Add(lifetime); s.Nodes[0].Running && time.Now().Before(deadline); {
		if s, err = l.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_, err = l.Dial(t.Context(), "node-1")
	wantCode(t, err, engine.Unreachable, "its init has died")

	processes := integration.Family(t, l.HolderPID())
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	integration.AwaitNone(t, processes, lifetime)
	_, err = Open(dir)
	wantCode(t, err, engine.Invalid, "no lab is up")
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("the lab has left %v", left)
	}
}

// TestUpCanceled checks that nothing is left of a lab whose making was broken off.
func TestUpCanceled(t *testing.T) {
	integration.Need(t, "root", "sshd")
	dir := filepath.Join(t.TempDir(), "lab")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := Up(ctx, Options{Nodes: 20, Dir: dir, Standing: true})
	wantCode(t, err, engine.Internal, "not up in time")
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("the lab has left %v", left)
	}
	up(t, Options{Nodes: 1, Dir: dir})
}

// TestTwoLabs checks that labs do not see each other, though they have the same addresses.
func TestTwoLabs(t *testing.T) {
	a, b := up(t, Options{Nodes: 1}), up(t, Options{Nodes: 1})
	run(t, a, "node-1", "touch", "/tmp/of-a")
	if code, _ := run(t, b, "node-1", "test", "-e", "/tmp/of-a"); code != 1 {
		t.Errorf("one lab's file is in the other")
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
