package tui

import (
	"time"

	tea "charm.land/bubbletea/v2"

	"runbook/engine"
	"runbook/engine/rollout"
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

// Scene is a screen without a terminal.
type Scene struct {
	view     *view
	box      *inbox
	Now      time.Time
	Quits    bool
	Suspends int
	reports  int
}

// NewScene returns the screen of a run of which nothing is known yet.
func NewScene(o Options, width, height int, s Style) *Scene {
	x := &Scene{box: &inbox{}}
	x.view = newView(o, s, func() time.Time { return x.Now }, x.box)
	x.view.after = func(time.Duration, tea.Msg) tea.Cmd { return nil }
	x.view.stands = func() tea.Cmd { return tea.Suspend }
	x.send(tea.WindowSizeMsg{Width: width, Height: height})
	return x
}

// send has the view take a message. No time passes, and no cursor is reported.
func (x *Scene) send(msg tea.Msg) {
	_, cmd := x.view.Update(msg)
	x.does(cmd)
}

func (x *Scene) does(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case tea.BatchMsg:
		for _, c := range msg {
			x.does(c)
		}
	case tea.QuitMsg:
		x.Quits = true
	case tea.SuspendMsg:
		x.Suspends++
	}
}

// Resume goes on after a suspension.
func (x *Scene) Resume() { x.send(resumedMsg{true}) }

// Tell has the run tell of events.
func (x *Scene) Tell(events ...engine.Event) {
	x.Queue(events...)
	x.Fresh()
}

// Fresh has the screen look into its inbox.
func (x *Scene) Fresh() { x.send(freshMsg{}) }

// Queue has events wait in the inbox.
func (x *Scene) Queue(events ...engine.Event) {
	for _, e := range events {
		t := told{event: e}
		if e.Kind == engine.EventPlanned {
			t.does = doesOf(e)
		}
		x.box.events = append(x.box.events, t)
		x.Now = e.Time
	}
}

// Ask asks; the answer comes on the channel.
func (x *Scene) Ask(q rollout.Question) chan rollout.Answer {
	a := &asking{q, make(chan rollout.Answer, 1)}
	x.box.asking = a
	x.send(freshMsg{})
	return a.answer
}

// TakenBack takes the question back, as at its answer.
func (x *Scene) TakenBack() {
	x.box.asking = nil
	x.send(freshMsg{})
}

// Over ends the run.
func (x *Scene) Over(err *engine.Error) {
	x.box.result = &result{err}
	x.send(freshMsg{})
}

// Report reports on the oldest request that was not reported on, Drawn as often as it takes.
func (x *Scene) Report() {
	if x.reports < x.view.proof.sent {
		x.reports++
	}
	at := x.view.placeOfRequest(x.reports)
	x.send(tea.CursorPositionMsg(at))
}

// Loses has the terminal report on none of the requests so far.
func (x *Scene) Loses() { x.reports = x.view.proof.sent }

func (x *Scene) Drawn() {
	for !x.view.proof.drawn {
		x.Report()
	}
}

// Late is the moment at which a terminal should have reported.
func (x *Scene) Late() { x.send(lateMsg{x.view.proof.sent}) }

// Press presses keys, a second after each other.
func (x *Scene) Press(keys ...string) {
	for _, k := range keys {
		x.Now = x.Now.Add(time.Second)
		x.Key(k)
	}
}

// Key presses a key now.
func (x *Scene) Key(k string) {
	codes := map[string]tea.KeyPressMsg{
		"enter": {Code: tea.KeyEnter}, "esc": {Code: tea.KeyEscape}, "tab": {Code: tea.KeyTab}, "up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown},
		"pgup": {Code: tea.KeyPgUp}, "pgdown": {Code: tea.KeyPgDown}, "backspace": {Code: tea.KeyBackspace},
		"ctrl+c": {Code: 'c', Mod: tea.ModCtrl}, "ctrl+z": {Code: 'z', Mod: tea.ModCtrl},
	}
	msg, special := codes[k]
	if !special {
		msg = tea.KeyPressMsg{Code: []rune(k)[0], Text: k}
	}
	x.send(msg)
}

// Resize is another size of the terminal.
func (x *Scene) Resize(width, height int) { x.send(tea.WindowSizeMsg{Width: width, Height: height}) }

// Draw is the screen, drawn anew.
func (x *Scene) Draw() []string { return x.view.draw() }

// Frame is the screen as the terminal gets it.
func (x *Scene) Frame() string { return x.view.View().Content }
