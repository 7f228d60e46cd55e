package tui_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine"
	"runbook/engine/rollout"
	"runbook/internal/pty"
	"runbook/tui"
)

// answer is what came of a question.
type answer struct {
	rollout.Answer
	err error
}

// screenOn is a screen on a terminal.
func screenOn(t *testing.T, x *pty.Terminal, change func(*tui.Options)) *tui.Screen {
	t.Helper()
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("NO_COLOR", "")
	o := tui.Options{In: x.Slave, Out: x.Slave, Title: "run add_route.star", Controls: &rollout.Controls{}, Stop: func() string { return "it stops" }}
	if change != nil {
		change(&o)
	}
	return tui.NewScreen(o)
}

// begins tells of a run up to its first wave, of one node.
func begins(s *tui.Screen) *engine.NodePlan {
	now := time.Now()
	p := nodePlan("web-1")
	for _, e := range []engine.Event{
		{Kind: engine.EventPredict, Nodes: 1},
		{Kind: engine.EventPlanned, Node: "web-1", Nth: 1, Wave: 1, Plan: p, Info: &engine.NodeInfo{Name: "web-1"}},
		{Kind: engine.EventRun, Limits: theLimits, Outlook: &engine.Outlook{Waves: outlook(1)}},
		{Kind: engine.EventWave, Wave: 1, Nodes: 1, Text: "wave 1 of 1: web-1"},
	} {
		e.Time, e.Run = now, runID
		s.Tell(e)
	}
	return p
}

func asks(s *tui.Screen, ctx context.Context, p *engine.NodePlan) chan answer {
	s.Tell(engine.Event{Kind: engine.EventQuestion, Time: time.Now(), Node: p.Node, Wave: 1, Nodes: 1})
	c := make(chan answer, 1)
	go func() {
		a, err := s.Confirm(ctx, rollout.Question{Plan: p, Wave: 1, Waves: 1, Nth: 1, Of: 1, Alike: 1})
		c <- answer{a, err}
	}()
	return c
}

// gets waits for an answer.
func gets(t *testing.T, c chan answer) answer {
	t.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(time.Minute):
		t.Fatal("there is no answer")
	}
	return answer{}
}

// ends closes the screen as an operator does.
func ends(t *testing.T, s *tui.Screen, x *pty.Terminal) {
	t.Helper()
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.Finish(nil)
	}()
	x.Until("the end", pty.Has("q or enter leaves"))
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		x.Type("q")
		select {
		case <-over:
			return
		case <-time.After(time.Second):
		}
	}
	t.Fatal("q does not leave")
}

// What is typed before the question is to be seen answers nothing, also where the terminal stands still
// between; and the run is never held up by it.
func TestTypedAhead(t *testing.T) {
	x := pty.Open(t, 80, 24)
	x.Type("yyy")
	s := screenOn(t, x, nil)
	p := begins(s)
	c := asks(s, t.Context(), p)
	x.Until("the question", pty.Has("apply to web-1?  y yes"))
	time.Sleep(200 * time.Millisecond)
	if len(c) > 0 {
		t.Fatalf("what was typed before the first frame has answered: %v", <-c)
	}
	x.Type("\x1b[200~y\x1b[201~") // pasted
	time.Sleep(time.Second)
	if len(c) > 0 {
		t.Fatalf("what was pasted has answered: %v", <-c)
	}
	x.Type("y")
	if a := gets(t, c); a.err != nil || a.Answer != rollout.Yes {
		t.Fatalf("%v, %v", a.Answer, a.err)
	}

	goOn := x.Still()
	c = asks(s, t.Context(), p)
	for range 40 {
		time.Sleep(50 * time.Millisecond)
		x.Type("s")
	}
	began := time.Now()
	for range 10_000 { // none of which waits
		s.Tell(engine.Event{Kind: engine.EventPrint, Time: time.Now(), Node: "web-1", Text: strings.Repeat("long ", 20)})
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("telling of 10,000 events has taken %s", took)
	}
	if len(c) > 0 {
		t.Fatalf("what was typed while the terminal stood still has answered: %v", <-c)
	}
	goOn()
	time.Sleep(2 * time.Second)
	if len(c) > 0 {
		t.Fatalf("what was typed while the terminal stood still has answered: %v", <-c)
	}
	x.Type("s")
	if a := gets(t, c); a.err != nil || a.Answer != rollout.Skip {
		t.Fatalf("%v, %v", a.Answer, a.err)
	}
	ends(t, s, x)
}

// A terminal that never reports is believed after some seconds.
func TestTerminalThatReportsNothing(t *testing.T) {
	x := pty.Open(t, 80, 24)
	x.Dumb()
	s := screenOn(t, x, nil)
	c := asks(s, t.Context(), begins(s))
	x.Until("the question", pty.Has("apply to web-1?  y yes"))
	for end := time.Now().Add(time.Minute); len(c) == 0 && time.Now().Before(end); time.Sleep(time.Second) {
		x.Type("y")
	}
	if a := gets(t, c); a.err != nil || a.Answer != rollout.Yes {
		t.Fatalf("%v, %v", a.Answer, a.err)
	}
	ends(t, s, x)
}

