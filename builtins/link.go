package builtins

import (
	"context"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["link.get"] = LinkGet{}
	Operations["link.list"] = LinkList{}
}

// LinkGet returns the link called Name, or None where the node has none.
//
//	node.link.get("eth1").mtu
type LinkGet struct {
	Name string `json:"name"` // such as "eth1"
}

func (o LinkGet) String() string { return o.Name }

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
