package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// Peer says who is at the other end, for errors.
type Peer struct {
	Name string // of the node, as in the inventory
	Addr string // how it is reached: "10.98.0.2:22"
}

// Client is an engine.Node at the other end of a connection to an agent.
type Client struct {
	peer Peer
	conn io.ReadWriteCloser
	out  chan []byte    // to the writer
	work sync.WaitGroup // reader, writer, pinger

	heard atomic.Int64 // when the last byte came, in Unix nanoseconds

	once sync.Once
	gone chan struct{} // closed when the connection is over
	err  error         // why; set before gone is closed

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan response
}

var (
	_ engine.Node        = (*Client)(nil)
	_ engine.Line        = (*Client)(nil)
	_ engine.Sequencer   = (*Client)(nil)
	_ engine.Snapshotter = (*Client)(nil)
	_ engine.Confirmer   = (*Client)(nil)
	_ engine.Holder      = (*Client)(nil)
	_ engine.Dialing     = (*Client)(nil)
)

// errClosed is why a connection ended that was closed here.
var errClosed = errors.New("the connection is closed")

// NewClient returns the node that an agent serves at the other end of conn.
// It does not wait for the agent. Closing the client closes conn, which must
// free its blocked reads and writes. An *engine.Error that conn returns is
// passed on, for conn may know more: why the agent did not start, its last words.
func NewClient(conn io.ReadWriteCloser, p Peer) *Client {
	c := &Client{
		peer:    p,
		conn:    conn,
		out:     make(chan []byte),
		gone:    make(chan struct{}),
		pending: map[uint64]chan response{},
	}
	hello := make(chan struct{})
	c.work.Go(func() { c.receive(hello) })
	c.work.Go(c.transmit)
	every, patience := pingEvery, deadAfter+time.Second // more than the agent, so that it never does what was given up
	c.work.Go(func() { c.watch(hello, every, patience) })
	return c
}

// Read implements engine.Node.
func (c *Client) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	r, err := c.call(ctx, request{Op: opRead, Query: q})
	return r.State, err
}

// Apply implements engine.Node.
func (c *Client) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	found, err := c.ApplyAll(ctx, []engine.Edit{e})
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, c.unreachable(fmt.Errorf("it answered with %d states to one change", len(found)))
	}
	return found[0], nil
}

// ApplyAll implements engine.Sequencer.
func (c *Client) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	r, err := c.call(ctx, request{Op: opApply, Edits: pack(edits)})
	if len(r.Found) > len(edits) || err != nil && len(r.Found) == len(edits) {
		return nil, c.unreachable(fmt.Errorf("it answered with %d states to %d changes", len(r.Found), len(edits)))
	}
	for i := range r.Found {
		if r.Found[i] == nil {
			r.Found[i] = edits[i].After
		}
		if r.Found[i] == nil { // nothing was predicted, and nothing found
			r.Found[i] = resource.State{}
		}
	}
	return r.Found, err
}

// Lost implements engine.Line.
func (c *Client) Lost() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// Snapshot implements engine.Snapshotter.
func (c *Client) Snapshot(ctx context.Context, max int) (resource.State, bool, error) {
	r, err := c.call(ctx, request{Op: opWhole, Max: max})
	return r.State, r.Few, err
}

// Confirm implements engine.Confirmer.
func (c *Client) Confirm(ctx context.Context, token string) error {
	_, err := c.call(ctx, request{Op: opConfirm, Token: token})
	return err
}

// releaseWithin is how long a connection may take to take the word that a node is released.
const releaseWithin = time.Second

// Release implements engine.Holder. An agent that is not told releases the node when it ends.
func (c *Client) Release() {
	b, _ := frame(request{Op: opRelease}) // id 0: nobody waits for the answer
	select {
	case c.out <- b:
	case <-c.gone:
	case <-time.After(releaseWithin):
	}
}

// Dial implements engine.Dialing, where the connection to the agent does.
func (c *Client) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d, can := c.conn.(engine.Dialing)
	if !can {
		return nil, engine.NotDialing(c.peer.Name)
	}
	conn, err := d.Dial(ctx, network, addr)
	if err != nil && c.Lost() { // with the agent, for which there was no room perhaps: that is why
		return nil, c.err
	}
	return conn, err
}

// Close implements engine.Node. Calls that wait get an error.
func (c *Client) Close() error {
	c.fail(errClosed)
	c.work.Wait()
	return nil
}

