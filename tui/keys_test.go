package tui_test

import (
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/rollout"
	"runbook/tui"
)

// asked is a run that asks about web-2 of wave 2, of which four are alike; nothing is drawn yet.
func asked(t *testing.T) (*night, chan rollout.Answer) {
	t.Helper()
	n := newNight(80, 24, tui.Style{}, nil)
	n.Drawn()
	n.first()
	n.wave(2)
	n.tell(engine.Event{Kind: engine.EventQuestion, Node: "web-2", Wave: 2, Nodes: 4})
	return n, n.Ask(rollout.Question{Plan: n.plans["web-2"], Wave: 2, Waves: 3, Nth: 1, Of: 5, Alike: 4})
}

// says wants the answer that came, or "".
func says(t *testing.T, c chan rollout.Answer, want string) {
	t.Helper()
	got := ""
	select {
	case a := <-c:
		got = a.String()
	default:
	}
	if got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
}

func (n *night) shows(t *testing.T, parts ...string) {
	t.Helper()
	s := strings.Join(n.Draw(), "\n")
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("%q is not there:\n%s", p, s)
		}
	}
}

// A key that was pressed before the question was drawn answers nothing, however far the drawing is.
func TestKeysBeforeTheQuestionIsDrawn(t *testing.T) {
	n, c := asked(t)
	n.Press("y", "s", "w")
	says(t, c, "")
	n.shows(t, "w came before this was to be seen; once more, if you mean it")
	n.Report() // the loop that writes has come by
	n.Press("y", "s", "w", "4", "enter")
	says(t, c, "")
	n.Report() // and the frame lies between
	says(t, c, "")
	n.Press("y")
	says(t, c, "yes")

	// A report of an earlier request is none of this question.
	n, _ = asked(t)
	n.Report()
	n.TakenBack()
	n.tell(engine.Event{Kind: engine.EventAnswer, Node: "web-2"}, engine.Event{Kind: engine.EventQuestion, Node: "web-3", Wave: 2, Nodes: 3})
	c = n.Ask(rollout.Question{Plan: n.plans["web-3"], Wave: 2, Waves: 3, Nth: 2, Of: 5, Alike: 3})
	n.Report() // of the second request for web-2
	n.Report() // of the first for web-3
	n.Press("y")
	says(t, c, "")
	n.Report()
	n.Press("y")
	says(t, c, "yes")
}

// A terminal that reports nothing is believed to have drawn after a while. One that has reported once is waited for.
func TestTerminalsThatDoNotReport(t *testing.T) {
	n := newNight(80, 24, tui.Style{}, nil)
	n.begun()
	n.wave(1)
	n.tell(engine.Event{Kind: engine.EventQuestion, Node: "web-1", Wave: 1, Nodes: 1})
	c := n.Ask(rollout.Question{Plan: n.plans["web-1"], Wave: 1, Waves: 3, Nth: 1, Of: 1, Alike: 1})
	for range 4 {
		n.Late()
		n.Press("y")
		says(t, c, "")
	}
	n.Late()
	n.Press("y")
	says(t, c, "yes")
	c = n.Ask(rollout.Question{Plan: n.plans["web-1"], Wave: 1, Waves: 3, Nth: 1, Of: 1, Alike: 1}) // by now it is known not to report
	n.Press("y")
	says(t, c, "")
	n.Late()
	n.Press("y")
	says(t, c, "yes")

	n, c = asked(t) // it has reported
	n.Late()
	n.Press("y")
	says(t, c, "")
	n.Drawn()
	n.Press("y")
	says(t, c, "yes")
}

