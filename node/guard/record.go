//go:build linux

package guard

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// record is the guarded changes of one run, and what became of them. At most
// one on a node waits: a run builds nothing on another's changes that may vanish.
type record struct {
	ID      string          `json:"id"`
	Run     string          `json:"run"`
	By      string          `json:"by,omitempty"`
	Armed   moment          `json:"armed"` // when the last change was added
	Within  time.Duration   `json:"within"`
	Tokens  map[string]bool `json:"tokens,omitempty"` // SHA-256 of each, and whether it was confirmed
	Of      resource.Key    `json:"of"`               // what the first change is about
	Verb    string          `json:"verb"`
	Changes []change        `json:"changes,omitempty"` // oldest first; none once it has ended
	Ended   *outcome        `json:"ended,omitempty"`
}

// change is one edit, and what takes it back.
type change struct {
	Edit    engine.Edit     `json:"edit"`
	Found   resource.State  `json:"found,omitzero"`    // after it, where that is not what was predicted
	Capture json.RawMessage `json:"capture,omitempty"` // of a restart that did not come to its end: what the link loses
}

// outcome is how a record ended.
type outcome struct {
	Began     moment   `json:"began,omitzero"` // the put-back
	At        moment   `json:"at"`
	Confirmed bool     `json:"confirmed,omitempty"`
	Why       string   `json:"why,omitempty"`      // it was not
	PutBack   int      `json:"put_back,omitempty"` // changes
	Left      string   `json:"left,omitempty"`     // what somebody has changed since, a line each
	Failed    []string `json:"failed,omitempty"`   // what could not be put back, and why
}

func (o outcome) String() string {
	s := fmt.Sprintf("%s, so the node put itself back at %s; changes put back: %d", o.Why, o.At.Wall.UTC().Format(time.RFC3339), o.PutBack)
	if o.Left != "" {
		lines := strings.Split(strings.TrimSpace(o.Left), "\n")
		s += "; left as somebody has changed it since: " + strings.Join(lines, ", ")
	}
	if len(o.Failed) > 0 {
		s += "; not put back: " + strings.Join(o.Failed, "; ")
	}
	return s
}

// ownWithin is the deadline of a restart that its agent confirms by itself: one
// that takes longer hangs.
const ownWithin = 20 * time.Second

// Ended records are kept for those who ask: so many, so long.
const (
	keepRecords = 20
	keepFor     = 24 * time.Hour
)

const recordPrefix = "guard-"

func (r *record) name() string { return recordPrefix + r.ID + ".json" }

func (f folder) put(r *record) error { return f.save(r.name(), r) }

// left is how long it is until the changes of r are taken back. Another boot's are due.
func (r *record) left(n moment) time.Duration {
	if r.Armed.Boot != n.Boot {
		return 0
	}
	return r.Armed.Since + r.Within - n.Since
}

// cut reports whether a restart of r was begun and not ended.
func (r *record) cut() bool {
	return slices.ContainsFunc(r.Changes, func(c change) bool { return c.Capture != nil })
}

// waits reports whether somebody must still confirm r.
func (r *record) waits() bool {
	for _, confirmed := range r.Tokens {
		if !confirmed {
			return true
		}
	}
	return false
}

// memory is r as the node tells of it.
func (r *record) memory(n moment) resource.Memory {
	m := resource.Memory{Of: r.Of, Verb: r.Verb, Run: r.Run, By: r.By, Age: r.Armed.age(n), Pending: r.Ended == nil}
	if r.Ended != nil && !r.Ended.Confirmed {
		m.Outcome = r.Ended.String()
	}
	return m
}

// about is what e changes, in a word, and how.
func about(e engine.Edit) (resource.Key, string) {
	if e.Disrupts != "" {
		return e.Disrupts, e.Verb
	}
	for _, d := range e.Diff() {
		return d.Key, "change"
	}
	return resource.LinkKey(e.Restart), "restart"
}

// records are those of the folder, the newest first. With them comes the error of
// one that cannot be read.
func (f folder) records() ([]*record, error) {
	files, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, unwritable(err)
	}
	var out []*record
	var damaged error
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), recordPrefix) {
			continue
		}
		r := &record{}
		switch err := f.load(file.Name(), r); {
		case errors.Is(err, fs.ErrNotExist): // confirmed just now
		case err != nil:
			damaged = unwritable(err)
		default:
			out = append(out, r)
		}
	}
	n := f.now()
	slices.SortFunc(out, func(a, b *record) int { return int(a.Armed.age(n) - b.Armed.age(n)) })
	return out, damaged
}

// pending is the record that waits, or nil.
func (f folder) pending() (*record, error) {
	all, err := f.records()
	for _, r := range all {
		if r.Ended == nil {
			return r, err
		}
	}
	return nil, err
}

