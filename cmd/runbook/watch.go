package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"runbook/engine"
	"runbook/engine/journal"
	"runbook/tui"
)

// This file lets a run be watched from another terminal: the process that drives it keeps
// its events, and tells them, from the first one on, to whoever asks.

// wireEvent is an event on its way to another process, with what is not published of it.
type wireEvent struct {
	engine.Event
	Plan *engine.NodePlan `json:"plan,omitempty"`
	Info *engine.NodeInfo `json:"info,omitempty"`
}

// history is the events of a run.
type history struct {
	mu     sync.Mutex
	grown  sync.Cond
	events []engine.Event
	over   bool
}

func newHistory() *history {
	h := &history{}
	h.grown.L = &h.mu
	return h
}

func (h *history) tell(e engine.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	h.grown.Broadcast()
}

// end lets those who read come to their end.
func (h *history) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.grown.Broadcast()
}

// after returns the events from the nth on, once there are any; none: it is over.
func (h *history) after(nth int) []engine.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.events) == nth && !h.over {
		h.grown.Wait()
	}
	return h.events[nth:len(h.events):len(h.events)]
}

// write writes all events to w, as they come, until the run is over or w fails.
func (h *history) write(w io.Writer) {
	out := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(out)
	for n := 0; ; {
		more := h.after(n)
		if len(more) == 0 {
			return
		}
		n += len(more)
		for _, e := range more {
			if enc.Encode(wireEvent{e, e.Plan, e.Info}) != nil {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
	}
}

// watch shows the run id, which another process drives, until it is over: then the error is how it ended.
func watch(ctx context.Context, id string, f runFlags) error {
	j, err := journal.Open(journal.DefaultDir())
	if err != nil {
		return err
	}
	defer j.Close() //nolint:errcheck // it was only read
	run, err := j.Record(ctx, id)
	if err != nil {
		return err
	}
	events, err := j.Watch(ctx, run.ID)
	if errors.Is(err, fs.ErrNotExist) {
		if run, err = j.Record(ctx, run.ID); err != nil {
			return err
		}
		return &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("run %s is not going on: %s", run.ID, ending(j, run)), Hint: "runbook show " + run.ID + " tells of it"}
	}
	if err != nil {
		return err
	}
	defer events.Close() //nolint:errcheck // it was only read
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := context.AfterFunc(ctx, func() { events.Close() })
	defer left()
	return f.show([]string{"watching " + tui.Subject(run)}, nil, func(emit func(engine.Event)) error {
		if f.screen != nil { // q leaves it
			go func() {
				<-f.screen.Left()
				cancel()
			}()
		}
		if err := f.follow(run, events, emit); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return &engine.Error{Code: engine.Interrupted, Cause: fmt.Sprintf("run %s goes on, and is not watched from here any more", run.ID)}
		}
		return outcome(ctx, j, run.ID)
	})
}

// follow shows the events of a run as they come, and before the first change its plan.
func (f *runFlags) follow(run engine.RunRecord, events io.Reader, emit func(engine.Event)) error {
	plan := &engine.Plan{Source: run.Source, Params: run.Params, Inventory: run.Inventory, Selection: run.Selection}
	plan.Source.Main = run.Runbook
	nth := map[string]int{}
	for dec := json.NewDecoder(events); ; {
		var t wireEvent
		if err := dec.Decode(&t); err != nil {
			return nil // the run is over, or its process gone: the record says which
		}
		e := t.Event
		e.Plan, e.Info = t.Plan, t.Info
		switch {
		case e.Kind == engine.EventPlanned && e.Plan != nil:
			if n, again := nth[e.Node]; again {
				plan.Nodes[n] = e.Plan
			} else {
				nth[e.Node] = len(plan.Nodes)
				plan.Nodes = append(plan.Nodes, e.Plan)
			}
		case e.Kind == engine.EventRun && f.printsPlan():
			plan.Header.Limits, plan.Used, plan.Forecast = e.Limits, e.Used, e.Forecast
			if err := tui.Plan(os.Stdout, plan, "text", tui.StyleOf(os.Stdout)); err != nil {
				return err
			}
		}
		emit(e)
	}
}

// outcome is how the run id ended, as its own process would have said it.
func outcome(ctx context.Context, j *journal.Journal, id string) error {
	run, err := j.Record(ctx, id)
	for end := time.Now().Add(time.Second); err == nil && run.Outcome == nil && j.Held(id) && time.Now().Before(end); { // its process is just about to go
		time.Sleep(10 * time.Millisecond)
		run, err = j.Record(ctx, id)
	}
	switch {
	case err != nil:
		return err
	case run.Outcome == nil && !j.Held(id):
		return &engine.Error{Code: engine.Internal, Cause: fmt.Sprintf("run %s: %s", id, ending(j, run))}
	case run.Outcome == nil:
		return engine.Internal.Errorf("run %s does not tell any more what happens", id)
	case run.Outcome.Exit == 0:
		return nil
	}
	return &engine.Error{Code: engine.Code(run.Outcome.Exit), Cause: fmt.Sprintf("run %s: %s", id, run.Outcome.Error)}
}
