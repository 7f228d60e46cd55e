package engine

import (
	"time"

	"runbook/engine/resource"
)

// EventKind says what an [Event] tells.
type EventKind string

// What happens in a run, in the order in which it does for one node.
const (
	EventPredict   EventKind = "predict"   // Nodes are predicted now
	EventPlanned   EventKind = "planned"   // Node was predicted: Diff is what would change, Err why it could not be
	EventRun       EventKind = "run"       // the run has an id and starts: Outlook, Limits, Used; States where it is one that goes on
	EventWave      EventKind = "wave"      // a wave starts: Text says which nodes
	EventBake      EventKind = "bake"      // the wait between two waves starts: For, which Text says too
	EventGate      EventKind = "gate"      // the hook Op has passed, or has not: Err
	EventValue     EventKind = "value"     // the hook Op has seen that what Text names is Value
	EventQuestion  EventKind = "question"  // somebody is asked whether Node may be changed; Nodes is how many of its wave are left to which the same would be done
	EventAnswer    EventKind = "answer"    // Text is what was decided about Node
	EventPaused    EventKind = "paused"    // no further node starts until the operator says so
	EventUnpaused  EventKind = "unpaused"  // the operator has said so
	EventPace      EventKind = "pace"      // Node waits, for For at the least, because of changes_per_minute
	EventNode      EventKind = "node"      // State of Node has changed
	EventReplacing EventKind = "replacing" // Node is taken up again: the agent is ended that the run has left there, Text
	EventPrint     EventKind = "print"     // the script printed Text
	EventChange    EventKind = "change"    // Op was applied and read back: Diff
	EventUnchanged EventKind = "unchanged" // Op found its object already as it should be
	EventConfirmed EventKind = "confirmed" // Node was reached over a new connection after its change
	EventStopping  EventKind = "stopping"  // the operator stops the run: Text says which nodes are finished first
	EventPutBack   EventKind = "put-back"  // a change of Node was taken back: Diff
	EventEnd       EventKind = "end"       // the run has ended: Text sums it up
)

// NodeState is where a node stands in a run.
type NodeState string

// The states of a node. All but the first two are final, but that what is done may be undone.
const (
	NodeApplying NodeState = "applying"  // it is in hand
	NodeUndoing  NodeState = "undoing"   // what was done is being taken back, because the operator said so
	NodeDone     NodeState = "done"      // changed as predicted
	NodeSame     NodeState = "unchanged" // there was nothing to change
	NodeSkipped  NodeState = "skipped"   // the operator said so
	NodeUndone   NodeState = "undone"    // it was changed, and then taken back because the operator said so
	NodeUntried  NodeState = "not tried" // the run ended before
	NodeFailed   NodeState = "failed"    // and holds what it held before
	NodeInDoubt  NodeState = "in doubt"  // failed, and could not be put back or asked
)

// Event is one thing that happened. What shows a run (lines, JSON, the
// terminal interface) sees events and nothing else.
type Event struct {
	Version int           `json:"v"` // EventVersion
	Time    time.Time     `json:"time"`
	Kind    EventKind     `json:"event"`
	Run     string        `json:"run,omitempty"`
	Wave    int           `json:"wave,omitempty"` // from 1
	Node    string        `json:"node,omitempty"`
	State   NodeState     `json:"state,omitempty"`
	Op      string        `json:"op,omitempty"`
	Pos     string        `json:"pos,omitempty"`
	Diff    resource.Diff `json:"diff,omitempty"`
	Text    string        `json:"text,omitempty"`
	For     Duration      `json:"for,omitempty"`   // how long it waits
	Nodes   int           `json:"nodes,omitempty"` // of a wave: how many nodes it is to change
	Value   *float64      `json:"value,omitempty"`
	Outlook *Outlook      `json:"outlook,omitempty"` // of the run: what is ahead of it
	Err     *Error        `json:"error,omitempty"`
	Limits  Limits        `json:"limits,omitempty"` // of the run and of its end: those in force,
	Used    Used          `json:"used,omitempty"`   // and what was used of them

	Nth      int      `json:"nth,omitempty"`      // of what was planned: which node of the run it is, from 1
	Forecast []string `json:"forecast,omitempty"` // of the run: see [Plan.Forecast]

	// Of what was planned, for who shows it: all of the prediction, and what the inventory
	// says of the node. Nobody changes them. They are not part of the published form.
	Plan *NodePlan `json:"-"`
	Info *NodeInfo `json:"-"`

	// Of the end too: where all nodes of the run stand, in its order, and what can be done about those that are left.
	States map[NodeState][]string `json:"states,omitempty"`
	Next   []Next                 `json:"next,omitempty"`
}

// Next is what can be done after a run that did not come to its end.
type Next struct {
	What    string `json:"what"`    // "go on with the nodes that are left"
	Command string `json:"command"` // "runbook resume 20261123-204455-k3f"
}

// Outlook is what is ahead of a run when it starts. It is there for who shows how far the run
// is, and binds nobody: nodes that fail, and people who are asked, make it otherwise.
type Outlook struct {
	Waves            []WaveOutlook `json:"waves"`              // wave 1 first
	Bake             Duration      `json:"bake,omitempty"`     // the wait before each wave but the first that changes anything
	ChangesPerMinute int           `json:"changes_per_minute"` // the most that may be begun
	Failures         int           `json:"failures"`           // how many nodes may fail
}

// WaveOutlook is what one wave is to do.
type WaveOutlook struct {
	Nodes   int `json:"nodes"` // that it is to change
	Changes int `json:"changes"`
	AtOnce  int `json:"at_once"` // how many of the nodes can be in hand at the same time
}

// EventVersion is the version of the form in which events are published.
const EventVersion = 1