// arm makes sure that edits are taken back unless they are confirmed, where
// they must be: the first of them is guarded or a restart, or they rest on such
// a one. pending is the record that waits, and is of the same run. It returns
// the record that holds edits; nil: they need none.
func (n *Node) arm(ctx context.Context, pending *record, edits []engine.Edit) (*record, error) {
	e := edits[0]
	if e.Guard == nil && e.Restart == "" && (pending == nil || e.Undo && e.ID == "") { // the last: pending is being put back
		return nil, nil
	}
	if e.Guard != nil && (e.Before == nil || e.After == nil) {
		return nil, engine.Internal.Errorf("a change that is to be guarded was not predicted")
	}
	r := &record{ID: rand.Text(), Run: e.Run, By: e.By, Tokens: map[string]bool{}, Within: ownWithin}
	r.Of, r.Verb = about(e)
	if pending != nil {
		was := *pending
		r = &was
		r.Tokens, r.Changes = maps.Clone(pending.Tokens), slices.Clone(pending.Changes)
	} else {
		n.prune()
	}
	if e.Guard != nil {
		if r.Tokens == nil {
			r.Tokens = map[string]bool{}
		}
		r.Tokens[hash(e.Guard.Token)] = false
		r.Within = cmp.Or(time.Duration(e.Guard.Within), engine.DefaultConfirmWithin)
	}
	for _, e := range edits {
		c := change{Edit: e}
		c.Edit.Guard = nil // nobody can read the token here
		if e.Restart != "" {
			capture, err := n.kernel.Capture(ctx, e.Restart)
			if err != nil {
				return nil, err
			}
			c.Capture = capture
		}
		r.Changes = append(r.Changes, c)
	}
	r.Armed = n.folder.now()
	if err := n.folder.put(r); err != nil {
		return nil, unwritable(err)
	}
	if err := n.watched(); err != nil {
		return nil, errors.Join(unwritable(err), n.restore(r, pending))
	}
	return r, nil
}

// restore makes the folder hold was in the place of r.
func (n *Node) restore(r, was *record) error {
	if was != nil {
		return n.folder.put(was)
	}
	return n.folder.remove(r.name())
}

// watched sees to it that a guardian is there.
func (n *Node) watched() error {
	if is, err := n.folder.guarded(); err != nil || is {
		return err
	}
	err := n.start(n.folder.dir)
	if err == nil {
		return nil
	}
	// One that an agent had started which was killed since may have come first: ours then left without a word.
	if is, _ := n.folder.guarded(); is {
		return nil
	}
	return err
}

// settle writes into r what became of its last changes, edits: what was found
// after each of them, and why one failed. Where it cannot be written, the guardian finds
// less to take back than the record says, and takes back that.
func (n *Node) settle(ctx context.Context, r *record, edits []engine.Edit, found []resource.State, failed error) error {
	made := len(r.Changes) - len(edits) + len(found)
	ok := failed == nil && predicted(edits[len(found)-1], found[len(found)-1])
	switch {
	case failed == nil && !ok: // those after it were not begun
		r.Changes = r.Changes[:made]
		r.Changes[made-1].Found = found[len(found)-1]
	case failed != nil && untouched(edits[len(found)], failed):
		r.Changes = r.Changes[:made]
	}
	restarted := r.cut()
	var err error
	switch {
	case restarted && ok:
		r.Changes[len(r.Changes)-1].Capture = nil
	case restarted: // where this fails, the guardian goes on trying
		err = n.finish(context.WithoutCancel(ctx), r)
	}
	switch {
	case len(r.Changes) == 0, !r.waits() && !r.cut():
		return errors.Join(err, n.folder.remove(r.name()))
	case restarted || !ok:
		n.folder.put(r) //nolint:errcheck // as said
	}
	return err
}

// finish makes again what restarts of r that were cut off have lost.
func (n *Node) finish(ctx context.Context, r *record) error {
	ctx, cancel := context.WithTimeout(ctx, finishWithin)
	defer cancel()
	for i := range r.Changes {
		c := &r.Changes[i]
		if c.Capture == nil {
			continue
		}
		if err := n.kernel.Restore(ctx, c.Capture); err != nil {
			return fmt.Errorf("the restart of %s was cut off and cannot be finished: %w", c.Edit.Restart, err)
		}
		c.Capture = nil
	}
	return nil
}

// finishWithin bounds the end of a restart that was cut off: its messages, and
// the wait for addresses to become usable.
const finishWithin = 20 * time.Second

// prune removes records that ended long ago, and what a power cut left half
// written. What cannot be removed is harmless.
func (n *Node) prune() {
	half, _ := filepath.Glob(n.folder.path(newPrefix + "*"))
	for _, path := range half {
		os.Remove(path) //nolint:errcheck // as said
	}
	all, _ := n.folder.records()
	t := n.folder.now()
	for i, r := range all {
		if r.Ended != nil && (i >= keepRecords || r.Ended.At.age(t) > keepFor) {
			os.Remove(n.folder.path(r.name())) //nolint:errcheck // as said
		}
	}
}

// Confirm implements [engine.Confirmer]. Each token that the node was given must
// come back; what has been confirmed may be again.
func (n *Node) Confirm(ctx context.Context, token string) error {
	lock, err := n.folder.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // which is what releases it
	all, damaged := n.folder.records()
	i := slices.IndexFunc(all, func(r *record) bool { _, knows := r.Tokens[hash(token)]; return knows })
	if i < 0 {
		return errors.Join(engine.Unreachable.Errorf("the node waits for no change to be confirmed with this token"), damaged)
	}
	r := all[i]
	switch {
	case r.Ended != nil && !r.Ended.Confirmed:
		return engine.Unreachable.Errorf("%s", r.Ended)
	case r.Ended != nil:
		return nil
	}
	r.Tokens[hash(token)] = true
	if r.waits() {
		return n.folder.put(r)
	}
	if err := n.finish(ctx, r); err != nil {
		return err
	}
	return n.conclude(r, &outcome{Confirmed: true})
}

// conclude ends r. Where there is no room to write how, no record is left of it:
// nobody must act on it again.
func (n *Node) conclude(r *record, o *outcome) error {
	o.At = n.folder.now()
	r.Ended, r.Changes = o, nil
	if err := n.folder.put(r); err != nil {
		return n.folder.remove(r.name())
	}
	return nil
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
