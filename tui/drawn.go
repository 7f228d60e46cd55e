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

// reportEvery is how often is looked whether a terminal has reported. A report that is slow must not be taken for
// that of a later request. So one is given up after many looks at a terminal that was heard, where it
// stands still, or has lost it; and one that was never heard in some looks reports nothing, and is believed to have
// drawn by then.
const (
	reportEvery = time.Second
	lostAfter   = 30
	muteAfter   = 5
)

// proof is how far it is proven that what is shown has been drawn.
type proof struct {
	drawn     bool
	sent, got int  // requests and reports
	need      int  // the report that is waited for
	second    bool // it is the second one
	silent    int  // looks since the last report, or the first request
	answers   bool // this terminal does report
	mute      bool // it does not
	nth       int  // which proof this is
}

// prove begins anew: what is shown now is yet to be drawn.
func (v *view) prove() tea.Cmd {
	p := &v.proof
	p.drawn, p.second, p.silent = false, false, 0
	p.nth++
	return tea.Batch(v.request(), v.look())
}

func (v *view) look() tea.Cmd { return v.after(reportEvery, lateMsg{v.proof.nth}) }

func (v *view) request() tea.Cmd {
	v.proof.sent++
	v.proof.need = v.proof.sent
	return tea.RequestCursorPosition
}

// reported takes a report of the terminal.
func (v *view) reported() tea.Cmd {
	p := &v.proof
	p.got, p.silent, p.answers = min(p.got+1, p.sent), 0, true // shift+F3 looks the same
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

// late is called when a terminal could have reported.
func (v *view) late(nth int) tea.Cmd {
	p := &v.proof
	if p.drawn || nth != p.nth {
		return nil
	}
	p.silent++
	switch {
	case p.answers && p.silent >= lostAfter:
		p.got = p.sent
		return v.prove()
	case !p.answers && (p.mute || p.silent >= muteAfter):
		p.mute = true
		v.believe()
		return nil
	}
	return v.look()
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
