package tui

import (
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// This file is about keys that were pressed before what they answer was to be seen: they answer nothing.
//
// Input lies about its time: what was typed while another program had the terminal, while the
// line was slow, or before the screen was drawn, comes out when it is read. But the terminal answers in order. So with
// every question it is asked where its cursor is, after the question; keys that come before its report
// were pressed before. What bubbletea is told to write, and the frames that it draws, are written by one loop, in turns:
// the first report says that this loop has come by since there is the question, and with a second one the frame
// lies between them.

//
// Each request is made at a place of its own, which its report names: one that is slow is not taken for that of a later
// request, and one that is lost is asked for again. The place is not in the first row, where a report looks like shift+F3.

// reportWithin is after how long a request is made again.
const reportWithin = time.Second

// muteAfter is how many requests a terminal leaves without any report that is believed to have drawn by then, and to report nothing at all.
const muteAfter = 5

// proof is how far it is proven that what is shown has been drawn.
type proof struct {
	drawn   bool
	sent    int  // requests, ever
	before  int  // of these those that prove nothing
	second  bool // it is the second report that is waited for
	answers bool // this terminal does report
	mute    bool // it does not
	silent  int  // requests in a row that were made in vain
}

// prove begins anew: what is shown now is yet to be drawn.
func (v *view) prove() tea.Cmd {
	p := &v.proof
	p.drawn, p.second, p.before, p.silent = false, false, p.sent, 0
	return v.request()
}

func (v *view) request() tea.Cmd {
	p := &v.proof
	p.sent++
	at := v.placeOfRequest(p.sent)
	return tea.Batch(
		tea.Raw(ansi.SaveCursor+ansi.CursorPosition(at.X+1, at.Y+1)+ansi.RequestCursorPositionReport+ansi.RestoreCursor),
		v.after(reportWithin, lateMsg{p.sent}),
	)
}

// placeOfRequest is where the cursor is for the nth request.
func (v *view) placeOfRequest(nth int) tea.Position {
	columns, rows := max(v.width, 1), max(v.height-1, 1)
	return tea.Position{X: nth % columns, Y: min(1+nth/columns%rows, max(v.height-1, 0))}
}

// reported takes a report of the terminal.
func (v *view) reported(at tea.Position) tea.Cmd {
	p := &v.proof
	p.answers, p.silent = true, 0
	for nth := p.sent; nth > p.before && !p.drawn; nth-- {
		switch {
		case v.placeOfRequest(nth) != at:
		case p.second:
			v.believe()
		default:
			p.second, p.before = true, p.sent
			return v.request()
		}
	}
	return nil
}

// believe lets keys count.
func (v *view) believe() { v.proof.drawn, v.opened = true, true }

// late is called when the terminal should have reported on the nth request.
func (v *view) late(nth int) tea.Cmd {
	p := &v.proof
	if p.drawn || nth != p.sent {
		return nil
	}
	if p.silent++; !p.answers && (p.mute || p.silent >= muteAfter) {
		p.mute = true
		v.believe()
		return nil
	}
	return v.request()
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
