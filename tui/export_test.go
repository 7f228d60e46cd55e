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

// Redraw is redraw.
var Redraw = redraw