// A report that takes its time is none of a later request, and one that is lost is asked for again.
func TestReportsThatAreSlow(t *testing.T) {
	n, c := asked(t)
	for range 3 {
		n.Late()
	}
	c2 := n.Ask(rollout.Question{Plan: n.plans["web-3"], Wave: 2, Waves: 3, Nth: 2, Of: 5, Alike: 3})
	n.Late()
	for range 5 { // four for web-2, one for web-3
		n.Report()
	}
	n.Press("y")
	says(t, c, "")
	says(t, c2, "")
	n.Report() // the second of the first requests for web-3
	n.Press("y")
	says(t, c2, "")
	n.Report()
	n.Press("y")
	says(t, c2, "yes")

	n, c = asked(t)
	n.Loses()
	n.Late()
	n.Report()
	n.Loses()
	n.Late()
	n.Press("y")
	says(t, c, "")
	n.Report()
	n.Press("y")
	says(t, c, "yes")
}

// Every answer is about one node, and for many more is typed than a key.
func TestAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		keys   string
		answer string
		shows  string
	}{
		"yes":                           {"y", "yes", ""},
		"skip":                          {"s", "skip", ""},
		"upper case":                    {"Y", "", "Y does nothing here"},
		"the number":                    {"w 4 enter", "all alike in this wave", ""},
		"w alone":                       {"w", "", "apply this diff to 4 nodes of wave 2?"},
		"w and enter":                   {"w enter", "", `"" is not 4`},
		"w and y":                       {"w y enter", "", `"y" is not 4`},
		"another number":                {"w 5 enter", "", `"5" is not 4`},
		"the number, corrected":         {"w 5 backspace 4 enter", "all alike in this wave", ""},
		"the number, after another":     {"w 5 enter 4 enter", "all alike in this wave", ""},
		"left":                          {"w 4 esc enter", "", "apply to web-2?"},
		"left, and yes":                 {"w esc y", "yes", ""},
		"elsewhere":                     {"down y", "", "y is about web-2, and the cursor is elsewhere: enter goes there"},
		"elsewhere, and for many":       {"down w", "", "w is about web-2"},
		"elsewhere and back":            {"down enter y", "", ""}, // what it goes to is to be drawn first
		"in a filter":                   {"/ y s w", "", "/ysw"},
		"in the help":                   {"? y", "", "apply to web-2?"},
		"where the diff is not shown":   {"d y", "", "this is what y would do; y again does it"},
		"skip needs no diff":            {"d s", "skip", ""},
		"pause and yes":                 {"p y", "yes", ""},
		"the wrong key for taking back": {"r", "", "r takes back a node that is done"},
	} {
		t.Run(name, func(t *testing.T) {
			n, c := asked(t)
			n.Drawn()
			n.later(time.Second)
			n.Press(strings.Fields(tt.keys)...)
			says(t, c, tt.answer)
			if tt.shows != "" {
				n.shows(t, tt.shows)
			}
		})
	}
	n, c := asked(t)
	n.Drawn()
	n.Press("down", "enter")
	n.Drawn()
	n.Press("y")
	says(t, c, "yes")
}

// Who holds a key down decides about one node.
func TestKeysThatAreHeldDown(t *testing.T) {
	n, c := asked(t)
	n.Drawn()
	n.Key("y")
	says(t, c, "yes")
	n.Now = n.Now.Add(500 * time.Millisecond) // when a terminal begins to repeat
	for i := range 100 {
		if i%10 == 0 {
			name := []string{"web-3", "web-4", "web-5"}[i/10%3]
			c = n.Ask(rollout.Question{Plan: n.plans[name], Wave: 2, Waves: 3, Nth: 2, Of: 5, Alike: 3})
			n.Drawn()
		}
		n.Key("y")
		says(t, c, "")
		n.Now = n.Now.Add(30 * time.Millisecond)
	}
	n.shows(t, "y was pressed just now; once more, if you mean this one too")
	n.Now = n.Now.Add(time.Second)
	n.Key("y")
	says(t, c, "yes")
}

