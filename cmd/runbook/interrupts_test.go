package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
)

// The end of the terminal stops a run, unless nohup was asked that it does not.
func TestNohup(t *testing.T) {
	defer signal.Reset(syscall.SIGHUP)
	for _, nohup := range []bool{false, true} {
		if nohup {
			signal.Ignore(syscall.SIGHUP)
		}
		stop, done := interrupts()
		if got := signal.Ignored(syscall.SIGHUP); got != nohup {
			t.Errorf("the end of the terminal is ignored: %v, want %v", got, nohup)
		}
		if !nohup {
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			<-stop.stop
		}
		done()
	}
}

// A pipe in which nothing comes in place of an inventory keeps nobody: the third interrupt ends it.
func TestThirdInterrupt(t *testing.T) {
	dir := t.TempDir()
	pipe, book := filepath.Join(dir, "pipe"), filepath.Join(dir, "book.star")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.WriteFile(book, []byte("runbook()\ndef run(node, p):\n    pass\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "plan", "-i", pipe, "-n", "all", book)
	cmd.Args[0] = "runbook"
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_STATE_HOME="+dir)
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()                    //nolint:errcheck // it has ended
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // once it reads
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ended := make(chan string, 1)
	go func() { line, _ := bufio.NewReader(out).ReadString('\n'); ended <- line }()
	line := ""
	for presses := 0; line == ""; presses++ {
		if presses == 600 {
			t.Fatal("it has not ended")
		}
		cmd.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
		select {
		case line = <-ended:
			if line != "interrupted\n" {
				t.Errorf("it says %q", line)
			}
		case <-time.After(50 * time.Millisecond):
		}
	}
	if cmd.Wait(); cmd.ProcessState.ExitCode() != int(engine.Interrupted) {
		t.Errorf("exit %d", cmd.ProcessState.ExitCode())
	}
}
