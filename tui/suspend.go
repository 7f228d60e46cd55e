package tui

import (
	tea "charm.land/bubbletea/v2"
)

// This file suspends the process (Ctrl-Z). A node whose agent hears nothing for some seconds is given up, and
// one in hand would be put back: so the run is paused first, and what is in hand finished.

// suspension is a suspension that is to come, or goes on.
type suspension struct {
	paused bool // the run was, before
	gone   bool
}

func (v *view) suspend() tea.Cmd {
	switch {
	case v.suspends != nil:
		v.note = "it is suspended as soon as nothing is in hand"
		return nil
	case v.opts.Controls == nil || v.result != nil:
		return tea.Suspend
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
	return tea.Suspend
}

// resumed goes on after a suspension.
func (v *view) resumed() tea.Cmd {
	if s := v.suspends; s != nil {
		v.suspends = nil
		if !s.paused {
			v.wants = false
			v.opts.Controls.Pause(false)
		}
	}
	return v.prove()
}
