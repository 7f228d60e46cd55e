package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"runbook/engine"
)

// This file is what a run asks of its node, and what it is answered, on the
// controller.

// conversation is what one run asks of its host.
type conversation struct {
	p      *Program
	node   engine.NodeInfo
	host   engine.Host
	pos    string // where the script begins, and was last seen before it said anything
	out    printer
	last   *engine.Error // the error of the last call that failed
	lastAt int64         // which call that was
	fatal  *engine.Error // one that the script may not handle: it ends the run, whatever the evaluator says
}

func (c *conversation) run(ctx context.Context) *engine.Error {
	n, err := nodeOf(c.node)
	if err != nil {
		return err
	}
	return c.converse(ctx, frame{Type: tRun, Node: n})
}

// nodeOf is what a script is told of a node.
func nodeOf(n engine.NodeInfo) (*nodeFrame, *engine.Error) {
	vars, err := json.Marshal(n.Vars)
	if err != nil {
		return nil, engine.Invalid.Errorf("the variables of node %s: %w", n.Name, err)
	}
	if len(vars) > maxFrame/2 {
		return nil, engine.Invalid.Errorf("the variables of node %s have %d bytes, and a script can take %d", n.Name, len(vars), maxFrame/2)
	}
	return &nodeFrame{Name: n.Name, Groups: n.Groups, Vars: vars}, nil
}

// converse gives the script its first turn and answers it to its end.
func (c *conversation) converse(ctx context.Context, first frame) *engine.Error {
	c.out.to = c.host.Print
	r, dead := c.p.open(c.pos, c.node.Name)
	if dead != nil {
		return c.named(dead)
	}
	done, stopped := c.p.converse(ctx, r, first, func(f frame) (frame, error) { return c.answer(ctx, f) })
	switch {
	case c.fatal != nil:
		return c.fatal
	case stopped != nil && ctx.Err() != nil: // it ended more than this node
		return stopped
	case stopped != nil:
		return c.named(stopped)
	case done.Err == nil:
		return nil
	case done.Err.Answer == 0:
		return c.named(done.Err.scriptError(r.pos))
	case done.Err.Answer != c.lastAt:
		return c.p.distrust(fmt.Errorf("run ended by the error of call %d, which there was not", done.Err.Answer))
	default:
		return c.last
	}
}

// named returns err as the error of this node.
func (c *conversation) named(err *engine.Error) *engine.Error {
	e := *err
	if e.Node == "" {
		e.Node = c.node.Name
	}
	return &e
}

// answer answers a question of the script. An error means that the evaluator
// is not to be trusted.
func (c *conversation) answer(ctx context.Context, f frame) (frame, error) {
	switch f.Type {
	case tCall:
		return c.call(ctx, f)
	case tPrint:
		if err := c.out.print(f.Pos, f.Text); err != nil {
			return c.failed(f, err), nil
		}
		return frame{}, nil
	case tValue:
		if err := c.observe(f); err != nil {
			return c.failed(f, err), nil
		}
		return frame{}, nil
	case tSleep:
		if f.Delay < 0 || f.Delay > engine.Duration(maxDelay) {
			return frame{}, fmt.Errorf("sleep for %s", f.Delay)
		}
		return c.sleep(ctx, f), nil
	default:
		return frame{}, fmt.Errorf("%q in a run", f.Type)
	}
}

const notInHook = "observe is for before, gate and after: run(node, p) has print"

// observe passes on a number that a hook has seen.
func (c *conversation) observe(f frame) error {
	o, can := c.host.(engine.Observer)
	var value float64
	switch err := json.Unmarshal(f.Value, &value); {
	case !can:
		return &engine.Error{Code: engine.Invalid, Pos: f.Pos, Cause: notInHook}
	case err != nil:
		return &engine.Error{Code: engine.Invalid, Pos: f.Pos, Cause: "observe: value is no number"}
	}
	name, _, _ := strings.Cut(clean(f.Text), "\n")
	return o.Observe(f.Pos, name, value)
}

