package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// finishTime is how long requests may take to come to an end after the controller is gone.
const finishTime = 10 * time.Second

// largeAnswer is the size in bytes from which an answer's memory is given back
// to the node at once, and not when the runtime gets round to it.
const largeAnswer = 1 << 20

// chunk is how much is written at once. Each that the controller takes shows that it is there.
const chunk = 64 << 10

// Serve answers requests from in on out, with n. It returns nil at the end of
// in, and an error once nothing was heard for [deadAfter], in holds no frames,
// out cannot be written, or ctx ends. Requests have then come to their end,
// unless they took too long for it. A read from in may still be waiting: the
// caller closes in, or exits.
func Serve(ctx context.Context, in io.Reader, out io.Writer, n engine.Node) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := deadAfter
	silence := time.NewTimer(patience)
	defer silence.Stop()
	s := &server{node: n, out: out, ended: make(chan error, 1)}
	last := time.Now()
	var clock sync.Mutex
	s.heard = func() {
		clock.Lock()
		defer clock.Unlock()
		// A machine that stood still wakes up to old requests, whose controller has given it up.
		if time.Since(last) > patience {
			s.late.Store(true)
			return
		}
		last = time.Now()
		silence.Reset(patience)
	}
	s.send(response{Hello: &hello{Version: Version, PID: os.Getpid()}})
	go s.receive(ctx, in)

	var err error
	select {
	case err = <-s.ended:
	case <-silence.C:
		err = fmt.Errorf("no sign of the controller for %v", patience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	s.finish()
	return err
}

// server is one Serve.
type server struct {
	node  engine.Node
	heard func() // something shows that the controller is there
	ended chan error
	late  atomic.Bool // the controller was not heard for too long: nothing more is begun

	writing sync.Mutex
	out     io.Writer

	mu       sync.Mutex
	running  int
	idle     chan struct{} // closed when running is 0 again; set by finish
	stopping bool
}

// receive reads requests until there are none.
func (s *server) receive(ctx context.Context, in io.Reader) {
	r := bufio.NewReader(touching{in, s.heard})
	last := make(chan struct{})
	close(last)
	for {
		var q request
		if err := readFrame(r, &q); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			s.end(err)
			return
		}
		if s.late.Load() {
			s.end(fmt.Errorf("no sign of the controller for %v", deadAfter))
			return
		}
		if q.Op == opPing {
			s.send(response{ID: q.ID})
			continue
		}
		if !s.begin() {
			continue
		}
		if q.Op != opApply && q.Op != opRelease {
			go s.handle(ctx, q)
			continue
		}
		before, mine := last, make(chan struct{}) // changes are made in the order in which they came
		last = mine
		go func() {
			<-before
			defer close(mine)
			s.handle(ctx, q)
		}()
	}
}

// handle does one request and answers it.
func (s *server) handle(ctx context.Context, q request) {
	defer s.done()
	if q.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(q.Timeout)*time.Millisecond)
		defer cancel()
	}
	var state resource.State
	var found []resource.State
	var few bool
	var err error
	whole, can := s.node.(engine.Snapshotter)
	switch {
	case q.Op == opRead:
		state, err = s.node.Read(ctx, q.Query)
	case q.Op == opApply:
		found, err = s.apply(ctx, q.Edits)
	case q.Op == opWhole && can:
		state, few, err = whole.Snapshot(ctx, q.Max)
	case q.Op == opWhole: // few is false: it must be asked piece by piece
	case q.Op == opConfirm:
		err = s.confirm(ctx, q.Token)
	case q.Op == opRelease:
		if n, can := s.node.(engine.Holder); can {
			n.Release()
		}
	default:
		err = fmt.Errorf("the agent knows no request %q", q.Op)
	}
	if s.send(response{ID: q.ID, State: state, Found: found, Few: few, Error: toWire(err)}) > largeAnswer {
		state = nil
		debug.FreeOSMemory()
	}
}

// apply does edits and returns what was found after each, or nil where it is as predicted.
func (s *server) apply(ctx context.Context, packed *sequence) ([]resource.State, error) {
	edits, err := packed.unpack()
	if err != nil {
		return nil, err
	}
	found, err := engine.ApplyAll(ctx, s.node, edits)
	for i := range found {
		if after := edits[i].After; after != nil && resource.Equal(after, found[i]) {
			found[i] = nil
		}
	}
	return found, err
}

func (s *server) confirm(ctx context.Context, token string) error {
	n, can := s.node.(engine.Confirmer)
	if !can {
		return errors.New("the agent guards nothing")
	}
	return n.Confirm(ctx, token)
}

// send writes one frame and returns its size. An answer that does not fit becomes an error.
func (s *server) send(r response) int {
	b, err := frame(r)
	if err != nil {
		b, _ = frame(response{ID: r.ID, Error: toWire(err)})
	}
	size := len(b)
	s.writing.Lock()
	defer s.writing.Unlock()
	for len(b) > 0 {
		n, err := s.out.Write(b[:min(chunk, len(b))])
		if err != nil {
			s.end(fmt.Errorf("write to the controller: %w", err))
			return size
		}
		s.heard()
		b = b[n:]
	}
	return size
}

// end has Serve return err, if it is the first reason to.
func (s *server) end(err error) {
	select {
	case s.ended <- err:
	default:
	}
}

func (s *server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.running++
	return true
}

func (s *server) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.running == 0 && s.stopping {
		close(s.idle)
	}
}

// finish takes no more requests and waits for those that run.
func (s *server) finish() {
	s.mu.Lock()
	s.stopping = true
	s.idle = make(chan struct{})
	if s.running == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
	case <-time.After(finishTime):
	}
}
