package script

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.starlark.net/starlark"

	"runbook/engine"
)

// This file is one run in the evaluator: a Starlark thread that can ask the
// controller and pays for its steps.

const (
	maxCalls  = 500 // depth of the call stack
	heartbeat = 100 * time.Millisecond
)

// thread is the evaluator's side of a conversation.
type thread struct {
	ev      *evaluator
	id      int64
	star    *starlark.Thread
	answers chan frame    // the controller's answer to the question that was asked last
	stopped chan struct{} // closed when the thread is to end
	stop    sync.Once
	why     atomic.Pointer[scriptError] // why it was stopped

	// Used by the thread's own goroutine only:
	seq    int64
	budget uint64    // up to how many steps are paid for
	told   uint64    // how many of its steps the pool knows to be done
	spoke  time.Time // when the controller last heard of it
}

const threadKey = "runbook"

func (ev *evaluator) newThread(id int64) *thread {
	t := &thread{
		ev:      ev,
		id:      id,
		answers: make(chan frame, 1),
		stopped: make(chan struct{}),
		budget:  1,
		spoke:   time.Now(),
	}
	t.star = &starlark.Thread{Print: t.print, OnMaxSteps: t.pay}
	t.star.SetMaxExecutionSteps(t.budget) // 0 would be no limit
	t.star.SetLocal(threadKey, t)
	return t
}

func threadOf(s *starlark.Thread) *thread { return s.Local(threadKey).(*thread) }

// end stops the thread, from any goroutine. Starlark notices between two steps.
func (t *thread) end(why *scriptError) {
	t.stop.Do(func() {
		t.why.Store(why)
		t.star.Cancel(why.Cause)
		close(t.stopped)
	})
}

// pay takes the next steps from the pool, when those paid for are used up.
func (t *thread) pay(s *starlark.Thread) {
	t.tellSteps()
	n := t.ev.pool.take(t.ev.pool.lease())
	t.budget = s.Steps + uint64(n)
	s.SetMaxExecutionSteps(t.budget)
	if n == 0 {
		e := t.ev.pool.exceeded()
		t.end(&scriptError{errorFrame{Code: e.Code, Pos: here(s), Cause: e.Cause, Hint: e.Hint}})
	}
	if d := s.CallStackDepth(); d > maxCalls {
		t.end(invalid(here(s), "functions call functions more than %d deep", maxCalls))
	}
	if now := time.Now(); now.Sub(t.spoke) > heartbeat {
		t.spoke = now
		t.ev.send(frame{Type: tAt, Run: t.id, Pos: here(s)})
	}
}

// refund gives back what is paid for and not used, so that thousands of threads
// that wait do not hold the pool's steps.
func (t *thread) refund() {
	t.tellSteps()
	if left := int64(t.budget) - int64(t.star.Steps); left > 0 {
		t.ev.pool.give(left)
	}
	t.budget = t.star.Steps
	t.star.SetMaxExecutionSteps(max(t.budget, 1))
}

// tellSteps has the pool know of the steps that were done since it was last told.
func (t *thread) tellSteps() {
	t.ev.pool.did(int64(t.star.Steps - t.told))
	t.told = t.star.Steps
}

// ask asks the controller and waits for its answer.
func (t *thread) ask(f frame) (frame, error) {
	t.refund()
	t.seq++
	f.Run, f.Seq = t.id, t.seq
	if err := t.ev.send(f); err != nil {
		return frame{}, invalid("", "%s: %v", f.Name, err)
	}
	select {
	case a := <-t.answers:
		t.spoke = time.Now()
		if a.Err == nil {
			return a, nil
		}
		e := &answerError{*a.Err}
		e.Answer = a.Seq
		return frame{}, e
	case <-t.stopped:
		return frame{}, t.why.Load()
	}
}

func (t *thread) print(s *starlark.Thread, text string) {
	if len(text) > 2*maxText {
		text = text[:2*maxText] // the controller cuts it where a character ends
	}
	if _, err := t.ask(frame{Type: tPrint, Text: text, Pos: here(s)}); err != nil {
		t.end(invalid(here(s), "print: %v", err))
	}
}

// guard calls f and reports why it, or the thread, ended.
func (t *thread) guard(f func() error) (e *errorFrame) {
	defer func() {
		if x := recover(); x != nil {
			e = t.ev.pool.panicked(x)
		}
		t.refund()
	}()
	err := f()
	if why := t.why.Load(); why != nil {
		return &why.errorFrame
	}
	if err != nil {
		return failure(err)
	}
	return nil
}

// panicked says what a panic of Starlark's library means. Some of its functions
// ask Go for a slice or string of impossible size. By now the stack has been
// unwound; the controller knows where the script was last seen.
func (p *pool) panicked(x any) *errorFrame {
	text := fmt.Sprint(x)
	var re runtime.Error
	err, _ := x.(error)
	for _, size := range []string{"out of range", "too large", "overflow", "makeslice", "Grow", "Repeat"} {
		if strings.Contains(text, size) && (err == nil || errors.As(err, &re)) {
			p.mu.Lock()
			defer p.mu.Unlock()
			e := p.limits.Exceeded(engine.LimitMemory, "the script makes a value that is larger than memory")
			return &errorFrame{Code: e.Code, Cause: e.Cause, Hint: lastSeen + "; " + e.Hint}
		}
	}
	return &errorFrame{Code: engine.Internal, Cause: clean("the evaluator panicked: " + text)}
}

// pool holds the steps that all threads may use together.
type pool struct {
	mu       sync.Mutex
	ceilings engine.Limits // what the controller began with
	limits   engine.Limits
	used     int64 // leased and not given back
	done     int64 // of them, what is known to have been done
}

// lease is how many steps a thread takes from the pool at a time: few against
// the whole, so that threads do not starve each other by what they hold unused.
func (p *pool) lease() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(100, min(p.limits.Of(engine.LimitSteps).N/1000, 10_000))
}

// renew makes the pool full again.
func (p *pool) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used, p.done = 0, 0
}

func (p *pool) setLimits(l engine.Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = l
}

// hold holds whatever a header says to l.
func (p *pool) hold(l engine.Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ceilings, p.limits = l, l
}

// declare takes what a header says.
func (p *pool) declare(l engine.Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = l.Lower(p.ceilings)
}

func (p *pool) take(n int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = max(0, min(n, p.limits.Of(engine.LimitSteps).N-p.used))
	p.used += n
	return n
}

func (p *pool) give(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = max(0, p.used-n) // the lease may be from before the pool was renewed
}

// did notes that n more steps were done. What is only leased is no use of the limit.
func (p *pool) did(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
}

func (p *pool) usage() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *pool) exceeded() *engine.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := fmt.Sprintf("the script is still running after %d steps", p.limits.Of(engine.LimitSteps).N)
	return p.limits.Exceeded(engine.LimitSteps, asked)
}