// Nothing is written where nothing has changed, and the clock once a second while it goes.
func TestNothingIsDrawnWithoutChange(t *testing.T) {
	x := pty.Open(t, 80, 24)
	s := screenOn(t, x, nil)
	p := begins(s)
	ctx, cancel := context.WithCancel(t.Context())
	c := asks(s, ctx, p)
	x.Until("the question", pty.Has("apply to web-1?  y yes"))
	time.Sleep(time.Second)
	before := x.Written()
	time.Sleep(3 * time.Second)
	if now := x.Written(); now != before {
		t.Errorf("%d bytes were written while a question stands there, and nothing happens", now-before)
	}
	x.Type("jkjk") // the cursor comes to where it was
	time.Sleep(time.Second)
	before = x.Written()
	time.Sleep(2 * time.Second)
	if now := x.Written(); now != before {
		t.Errorf("%d bytes were written while nothing happens", now-before)
	}
	cancel()
	if a := gets(t, c); a.err == nil {
		t.Errorf("a question that was taken back was answered: %v", a.Answer)
	}
	s.Tell(engine.Event{Kind: engine.EventAnswer, Time: time.Now(), Node: "web-1"})
	s.Tell(engine.Event{Kind: engine.EventNode, Time: time.Now(), Node: "web-1", State: engine.NodeApplying})
	x.Until("the node in hand", pty.Has("web-1               applying", "in hand: web-1"))
	time.Sleep(time.Second)
	writes, began := 0, time.Now()
	for before = x.Written(); time.Since(began) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
		if now := x.Written(); now != before {
			writes, before = writes+1, now
			time.Sleep(100 * time.Millisecond) // the rest of the same frame
		}
	}
	if most := int(time.Since(began)/time.Second) + 1; writes > most || writes == 0 {
		t.Errorf("it was drawn %d times in %s", writes, time.Since(began))
	}
	ends(t, s, x)
}

// A terminal that goes away takes the questions with it, and is told of once.
func TestLostTerminal(t *testing.T) {
	x := pty.Open(t, 80, 24)
	lost := make(chan struct{}, 10)
	s := screenOn(t, x, func(o *tui.Options) { o.Lost = func() { lost <- struct{}{} } })
	c := asks(s, t.Context(), begins(s))
	x.Until("the question", pty.Has("apply to web-1?  y yes"))
	x.Close()
	if a := gets(t, c); a.err == nil || a.Answer != rollout.Quit || engine.AsError(a.err).Code != engine.Interrupted {
		t.Errorf("the answer is %v, %v", a.Answer, a.err)
	}
	s.Tell(engine.Event{Kind: engine.EventEnd, Time: time.Now(), Text: "over"})
	s.Finish(nil)
	if len(lost) != 1 {
		t.Errorf("it was told of %d times", len(lost))
	}
}

// The terminal is left as it was, with what is to stay on it; and whatever its size becomes, it is filled.
func TestTerminalIsLeftAsItWas(t *testing.T) {
	x := pty.Open(t, 80, 24)
	was, err := unix.IoctlGetTermios(int(x.Slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(x.Slave, "$ runbook run\n")
	s := screenOn(t, x, nil)
	s.KeepPlan(&engine.Plan{Source: engine.Source{Main: "kept.star"}})
	c := asks(s, t.Context(), begins(s))
	x.Until("the question", pty.Has("apply to web-1?  y yes"))
	resize := func(columns, rows int) { // it is not the terminal that this process belongs to, which the kernel would tell
		x.Resize(columns, rows)
		unix.Kill(os.Getpid(), unix.SIGWINCH) //nolint:errcheck // it is there
	}
	resize(120, 40)
	x.Until("the question at another size", func(sc string) bool {
		lines := strings.Split(sc, "\n")
		return strings.Contains(lines[37], "apply to web-1?  y yes") && strings.HasSuffix(lines[0], runID)
	})
	resize(59, 14)
	x.Until("that it is too small", pty.Has("too small: 59x14, and 60x15 is needed"))
	x.Type("y")
	time.Sleep(300 * time.Millisecond)
	if len(c) > 0 {
		t.Errorf("it was answered where the question is not to be seen: %v", <-c)
	}
	resize(60, 15)
	x.Until("the question on the least terminal", pty.Has("apply to web-1?  y yes"))
	for end := time.Now().Add(time.Minute); len(c) == 0 && time.Now().Before(end); time.Sleep(time.Second) {
		x.Type("y")
	}
	gets(t, c)
	s.Tell(engine.Event{Kind: engine.EventEnd, Time: time.Now(), Text: "the end in a line"})
	ends(t, s, x)
	if sc := x.Until("what is to stay", pty.Has("$ runbook run", "kept.star", "the end in a line")); strings.Contains(sc, "│") {
		t.Errorf("a part of the screen is left:\n%s", sc)
	}
	is, err := unix.IoctlGetTermios(int(x.Slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *is != *was {
		t.Errorf("the terminal's modes are %+v, and were %+v", *is, *was)
	}
}

// A process that stood still, other than by Ctrl-Z, takes its terminal again when it goes on, whatever was done to it meanwhile.
func TestTerminalIsTakenAgain(t *testing.T) {
	x := pty.Open(t, 80, 24)
	s := screenOn(t, x, nil)
	c := asks(s, t.Context(), begins(s))
	x.Until("the question", pty.Has("apply to web-1?  y yes"))
	time.Sleep(time.Second) // it comes up to its last report
	fd := int(x.Slave.Fd())
	raw, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	shell := *raw
	shell.Lflag |= unix.ICANON | unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &shell); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(x.Slave, "\x1b[H[1]+  Stopped   runbook run")
	x.Until("what the shell says", pty.Has("Stopped"))
	unix.Kill(os.Getpid(), unix.SIGCONT) //nolint:errcheck // it is there
	x.Until("the screen", func(sc string) bool { return pty.Has("apply to web-1?  y yes")(sc) && !strings.Contains(sc, "Stopped") })
	for end := time.Now().Add(time.Minute); len(c) == 0 && time.Now().Before(end); time.Sleep(time.Second) {
		x.Type("y")
	}
	gets(t, c)
	ends(t, s, x)
}
