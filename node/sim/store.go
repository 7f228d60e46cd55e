package sim

import (
	"context"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is what the model knows, and how it comes to know more. Each read
// from the node below is a round trip to a machine, so that nothing is read
// twice; and what is known never changes by a later read, so that all that a
// prediction rests on was true together.

// store is a State that is filled from src as it is looked at.
type store struct {
	src   engine.Reader  // nil: known is complete
	known resource.State // a nil value: absent, whatever src says
	read  resource.Query // what known holds all of
	asked bool           // src was asked for a snapshot
}

// snapshotMax is how many resources a snapshot may have: some tens of
// kilobytes on the wire, in place of two reads and one more for every change.
const snapshotMax = 300

// snapshot fills the store at once, where src can and holds little.
func (s *store) snapshot(ctx context.Context) error {
	src, can := s.src.(engine.Snapshotter)
	if !can || s.asked {
		return nil
	}
	s.asked = true
	all, few, err := src.Snapshot(ctx, snapshotMax)
	if err != nil || !few {
		return err
	}
	s.known = all
	s.read = resource.Query{
		{Kind: resource.KindLink}, {Kind: resource.KindAddr}, {Kind: resource.KindRoute},
		{Kind: resource.KindRule}, {Kind: resource.KindNexthop},
		{Kind: resource.KindMemory}, {Kind: resource.KindSession}, {Kind: resource.KindFacts},
	}
	return nil
}

// load makes known hold all that q selects, by at most one read from src.
func (s *store) load(ctx context.Context, q resource.Query) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.src == nil {
		return nil
	}
	if slices.ContainsFunc(q, func(s resource.Selector) bool { return s.Kind != resource.KindFacts && !s.Kind.OfServer() }) {
		if err := s.snapshot(ctx); err != nil {
			return err
		}
	}
	missing := subtract(q, s.read)
	if len(missing) == 0 {
		return nil
	}
	fresh, err := s.src.Read(ctx, missing)
	if err != nil {
		return err
	}
	for k, r := range fresh {
		// What is known, or known to be absent, wins. So does an earlier read that
		// would have returned r: it came after that read, and belongs to another moment.
		if _, ok := s.known[k]; !ok && r != nil && !s.read.Match(r) {
			s.known[k] = r
		}
	}
	s.read = append(s.read, missing...)
	return nil
}

// knows reports whether all that q selects is known.
func (s *store) knows(q resource.Query) bool {
	return s.src == nil || len(subtract(q, s.read)) == 0
}

// subtract returns the selectors of q that need a look beyond what was read,
// each once, without those that another of them includes.
func subtract(q, read resource.Query) resource.Query {
	var out resource.Query
	for i, s := range q {
		included := slices.ContainsFunc(read, func(r resource.Selector) bool { return includes(r, s) })
		for j, o := range q {
			if j != i && includes(o, s) && (j < i || !includes(s, o)) {
				included = true
			}
		}
		if !included {
			out = append(out, s)
		}
	}
	return out
}

// includes reports whether all that b selects is selected by a too.
func includes(a, b resource.Selector) bool {
	return a.Kind == b.Kind &&
		(a.Name == "" || a.Name == b.Name) &&
		(!a.Dst.IsValid() || a.Dst == b.Dst) &&
		(!a.Covers.IsValid() || a.Covers == b.Covers) &&
		(a.Family == 0 || a.Family == familyOf(b)) &&
		(a.Table == 0 || a.Table == b.Table) &&
		(!a.PrefSrc.IsValid() || a.PrefSrc == b.PrefSrc) &&
		(a.Key == "" || a.Key == b.Key) &&
		(a.Where == nil || b.Where != nil && *a.Where == *b.Where) &&
		(a.Ask == "" || a.Ask == b.Ask)
}

// familyOf is the only family that s can select, or 0.
func familyOf(s resource.Selector) int {
	switch {
	case s.Family != 0:
		return s.Family
	case s.Dst.IsValid() && s.Dst.Addr().Is4(), s.Covers.IsValid() && s.Covers.Is4(), s.PrefSrc.IsValid() && s.PrefSrc.Is4():
		return 4
	case s.Dst.IsValid(), s.Covers.IsValid(), s.PrefSrc.IsValid():
		return 6
	default:
		return 0
	}
}
