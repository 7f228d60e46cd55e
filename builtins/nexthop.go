package builtins

import (
	"cmp"
	"context"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() { Operations["nexthop.list"] = NexthopList{} }

// NexthopList returns the node's nexthop objects, which routes may use by their
// number, in the order of these.
//
//	[h.id for h in node.nexthop.list(dev = "eth1")]
type NexthopList struct {
	Dev    string `json:"dev,omitempty"`    // only those over this link; a group is over none
	Family int    `json:"family,omitempty"` // only 4 or 6; a group has none
}

func (o NexthopList) String() string { return o.Dev }

// Validate checks the arguments.
func (o NexthopList) Validate() error { return checkFamily(o.Family) }

// Look implements [engine.Probe].
func (o NexthopList) Look(ctx context.Context, n engine.Reader) (any, error) {
	if err := needLink(ctx, n, o.Dev); err != nil {
		return nil, err
	}
	found, err := list[resource.Nexthop](ctx, n, resource.Selector{Kind: resource.KindNexthop, Name: o.Dev, Family: o.Family})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b resource.Nexthop) int { return cmp.Compare(a.ID, b.ID) })
	out := []any{}
	for _, h := range found {
		out = append(out, fields(h))
	}
	return out, nil
}
