package main

import (
	"os/signal"
	"syscall"
	"testing"
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