// sleep waits for the host, but not longer than the evaluator lives: what the
// run has changed is to be put back then, not when the hour is over.
func (c *conversation) sleep(ctx context.Context, f frame) frame {
	awake, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.p.gone:
			cancel()
		case <-awake.Done():
		}
	}()
	err := c.host.Sleep(awake, time.Duration(f.Delay))
	switch {
	case err == nil, ctx.Err() == nil && awake.Err() != nil: // the turn that follows finds out what has ended it
		return frame{}
	case ctx.Err() != nil:
		err = ended(ctx)
	}
	return c.failed(f, err)
}

// call has the host do what the script asks. The arguments are decoded and
// encoded again, so that equal calls are equal bytes whoever wrote them.
func (c *conversation) call(ctx context.Context, f frame) (frame, error) {
	if len(f.Value) > maxArgs {
		return frame{}, fmt.Errorf("call of %q with arguments of %d bytes, which can have %d", f.Name, len(f.Value), maxArgs)
	}
	op, err := c.p.cfg.Ops.Decode(f.Name, f.Value)
	if err != nil {
		return frame{}, fmt.Errorf("call of %q at %s: %w", f.Name, f.Pos, err)
	}
	args, err := json.Marshal(op)
	if err != nil {
		return frame{}, fmt.Errorf("call of %q at %s: %w", f.Name, f.Pos, err)
	}
	c.p.calls.Add(1)
	v, err := c.host.Do(ctx, engine.Call{Name: f.Name, Args: args, Op: op, Pos: f.Pos, Node: f.On})
	if err != nil {
		return c.failed(f, err), nil
	}
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxArgs {
		err = engine.LimitHit.Errorf("the result has %d bytes, and a script can take %d", len(b), maxArgs)
	}
	if err != nil {
		e := *engine.AsError(err)
		e.Pos, e.Op, e.Node = f.Pos, f.Name, c.node.Name
		return c.failed(f, &e), nil
	}
	return frame{Value: b}, nil
}

// failed keeps err, and returns what the script is told of it. Only a node's
// own refusal may be handled by the script.
func (c *conversation) failed(f frame, err error) frame {
	e := engine.AsError(err)
	c.last, c.lastAt = e, f.Seq
	var refused *engine.NodeError
	if !errors.As(err, &refused) {
		c.fatal = e
		return frame{Err: &errorFrame{Code: e.Code, Cause: clean(e.Cause)}}
	}
	return frame{Err: &errorFrame{
		Code: e.Code, Cause: clean(e.Cause), Hint: clean(e.Hint), Kernel: clean(refused.Words), Errno: refused.Errno, Catch: true,
	}}
}

const (
	maxPrints     = 1000      // lines of one run
	maxPrintBytes = 256 << 10 // of one run
)

// printer passes on what one run prints, up to a bound.
type printer struct {
	to           func(pos, line string) error // nil: nobody listens
	lines, bytes int
	over         bool
}

// print passes on the lines of text, until to has an error.
func (p *printer) print(pos, text string) error {
	if p.to == nil || p.over {
		return nil
	}
	for line := range strings.Lines(clean(text)) {
		line = strings.TrimSuffix(line, "\n")
		if p.lines == maxPrints || p.bytes+len(line) > maxPrintBytes {
			p.over = true
			return p.to(pos, fmt.Sprintf("… (the script has printed %d lines, %d bytes; a run can print %d lines and %d KB, so what follows is left out)",
				p.lines, p.bytes, maxPrints, maxPrintBytes>>10))
		}
		p.lines++
		p.bytes += len(line)
		if err := p.to(pos, line); err != nil {
			return err
		}
	}
	return nil
}

// scriptError is e as people meet it; seen is where the script was last seen.
// Of a process that is not trusted, the texts are bounded and the code is one
// that a script can cause.
func (e *errorFrame) scriptError(seen string) *engine.Error {
	out := &engine.Error{Code: e.Code, Pos: clean(e.Pos), Cause: clean(e.Cause), Hint: clean(e.Hint)}
	switch e.Code {
	case engine.LimitHit, engine.Unreachable, engine.Internal:
	default:
		out.Code = engine.Invalid
	}
	if out.Pos == "" {
		out.Pos = seen
	}
	return out
}
