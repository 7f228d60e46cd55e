//go:build linux

package linux

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"runbook/engine/resource"
)

// This file is what an edit comes to: steps, in the one order in which resources
// of every kind rest on each other. Each kind makes its own, in the file that is named after it.

// step is one thing that is made, or goes.
type step struct {
	keys     []resource.Key // that it changes
	rank     int
	messages []message
	spreads  bool                        // the kernel changes more with it: what is left to do depends on that
	then     func(context.Context) error // waits until the kernel has; nil: it has at once
}

// message is one request to the kernel.
type message struct {
	kind, flags int
	payload     func(n *Node) ([]byte, error)
	gone        func(error) bool // says that it was so already; nil: nothing does
	detour      func() []route   // to the gateways of what it makes: see detour.go; nil: there are none
}

// The order of steps. What comes is made before what goes is taken away, so that a
// node is never without a path in between; what rests on something comes after it and goes before it.
const (
	rankLinkUp = iota
	rankLink
	rankAddr
	rankAddrGone // before any route: the kernel takes some along
	rankRule     // by which the gateways of the next are found
	rankNexthop
	rankGroup // of nexthop objects
	rankNeigh
	rankLinkRoute
	rankGatewayRoute
	rankGatewayRouteGone
	rankLinkRouteGone
	rankNeighGone
	rankGroupGone
	rankNexthopGone
	rankRuleGone
	rankLinkDown
	rankLast // what only finishes a step that came before
)

// kindOf is what must be known to change resources of a kind.
type kindOf struct {
	// touched selects what must be read to change the resource under k.
	touched func(k resource.Key) (resource.Query, error)
	// steps turns now into what want says of this kind.
	steps func(n *Node, now reading, want resource.State) ([]step, error)
}

// kinds has every kind that can be changed.
var kinds = map[resource.Kind]kindOf{
	resource.KindLink:    {touchedLink, (*Node).linkSteps},
	resource.KindAddr:    {touchedAddr, (*Node).addrSteps},
	resource.KindRoute:   {touchedRoutes, (*Node).routeSteps},
	resource.KindRule:    {touchedRules, (*Node).ruleSteps},
	resource.KindNeigh:   {touchedNeighs, (*Node).neighSteps},
	resource.KindNexthop: {touchedNexthops, (*Node).nexthopSteps},
}

// steps returns what is to be done so that the node, which holds now, is as want says.
func (n *Node) steps(now reading, want resource.State) ([]step, error) {
	parts := map[resource.Kind]resource.State{}
	for k, r := range want {
		if parts[k.Kind()] == nil {
			parts[k.Kind()] = resource.State{}
		}
		parts[k.Kind()][k] = r
	}
	var out []step
	for kind, part := range parts {
		how, known := kinds[kind]
		if !known {
			return nil, fmt.Errorf("a linux node changes no resources of the kind %q", kind)
		}
		steps, err := how.steps(n, now, part)
		if err != nil {
			return nil, err
		}
		out = append(out, steps...)
	}
	slices.SortFunc(out, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), slices.Compare(a.keys, b.keys))
	})
	return out, nil
}

// selectors selects what must be read to change the keys of want.
func selectors(want resource.State) (resource.Query, error) {
	var q resource.Query
	for _, k := range want.Keys() {
		how, known := kinds[k.Kind()]
		if !known {
			return nil, fmt.Errorf("%s: a linux node changes no resources of this kind", k)
		}
		touched, err := how.touched(k)
		if err != nil {
			return nil, err
		}
		q = append(q, touched...)
	}
	return q, nil
}
