package script

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"go.starlark.net/starlark"

	"runbook/engine"
)

// This file is the evaluator: the main function of the second process.

// Main serves the controller on stdin and stdout, and never returns. The
// program's main function calls it before all else where [IsEvaluator]. A
// runbook can ask a node for ops, a test can ask for tests.
func Main(ops, tests engine.Operations) {
	in, out := pipe(0), pipe(1)
	memory, err := memoryArg()
	var layers []Layer
	if err == nil {
		layers, err = confine(memory)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "confining the evaluator:", err)
		os.Exit(1)
	}
	ev := &evaluator{
		out:     out,
		layers:  layers,
		ops:     ops,
		pool:    pool{},
		threads: map[int64]*thread{},
		loaded:  make(chan struct{}),
	}
	ev.nodeOps, ev.modules = nodeOps(ops)
	testing, _ := nodeOps(tests)
	ev.testOps = testing[strings.TrimSuffix(TestPrefix, ".")]
	if err := ev.serve(bufio.NewReaderSize(in, 64<<10)); !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0) // the controller has ended: also what is stuck ends here
}

// pipe makes fd wait in Go's poller rather than in a thread of its own: that
// halves the time of a round trip.
func pipe(fd int) *os.File {
	syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "pipe")
}

type evaluator struct {
	sending sync.Mutex
	out     io.Writer
	layers  []Layer // of its confinement

	ops     engine.Operations
	modules starlark.StringDict // what connects to servers
	nodeOps starlark.StringDict // what a node has besides its name, groups and vars
	testOps starlark.Value      // what a test has
	pool    pool

	mu      sync.Mutex
	threads map[int64]*thread

	params starlark.Value // of the runs that start next; for serve only

	loaded  chan struct{} // closed when runFunc is set
	runFunc *starlark.Function
	hooks   map[string]*starlark.Function
	tests   map[string]*starlark.Function // of a test file

	covering sync.Mutex
	lines    map[lineOf]bool // that were reached
	fresh    coverFrame      // and that the controller does not know of
}

// send writes f. The controller always reads, so this does not wait for long.
func (ev *evaluator) send(f frame) error {
	f.Steps = ev.pool.usage()
	b, err := f.encode()
	if err != nil {
		return err
	}
	ev.sending.Lock()
	defer ev.sending.Unlock()
	if _, err := ev.out.Write(b); err != nil {
		os.Exit(0) // nobody is there any more
	}
	return nil
}

// serve does what the controller says until that ends.
func (ev *evaluator) serve(in io.Reader) error {
	for {
		f, err := readFrame(in)
		if err != nil {
			return err
		}
		switch f.Type {
		case tLimits:
			ev.pool.setLimits(f.Limits)
			collectFrom(f.Limits.Of(engine.LimitMemory).N)
		case tStart:
			go ev.load(ev.start(f.Run), f)
		case tTests:
			go ev.loadTests(ev.start(f.Run), f)
		case tTest:
			go ev.test(ev.start(f.Run), f)
		case tCheck:
			go ev.check(ev.start(f.Run), f)
		case tProbe:
			go ev.probe(ev.start(f.Run))
		case tFormat:
			go ev.format(ev.start(f.Run), f)
		case tParams:
			if ev.params, err = fromJSON(f.Value, asRecord("params")); err != nil {
				return err
			}
			ev.pool.renew()
		case tRun:
			go ev.run(ev.start(f.Run), f, ev.params)
		case tAnswer, tCancel:
			ev.mu.Lock()
			t := ev.threads[f.Run]
			ev.mu.Unlock()
			switch {
			case t == nil: // it has just ended
			case f.Type == tCancel:
				t.end(&scriptError{errorFrame{Code: engine.Invalid, Cause: "interrupted"}})
			default:
				t.answers <- f // has room: there was one question
			}
		default:
			return fmt.Errorf("the controller said %q", f.Type)
		}
	}
}

func (ev *evaluator) start(id int64) *thread {
	t := ev.newThread(id)
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.threads[id] = t
	return t
}

// finish reports the end of t: f.
func (ev *evaluator) finish(t *thread, f frame) {
	ev.mu.Lock()
	delete(ev.threads, t.id)
	ev.mu.Unlock()
	f.Type, f.Run, f.Reached = tDone, t.id, ev.takeReached().frame()
	ev.send(f)
}

// load loads the runbook f.Name.
func (ev *evaluator) load(t *thread, f frame) {
	ev.pool.hold(f.Limits)
	l := newLoader(t, f.Dir, f.Name)
	var done frame
	if f.Cover {
		l.coverLines()
	}
	done.Err = t.guard(func() error {
		header, run, hooks, err := l.main()
		if err != nil {
			return err
		}
		if done.Header, err = json.Marshal(header); err != nil {
			return err
		}
		done.Pos = run.Position().String()
		ev.runFunc, ev.hooks = run, hooks
		close(ev.loaded)
		return nil
	})
	done.Lines = l.lines.frame()
	ev.finish(t, done)
}

// run calls run(node, p), or a hook: gate(fleet, p).
func (ev *evaluator) run(t *thread, f frame, params starlark.Value) {
	<-ev.loaded
	e := t.guard(func() error {
		if f.Fleet != nil {
			return ev.hook(t, f, params)
		}
		t.star.Name = f.Node.Name
		node, err := ev.node(f.Node)
		if err != nil {
			return err
		}
		_, err = starlark.Call(t.star, ev.runFunc, starlark.Tuple{node, params}, nil)
		return err
	})
	ev.finish(t, frame{Err: e})
}

// node makes what a script sees of its node.
func (ev *evaluator) node(n *nodeFrame) (starlark.Value, error) {
	vars := n.Vars
	if len(vars) == 0 || string(vars) == "null" {
		vars = json.RawMessage("{}")
	}
	v, err := fromJSON(vars, asDict)
	if err != nil {
		return nil, fmt.Errorf("the variables of the node: %w", err)
	}
	groups := make([]starlark.Value, len(n.Groups))
	for i, g := range n.Groups {
		groups[i] = starlark.String(g)
	}
	fields := starlark.StringDict{
		"name":   starlark.String(n.Name),
		"groups": starlark.NewList(groups),
		"vars":   v,
	}
	if n.State != "" {
		fields["state"] = starlark.String(n.State)
	}
	for name, op := range ev.nodeOps {
		fields[name] = op
	}
	node := newRecord("node", fields)
	node.Freeze()
	return node, nil
}
