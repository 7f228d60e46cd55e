package tui

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file is what the job control of a shell means to the live view: on Ctrl-Z it takes its
// lines away before the process stands still, on fg it writes them anew where the cursor is
// by then, and in the background it leaves the terminal to others.

// jobSignals are those of job control.
func jobSignals() (stop, goOn chan os.Signal) {
	stop, goOn = make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTSTP)
	signal.Notify(goOn, syscall.SIGCONT)
	return stop, goOn
}

// standStill stops this process, as Ctrl-Z does, until a shell lets it go on.
//
// SIGTSTP itself would not: once it was caught, Go does not give it its meaning back. SIGTTOU has
// the same one, and that too is none where there is no shell that could let the process go on.
func (l *Live) standStill(goOn <-chan os.Signal) {
	l.drawing.Lock() // by nobody meanwhile
	defer l.drawing.Unlock()
	if !l.hidden {
		l.draw(true)
	}
	syscall.Kill(syscall.Getpid(), syscall.SIGTTOU) //nolint:errcheck // it is this process
	awaited(goOn)
}

// inForeground reports whether this process may write to f as it likes: f is not the
// terminal of a shell that has this process in its background.
func inForeground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == 0 || group == unix.Getpgrp() // 0: that of another PID namespace
}
