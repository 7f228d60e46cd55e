package script

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"runbook/engine"
)

// This file is how the controller and many runs take turns over one pipe: whose
// turn it is, how long one may take, and what becomes of all when the evaluator
// has ended.

// run is the controller's side of one conversation.
type run struct {
	id    int64
	node  string      // "" while loading
	in    chan frame  // the evaluator's question, or its end; one at a time
	timer *time.Timer // kills the evaluator when its turn takes too long

	// Guarded by Program.mu:
	turn    time.Time // since when it is the evaluator's turn; zero: it is ours
	pos     string    // where the script was last seen
	dropped bool      // nobody waits for it any more
	ats     int       // positions that it has told by the way
}

// open begins a conversation.
func (p *Program) open(pos, node string) (*run, *engine.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gone:
		return nil, p.err
	default:
	}
	p.lastID++
	r := &run{id: p.lastID, node: node, in: make(chan frame, 1), pos: pos}
	r.timer = time.AfterFunc(time.Hour, func() { p.late(r) })
	r.timer.Stop()
	p.runs[r.id] = r
	return r, nil
}

func (p *Program) late(r *run) {
	p.mu.Lock()
	pos, turn := r.pos, r.turn
	p.mu.Unlock()
	if turn.IsZero() || time.Since(turn) < p.cfg.Deadline {
		return // it has answered just now
	}
	p.kill(&engine.Error{
		Code:  engine.LimitHit,
		Pos:   pos,
		Cause: fmt.Sprintf("the script ran for %s without asking the node anything", p.cfg.Deadline),
		Hint:  lastSeen,
	})
}

// converse gives the evaluator its first turn in r, answers its questions, and
// returns its last word. It waits neither for a stuck evaluator nor longer than ctx.
func (p *Program) converse(ctx context.Context, r *run, first frame, answer func(frame) (frame, error)) (frame, *engine.Error) {
	next, asides := first, 0
	for {
		if err := p.handOver(ctx, r, next); err != nil {
			return frame{}, err
		}
		var f frame
		select {
		case f = <-r.in:
			<-p.slots
		case <-ctx.Done():
			<-p.slots
			p.drop(r)
			return frame{}, ended(ctx)
		case <-p.gone:
			<-p.slots
			return frame{}, p.endOf(r)
		}
		if f.Type == tDone {
			return f, nil
		}
		if f.Type != tCall { // these are counted by the node's limit
			if asides++; asides > maxAsides {
				p.drop(r)
				return frame{}, &engine.Error{Code: engine.LimitHit, Pos: r.pos, Cause: fmt.Sprintf("the script prints, sleeps and loads more than %d times", maxAsides)}
			}
		}
		reply, err := answer(f)
		if err != nil {
			return frame{}, p.distrust(err)
		}
		reply.Type, reply.Seq = tAnswer, f.Seq
		next = reply
	}
}

// handOver waits until r may compute, sends f and starts the clock.
func (p *Program) handOver(ctx context.Context, r *run, f frame) *engine.Error {
	err := ctx.Err()
	if err == nil {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			err = ctx.Err()
		case <-p.gone:
			return p.endOf(r)
		}
	}
	if err != nil {
		if f.Type == tAnswer {
			p.drop(r)
		} else {
			p.forget(r) // the evaluator does not know of it
		}
		return ended(ctx)
	}
	f.Run = r.id
	p.mu.Lock()
	r.turn = time.Now()
	p.mu.Unlock()
	r.timer.Reset(p.cfg.Deadline)
	if err := p.proc.send(f); err != nil {
		<-p.slots
		return p.distrust(err) // not its fault, but it waits for an answer that cannot be given
	}
	return nil
}

// ended says why ctx did.
func ended(ctx context.Context) *engine.Error {
	err := context.Cause(ctx)
	var e *engine.Error
	if !errors.As(err, &e) && errors.Is(err, context.DeadlineExceeded) {
		return &engine.Error{Code: engine.LimitHit, Cause: "the time for this was over", Err: err}
	}
	return engine.AsError(err)
}

// drop leaves r to end by itself, in its time.
func (p *Program) drop(r *run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs[r.id] == nil {
		return // it has ended
	}
	r.dropped = true
	if r.turn.IsZero() { // waiting for an answer: the cancellation is one
		r.turn = time.Now()
		r.timer.Reset(p.cfg.Deadline)
	}
	p.proc.send(frame{Type: tCancel, Run: r.id})
}

