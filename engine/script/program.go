package script

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
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
	Cover    bool              // count the lines that are reached: [Program.Coverage]
	Print    func(line string) // takes what is printed while loading; nil: nobody does
}

const (
	defaultDeadline = 10 * time.Second
	maxRunning      = 32   // runs that compute at a time; the others wait for their turn or an answer
	maxPrints       = 1000 // of one run
	maxDelay        = time.Hour
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
	verdict *engine.Error // why the evaluator is being killed
	covered Coverage

	gone  chan struct{} // closed when the evaluator has ended
	err   *engine.Error // why it has; set before gone is closed
	steps atomic.Int64
	calls atomic.Int64
}

var _ engine.Program = (*Program)(nil)

// run is the controller's side of one conversation.
type run struct {
	id    int64
	in    chan frame  // the evaluator's question, or its end; one at a time
	timer *time.Timer // kills the evaluator when its turn takes too long

	// Guarded by Program.mu:
	turn    time.Time // since when it is the evaluator's turn; zero: it is ours
	pos     string    // where the script was last seen
	dropped bool      // nobody waits for it any more
}

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
	proc, err := spawn(cfg.Command)
	if err != nil {
		t.close()
		return nil, engine.Internal.Errorf("the evaluator cannot be started: %w", err)
	}
	p := &Program{
		cfg:    cfg,
		tree:   t,
		proc:   proc,
		slots:  make(chan struct{}, maxRunning),
		runs:   map[int64]*run{},
		lastID: -1,
		gone:   make(chan struct{}),
	}
	go p.read()
	return p, nil
}

// load has the evaluator load the runbook, and takes its header. It is the
// conversation with the id 0.
func (p *Program) load(ctx context.Context) *engine.Error {
	r, err := p.open(p.tree.source.Main)
	if err != nil {
		return err
	}
	first := frame{Type: tStart, Name: p.tree.main(), Dir: p.tree.dir(), Cover: p.cfg.Cover}
	done, err := p.converse(ctx, r, first, p.supply)
	switch {
	case err != nil:
		return err
	case done.Err != nil:
		return done.Err.scriptError(r.pos)
	case done.Header == nil:
		return p.distrust(errors.New("no header"))
	}
	p.header, p.runPos = *done.Header, done.Pos
	if err := checkHeader(&p.header); err != nil {
		return p.distrust(err)
	}
	return nil
}

// supply answers what is asked for while a runbook is read.
func (p *Program) supply(f frame) (frame, error) {
	switch f.Type {
	case tLoad:
		text, err := p.tree.load(f.Name)
		if err != nil {
			return frame{Err: &errorFrame{Code: engine.Invalid, Cause: err.Error()}}, nil
		}
		return frame{Text: text}, nil
	case tPrint:
		if p.cfg.Print != nil {
			printLines(f.Text, p.cfg.Print)
		}
		return frame{}, nil
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
	return engine.Usage{Steps: p.steps.Load(), Calls: p.calls.Load()}
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
	p.bind.Lock()
	if !p.bound {
		if err := p.bindLocked(nil); err != nil {
			p.bind.Unlock()
			return err
		}
	}
	p.bind.Unlock()
	c := conversation{p: p, node: node, host: h}
	if err := c.run(ctx); err != nil { // not returned as it is: a nil *Error is not a nil error
		return err
	}
	return nil
}

// conversation is what one run asks of its host.
type conversation struct {
	p      *Program
	node   engine.NodeInfo
	host   engine.Host
	prints int
	last   *engine.Error // the error of the last call that failed
	lastAt int64         // which call that was
	fatal  *engine.Error // one that the script may not handle: it ends the run, whatever the evaluator says
}

func (c *conversation) run(ctx context.Context) *engine.Error {
	vars, err := json.Marshal(c.node.Vars)
	if err != nil {
		return engine.Invalid.Errorf("the variables of node %s: %w", c.node.Name, err)
	}
	if len(vars) > maxFrame/2 {
		return engine.Invalid.Errorf("the variables of node %s have %d bytes, and a script can take %d", c.node.Name, len(vars), maxFrame/2)
	}
	return c.converse(ctx, frame{Type: tRun, Node: &nodeFrame{Name: c.node.Name, Groups: c.node.Groups, Vars: vars}})
}

// converse gives the script its first turn and answers it to its end.
func (c *conversation) converse(ctx context.Context, first frame) *engine.Error {
	r, dead := c.p.open(c.p.runPos)
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
		c.print(f.Text)
		return frame{}, nil
	case tSleep:
		if f.Delay < 0 || f.Delay > engine.Duration(maxDelay) {
			return frame{}, fmt.Errorf("sleep for %s", f.Delay)
		}
		err := c.host.Sleep(ctx, time.Duration(f.Delay))
		switch {
		case err == nil:
			return frame{}, nil
		case ctx.Err() != nil:
			err = ended(ctx)
		}
		return c.failed(f, err), nil
	default:
		return frame{}, fmt.Errorf("%q in a run", f.Type)
	}
}

