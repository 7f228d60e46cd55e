//go:build linux

package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// memoryName is the file of what the node remembers, oldest first.
const memoryName = "memory.json"

// keepEntries is how many entries older than the window are kept, so that none
// of these changes is made twice.
const keepEntries = 200

// entry is a disruptive change that was begun.
type entry struct {
	ID      string       `json:"id,omitempty"`
	Of      resource.Key `json:"of"`
	Verb    string       `json:"verb"`
	Run     string       `json:"run"`
	By      string       `json:"by,omitempty"`
	At      moment       `json:"at"`
	Ended   bool         `json:"ended,omitempty"`
	Undo    bool         `json:"undo,omitempty"`
	Outcome string       `json:"outcome,omitempty"` // what the guardian did about it
}

func (e entry) memory(n moment) resource.Memory {
	return resource.Memory{
		ID: e.ID, Of: e.Of, Verb: e.Verb, Run: e.Run, By: e.By, Age: e.At.age(n),
		Ended: e.Ended, Undo: e.Undo, Outcome: e.Outcome,
	}
}

// remembered is what the folder holds of disruptive changes.
func (f folder) remembered() ([]entry, error) {
	var out []entry
	err := f.load(memoryName, &out)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return out, err
}

// begin refuses e where the node remembers too much of its kind, and otherwise
// remembers that it is begun.
func (n *Node) begin(e engine.Edit) error {
	if e.Disrupts == "" {
		return nil
	}
	t := n.folder.now()
	all, err := n.folder.remembered()
	if err != nil && !e.Undo {
		return engine.RefuseRepeat(resource.Memory{Broken: err.Error()}, e)
	}
	for _, was := range slices.Backward(all) {
		if err := was.again(e, t); err != nil {
			return err
		}
		if err := engine.RefuseRepeat(was.memory(t), e); err != nil {
			err.Left = engine.NothingChanged
			return err
		}
	}
	if err != nil {
		return nil // an undo is not refused because the rest cannot be read
	}
	all = append(all, entry{ID: e.ID, Of: e.Disrupts, Verb: e.Verb, Run: e.Run, By: e.By, At: t, Undo: e.Undo})
	old := 0
	for old < len(all)-keepEntries && all[old].At.age(t) >= engine.DefaultRepeatWindow {
		old++
	}
	if err := n.folder.save(memoryName, all[old:]); err != nil && !e.Undo {
		return engine.RefuseRepeat(resource.Memory{Broken: err.Error()}, e)
	}
	return nil
}

// again refuses e where it is the change that was is: each is begun once.
func (was entry) again(e engine.Edit, t moment) error {
	if e.ID == "" || was.ID != e.ID || e.Undo {
		return nil
	}
	became := "it was not seen to its end"
	switch {
	case was.Outcome != "":
		became = was.Outcome
	case was.Ended:
		became = "it was made"
	}
	return &engine.Error{
		Code: engine.LimitHit, Left: engine.NothingChanged,
		Cause: fmt.Sprintf("change %s was begun %s ago, and is never begun twice: %s", e.ID, was.At.age(t).Round(time.Second), became),
	}
}

// amend changes what is remembered of the last beginning of e. Where that
// cannot be written, the node remembers that it began, which is on the safe side.
func (f folder) amend(e engine.Edit, change func(all []entry, i int) []entry) {
	if e.Disrupts == "" {
		return
	}
	all, err := f.remembered()
	for i, was := range slices.Backward(all) {
		if err == nil && was.ID == e.ID && was.Of == e.Disrupts && was.Run == e.Run {
			f.save(memoryName, change(all, i)) //nolint:errcheck // as said
			return
		}
	}
}

// forget takes back what begin did: nothing was changed.
func (n *Node) forget(e engine.Edit) {
	n.folder.amend(e, func(all []entry, i int) []entry { return slices.Delete(all, i, i+1) })
}

// end remembers what became of e.
func (n *Node) end(e engine.Edit, found []resource.State, err error) {
	var drift *engine.DriftError
	switch {
	case errors.As(err, &drift):
		n.forget(e)
	case err == nil && len(found) > 0 && predicted(e, found[0]):
		n.folder.amend(e, func(all []entry, i int) []entry { all[i].Ended = true; return all })
	}
}

// addMemory adds to s what q selects of what the node remembers: for each
// resource the last thing that was done to it, and what waits.
func (n *Node) addMemory(s resource.State, q resource.Query) {
	if !slices.ContainsFunc(q, func(s resource.Selector) bool { return s.Kind == resource.KindMemory }) {
		return
	}
	t := n.folder.now()
	add := func(m resource.Memory) {
		if q.Match(m) {
			s[m.Key()] = m
		}
	}
	all, err := n.folder.remembered()
	if err == nil {
		err = writable(n.folder.dir)
	}
	if err != nil {
		s[resource.MemoryKey("")] = resource.Memory{Broken: err.Error()}
	}
	if h, held := n.others(); held {
		add(n.folder.heldBy(h))
	}
	for _, e := range all { // however old: a run that is taken up again asks what became of its own
		add(e.memory(t))
	}
	records, _ := n.folder.records() // of one that is damaged, whoever must know it is told
	for _, r := range slices.Backward(records) {
		m := r.memory(t)
		if !m.Pending && (m.Outcome == "" || m.Age >= engine.DefaultRepeatWindow) {
			continue
		}
		switch was, ok := resource.Get[resource.Memory](s, m.Key()); {
		case ok && was.Run == m.Run:
			was.Pending, was.Outcome = m.Pending, m.Outcome
			add(was)
		case !ok || m.Pending || m.Age < was.Age:
			add(m)
		}
	}
}