func (p *Program) forget(r *run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.runs, r.id)
	r.timer.Stop()
}

// read takes what the evaluator says until it ends, and finds out why it did.
func (p *Program) read() {
	in := bufio.NewReaderSize(p.proc.out, 64<<10)
	for {
		f, err := readFrame(in)
		if err == nil {
			err = p.dispatch(f)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // it has ended; reap finds out of what
		}
		if err != nil {
			p.kill(untrusted(err))
			io.Copy(io.Discard, in)
			break
		}
	}
	// Where it has closed its output and lives, it is of no use; but where it is
	// dying, its exit status says of what, so it is given a moment.
	grace := time.AfterFunc(time.Second, func() { p.kill(untrusted(errors.New("nothing more, and lived on"))) })
	death := p.proc.reap()
	grace.Stop()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = p.verdict
	if p.err == nil {
		p.err = death.err(p.limits)
		p.err.Pos = p.seen()
	}
	p.last = p.computing()
	for _, r := range p.runs {
		r.timer.Stop()
	}
	close(p.gone)
}

// computing are the runs whose turn it is, the longest first. The caller holds mu.
func (p *Program) computing() []*run {
	var out []*run
	for _, r := range p.runs {
		if !r.turn.IsZero() {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *run) int { return a.turn.Compare(b.turn) })
	return out
}

// seen is where the script was last seen: the run whose turn it is for the longest
// time, or else the first that there is. The caller holds mu.
func (p *Program) seen() string {
	if s := p.computing(); len(s) > 0 {
		return s[0].pos
	}
	var first *run
	for _, r := range p.runs {
		if first == nil || r.id < first.id {
			first = r
		}
	}
	if first == nil {
		return ""
	}
	return first.pos
}

// endOf says of the run r why the evaluator has ended: with the place where
// that run was last seen, and others that were running then.
func (p *Program) endOf(r *run) *engine.Error {
	if p.err.Pos == "" { // it was closed, or not to be trusted: no place has to do with it
		return p.err
	}
	e := *p.err
	e.Pos = r.pos
	var others []string
	for _, o := range p.last {
		if o != r && o.node != "" {
			others = append(others, o.node+" at "+o.pos)
		}
	}
	if n := len(others); n > 0 {
		text := strings.Join(others[:min(n, 3)], ", ")
		if n > 3 {
			text += fmt.Sprintf(", and %d more", n-3)
		}
		e.Hint += "; others that were running then: " + text
	}
	return &e
}

const (
	maxAsides = 20_000 // prints, sleeps and loads of one conversation
	maxAts    = 10_000 // positions that one conversation has told by the way: the evaluator does every 100 ms
)

// dispatch hands f to the run that it belongs to. It never waits: a run has
// room for one frame, and the evaluator has one turn.
func (p *Program) dispatch(f frame) error {
	if f.Steps > p.steps.Load() {
		p.steps.Store(f.Steps)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[f.Run]
	switch {
	case r == nil:
		return fmt.Errorf("%q of a run that is not going on", f.Type)
	case r.turn.IsZero():
		return fmt.Errorf("%q out of turn", f.Type)
	case len(f.Header) > 0 && f.Run != 0:
		return errors.New("a header in the middle of a run")
	case len(f.Pos) > 2*maxText:
		return fmt.Errorf("a position of %d bytes", len(f.Pos))
	}
	if f.Pos != "" {
		f.Pos = clean(f.Pos)
		r.pos = f.Pos
	}
	if err := errors.Join(p.cover(f.Lines, false), p.cover(f.Reached, true)); err != nil {
		return err
	}
	switch f.Type {
	case tAt:
		if r.ats++; r.ats > maxAts {
			return fmt.Errorf("more than %d positions", maxAts)
		}
		return nil
	case tDone:
		delete(p.runs, r.id)
	case tCall, tLoad, tPrint, tValue, tSleep:
		if r.dropped {
			return nil // it has not heard yet that nobody listens
		}
	default:
		return fmt.Errorf("a frame of type %q", f.Type)
	}
	r.timer.Stop()
	r.turn = time.Time{}
	if !r.dropped {
		r.in <- f
	}
	return nil
}