// The cursor follows the questions until the operator moves it away, and never jumps from under his eyes.
func TestCursorFollowsQuestions(t *testing.T) {
	n, _ := asked(t)
	n.Drawn()
	n.shows(t, ">  web-2")
	n.ask("web-3", 2, 2, 5, 3)
	n.shows(t, ">  web-3", "apply to web-3?")
	n.Press("down", "down")
	n.ask("web-4", 2, 3, 5, 2)
	n.shows(t, ">  web-5", "web-4 is asked about: enter goes there")
	n.Press("enter")
	n.ask("web-5", 2, 4, 5, 1)
	n.shows(t, ">  web-5", "apply to web-5?  y yes  s skip")
	n.Press("w")
	n.shows(t, "no other node that is left of this wave gets this; y applies it")
}

// A diff that is different from the others of its wave says so, and is confirmed by itself.
func TestDifferentDiffs(t *testing.T) {
	n, _ := asked(t)
	c := n.ask("edge-fra-1", 2, 5, 5, 1)
	n.shows(t, "! differs ×1", ">! edge-fra-1", "! this diff differs from that of the other 4 nodes of its wave")
	n.Press("w", "5", "enter")
	says(t, c, "")
	n.Press("y")
	says(t, c, "yes")
}

// A node is taken back after a word was typed, and only one that is done.
func TestTakingBack(t *testing.T) {
	n, c := asked(t)
	n.Drawn()
	n.Press("g", "r", "y", "enter")
	n.shows(t, `"y" is not undo`)
	n.Press("esc", "r", "u", "n", "d", "o")
	if len(n.undone) > 0 {
		t.Errorf("%q was taken back", n.undone)
	}
	n.Press("enter")
	if len(n.undone) != 1 || n.undone[0] != "web-1" {
		t.Errorf("%q was taken back, want web-1", n.undone)
	}
	says(t, c, "")
}

// q stops, once and twice, and says what that does; held down it stops once. Ctrl-C always does.
func TestStopping(t *testing.T) {
	n, c := asked(t)
	n.Drawn()
	n.Key("q")
	n.shows(t, "STOPPING", "it stops after the changes in flight; once more puts back what is in hand")
	for range 20 {
		n.Now = n.Now.Add(30 * time.Millisecond)
		n.Key("q")
	}
	if n.stops != 1 {
		t.Errorf("held down, it stopped %d times", n.stops)
	}
	n.Press("q")
	n.shows(t, "it stops, and puts back what is in hand")
	n.Key("ctrl+c")
	if n.stops != 3 {
		t.Errorf("stopped %d times, want 3", n.stops)
	}
	says(t, c, "")

	n, _ = asked(t)
	n.Drawn()
	n.Press("/", "q", "ctrl+c")
	if n.stops != 1 {
		t.Errorf("in a filter, stopped %d times, want once, by Ctrl-C", n.stops)
	}
	n = newNight(80, 24, tui.Style{}, nil)
	n.Press("q", "y") // typed ahead
	if n.stops != 0 {
		t.Error("q before the first frame has stopped the run")
	}
}

// p pauses and lets go on.
func TestPausing(t *testing.T) {
	n, _ := asked(t)
	n.Drawn()
	n.Press("p")
	n.shows(t, "PAUSED", "the run is paused: what you decide begins once p lets it go on", "p go on")
	if !n.paused {
		t.Error("the run is not paused")
	}
	n.Press("p")
	if n.paused {
		t.Error("the run is still paused")
	}
}

// A run that is only shown, by --yes or because another process drives it, is not steered.
func TestReadOnly(t *testing.T) {
	n := newNight(80, 24, tui.Style{}, func(o *tui.Options) { o.ReadOnly = true })
	n.Drawn()
	n.first()
	n.Press("g", "r", "u", "n", "d", "o", "enter", "p", "y", "s", "w")
	if n.paused || n.undone != nil {
		t.Errorf("it was steered: paused %v, undone %q", n.paused, n.undone)
	}
	n.wave(2)
	c := n.ask("web-2", 2, 1, 5, 4) // a policy wants it
	n.Press("enter")
	n.Drawn()
	n.Press("y")
	says(t, c, "yes")
	n.TakenBack()
	n.Over(nil)
	if !n.Quits {
		t.Error("it stays open when the run is over")
	}

	n = newNight(80, 24, tui.Style{}, func(o *tui.Options) { o.ReadOnly, o.Stop, o.Controls = true, nil, nil })
	n.Drawn()
	n.first()
	n.Press("q")
	if !n.Quits || n.stops > 0 {
		t.Errorf("q: it quits %v, the run was stopped %d times", n.Quits, n.stops)
	}
}

