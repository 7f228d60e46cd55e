// Package engine is the contract of runbook, to be read first.
//
// An operator's runbook, a [Program], is run once for each [Node]. Every
// [Operation] that it calls passes one function, [Pass.Do], in one of two
// passes: the first predicts, on a [Model] of the node, and writes a
// [NodePlan]; the second is live, and can do nothing but what that plan holds.
//
//	runbook -> Program -> Pass.Do -> Operation -> Edit -> Model   (predicting)
//	                                          \-> plan -> Node    (live)
//
// The package imports [runbook/engine/resource] and the standard library only.
// Kinds of node are in node/, operations in builtins/, the Starlark program in
// engine/script, the journal in engine/journal; they are handed in by cmd.
package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"runbook/engine/resource"
)

// Reader can be asked what it holds.
type Reader interface {
	// Read returns what q selects: present resources only. It never changes
	// anything. A State with nothing in it is an answer, not an error.
	Read(ctx context.Context, q resource.Query) (resource.State, error)
}

// Snapshotter is a [Reader] that can tell much in one answer: a node at the far
// end of a slow line. A Model that can have a snapshot needs no other reads.
type Snapshotter interface {
	// Snapshot returns all links, addresses, routes, rules and nexthop objects,
	// which few is true for, the sessions and the facts; or nothing, where they are more than max.
	Snapshot(ctx context.Context, max int) (s resource.State, few bool, err error)
}

// Node is a machine that can be read and changed. Implementations are safe for
// concurrent use, return as soon as ctx ends, and report what the machine's
// kernel said as a [*NodeError] and a lost machine as [Unreachable].
type Node interface {
	Reader
	// Apply compares, changes and reads back, in one request:
	//
	//   - Where e.Before is not nil and the node holds something else of
	//     e.Query, nothing is changed and the error is a [*DriftError].
	//   - Every key of e.Want is made what it says. If the kernel refuses one,
	//     those already made are put back, and the error is a [*NodeError].
	//   - What e.Query selects is read until it equals e.After or e.Settle has
	//     passed. What was read last is returned, equal or not: judging is the
	//     caller's part. Where e.After is nil it is read once.
	Apply(ctx context.Context, e Edit) (resource.State, error)
	// Close ends the connection. The node keeps what was done.
	Close() error
}

// Sequencer is a [Node] that can do several edits in one request: a round trip
// for all of them in place of one for each.
type Sequencer interface {
	// ApplyAll does the edits in order, each as Apply would, and returns what
	// was read after each. It stops at the first one that fails, whose error it
	// returns, or that does not read back as e.After, whose state is then the last.
	ApplyAll(ctx context.Context, edits []Edit) ([]resource.State, error)
}

// ApplyAll does edits to n, in one request where n is a [Sequencer].
func ApplyAll(ctx context.Context, n Node, edits []Edit) ([]resource.State, error) {
	if s, can := n.(Sequencer); can {
		return s.ApplyAll(ctx, edits)
	}
	var found []resource.State
	for _, e := range edits {
		s, err := n.Apply(ctx, e)
		if err != nil {
			return found, err
		}
		found = append(found, s)
		if !resource.Equal(e.After, s) {
			break
		}
	}
	return found, nil
}

// Line is a [Node] at the end of a connection that can be lost for good.
type Line interface {
	// Lost reports whether the connection has ended: a new one must be made.
	Lost() bool
}

