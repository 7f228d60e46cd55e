package tui

import (
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
)

// This file suspends the process (Ctrl-Z). A node whose agent hears nothing for some seconds is given up, and
// one in hand would be put back: so the run is paused first, and what is in hand finished. And it takes the
// terminal again where something else than Ctrl-Z has let this process stand still.

// suspension is a suspension that is to come, or goes on.
type suspension struct {
	paused bool // the run was, before
	gone   bool
}

// The messages of a process that goes on.
type (
	resumedMsg struct{ stood bool } // after a suspension, if it was one
	goesOnMsg  struct{}             // whatever it stood still for
	backMsg    struct{}             // and has the terminal again
)

// soonAfter is for how long after the terminal was taken again it may be told once more that the process goes on.
const soonAfter = time.Second

func (v *view) suspend() tea.Cmd {
	switch {
	case v.suspends != nil:
		v.note = "it is suspended as soon as nothing is in hand"
		return nil
	case v.opts.Controls == nil || v.result != nil:
		v.suspends = &suspension{gone: true}
		return v.stands()
	}
	v.suspends = &suspension{paused: v.wants}
	v.wants = true
	v.opts.Controls.Pause(true)
	return v.suspendIfStill()
}

// suspendIfStill suspends, if that is wanted and the run stands still: somebody is asked, or it is paused.
func (v *view) suspendIfStill() tea.Cmd {
	s := v.suspends
	if s == nil || s.gone || len(v.board.hand)+len(v.board.back) > 0 || v.asking == nil && !v.board.paused && v.board.end == nil {
		return nil
	}
	s.gone = true
	return v.stands()
}

// resumed goes on after a suspension.
func (v *view) resumed(stood bool) tea.Cmd {
	v.back = v.now()
	if s := v.suspends; s != nil {
		v.suspends = nil
		if v.opts.Controls != nil && v.result == nil && !s.paused {
			v.wants = false
			v.opts.Controls.Pause(false)
		}
	}
	if v.note = ""; !stood {
		v.note = "it cannot be suspended: there is no shell that would let it go on"
	}
	return v.prove()
}

// retake takes the terminal again, as whoever had it meanwhile has left it; unless that is done anyway.
func (v *view) retake() tea.Cmd {
	if s := v.suspends; s != nil && s.gone || v.now().Sub(v.back) < soonAfter {
		return nil
	}
	v.back = v.now()
	return tea.Exec(aside(func() {
		time.Sleep(perFrame) // who draws there ends without being waited for, and would stop the clock of the one that begins
	}), func(error) tea.Msg { return backMsg{} })
}

// standStill stops this process and those of its job, as Ctrl-Z does, until a shell lets them go on.
func standStill() tea.Cmd {
	stood := false
	return tea.Exec(aside(func() {
		goOn := make(chan os.Signal, 1)
		signal.Notify(goOn, syscall.SIGCONT)
		defer signal.Stop(goOn)
		syscall.Kill(0, syscall.SIGTSTP) //nolint:errcheck // it is this process
		stood = awaited(goOn)
	}), func(error) tea.Msg { return resumedMsg{stood} })
}

// awaited waits until a process that was told to stop goes on, and reports whether it has stopped: that
// means nothing to one that no shell could let go on.
func awaited(goOn <-chan os.Signal) bool {
	for range 20 { // a clock goes on meanwhile, so that one wait for all would be over before the signal is there
		select {
		case <-goOn:
			return true
		case <-time.After(perFrame / 10):
		}
	}
	return false
}

// aside is what is done while the screen has left the terminal to others.
type aside func()

func (f aside) Run() error        { f(); return nil }
func (aside) SetStdin(io.Reader)  {}
func (aside) SetStdout(io.Writer) {}
func (aside) SetStderr(io.Writer) {}

// lookAgain has the view take the terminal when this process goes on, and has it to itself, until the screen is gone.
func (s *Screen) lookAgain() {
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, syscall.SIGCONT)
	defer signal.Stop(goOn)
	for {
		select {
		case <-s.ended:
			return
		case <-goOn:
			waitForForeground(s.opts.Out)
			s.program.Send(goesOnMsg{})
		}
	}
}

// waitForForeground waits until f is no terminal on which something else runs: what is written there would stand in its
// midst, and who reads from there is stopped by the kernel, with whatever is in hand.
func waitForForeground(f *os.File) {
	for !inForeground(f) {
		time.Sleep(perFrame)
	}
}