// At the end it stays until it was looked at.
func TestAtTheEnd(t *testing.T) {
	n, _ := asked(t)
	n.Drawn()
	n.Press("q")
	n.end(&engine.Error{Code: engine.Interrupted, Cause: "interrupted"}, "1 done, 14 not tried", goOn...)
	n.Press("q", "enter") // still meant for the run
	if n.Quits {
		t.Error("it was left before the end was drawn")
	}
	n.Drawn()
	n.Press("y", "down", "d", "d")
	n.shows(t, "ENDED, EXIT 130")
	if n.Quits {
		t.Error("it was left by a key that does not")
	}
	n.Press("enter")
	if !n.Quits {
		t.Error("enter does not leave")
	}
}

// Ctrl-Z waits until nothing is in hand, and fg goes on as it was.
func TestSuspending(t *testing.T) {
	n, c := asked(t)
	n.Drawn()
	n.Press("ctrl+z")
	if n.Suspends != 1 || !n.paused {
		t.Errorf("while somebody is asked: suspended %d times, paused %v", n.Suspends, n.paused)
	}
	n.Resume()
	if n.paused {
		t.Error("the run does not go on after fg")
	}
	n.Press("y") // typed to the shell
	says(t, c, "")
	n.Drawn()
	n.Press("y")
	says(t, c, "yes")
	n.answered("web-2", 2, rollout.Yes)
	n.applying("web-2")
	n.Press("ctrl+z", "ctrl+z")
	n.shows(t, "SUSPENDING", "suspending as soon as nothing is in hand")
	if n.Suspends != 1 {
		t.Error("it was suspended with a node in hand")
	}
	n.done("web-2")
	if n.Suspends != 1 {
		t.Error("it was suspended before the run stood still")
	}
	n.tell(engine.Event{Kind: engine.EventPaused})
	if n.Suspends != 2 {
		t.Errorf("suspended %d times, want 2", n.Suspends)
	}
	n.tell(engine.Event{Kind: engine.EventPrint, Text: "meanwhile"})
	if n.Suspends != 2 {
		t.Error("it was suspended twice for one Ctrl-Z")
	}
	n.Resume()
	n.tell(engine.Event{Kind: engine.EventUnpaused})
	n.Press("p", "ctrl+z")
	n.tell(engine.Event{Kind: engine.EventPaused})
	n.Resume()
	if !n.paused {
		t.Error("a run that was paused before goes on after fg")
	}
}

// What is said about a server stands in the line whatever the server is called.
func TestLongNames(t *testing.T) {
	const server = "pg host=db-1.eu.example.net port=5433 dbname=shop user=monitor sslmode=verify-full via db-primary"
	n := newNight(80, 24, tui.Style{}, func(o *tui.Options) { o.Stop, o.Controls, o.ReadOnly = nil, nil, true })
	n.shared(server, 3)
	n.TakenBack()
	n.shows(t, "via db-primary is asked about, where the run is driven")
	n.tell(engine.Event{Kind: engine.EventAnswer, Node: server, Text: "yes"}, engine.Event{Kind: engine.EventNode, Node: server, State: engine.NodeApplying})
	n.later(3 * time.Second)
	n.shows(t, "in hand: pg db-1.eu", "via db-primary 3", "pg db-1.eu.example.net:5433/shop via db-primary: yes")
	n.tell(engine.Event{Kind: engine.EventPace, Node: server, For: engine.Duration(20 * time.Second), Text: "20s"})
	n.shows(t, "waits 20s, for limit changes_per_minute")
}
