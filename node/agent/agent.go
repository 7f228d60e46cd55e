// Package agent is what the controller and the agent on a node say to each
// other: a request names an operation of engine.Node, a response carries its
// result. [Serve] is the agent's side, [Client] the controller's, an
// engine.Node itself.
//
// Both sides write frames: four bytes of length, big-endian, then that much
// JSON. The agent's first frame is its hello. Nobody waits for it: a client
// may send its first request at once. Requests run concurrently and are
// answered in any order, told apart by their ids.
//
// Each side notices when the other is gone, for TCP alone would take hours: the client
// pings, and gives the node up after [deadAfter] without a byte from it; the
// agent exits after as long without a byte from the controller. What a request
// has begun to change is completed or put back even so.
package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// Version is the version of the protocol. Both sides must have the same one;
// they do, for the controller starts the agent that it carries.
const Version = 2

// maxFrame is the largest frame in bytes. Over a hundred thousand routes fit.
const maxFrame = 64 << 20

var (
	pingEvery = 2 * time.Second
	deadAfter = 8 * time.Second
	// helloAfter is how long an agent may take to say hello, its upload included.
	helloAfter = 90 * time.Second
)

// The operations of a request.
const (
	opPing  = "ping"
	opRead  = "read"
	opApply = "apply" // its edits in order; see engine.Sequencer
	opWhole = "snapshot"

	opConfirm = "confirm"
	opRelease = "release" // nobody waits for its answer
)

type request struct {
	ID      uint64         `json:"id"`
	Op      string         `json:"op"`
	Timeout int64          `json:"timeout_ms,omitempty"` // from its arrival; clocks differ between machines
	Query   resource.Query `json:"query,omitempty"`
	Edits   *sequence      `json:"edits,omitempty"`
	Max     int            `json:"max,omitempty"`   // of a snapshot
	Token   string         `json:"token,omitempty"` // of a confirm
}

type response struct {
	ID    uint64           `json:"id"`
	Hello *hello           `json:"hello,omitempty"` // in the first frame, and only there
	State resource.State   `json:"state,omitzero"`
	Found []resource.State `json:"found,omitempty"` // of an apply, one for each edit that was made; null: it is as predicted
	Few   bool             `json:"few,omitempty"`   // of a snapshot
	Error *wireError       `json:"error,omitempty"`
}

type hello struct {
	Version int `json:"version"`
	PID     int `json:"pid"`
}

// wireError is an error that keeps its type on the way. One field is set.
type wireError struct {
	Node          *engine.NodeError `json:"node,omitempty"`
	Drift         resource.State    `json:"drift,omitzero"` // the State of a DriftError
	Error         *engine.Error     `json:"error,omitempty"`
	Unpredictable string            `json:"unpredictable,omitempty"`
	Canceled      string            `json:"canceled,omitempty"`
	Deadline      string            `json:"deadline,omitempty"`
	Other         string            `json:"other,omitempty"`
}

func toWire(err error) *wireError {
	var refused *engine.NodeError
	var drift *engine.DriftError
	var e *engine.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e): // first: it may hold a NodeError, and says more
		plain := *e
		plain.Drift = nil // cannot be read back, and is the controller's to say
		return &wireError{Error: &plain}
	case errors.As(err, &refused):
		return &wireError{Node: refused}
	case errors.As(err, &drift):
		found := drift.Found
		if found == nil {
			found = resource.State{}
		}
		return &wireError{Drift: found}
	case errors.Is(err, engine.ErrUnpredictable):
		return &wireError{Unpredictable: err.Error()}
	case errors.Is(err, context.Canceled):
		return &wireError{Canceled: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &wireError{Deadline: err.Error()}
	default:
		return &wireError{Other: err.Error()}
	}
}

func (w *wireError) err() error {
	switch {
	case w == nil:
		return nil
	case w.Node != nil:
		return w.Node
	case w.Drift != nil:
		return &engine.DriftError{Found: w.Drift}
	case w.Error != nil:
		return w.Error
	case w.Unpredictable != "":
		return &remoteError{w.Unpredictable, engine.ErrUnpredictable}
	case w.Canceled != "":
		return &remoteError{w.Canceled, context.Canceled}
	case w.Deadline != "":
		return &remoteError{w.Deadline, context.DeadlineExceeded}
	default:
		return &engine.Error{Code: engine.Unreachable, Cause: w.Other}
	}
}

// remoteError is an error of the agent that is a known one here.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

// frame encodes v with its length before it.
func frame(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > maxFrame {
		return nil, fmt.Errorf("%d MB are more than a frame may have (%d MB): ask for less at once", len(body)>>20, maxFrame>>20)
	}
	out := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(out, uint32(len(body)))
	return append(out, body...), nil
}

// readFrame reads one frame into v. At the end between two frames the error is io.EOF.
func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return fmt.Errorf("these are no frames: they begin with %q", head[:])
	}
	// The length is not believed before the bytes are there.
	body, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return err
	}
	if len(body) < int(size) {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(body, v)
}

// touching calls touch after every read that brought something.
type touching struct {
	io.Reader
	touch func()
}

func (t touching) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	if n > 0 {
		t.touch()
	}
	return n, err
}