// call has the host do what the script asks. The arguments are decoded and
// encoded again, so that equal calls are equal bytes whoever wrote them.
func (c *conversation) call(ctx context.Context, f frame) (frame, error) {
	op, err := c.p.cfg.Ops.Decode(f.Name, f.Value)
	if err != nil {
		return frame{}, fmt.Errorf("call of %q at %s: %w", f.Name, f.Pos, err)
	}
	args, err := json.Marshal(op)
	if err != nil {
		return frame{}, fmt.Errorf("call of %q at %s: %w", f.Name, f.Pos, err)
	}
	c.p.calls.Add(1)
	v, err := c.host.Do(ctx, engine.Call{Name: f.Name, Args: args, Op: op, Pos: f.Pos})
	if err != nil {
		return c.failed(f, err), nil
	}
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxFrame/2 {
		err = engine.LimitHit.Errorf("the result has %d bytes, and a script can take %d", len(b), maxFrame/2)
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

func (c *conversation) print(text string) {
	c.prints++
	switch {
	case c.prints <= maxPrints:
		printLines(text, c.host.Print)
	case c.prints == maxPrints+1:
		c.host.Print(fmt.Sprintf("… (the script has printed %d times; what follows is left out)", maxPrints))
	}
}

func printLines(text string, print func(string)) {
	for line := range strings.Lines(clean(text)) {
		print(strings.TrimSuffix(line, "\n"))
	}
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

// Close ends the evaluator. Runs that are going on end with an error.
func (p *Program) Close() error {
	p.kill(engine.Internal.Errorf("the evaluator was closed"))
	<-p.gone
	return nil
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

// open begins a conversation.
func (p *Program) open(pos string) (*run, *engine.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gone:
		return nil, p.err
	default:
	}
	p.lastID++
	r := &run{id: p.lastID, in: make(chan frame, 1), pos: pos}
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
	next := first
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
			return frame{}, p.err
		}
		if f.Type == tDone {
			return f, nil
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
			return p.err
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
	grace := time.AfterFunc(time.Second, p.proc.kill)
	death := p.proc.reap()
	grace.Stop()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = p.verdict
	if p.err == nil {
		p.err = death.err(p.suspect())
	}
	for _, r := range p.runs {
		r.timer.Stop()
	}
	close(p.gone)
}

// suspect is the position of the run that is computing for the longest time.
func (p *Program) suspect() string {
	var longest *run
	for _, r := range p.runs {
		if !r.turn.IsZero() && (longest == nil || r.turn.Before(longest.turn)) {
			longest = r
		}
	}
	if longest == nil {
		return ""
	}
	return longest.pos
}

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
		return nil
	case tDone:
		delete(p.runs, r.id)
	case tCall, tLoad, tPrint, tSleep:
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
