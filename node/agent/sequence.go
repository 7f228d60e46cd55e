package agent

import (
	"fmt"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// sequence is edits on their way to the agent. The edits of one script rest on
// much the same links, rules and routes: each is said once, and after that only
// that it is still so.
type sequence struct {
	Selectors []resource.Selector `json:"selectors,omitempty"` // of all queries
	Edits     []sequel            `json:"edits"`
}

// sequel is one edit of a sequence, without its Query, and without those keys of
// its Before and After that are as the edits before it left them.
type sequel struct {
	Edit  engine.Edit    `json:"edit"`
	Query []int          `json:"query,omitempty"` // of sequence.Selectors
	Same  []resource.Key `json:"same,omitempty"`
}

// pack returns edits as a sequence.
func pack(edits []engine.Edit) *sequence {
	s := &sequence{}
	place := map[resource.Selector]int{}
	so := resource.State{}
	for _, e := range edits {
		w := sequel{Edit: e}
		for _, sel := range e.Query {
			nth, known := place[sel]
			if !known {
				nth = len(s.Selectors)
				place[sel] = nth
				s.Selectors = append(s.Selectors, sel)
			}
			w.Query = append(w.Query, nth)
		}
		w.Edit.Query = nil
		if e.Before != nil && e.After != nil {
			w.Edit.Before, w.Edit.After = e.Before.Clone(), e.After.Clone()
			for k, r := range e.Before {
				had, known := so[k]
				after, stays := e.After[k]
				if known && stays && resource.Identical(had, r) && resource.Identical(r, after) {
					w.Same = append(w.Same, k)
					delete(w.Edit.Before, k)
					delete(w.Edit.After, k)
				}
			}
			slices.Sort(w.Same)
		}
		follow(so, e)
		s.Edits = append(s.Edits, w)
	}
	return s
}

// unpack returns the edits of s.
func (s *sequence) unpack() ([]engine.Edit, error) {
	if s == nil {
		return nil, nil
	}
	var edits []engine.Edit
	so := resource.State{}
	for i, w := range s.Edits {
		e := w.Edit
		for _, nth := range w.Query {
			if nth < 0 || nth >= len(s.Selectors) {
				return nil, fmt.Errorf("edit %d: there is no selector %d", i, nth)
			}
			e.Query = append(e.Query, s.Selectors[nth])
		}
		for _, k := range w.Same {
			r, known := so[k]
			if !known || e.Before == nil || e.After == nil {
				return nil, fmt.Errorf("edit %d: no edit before it speaks of %s", i, k)
			}
			e.Before[k], e.After[k] = r, r
		}
		follow(so, e)
		edits = append(edits, e)
	}
	return edits, nil
}

// follow makes so what is known once e is made.
func follow(so resource.State, e engine.Edit) {
	for k := range e.Before {
		if _, stays := e.After[k]; !stays {
			delete(so, k)
		}
	}
	for k, r := range e.After {
		so[k] = r
	}
}
