package script

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"runbook/engine"
	"runbook/internal/printable"
)

// This file is what the two processes say to each other: frames, each a length
// of four bytes and as much JSON. A run (or the loading of the runbook, run 0)
// is a conversation in which the sides take turns; only at, cancel and params
// come out of turn.

const (
	maxFrame = 4 << 20 // bytes; both ways
	maxArgs  = 2 << 20 // bytes of one call's arguments, or of its result
	maxText  = 4 << 10 // bytes of an error, a hint, a printed line
)

type frameType string

const (
	// The controller says:
	tStart  frameType = "start"  // load the runbook Name; its files are called Dir/…
	tCheck  frameType = "check"  // find what is wrong with Name
	tFormat frameType = "format" // format Name
	tProbe  frameType = "probe"  // try what must not be possible
	tTests  frameType = "tests"  // load the test file Name
	tTest   frameType = "test"   // call the test function Name
	tLimits frameType = "limits" // Limits hold from now on
	tParams frameType = "params" // Value holds the parameters
	tRun    frameType = "run"    // call run(node, p) for Node, or the hook Name for Fleet
	tAnswer frameType = "answer" // to question Seq: Value or Text, or Err
	tCancel frameType = "cancel" // nobody waits for this run any more

	// The evaluator says:
	tLoad  frameType = "load"  // asks for the text of the file Name
	tCall  frameType = "call"  // asks for the operation Name with Value as its arguments
	tSleep frameType = "sleep" // asks to be answered after Delay
	tPrint frameType = "print" // Text was printed
	tValue frameType = "value" // what Text names was seen to be Value, a number
	tAt    frameType = "at"    // the run is at Pos now; not answered
	tDone  frameType = "done"  // the run has ended, by Err; of run 0: Header is the runbook's, Value what was found, Text what was formatted
)

type frame struct {
	Type  frameType       `json:"t"`
	Run   int64           `json:"run,omitempty"`
	Seq   int64           `json:"seq,omitempty"`
	Steps int64           `json:"steps,omitempty"` // used by all runs so far
	Name  string          `json:"name,omitempty"`
	Dir   string          `json:"dir,omitempty"`
	Pos   string          `json:"pos,omitempty"`
	Text  string          `json:"text,omitempty"`
	Delay engine.Duration `json:"delay,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
	Node  *nodeFrame      `json:"node,omitempty"`
	Fleet *fleetFrame     `json:"fleet,omitempty"` // of a run that is a hook's: Name says which
	On    string          `json:"on,omitempty"`    // of a hook's call: the node that it is about

	Cover   bool            `json:"cover,omitempty"`   // of a start: count the lines that are reached
	Lines   json.RawMessage `json:"lines,omitempty"`   // of done: those that can be reached,
	Reached json.RawMessage `json:"reached,omitempty"` // and those that were, and were not said before
	Header  json.RawMessage `json:"header,omitempty"`
	Err     *errorFrame     `json:"err,omitempty"`
	Limits  engine.Limits   `json:"limits,omitempty"`
}

type nodeFrame struct {
	Name   string          `json:"name"`
	Groups []string        `json:"groups,omitempty"`
	Vars   json.RawMessage `json:"vars,omitempty"`
	State  string          `json:"state,omitempty"` // to a hook
}

type fleetFrame struct {
	Nodes []*nodeFrame `json:"nodes"`
	Wave  int          `json:"wave"`
	Waves int          `json:"waves"`
}

// errorFrame is an error on its way. An error of the controller stays there:
// the evaluator gets a copy to show to the script, and names it by the Seq of
// the answer that it came with.
type errorFrame struct {
	Code   engine.Code `json:"code"`
	Pos    string      `json:"pos,omitempty"`
	Cause  string      `json:"cause,omitempty"`
	Hint   string      `json:"hint,omitempty"`
	Kernel string      `json:"kernel,omitempty"`
	Errno  string      `json:"errno,omitempty"`
	Catch  bool        `json:"catch,omitempty"` // an answer's: the script may handle it
	Answer int64       `json:"answer,omitempty"`
}

var errFrameSize = fmt.Errorf("more than %d MB in one message", maxFrame>>20)

// encode returns f as it goes over the pipe.
func (f frame) encode() ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 4, 512+len(f.Value)+len(f.Text)))
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		return nil, err
	}
	n := b.Len() - 4
	if n > maxFrame {
		return nil, errFrameSize
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	return b.Bytes(), nil
}

// readFrame reads a frame from a peer that is not trusted. At the end of the
// input it returns io.EOF.
func readFrame(r io.Reader) (frame, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return frame{}, errFrameSize
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return frame{}, fmt.Errorf("a message was cut short: %w", io.ErrUnexpectedEOF)
	}
	var f frame
	if err := decode(b, &f); err != nil {
		return frame{}, err
	}
	return f, nil
}

// decode reads one value of JSON that holds nothing unknown.
func decode(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	dec.UseNumber() // for the defaults in a header
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("malformed: %v", err) // not wrapped: an io.EOF here is not the end
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("malformed: more than one value")
	}
	return nil
}

// clean makes text of a script fit for a terminal: short, and without what
// could move its cursor.
func clean(s string) string {
	if len(s) > maxText {
		cut := maxText
		for cut > maxText-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return printable.Text(strings.ToValidUTF8(s, "\uFFFD"), "\n\t")
}
