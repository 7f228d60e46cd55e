package tui

import (
	"time"

	tea "charm.land/bubbletea/v2"
)

// This file is about keys that were pressed before what they answer was to be seen: they answer nothing.
//
// Input lies about its time: what was typed while another program had the terminal, while the
// line was slow, or before the screen was drawn, comes out when it is read. But the terminal answers in order. So with
// every question it is asked where its cursor is, after the question; keys that come before its report
// were pressed before. What bubbletea is told to write, and the frames that it draws, are written by one loop, in turns:
// the first report says that this loop has come by since there is the question, and with a second one the frame
// lies between them.

// reportWithin is how long a terminal is given to report. One that never does is believed to have drawn by then.
const reportWithin = time.Second

// proof is how far it is proven that what is shown has been drawn.
type proof struct {
	drawn     bool
	sent, got int  // requests and reports
	need      int  // the report that is waited for
	second    bool // it is the second one
	answers   bool // this terminal does report
	nth       int  // which proof this is
}

// prove begins anew: what is shown now is yet to be drawn.
func (v *view) prove() tea.Cmd {
	p := &v.proof
	p.drawn, p.second = false, false
	p.nth++
	return tea.Batch(v.request(), v.after(reportWithin, lateMsg{p.nth}))
}

func (v *view) request() tea.Cmd {
	v.proof.sent++
	v.proof.need = v.proof.sent
	return tea.RequestCursorPosition
}

// reported takes a report of the terminal.
func (v *view) reported() tea.Cmd {
	p := &v.proof
	p.got, p.answers = min(p.got+1, p.sent), true // shift+F3 looks the same
	switch {
	case p.drawn || p.got < p.need:
		return nil
	case !p.second:
		p.second = true
		return v.request()
	}
	v.believe()
	return nil
}

// believe lets keys count.
func (v *view) believe() { v.proof.drawn, v.opened = true, true }

// late is called when the terminal should have reported.
func (v *view) late(nth int) tea.Cmd {
	p := &v.proof
	switch {
	case p.drawn || nth != p.nth:
		return nil
	case p.answers: // it stands still, or a report was lost
		p.got = p.sent
		return v.prove()
	}
	v.believe()
	return nil
}

// heard is the last key, to tell one that is held down from one that is pressed again.
type heard struct {
	key string
	at  time.Time
}

// heldWithin is the time between two of one key that need not be two decisions: a
// key that is held down comes again after some 500 ms, and then many times a second.
const heldWithin = 700 * time.Millisecond

// again reports whether key may be the last one, held down.
func (h *heard) again(key string, now time.Time) bool {
	again := h.key == key && now.Sub(h.at) < heldWithin
	h.key, h.at = key, now
	return again
}
