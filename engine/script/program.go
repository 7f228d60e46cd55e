package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"runbook/engine"
)

// Config says how to run scripts.
type Config struct {
	Ops      engine.Operations // what a runbook may ask; the evaluator's [Main] must have the same
	Command  []string          // starts an evaluator; empty: this program with [EvaluatorArg]
	Deadline time.Duration     // how long a script may run without asking; 0: 10 s
	Limits   engine.Limits     // hold beside the header's, from the first byte on; nil: the defaults do
	Cover    bool              // count the lines that are reached: [Program.Coverage]
	Print    func(line string) // takes what is printed while loading; nil: nobody does
}

const (
	defaultDeadline = 10 * time.Second
	maxRunning      = 32 // runs that compute at a time; the others wait for their turn or an answer
	maxDelay        = time.Hour
	maxHeader       = 256 << 10 // bytes of JSON
)

// Program is a runbook in an evaluator: an [engine.Program].
type Program struct {
	cfg    Config
	tree   *tree
	header engine.Header
	runPos string // of the function run
	proc   *process
	slots  chan struct{} // one for each run that computes

	bind  sync.Mutex
	bound bool

	mu      sync.Mutex
	runs    map[int64]*run
	lastID  int64
	limits  engine.Limits // what bounds the evaluator now
	verdict *engine.Error // why the evaluator is being killed
	covered Coverage
	lines   int // in covered

	gone  chan struct{} // closed when the evaluator has ended
	err   *engine.Error // why it has; set before gone is closed
	last  []*run        // that were computing then; likewise
	peak  int64         // the most memory that was seen, in bytes; guarded by mu
	steps atomic.Int64
	calls atomic.Int64
}

var _ engine.Program = (*Program)(nil)

