package tui

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"runbook/engine"
	"runbook/engine/rollout"
)

// This file shows a run on a terminal as it goes on: a few lines at the bottom, which
// are written anew in their place, and above them, once and for all, what is to stay.
//
// The terminal is only written to. Nothing is asked of it, no mode of it is changed and
// the cursor is not hidden, so that whatever ends the process leaves it as it was. The cursor
// stands below the lines, where an interrupt's ^C, a shell and an error of this process go on.
// So a part of them can be left behind where a terminal gets smaller: what it has scrolled off
// its top meanwhile is out of reach.

// perFrame is the least time between two writes to the terminal.
const perFrame = 100 * time.Millisecond

// Live shows a run on a terminal.
type Live struct {
	out   *os.File
	style Style
	stop  chan struct{}
	ended chan struct{}

	mu    sync.Mutex // of what is to be shown; never held while the terminal is written to, which may stand still
	p     progress
	why   causes
	above []string // lines that are yet to be written above

	drawing sync.Mutex // of the terminal
	shown   []string   // the lines that stand there
	hidden  bool       // somebody is asked
}

// LiveOn returns what shows a run on f, or nil where that is no terminal whose cursor can be moved.
func LiveOn(f *os.File) *Live {
	if t := os.Getenv("TERM"); !term.IsTerminal(int(f.Fd())) || t == "dumb" || t == "" {
		return nil
	}
	return newLive(f)
}

func newLive(f *os.File) *Live {
	l := &Live{out: f, style: StyleOf(f), why: causes{}, stop: make(chan struct{}), ended: make(chan struct{})}
	go l.loop()
	return l
}

// Tell takes an event of the run.
func (l *Live) Tell(e engine.Event) {
	l.mu.Lock()
	predicting := l.p.foresee > 0
	l.why.note(e)
	l.p.take(e)
	if stays(e) {
		l.above = append(l.above, eventLines(e, l.why, l.style)...)
	}
	over := predicting && l.p.foresee == 0
	l.mu.Unlock()
	if over { // the plan is shown next, by somebody else
		l.hide()
		l.show()
	}
}

// stays reports whether e is told above the lines, to stay. All else is in the lines while it
// is going on, in the plan, which was shown, and in the record.
func stays(e engine.Event) bool {
	switch e.Kind {
	case engine.EventChange, engine.EventUnchanged, engine.EventConfirmed, engine.EventPace, engine.EventBake, engine.EventValue:
		return false
	case engine.EventNode, engine.EventGate:
		return e.Err != nil
	default:
		return true
	}
}

// Asking is ask with the lines out of its way. From the first question on nobody knows how long the run will take.
func (l *Live) Asking(ask func(context.Context, rollout.Question) (rollout.Answer, error)) func(context.Context, rollout.Question) (rollout.Answer, error) {
	return func(ctx context.Context, q rollout.Question) (rollout.Answer, error) {
		l.mu.Lock()
		l.p.asked = true
		l.mu.Unlock()
		l.hide()
		defer l.show()
		return ask(ctx, q)
	}
}

func (l *Live) hide() {
	l.drawing.Lock()
	defer l.drawing.Unlock()
	l.draw(true)
	l.hidden = true
}

func (l *Live) show() {
	l.drawing.Lock()
	defer l.drawing.Unlock()
	l.hidden = false
}

// Close writes what is yet to be written and takes the lines away.
func (l *Live) Close() {
	close(l.stop)
	<-l.ended
}

func (l *Live) loop() {
	defer close(l.ended)
	tick := time.NewTicker(perFrame)
	defer tick.Stop()
	halt, goOn := jobSignals()
	defer signal.Stop(halt)
	defer signal.Stop(goOn)
	for last := false; !last; {
		select {
		case <-tick.C:
		case <-halt:
			l.standStill(goOn)
		case <-goOn: // whatever stopped it: where the cursor was, others have written
			l.drawing.Lock()
			l.shown = nil
			l.drawing.Unlock()
		case <-l.stop:
			last = true
		}
		l.drawing.Lock()
		if !l.hidden {
			l.draw(last)
		}
		l.drawing.Unlock()
	}
}

// draw brings the terminal up to date; bare is without the lines that are written anew. The caller holds drawing.
func (l *Live) draw(bare bool) {
	width, height, err := term.GetSize(int(l.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	l.mu.Lock()
	above := l.above
	l.above = nil
	var frame []string
	if !bare && inForeground(l.out) {
		frame = l.p.frame(time.Now(), width, height, l.style)
	}
	l.mu.Unlock()
	if len(above) == 0 && slices.Equal(frame, l.shown) {
		return
	}
	l.out.WriteString(redraw(l.shown, above, frame, width)) //nolint:errcheck // a terminal that has gone away does not stop a run
	l.shown = frame
}

// redraw is what puts frame in the place of the lines was, and above over it,
// on a terminal of so many columns whose cursor stands below was.
func redraw(was, above, frame []string, width int) string {
	var b strings.Builder
	if up := rowsOf(was, width); up > 0 {
		b.WriteString(ansi.CursorUp(up))
		b.WriteString("\r")
	}
	if len(above) > 0 { // which may be longer than a row, and would leave there what they do not cover
		b.WriteString(ansi.EraseScreenBelow)
	}
	for _, l := range slices.Concat(above, frame) {
		b.WriteString(ansi.EraseLineRight)
		b.WriteString(l)
		b.WriteString("\r\n")
	}
	b.WriteString(ansi.EraseScreenBelow)
	return b.String()
}

// rowsOf is how many rows lines take: more than one each, where the terminal has become narrower since.
func rowsOf(lines []string, width int) int {
	n := 0
	for _, l := range lines {
		n += max((ansi.StringWidth(l)+width-1)/width, 1)
	}
	return n
}