// call sends q and waits for its answer, for the end of ctx or of the connection.
func (c *Client) call(ctx context.Context, q request) (response, error) {
	if err := ctx.Err(); err != nil {
		return response{}, c.ended(ctx)
	}
	if deadline, ok := ctx.Deadline(); ok {
		q.Timeout = max(time.Until(deadline).Milliseconds(), 1)
	}
	answer := make(chan response, 1)
	c.mu.Lock()
	c.last++
	q.ID = c.last
	c.pending[q.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, q.ID)
		c.mu.Unlock()
	}()

	b, err := frame(q)
	if err != nil {
		return response{}, err
	}
	select {
	case c.out <- b:
	case <-ctx.Done():
		return response{}, c.ended(ctx)
	case <-c.gone:
		return response{}, c.err
	}
	select {
	case r := <-answer:
		return c.result(r)
	case <-ctx.Done():
		return response{}, c.ended(ctx)
	case <-c.gone:
		select {
		case r := <-answer: // it came just before the end
			return c.result(r)
		default:
			return response{}, c.err
		}
	}
}

func (c *Client) result(r response) (response, error) {
	err := r.Error.err()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return response{}, c.late(err)
	case err != nil:
		return r, err // with what was found before it
	case r.State == nil:
		r.State = resource.State{}
	}
	return r, nil
}

// ended is the error of a call whose ctx has ended.
func (c *Client) ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return c.late(cause)
	}
	return cause
}

func (c *Client) late(err error) error {
	return &engine.Error{Code: engine.Unreachable, Node: c.peer.Name, Cause: fmt.Sprintf("%s did not answer in time", c.peer.Addr), Err: err}
}

// transmit writes what the callers hand over.
func (c *Client) transmit() {
	for {
		select {
		case b := <-c.out:
			if _, err := c.conn.Write(b); err != nil {
				c.fail(err)
				return
			}
		case <-c.gone:
			return
		}
	}
}

// receive hands out answers until the connection ends.
func (c *Client) receive(said chan<- struct{}) {
	in := bufio.NewReader(touching{c.conn, func() { c.heard.Store(time.Now().UnixNano()) }})
	var first response
	if err := readFrame(in, &first); err != nil {
		c.fail(err)
		return
	}
	if first.Hello == nil || first.Hello.Version != Version {
		c.fail(fmt.Errorf("the agent speaks another version of the protocol than this runbook, %d", Version))
		return
	}
	close(said)
	for {
		var r response
		if err := readFrame(in, &r); err != nil {
			c.fail(err)
			return
		}
		c.mu.Lock()
		answer := c.pending[r.ID]
		delete(c.pending, r.ID)
		c.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
}

// watch ends the connection when the agent does not say hello, or falls silent.
func (c *Client) watch(said <-chan struct{}, every, patience time.Duration) {
	late := time.NewTimer(helloAfter)
	defer late.Stop()
	select {
	case <-said:
	case <-late.C:
		c.fail(fmt.Errorf("the agent was not there after %v", helloAfter))
		return
	case <-c.gone:
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	ping, _ := frame(request{Op: opPing}) // id 0: nobody waits for the answer
	for {
		select {
		case <-tick.C:
		case <-c.gone:
			return
		}
		if silent := time.Since(time.Unix(0, c.heard.Load())); silent > patience {
			c.fail(fmt.Errorf("it has been silent for %v", silent.Round(time.Second)))
			return
		}
		select {
		case c.out <- ping:
		default: // the writer is at work, or stuck; then the answers stay out
		}
	}
}

// fail ends the connection, the first time that it is called.
func (c *Client) fail(err error) {
	c.once.Do(func() {
		c.err = c.unreachable(err)
		close(c.gone)
		c.conn.Close()
	})
}

func (c *Client) unreachable(err error) error {
	var known *engine.Error
	if errors.As(err, &known) { // the connection knows better
		e := *known
		e.Node = c.peer.Name
		return &e
	}
	cause := fmt.Sprintf("the connection to the agent at %s is lost: %v", c.peer.Addr, err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		cause = fmt.Sprintf("the agent at %s has ended", c.peer.Addr)
	}
	if errors.Is(err, errClosed) {
		cause = err.Error()
	}
	return &engine.Error{Code: engine.Unreachable, Node: c.peer.Name, Cause: cause, Err: err}
}