// Start loads a runbook: src.Main and all that it loads are read, parsed, and
// their top level is run. Where src has texts, as one from a saved plan, these
// are used and the disk is not looked at.
//
// The error is an [*engine.Error]: about the runbook, where that is wrong.
func Start(ctx context.Context, cfg Config, src engine.Source) (*Program, error) {
	p, err := prepare(cfg, src)
	if err != nil {
		return nil, err
	}
	defer p.tree.close()
	if err := p.load(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// prepare starts an evaluator for a runbook, which it has not yet heard of. The caller closes the tree.
func prepare(cfg Config, src engine.Source) (*Program, error) {
	if cfg.Deadline == 0 {
		cfg.Deadline = defaultDeadline
	}
	t, err := openTree(src)
	if err != nil {
		return nil, err
	}
	limits := engine.Limits{}.Lower(cfg.Limits)
	proc, err := spawn(cfg.Command, limits.Of(engine.LimitMemory).N)
	if err != nil {
		t.close()
		return nil, engine.Internal.Errorf("the evaluator cannot be started: %w", err)
	}
	p := &Program{
		cfg:    cfg,
		tree:   t,
		proc:   proc,
		limits: limits,
		slots:  make(chan struct{}, maxRunning),
		runs:   map[int64]*run{},
		lastID: -1,
		gone:   make(chan struct{}),
	}
	go p.read()
	go proc.watchMemory(p.size)
	return p, nil
}

// load has the evaluator load the runbook, and takes its header. It is the
// conversation with the id 0.
func (p *Program) load(ctx context.Context) *engine.Error {
	r, err := p.open(p.tree.source.Main, "")
	if err != nil {
		return err
	}
	first := frame{Limits: p.limits, Type: tStart, Name: p.tree.main(), Dir: p.tree.dir(), Cover: p.cfg.Cover}
	done, err := p.converse(ctx, r, first, p.supply())
	switch {
	case err != nil:
		return err
	case done.Err != nil:
		return done.Err.scriptError(r.pos)
	case len(done.Header) == 0:
		return p.distrust(errors.New("no header"))
	case len(done.Header) > maxHeader:
		return p.distrust(fmt.Errorf("a header of %d bytes, which can have %d", len(done.Header), maxHeader))
	}
	p.runPos = done.Pos
	if err := decode(done.Header, &p.header); err != nil {
		return p.distrust(err)
	}
	if err := checkHeader(&p.header); err != nil {
		return p.distrust(err)
	}
	if err := p.Limit(p.header.Limits.Lower(p.cfg.Limits)); err != nil {
		return engine.AsError(err)
	}
	return nil
}

// Limit bounds the evaluator by l from now on. Only the controller can do that:
// what it was given at its start, a script cannot change.
func (p *Program) Limit(l engine.Limits) error {
	memory := l.Of(engine.LimitMemory).N
	p.mu.Lock()
	had := p.limits.Of(engine.LimitMemory).N
	p.limits = l
	p.mu.Unlock()
	if memory != had {
		if err := p.proc.changeMemory(memory); err != nil {
			return engine.Internal.Errorf("the limit of the evaluator's memory: %w", err)
		}
	}
	if err := p.proc.send(frame{Type: tLimits, Limits: l}); err != nil {
		return engine.Internal.Errorf("the limits of the evaluator: %w", err)
	}
	return nil
}

// size ends an evaluator that has more than its memory, where the kernel does not.
func (p *Program) size(rss int64) {
	p.mu.Lock()
	l := p.limits
	p.peak = max(p.peak, rss)
	p.mu.Unlock()
	if rss > l.Of(engine.LimitMemory).N {
		p.kill(l.Exceeded(engine.LimitMemory, "the script needs more memory"))
	}
}

// supply answers what is asked for while a runbook is read.
func (p *Program) supply() func(frame) (frame, error) {
	var out printer
	if p.cfg.Print != nil {
		out.to = func(_, line string) error { p.cfg.Print(line); return nil }
	}
	return func(f frame) (frame, error) { return p.supplyOne(f, &out) }
}

func (p *Program) supplyOne(f frame, out *printer) (frame, error) {
	switch f.Type {
	case tLoad:
		text, err := p.tree.load(f.Name)
		if err != nil {
			return frame{Err: &errorFrame{Code: engine.Invalid, Cause: err.Error()}}, nil
		}
		return frame{Text: text}, nil
	case tPrint:
		return frame{}, out.print(f.Pos, f.Text)
	case tValue:
		return frame{Err: &errorFrame{Code: engine.Invalid, Cause: notInHook}}, nil
	default:
		return frame{}, fmt.Errorf("%q while loading", f.Type)
	}
}

// Header implements [engine.Program].
func (p *Program) Header() engine.Header { return p.header }

// Source returns all texts of the runbook, so that a plan can keep them.
func (p *Program) Source() engine.Source { return p.tree.source }

// Usage implements [engine.Program].
func (p *Program) Usage() engine.Usage {
	memory := p.proc.memory()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak = max(p.peak, memory)
	return engine.Usage{Steps: p.steps.Load(), Calls: p.calls.Load(), Memory: p.peak}
}

// Bind sets the runbook's parameters for all runs that start later, from what
// the command line says. See [BindParams]. These runs have all steps of the
// limit again: a live pass must not run out of them where its prediction did not.
func (p *Program) Bind(args map[string]string) error {
	p.bind.Lock()
	defer p.bind.Unlock()
	return p.bindLocked(args)
}

func (p *Program) bindLocked(args map[string]string) error {
	values, err := BindParams(p.header, args)
	if err != nil {
		return err
	}
	b, err := json.Marshal(values)
	if err != nil {
		return engine.Internal.Errorf("%w", err)
	}
	p.bound = true
	if err := p.proc.send(frame{Type: tParams, Value: b}); err != nil {
		return engine.Invalid.Errorf("the parameters: %w", err)
	}
	return nil
}

// Run implements [engine.Program]. Where [Program.Bind] has not been called,
// the parameters have their defaults.
func (p *Program) Run(ctx context.Context, node engine.NodeInfo, h engine.Host) error {
	if err := p.bindDefaults(); err != nil {
		return err
	}
	c := conversation{p: p, node: node, host: h, pos: p.runPos}
	if err := c.run(ctx); err != nil { // not returned as it is: a nil *Error is not a nil error
		return err
	}
	return nil
}

// bindDefaults gives the parameters their defaults, if nobody has called [Program.Bind].
func (p *Program) bindDefaults() error {
	p.bind.Lock()
	defer p.bind.Unlock()
	if p.bound {
		return nil
	}
	return p.bindLocked(nil)
}

// Close ends the evaluator. Runs that are going on end with an error.
func (p *Program) Close() error {
	p.kill(engine.Internal.Errorf("the evaluator was closed"))
	<-p.gone
	return nil
}

// Ended reports whether the evaluator has ended: it runs nothing any more.
func (p *Program) Ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// kill ends the evaluator; why is what every run is told, unless there was a
// reason before.
func (p *Program) kill(why *engine.Error) {
	p.mu.Lock()
	if p.verdict == nil {
		p.verdict = why
	}
	p.mu.Unlock()
	p.proc.kill()
}

// distrust ends an evaluator that has not kept to the protocol.
func (p *Program) distrust(err error) *engine.Error {
	p.kill(untrusted(err))
	<-p.gone
	return p.err
}

func untrusted(err error) *engine.Error {
	return &engine.Error{
		Code:  engine.Internal,
		Cause: clean("the evaluator said what it must not, and was killed: " + err.Error()),
		Err:   err,
	}
}
