package tui

import (
	"time"

	"runbook/engine"
)

// Frame is what the live view shows at a moment after events.
func Frame(events []engine.Event, asked bool, now time.Time, width, height int, s Style) []string {
	p := progress{asked: asked}
	for _, e := range events {
		p.take(e)
	}
	return p.frame(now, width, height, s)
}

// Redraw is redraw, NewLive a live view on what need not be a terminal.
var (
	Redraw  = redraw
	NewLive = newLive
)