// Dialing is a [Node], or a connection to one, from which other connections can be made: to
// what can be reached from there, and perhaps from nowhere else.
type Dialing interface {
	// Dial connects from the node, to "tcp" or "unix", as net.Dialer.DialContext does.
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// NotDialing is the error of a node from which no connection can be made.
func NotDialing(node string) *Error {
	return &Error{
		Code: Unreachable, Node: node, Cause: "no connection can be made from this node to others: it is not reached over SSH",
		Hint: "ask from this machine, without a node between",
	}
}

// Holder is a [Node] that keeps other runs off while one changes it: from the first
// edit that has a Run to Release, or the end of the connection. Others are refused: see [RefuseHeld].
type Holder interface {
	// Release lets other runs on. It does not wait for the node.
	Release()
}

// Model is a node in memory that predicts what the kernel would do. It is
// seeded from a real node as far as it is looked at, and keeps what it
// predicted: a later Read sees it.
type Model interface {
	Reader
	// Predict makes every key of e.Want what it says, as the kernel would, and
	// completes e: what had to be looked at to know the outcome is added to
	// Query and Before, and After is set. What the kernel would refuse is a
	// [*NodeError] with the kernel's own errno and words; what the model does
	// not cover is [Unpredictable].
	Predict(ctx context.Context, e *Edit) error
}

// Edit is a change to one node: its footprint, and what to make of it.
type Edit struct {
	Want   resource.State `json:"want,omitempty"`   // what each key should become; a nil value: absent
	Query  resource.Query `json:"query,omitempty"`  // the footprint: all that was read or is changed
	Before resource.State `json:"before,omitzero"`  // of Query, on which the prediction rests
	After  resource.State `json:"after,omitzero"`   // of Query, as predicted
	Settle Duration       `json:"settle,omitempty"` // how long to wait until After is read back

	// Restart is the name of a link that is taken down and up again once Want is
	// made. All that it loses is put back, so that it shows in no Diff: Lost is
	// what that is, as predicted.
	Restart string         `json:"restart,omitempty"`
	Lost    resource.State `json:"lost,omitempty"`
	// Disrupts is what the change interrupts, such as "link eth1": the node
	// remembers it, and refuses to do so again soon. ID identifies the change,
	// Run and By say whose it is; a live pass sets them. An edit with a Run has the node to itself: see [Holder].
	Disrupts resource.Key `json:"disrupts,omitempty"`
	Verb     string       `json:"verb,omitempty"` // what it does to that: "restart", "down"
	Cuts     []Cut        `json:"cuts,omitempty"` // the sessions that it cuts or stalls, as predicted
	Guard    *Guard       `json:"guard,omitempty"`
	ID       string       `json:"id,omitempty"` // RUN/NTH
	Run      string       `json:"run,omitempty"`
	By       string       `json:"by,omitempty"`
	Node     string       `json:"node,omitempty"`    // as the run calls it
	Machine  string       `json:"machine,omitempty"` // for which it was predicted: [resource.Facts.Machine]
	// Repeat does it even though the node remembers that it was done lately; an
	// Undo, which takes another change back, is not refused for that.
	Repeat bool `json:"repeat,omitempty"`
	Undo   bool `json:"undo,omitempty"`
	// AsItWas says of an Undo of a change of links or addresses that the node holds all that this
	// looked at as it left it: Want is what it changed, as that was, and all the rest stays.
	AsItWas bool `json:"as_it_was,omitempty"`
}

// CutsOwn reports whether e may cut or stall the session that runbook itself
// works through, or may do so for all that could be found out: it is risky.
func (e Edit) CutsOwn() bool {
	return slices.ContainsFunc(e.Cuts, func(c Cut) bool { return c.Own })
}

// Happens reports whether e does anything: makes a difference, or is an event.
func (e Edit) Happens() bool { return e.Restart != "" || !resource.Equal(e.Before, e.After) }

// Count is how many changes e is to the limits: one, or as many as the sessions of
// a server that it ends.
func (e Edit) Count() int {
	n := 0
	for _, c := range e.Diff() {
		if c.Ends() && c.Key.Kind() == resource.KindBackend {
			n++
		}
	}
	return max(1, n)
}

// spared says which of the sessions that e was to end live on as found says, and why.
func (e Edit) spared(found resource.State) []string {
	var out []string
	for _, k := range found.Keys() {
		if want, wanted := e.Want[k]; wanted && want == nil && k.Kind().Ends() && found[k] != nil {
			out = append(out, string(k.Kind())+" "+found[k].String())
		}
	}
	return out
}

// Guard has a node put itself back unless the change is confirmed in time over
// a new connection ([Confirmer]). It is armed before the change.
type Guard struct {
	Token  string   `json:"token"`  // confirms it
	Within Duration `json:"within"` // from the moment at which it is armed
}

func (g Guard) String() string {
	return fmt.Sprintf("confirmed over a new connection within %s, or the node puts itself back", g.Within)
}

// Confirmer is a [Node] that can guard changes.
type Confirmer interface {
	// Confirm tells the guardian that the node was reached, over a connection
	// made after the change. Where there is nothing to confirm any more,
	// because the node has put itself back, the error says so.
	Confirm(ctx context.Context, token string) error
}

// Cut is sessions that a change interrupts: it cuts them, or it stalls them.
type Cut struct {
	resource.Sessions
	// Stalls: they can go on after it. Otherwise they are cut: their packets
	// find no way any more, or their address is gone.
	Stalls bool `json:"stalls,omitempty"`
	// To is where their packets then go, in the words of iproute2, such as "via
	// 10.98.0.9 dev eth1": whether they go on depends on what is there. Empty
	// where they go on as they did.
	To string `json:"to,omitempty"`
	// Perhaps: it may do that to some or all of them, or to none.
	Perhaps bool `json:"perhaps,omitempty"`
}

// Diff is what e changes.
func (e Edit) Diff() resource.Diff { return resource.Compare(e.Before, e.After) }

// editJSON is an Edit in JSON. Most of a footprint only has to stay as it is, so
// that where there is a Before, After is written as what differs from it; and
// where that is what is wanted, as mostly, not even so.
type editJSON struct {
	edit
	Changes  resource.State `json:"changes,omitzero"`
	AsWanted bool           `json:"as_wanted,omitempty"` // Changes are Want
}

type edit Edit // without its methods

// MarshalJSON writes e with its changes in place of After, where it can.
func (e Edit) MarshalJSON() ([]byte, error) {
	w := editJSON{edit: edit(e)}
	if e.Before != nil && e.After != nil {
		w.Changes, w.After = e.Diff().After(), nil
		if len(w.Changes) > 0 && maps.EqualFunc(w.Changes, e.Want, resource.Identical) {
			w.Changes, w.AsWanted = nil, true
		}
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Edit) UnmarshalJSON(b []byte) error {
	var w editJSON
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*e = Edit(w.edit)
	if w.AsWanted {
		w.Changes = e.Want
	}
	if w.Changes != nil {
		e.After = maps.Clone(e.Before)
		if e.After == nil {
			e.After = resource.State{}
		}
		for k, r := range w.Changes {
			delete(e.After, k)
			if r != nil {
				e.After[k] = r
			}
		}
	}
	return nil
}

// Reverse is the edit that takes e back, where the node still holds e.After.
func (e Edit) Reverse() Edit {
	return Edit{Want: e.Diff().Before(), Query: e.Query, Before: e.After, After: e.Before, Settle: e.Settle, Undo: true}
}

// DefaultSettle is how long a node is given to show what was predicted.
const DefaultSettle = 3 * time.Second

// Operation is one typed thing that a runbook can ask of a node: a struct
// whose exported fields are its arguments. It is a [Probe] or a [Change].
//
// An argument has the name of its field's json tag and may be given by
// position too, in the order of the fields. It may be left out, and is then
// zero, where the tag has omitempty or omitzero. A type with UnmarshalText is
// given as a string. An operation with a method Validate() error is asked
// before it is used; one with String() string names its object.
type Operation any

// Probe is an operation that only looks.
type Probe interface {
	// Look returns what the script gets: a value that encodes as JSON.
	Look(ctx context.Context, n Reader) (any, error)
}

// Change is an operation that changes a node so that it is as the arguments
// say, and does nothing where it is so already.
type Change interface {
	// Plan reads what it must and returns what each key should become. A key
	// that is right already is returned as it was read, so that a plan can show
	// what is there; where no key differs, there is nothing to change.
	Plan(ctx context.Context, n Reader) (resource.State, error)
	// Result is what the script gets: a value that encodes as JSON. changed is
	// whether anything differed, s the footprint after the change.
	Result(changed bool, s resource.State) any
}

// Teller is a [Change] whose result says more than what is there after it: what is gone.
type Teller interface {
	// Tell is what the script gets in place of Result: a value that encodes as JSON.
	Tell(e Edit) any
}

// Fleet is the nodes of a run, to be looked at together.
type Fleet interface {
	// ReadAll reads what q selects of every node. Those that do not answer are in
	// missing, with why.
	ReadAll(ctx context.Context, q resource.Query) (found map[string]resource.State, missing map[string]error)
}

// OnFleet is an operation on something that the nodes of the fleet share, which has to
// look at them to know what to do.
type OnFleet interface {
	// OnFleet returns the operation as it can be done, with f to look at.
	OnFleet(f Fleet) Operation
}

// Disruptor is an operation that interrupts service by what it is. A check
// warns where one stands in a loop.
type Disruptor interface{ Disrupts() }

// Shaper is a [Change] whose edit is more than what it wants: a restart, an undo.
type Shaper interface {
	// Shape completes e, of which Want is set, before it is predicted.
	Shape(e *Edit)
}

// Explainer is a [Change] that can say more about why the kernel refused it.
type Explainer interface {
	// Explain returns the cause in the words of the operation's arguments, and
	// a hint. Either may be empty.
	Explain(ctx context.Context, n Reader, refused *NodeError) (cause, hint string)
}

// Call is one call of an operation by a script.
type Call struct {
	Name string          // "route.add"
	Args json.RawMessage // the operation's fields, canonical: equal calls have equal bytes
	Op   Operation       // what Args say
	Pos  string          // file:line:col of the call in the runbook
	Node string          // of a hook, which has many: the one that is asked
}

// Program is a runbook that has been read and can be run. It is safe for
// concurrent use.
type Program interface {
	Header() Header
	// Run calls run(node, p) for one node. What the script asks and prints
	// goes to h; h's error becomes the script's. Run returns what ended the
	// script, an [*Error], or nil.
	Run(ctx context.Context, node NodeInfo, h Host) error
	// Usage returns what has been used so far.
	Usage() Usage
	Close() error
}

// The hooks of a runbook: functions that look at the fleet as a whole.
const (
	HookBefore = "before" // called once, before the first wave
	HookGate   = "gate"   // must pass before the first wave, while baking, and after each wave
	HookAfter  = "after"  // called once, when all waves are through
)

// Watcher is a [Program] that may have hooks.
type Watcher interface {
	// RunHook calls a hook of the header: gate(fleet, p). What it asks goes to h, each
	// call with the node that it is about.
	RunHook(ctx context.Context, hook string, f FleetInfo, h Host) error
}

// FleetInfo is what a hook can know without asking.
type FleetInfo struct {
	Nodes []FleetNode // in the order of the rollout
	Wave  int         // how many waves are through
	Waves int         // how many there are
}

// FleetNode is a node and where it stands.
type FleetNode struct {
	NodeInfo
	State NodeState
}

// Host is what a running script can reach: [Pass] is one.
type Host interface {
	// Do does one call of an operation. Its result encodes as JSON.
	Do(ctx context.Context, c Call) (any, error)
	// Print takes a line that the script printed at pos, file:line:col. The
	// error ends the script.
	Print(pos, line string) error
	// Sleep waits between two tries; a prediction does not.
	Sleep(ctx context.Context, d time.Duration) error
}

// Observer is a [Host] that shows numbers which a hook has seen.
type Observer interface {
	// Observe takes what the script saw at pos: that name is value.
	Observe(pos, name string, value float64) error
}

var _ Host = (*Pass)(nil)

// NodeInfo is what a script can know of its node without asking it.
type NodeInfo struct {
	Name   string         `json:"name"`
	Groups []string       `json:"groups,omitempty"`
	Vars   map[string]any `json:"vars,omitempty"`
}

// Header is what the call of runbook(…) declared.
type Header struct {
	Doc     string  `json:"doc"` // the runbook's docstring
	Params  []Param `json:"params,omitempty"`
	Limits  Limits  `json:"limits"`
	Rollout Rollout `json:"rollout"`
	// Hooks is where its hooks stand, by their names: file:line:col.
	Hooks map[string]string `json:"hooks,omitempty"`
}

// Param is one declared parameter.
type Param struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"` // string, int, bool, ip, prefix, duration, choice
	Doc      string   `json:"doc"`
	Default  any      `json:"default,omitempty"`
	Required bool     `json:"required,omitempty"`
	Choices  []string `json:"choices,omitempty"`
}

// Rollout says in which order and how fast nodes are changed.
type Rollout struct {
	Waves       []string `json:"waves"` // how many nodes have been tried at the end of each wave: "1", "10%", "100%"
	Bake        Duration `json:"bake"`  // the wait between two waves
	MaxFailures int      `json:"max_failures"`
	// ConfirmWithin is how long a node waits to be reached over a new connection
	// after a change that may cut it off, before it puts itself back; 0: [DefaultConfirmWithin].
	ConfirmWithin Duration `json:"confirm_within,omitempty"`
	// GateEvery is the time between two looks of the gate while a wave bakes; 0: [DefaultGateEvery].
	GateEvery Duration `json:"gate_every,omitempty"`
	// Parallel is how many nodes of a wave are changed at a time; 0: as many as runbook can.
	Parallel int `json:"parallel,omitempty"`
	// Spread is a variable of the nodes, such as "rack": nodes follow each other so that
	// those with the same value are as far apart as can be.
	Spread string `json:"spread,omitempty"`
	// OnFailure is what becomes of what was changed on a node that fails: "put back",
	// or "keep". A node that answers otherwise than predicted is put back in any case.
	OnFailure string `json:"on_failure,omitempty"`
}

// The values of [Rollout.OnFailure].
const (
	FailedPutBack = "put back" // and so is ""
	FailedKeep    = "keep"
)

// DefaultGateEvery is the time between two looks of the gate while a wave bakes.
const DefaultGateEvery = 10 * time.Second

// DefaultConfirmWithin is how long a node that may be cut off waits before it puts itself back.
const DefaultConfirmWithin = 30 * time.Second

// Usage is what a program has used.
type Usage struct {
	Steps  int64 `json:"steps"` // Starlark steps
	Calls  int64 `json:"calls"`
	Memory int64 `json:"memory,omitempty"` // bytes that the evaluator has of its limit; 0: that is not known
}

// Duration is a time.Duration that is written as "1m30s" in JSON.
type Duration = resource.Duration

// Dialer reaches nodes by their names in the inventory.
type Dialer interface {
	// Dial connects. The error is [Unreachable] where the node does not
	// answer, and says so where it answers but refuses (host key, authentication).
	Dial(ctx context.Context, name string) (Node, error)
}

// Journal is the durable record of runs. It is safe for concurrent use.
type Journal interface {
	// Begin opens the record of a run and returns its id.
	Begin(ctx context.Context, r RunRecord) (id string, err error)
	// Append adds entries of one run to it. When it returns nil, they survive a
	// power cut; otherwise none of them is there. An intent without Edit is that of the step
	// that it numbers in the last plan entry of its node, and is read with it.
	Append(ctx context.Context, entries ...Entry) error
	// Reserve counts what a run is about to do to the last hour of its runbook
	// and inventory, durably, and says what is used of the hour's limits then. Where that is more
	// than r.Limits allow, nothing is counted and the error is that of the limit.
	Reserve(ctx context.Context, r Reservation) (Used, error)
	// End closes the record of the run.
	End(ctx context.Context, id string, outcome Outcome) error
}

// RunRecord says what a run is.
type RunRecord struct {
	ID        string            `json:"run"`
	Verb      string            `json:"verb"` // run, apply, undo
	Runbook   string            `json:"runbook"`
	Hash      string            `json:"hash"` // of the runbook and all that it loads
	Params    map[string]string `json:"params,omitempty"`
	Inventory string            `json:"inventory"`
	Selection string            `json:"selection"`
	User      string            `json:"user"`
	Undoes    string            `json:"undoes,omitempty"` // the run that this one takes back
	Reason    string            `json:"reason,omitempty"` // why, as the operator said it
	Started   time.Time         `json:"started"`
	Ended     time.Time         `json:"ended,omitzero"`
	Outcome   *Outcome          `json:"outcome,omitempty"` // nil: it is still going, or was killed

	// What it takes to take the run up again: its nodes in the order of the
	// rollout, the limits that held, and the runbook itself.
	Nodes  []string `json:"nodes,omitempty"`
	Limits Limits   `json:"limits,omitempty"`
	Source Source   `json:"-"`
}

// Reservation is what a run is about to do.
type Reservation struct {
	Run       string
	Path      string // of the runbook, absolute: the same file is the same runbook,
	Hash      string // and so is the same text
	Inventory string
	Nodes     []string // that it changes
	Changes   int
	Limits    Limits
	Quotas    []Quota // what must stay untouched within the hour, by all runs together
}

// Quota is how many nodes of a group must stay untouched.
type Quota struct {
	Group   string
	Nodes   []string // all of the group
	AtLeast int
	Source  string // "policy /etc/runbook/policy.yaml:7:5"
}

// Outcome is how a run ended.
type Outcome struct {
	Exit  int               `json:"exit"`            // the exit code
	Error string            `json:"error,omitempty"` // why, where it is not 0
	Nodes map[string]string `json:"nodes,omitempty"` // node to its state at the end
}

// Entry is one line of a run's record.
type Entry struct {
	Run  string          `json:"run"`
	Seq  int64           `json:"seq"` // set by the journal
	Time time.Time       `json:"time"`
	Node string          `json:"node"`
	Kind string          `json:"kind"`           // one of those below
	Nth  int             `json:"nth"`            // which step of the node's plan, from 0
	Op   string          `json:"op,omitempty"`   // "route.add"
	Pos  string          `json:"pos,omitempty"`  // where the script asked
	Edit *Edit           `json:"edit,omitempty"` // intent: what is about to be done, and how to take it back
	Data json.RawMessage `json:"data,omitempty"` // plan: a NodePlan; look: a Look; end: the Error that the node failed of; resumed: why, a text
	Diff string          `json:"diff,omitempty"` // for people
	Text string          `json:"text,omitempty"` // failed: why; end: the state of the node
}

// The kinds of entries, in the order in which they come for one node.
const (
	EntryResumed = "resumed" // the run was taken up again, by Text
	EntryPlan    = "plan"    // what was predicted for the node, and confirmed
	EntryLook    = "look"    // what a probe found while the node was changed
	EntryIntent  = "intent"  // a change is about to be made
	EntryDone    = "done"    // it was made, and read back as predicted
	EntryFailed  = "failed"  // it was not, or not so
	EntryUndo    = "undo"    // it is about to be taken back
	EntryUndone  = "undone"  // it was taken back, or was never made
	EntryEnd     = "end"     // the node has come to its end in this run
)
