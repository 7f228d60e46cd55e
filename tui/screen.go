package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/term"

	"runbook/engine"
	"runbook/engine/rollout"
)

// This file is the screen's life: it opens with the first event, takes events and questions from the
// run, gives back what the operator decides, and leaves the terminal as it was.

// Options say what a [Screen] shows, and what can be done there.
type Options struct {
	In, Out *os.File // the terminal
	Title   string   // what is run: "add_route.star dst=10.20.0.0/16"
	// Controls pause the run and take nodes back; nil: nobody can from here.
	Controls Controls
	// Stop is called for each q and Ctrl-C, and says what the run does then; nil: they leave
	// the screen, and the run goes on without it.
	Stop func() (says string)
	// ReadOnly shows the run, asks only what [Screen.Confirm] is asked, and closes by itself.
	ReadOnly bool
	// Lost is called once where the terminal has gone away.
	Lost func()
}

// Controls steer a run: see [rollout.Controls].
type Controls interface {
	Pause(paused bool)
	Undo(node string) bool
}

// Screen shows a run on all of a terminal, and asks there.
type Screen struct {
	opts    Options
	inbox   *inbox
	program *tea.Program
	view    *view
	opening sync.Once
	wake    chan struct{}
	ended   chan struct{} // the terminal is as it was
	losing  sync.Once
	told    chan os.Signal // to end, while the result is looked at
	keep    string
}

// NewScreen returns a screen, which opens with the first event that it is told.
func NewScreen(o Options) *Screen {
	s := &Screen{opts: o, inbox: &inbox{}, wake: make(chan struct{}, 1), ended: make(chan struct{}), told: make(chan os.Signal, 1)}
	s.view = newView(o, StyleOf(o.Out), time.Now, s.inbox)
	return s
}

// CanShow reports whether in and out are a terminal that a [Screen] can be shown on.
func CanShow(in, out *os.File) bool {
	t := os.Getenv("TERM")
	return t != "" && t != "dumb" && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

// inbox is what the run has told, until the screen takes it.
type inbox struct {
	mu     sync.Mutex
	events []told
	asking *asking
	result *result
}

type told struct {
	event engine.Event
	does  string
}

// taken is what was in the inbox; the question and the result stay there.
type taken struct {
	events []told
	asking *asking
	result *result
}

func (b *inbox) take() taken {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := taken{b.events, b.asking, b.result}
	b.events = nil
	return t
}

func (b *inbox) put(f func(*inbox)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// Tell takes an event of the run. It waits for nothing.
func (s *Screen) Tell(e engine.Event) {
	t := told{event: e}
	if e.Kind == engine.EventPlanned {
		t.does = doesOf(e) // here, where many can at a time
	}
	s.inbox.put(func(b *inbox) { b.events = append(b.events, t) })
	s.opening.Do(s.open)
	s.call()
}

// call has the screen look into its inbox.
func (s *Screen) call() {
	select {
	case s.wake <- struct{}{}:
	default: // it is about to
	}
}

// Confirm asks whether a node may be changed: see [rollout.Run].
func (s *Screen) Confirm(ctx context.Context, q rollout.Question) (rollout.Answer, error) {
	a := &asking{q, make(chan rollout.Answer, 1)}
	s.inbox.put(func(b *inbox) { b.asking = a })
	s.call()
	defer func() {
		s.inbox.put(func(b *inbox) { b.asking = nil })
		s.call()
	}()
	select {
	case answer := <-a.answer:
		return answer, nil
	case <-ctx.Done():
		return rollout.Quit, context.Cause(ctx)
	case <-s.ended:
		return rollout.Quit, &engine.Error{Code: engine.Interrupted, Cause: "the terminal went away before an answer"}
	}
}

// KeepPlan has a plan written to the terminal once the screen is gone: of a run that is refused.
func (s *Screen) KeepPlan(p *engine.Plan) {
	var b bytes.Buffer
	planText(&b, p, s.view.style)
	s.keep += b.String()
}

// Left is closed when the screen is gone.
func (s *Screen) Left() <-chan struct{} { return s.ended }

// Finish shows how the run ended until the operator has seen it, leaves the terminal as it was, and
// writes there what is to stay. err is nil where the run did what it should.
func (s *Screen) Finish(err *engine.Error) { s.finish(&result{err}) }

// Close is Finish without anything to look at.
func (s *Screen) Close() { s.finish(nil) }

func (s *Screen) finish(r *result) {
	opened := true
	s.opening.Do(func() { opened = false; close(s.ended) })
	if opened {
		s.inbox.put(func(b *inbox) { b.result = r })
		s.call()
		if r == nil {
			s.program.Quit()
		}
		select {
		case <-s.ended:
		case <-s.told:
			s.program.Quit()
			<-s.ended
		}
		signal.Stop(s.told)
	}
	io.WriteString(s.opts.Out, s.keep)        //nolint:errcheck // a terminal that has gone away
	for _, t := range s.inbox.take().events { // that came after the screen was gone
		s.view.board.take(t.event, t.does)
	}
	if end := s.view.board.end; end != nil {
		for _, l := range endLines(*end, s.view.board.why, s.view.style) {
			fmt.Fprintln(s.opts.Out, l)
		}
	}
}

// open shows the screen.
func (s *Screen) open() {
	signal.Notify(s.told, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	s.program = tea.NewProgram(s.view, tea.WithInput(&watchedFile{s.opts.In, s.lost}), tea.WithOutput(&watchedFile{s.opts.Out, s.lost}),
		tea.WithoutSignalHandler(), tea.WithFPS(framesPerSecond))
	go func() {
		defer close(s.ended)
		if _, err := s.program.Run(); err != nil {
			s.lost(err)
		}
	}()
	go s.pump()
	go s.lookAgain()
}

// How often the screen is drawn at the most, and looks for what is new.
const (
	framesPerSecond = 30
	freshEvery      = 50 * time.Millisecond
)

// pump tells the program when the inbox has something, and not more often than need be.
func (s *Screen) pump() {
	for {
		select {
		case <-s.ended:
			return
		case <-s.wake:
			s.program.Send(freshMsg{})
			time.Sleep(freshEvery)
		}
	}
}

// lost is called when the terminal cannot be read or written any more.
func (s *Screen) lost(error) {
	s.losing.Do(func() {
		go s.program.Kill()
		if s.opts.Lost != nil {
			s.opts.Lost()
		}
	})
}

// watchedFile is a terminal whose end is noticed: bubbletea goes on without a word. It is left alone while
// a shell has this process in its background.
type watchedFile struct {
	*os.File
	lost func(error)
}

func (f *watchedFile) Read(b []byte) (int, error) {
	waitForForeground(f.File)
	return f.seen(f.File.Read(b))
}

func (f *watchedFile) Write(b []byte) (int, error) {
	waitForForeground(f.File)
	return f.seen(f.File.Write(b))
}

func (f *watchedFile) seen(n int, err error) (int, error) {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		f.lost(err)
	}
	return n, err
}
