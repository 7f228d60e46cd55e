package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"runbook/engine/resource"
)

// Source is a runbook's text: the file that was named, and all that it loads.
type Source struct {
	Main  string            `json:"main"`  // its path as it was given
	Files map[string]string `json:"files"` // path from Main's folder to text; Main's own is under its base name
}

// Hash identifies the text of s, whatever folder it lies in.
func (s Source) Hash() string { return hash(s.Files) }

// Says identifies the text of s, also where its main file has another name.
func (s Source) Says() string {
	files := maps.Clone(s.Files)
	main := filepath.Base(s.Main)
	if text, ok := files[main]; ok {
		delete(files, main)
		files[""] = text
	}
	return hash(files)
}

func hash(files map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256([]byte(files[name]))
		h.Write([]byte(name + "\x00"))
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Plan is what a runbook would do to each node. It can be saved, reviewed and
// applied later: it holds the runbook itself, and what each node held that the
// prediction rests on.
type Plan struct {
	Version   int               `json:"version"` // PlanVersion
	Source    Source            `json:"source"`
	Params    map[string]string `json:"params,omitempty"`
	Inventory string            `json:"inventory"`
	Selection string            `json:"selection"`
	Created   time.Time         `json:"created"`
	Header    Header            `json:"header"`
	Nodes     []*NodePlan       `json:"nodes"` // in the order of the rollout
	Usage     Usage             `json:"usage"`
	Used      Used              `json:"used,omitempty"` // of the limits in Header
	// Forecast is what it does to the servers that nodes are clients of, a line each.
	Forecast []string `json:"forecast,omitempty"`
	// Said is what hooks printed and observed while it was made, a line each.
	Said []string `json:"said,omitempty"`
	// Seen are the numbers that hooks observed while it was made.
	Seen []Observed `json:"seen,omitempty"`
	// Refused is why it must not be applied, where it is not a node's error: a gate that has not passed, a forecast. It is not saved.
	Refused *Error `json:"-"`
}

// Observed is a number that a hook has observed.
type Observed struct {
	Hook  string  `json:"hook"`
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// PlanVersion is the version of the form in which plans are saved.
const PlanVersion = 1

// Changes counts the changes of all nodes.
func (p *Plan) Changes() int {
	n := 0
	for _, np := range p.Nodes {
		n += np.Count()
	}
	return n
}

// NodePlan is what a runbook would do to one node.
type NodePlan struct {
	Node    string          `json:"node"`
	Steps   []PlannedChange `json:"planned,omitempty"` // the calls of operations that change, in order, also where there is nothing to change
	Prints  []string        `json:"prints,omitempty"`  // what the script printed
	Err     *Error          `json:"error,omitempty"`   // why it could not be predicted to its end
	Created time.Time       `json:"created"`
}

// PlannedChange is one predicted call of an operation that changes.
type PlannedChange struct {
	Op     string          `json:"op"`
	Args   json.RawMessage `json:"args"`
	Object string          `json:"object"` // what it is about, such as "10.20.0.0/16"
	Pos    string          `json:"pos"`
	Edit   Edit            `json:"edit"`
	// Refused is what the kernel is predicted to say to it. The node is then not asked.
	Refused *NodeError `json:"refused,omitempty"`
}

// Title names the call: "route.add 10.20.0.0/16".
func (c PlannedChange) Title() string {
	if c.Object == "" {
		return c.Op
	}
	return c.Op + " " + c.Object
}

// Changes returns the planned calls that change something.
func (p *NodePlan) Changes() []PlannedChange {
	var out []PlannedChange
	for _, c := range p.Steps {
		if c.Edit.Happens() {
			out = append(out, c)
		}
	}
	return out
}

// Count is how many changes these are to the limits: see [Edit.Count].
func (p *NodePlan) Count() int {
	n := 0
	for _, c := range p.Changes() {
		n += c.Edit.Count()
	}
	return n
}

// Does identifies what is done to the node: two nodes with equal ones get the same changes,
// in the same order, whatever else is different about them.
func (p *NodePlan) Does() string {
	type does struct {
		Op, Verb, Restart string
		Diff              resource.Diff
		Lost              []string
		Addrs, Routes     int
		Guarded           bool
		Refused           *NodeError
	}
	var all []does
	for _, s := range p.Steps {
		if s.Edit.Happens() || s.Refused != nil {
			d := does{Op: s.Title(), Verb: s.Edit.Verb, Restart: s.Edit.Restart, Diff: s.Edit.Diff(), Guarded: s.Edit.Guard != nil, Refused: s.Refused}
			var lost []resource.Resource
			lost, d.Addrs, d.Routes = s.Edit.LostApart()
			for _, r := range lost {
				d.Lost = append(d.Lost, fmt.Sprint(r))
			}
			all = append(all, d)
		}
	}
	b, _ := json.Marshal(all) // texts, numbers and diffs
	sum := sha256.Sum256(b)
	return string(sum[:])
}

// LostApart is what a restart loses and puts back, in the order of its keys. The node's own addresses,
// and what the kernel makes of them, are only counted: they are others on every node, and would part nodes that get the same change.
func (e Edit) LostApart() (lost []resource.Resource, addrs, routes int) {
	for _, k := range e.Lost.Keys() {
		switch r := e.Lost[k].(type) {
		case resource.Addr:
			if r.Permanent {
				addrs++
				continue
			}
		case resource.Route:
			if r.Proto == resource.ProtoKernel {
				routes++
				continue
			}
		}
		lost = append(lost, e.Lost[k])
	}
	return lost, addrs, routes
}

// Share makes p hold what the plan of another node, o, holds too as o does, so that it is
// in memory once: the nodes of a fleet are mostly alike, and so is what is done to them. It
// changes nothing of what p says. Plans that share are for reading only.
func (p *NodePlan) Share(o *NodePlan) {
	for i := range min(len(p.Steps), len(o.Steps)) {
		p.Steps[i].share(&o.Steps[i])
	}
	for i := range min(len(p.Prints), len(o.Prints)) {
		shareText(&p.Prints[i], o.Prints[i])
	}
}

func (c *PlannedChange) share(o *PlannedChange) {
	shareText(&c.Op, o.Op)
	shareText(&c.Object, o.Object)
	shareText(&c.Pos, o.Pos)
	if bytes.Equal(c.Args, o.Args) {
		c.Args = o.Args
	}
	if slices.Equal(c.Edit.Query, o.Edit.Query) {
		c.Edit.Query = slices.Clip(o.Edit.Query)
	}
	c.Edit.Before.Share(o.Edit.Before)
	c.Edit.After.Share(o.Edit.After)
	if maps.EqualFunc(c.Edit.Want, o.Edit.Want, resource.Identical) {
		c.Edit.Want = o.Edit.Want
	}
}

func shareText(s *string, o string) {
	if *s == o {
		*s = o
	}
}

// Drift compares an earlier prediction, p, with a later one. same means that now
// can be done in p's place: it makes the same calls, which rest on the same and
// do the same. Otherwise d shows the first difference: of the node, where it is
// another one, or else of what would be done to it.
func (p *NodePlan) Drift(now *NodePlan) (d resource.Diff, same bool) {
	step := func(n *NodePlan, i int) PlannedChange {
		if i < len(n.Steps) {
			return n.Steps[i]
		}
		return PlannedChange{}
	}
	for i := range min(len(p.Steps), len(now.Steps)) {
		was, is := p.Steps[i].Edit, now.Steps[i].Edit
		if d := seenByBoth(was.Query, is.Query, resource.Compare(was.Before, is.Before)); len(d) > 0 {
			return d, false
		}
	}
	for i := range max(len(p.Steps), len(now.Steps)) {
		was, is := step(p, i), step(now, i)
		if d := resource.Compare(was.Edit.Lost, is.Edit.Lost); len(d) > 0 {
			return d, false
		}
		if was.Op != is.Op || !bytes.Equal(was.Args, is.Args) || (was.Refused == nil) != (is.Refused == nil) ||
			was.Edit.Restart != is.Edit.Restart || len(was.Edit.Diff()) != len(is.Edit.Diff()) ||
			!resource.Equal(was.Edit.Before, is.Edit.Before) || !resource.Equal(was.Edit.After, is.Edit.After) {
			if d := sessionsBetween(was.Edit, is.Edit); len(d) > 0 && was.Op == is.Op && bytes.Equal(was.Args, is.Args) {
				return d, false
			}
			return append(was.Edit.Diff(), is.Edit.Diff()...), false
		}
	}
	return nil, true
}

// sessionsBetween is which of the sessions that was is to end have gone since, and which that is is to end have come: each
// looks at its own only.
func sessionsBetween(was, is Edit) resource.Diff {
	return slices.DeleteFunc(resource.Compare(was.Before, is.Before), func(c resource.Change) bool { return !c.Key.Kind().Ends() })
}

// seenByBoth is d, between the footprints of two predictions, without what only
// one of them has looked at: a call that finds nothing to do needs to know less,
// and what it did not read is not gone.
func seenByBoth(was, now resource.Query, d resource.Diff) resource.Diff {
	return slices.DeleteFunc(d, func(c resource.Change) bool {
		return c.Before != nil && !now.Match(c.Before) || c.After != nil && !was.Match(c.After)
	})
}
