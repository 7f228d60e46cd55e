package builtins

import (
	"context"
	"fmt"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["link.get"] = LinkGet{}
	Operations["link.list"] = LinkList{}
	Operations["link.up"] = LinkUp{}
	Operations["link.down"] = LinkDown{}
	Operations["link.restart"] = LinkRestart{}
	Operations["link.set"] = LinkSet{}
}

// LinkGet returns the link called Name, or None where the node has none.
//
//	node.link.get("eth1").mtu
type LinkGet struct {
	Name string `json:"name"` // such as "eth1"
}

func (o LinkGet) String() string { return o.Name }

// Validate checks what no node needs to be asked for.
func (o LinkGet) Validate() error { return named("name", o.Name) }

// Look implements [engine.Probe].
func (o LinkGet) Look(ctx context.Context, n engine.Reader) (any, error) {
	links, err := list[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink, Name: o.Name})
	if err != nil || len(links) == 0 {
		return nil, err
	}
	return fields(links[0]), nil
}

// LinkList returns the node's links, by name.
//
//	[l.name for l in node.link.list() if not l.up]
type LinkList struct{}

// Look implements [engine.Probe].
func (LinkList) Look(ctx context.Context, n engine.Reader) (any, error) {
	return views[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink})
}

// LinkUp takes the link called Name up. What is up already stays as it is.
//
// With it the routes to the subnets of its addresses come back, and IPv6 begins
// anew; other routes that it lost when it went down do not.
//
// It returns changed (a bool) and link.
//
//	node.link.up("eth1")
type LinkUp struct {
	Name string `json:"name"` // such as "eth1"
}

func (o LinkUp) String() string { return o.Name }

// Validate checks what no node needs to be asked for.
func (o LinkUp) Validate() error { return named("name", o.Name) }

// Plan implements [engine.Change].
func (o LinkUp) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	return wantLink(ctx, n, o.Name, func(l *resource.Link) {
		if !l.Up {
			l.Up, l.Carrier = true, true
		}
	})
}

// Result implements [engine.Change].
func (o LinkUp) Result(changed bool, s resource.State) any { return linkResult(o.Name, changed, s) }

// LinkDown takes the link called Name down. What is down already stays as it is.
//
// All routes over it go, and so do its IPv6 addresses, its neighbours, and
// nexthop objects; an undo puts them back. What has a lifetime, such as an IPv6 address that a
// router advertised, could not be put back as it was: a link with that is not taken down, and
// nor is one that another follows, such as a VLAN over it. A node that could be cut off by it puts itself back
// unless it is reached again in time.
//
// It returns changed (a bool) and link.
//
//	node.link.down("eth1")
type LinkDown struct {
	Name string `json:"name"` // such as "eth1"
}

func (o LinkDown) String() string { return o.Name }

// Validate checks what no node needs to be asked for.
func (o LinkDown) Validate() error { return named("name", o.Name) }

// Disrupts implements [engine.Disruptor].
func (o LinkDown) Disrupts() {}

// Plan implements [engine.Change].
func (o LinkDown) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	return wantLink(ctx, n, o.Name, func(l *resource.Link) { l.Up, l.Carrier = false, false })
}

// Result implements [engine.Change].
func (o LinkDown) Result(changed bool, s resource.State) any { return linkResult(o.Name, changed, s) }

// LinkRestart takes the link called Name down and up again, and puts back all
// that it loses: static routes, which the kernel drops without a word, IPv6 addresses,
// neighbours, nexthop objects. A link that another follows, such as a VLAN over it, is not
// restarted, for that loses as much. It is done every time that it is called; a node refuses it where
// its link was restarted in the last ten minutes, whoever did so.
//
// It returns changed, which is True, and link.
//
//	node.link.restart("eth1")
type LinkRestart struct {
	Name string `json:"name"` // such as "eth1"
}

func (o LinkRestart) String() string { return o.Name }

// Validate checks what no node needs to be asked for.
func (o LinkRestart) Validate() error { return named("name", o.Name) }

// Disrupts implements [engine.Disruptor].
func (o LinkRestart) Disrupts() {}

// Plan implements [engine.Change].
func (o LinkRestart) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	return wantLink(ctx, n, o.Name, func(*resource.Link) {})
}

// Shape implements [engine.Shaper].
func (o LinkRestart) Shape(e *engine.Edit) { e.Restart = o.Name }

// Result implements [engine.Change].
func (o LinkRestart) Result(changed bool, s resource.State) any {
	return linkResult(o.Name, changed, s)
}

// LinkSet gives the link called Name another MTU. An MTU below 1280, with which a link does not
// speak IPv6, is refused.
//
// It returns changed (a bool) and link.
//
//	node.link.set("eth1", mtu = 9000)
type LinkSet struct {
	Name string `json:"name"` // such as "eth1"
	MTU  int    `json:"mtu"`  // bytes
}

func (o LinkSet) String() string { return o.Name }

// Validate checks what no node needs to be asked for.
func (o LinkSet) Validate() error {
	if err := named("name", o.Name); err != nil {
		return err
	}
	if o.MTU < 1280 || o.MTU > 1<<20 {
		return fmt.Errorf("mtu is %d: want 1280 to %d", o.MTU, 1<<20)
	}
	return nil
}

// Plan implements [engine.Change].
func (o LinkSet) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	return wantLink(ctx, n, o.Name, func(l *resource.Link) { l.MTU = o.MTU })
}

// Explain implements [engine.Explainer].
func (o LinkSet) Explain(ctx context.Context, n engine.Reader, _ *engine.NodeError) (cause, hint string) {
	links, err := list[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink, Name: o.Name})
	if err != nil || len(links) == 0 || links[0].MaxMTU == 0 || o.MTU <= links[0].MaxMTU {
		return "", ""
	}
	return fmt.Sprintf("mtu %d is more than %s takes, %d", o.MTU, o.Name, links[0].MaxMTU), ""
}

// Result implements [engine.Change].
func (o LinkSet) Result(changed bool, s resource.State) any { return linkResult(o.Name, changed, s) }

// named is an error where the argument arg should name a link and does not: to
// a selection, no name means all of them.
func named(arg, name string) error {
	if name == "" {
		return fmt.Errorf("%s is empty: want the name of a link, such as eth1", arg)
	}
	return nil
}

// wantLink returns the link called name as f changes it.
func wantLink(ctx context.Context, n engine.Reader, name string, f func(*resource.Link)) (resource.State, error) {
	if err := needLink(ctx, n, name); err != nil {
		return nil, err
	}
	links, err := list[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink, Name: name})
	if err != nil || len(links) == 0 {
		return nil, err
	}
	l := links[0]
	f(&l)
	return resource.Of(l), nil
}

// linkResult is what a script gets of a change of a link.
func linkResult(name string, changed bool, s resource.State) any {
	l, _ := resource.Get[resource.Link](s, resource.LinkKey(name))
	return map[string]any{"changed": changed, "link": fields(l)}
}

// needLink is an error where the node has no link called name: a list of what
// is on it would be empty, and look like an answer. No name needs none.
func needLink(ctx context.Context, n engine.Reader, name string) error {
	if name == "" {
		return nil
	}
	links, err := list[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink, Name: name})
	if err != nil || len(links) > 0 {
		return err
	}
	return &engine.Error{
		Code: engine.Unreachable, Cause: "there is no link " + name, Hint: "node.link.list() has those that there are",
		Err: &engine.NodeError{Errno: "ENODEV", Words: "no such device"},
	}
}
