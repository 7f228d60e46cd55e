package builtins

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["neigh.add"] = NeighAdd{}
	Operations["neigh.delete"] = NeighDelete{}
	Operations["neigh.list"] = NeighList{}
}

// NeighAdd tells a node the MAC of a neighbour for good (ARP and ND are not
// asked), or has it keep the neighbour resolved, or answer for it.
//
// If the neighbour already is as the arguments say, it changes nothing. One that
// was learned, or is otherwise, is replaced. It is lost at reboot, and when the link goes down.
//
// It returns changed (a bool) and neigh.
//
//	node.neigh.add("192.0.2.9", dev = "eth1", mac = "02:00:00:00:00:09")
//	node.neigh.add("192.0.2.10", dev = "eth1", managed = True)
//	node.neigh.add("192.0.2.11", dev = "eth1", proxy = True)
type NeighAdd struct {
	Addr    netip.Addr     `json:"addr"`
	Dev     string         `json:"dev"`
	MAC     string         `json:"mac,omitempty"`     // such as 02:00:00:00:00:09
	Managed bool           `json:"managed,omitempty"` // in place of mac: the kernel asks, and asks again
	Proxy   bool           `json:"proxy,omitempty"`   // in place of mac: the node answers for it
	Router  bool           `json:"router,omitempty"`  // IPv6: it is a router
	Proto   resource.Proto `json:"proto,omitempty"`   // who set it; nobody where left out
}

func (o NeighAdd) String() string { return fmt.Sprintf("%s dev %s", o.Addr, o.Dev) }

// Validate checks what no node needs to be asked for.
func (o NeighAdd) Validate() error {
	if err := checkNeigh(o.Addr, o.Dev); err != nil {
		return err
	}
	given := 0
	for _, is := range []bool{o.MAC != "", o.Managed, o.Proxy} {
		if is {
			given++
		}
	}
	mac, err := net.ParseMAC(o.MAC)
	switch {
	case given != 1:
		return fmt.Errorf("needs one of mac, managed and proxy")
	case o.MAC != "" && (err != nil || len(mac) != 6):
		return fmt.Errorf("mac is %q: want six bytes, such as 02:00:00:00:00:09", o.MAC)
	case o.Router && (o.Managed || o.Addr.Is4()):
		return fmt.Errorf("router is for an IPv6 neighbour with a mac, or a proxy")
	}
	return nil
}

func checkNeigh(a netip.Addr, dev string) error {
	switch {
	case dev == "":
		return named("dev", dev)
	case a.Is4In6():
		return fmt.Errorf("addr %s is an IPv4 address written as IPv6", a)
	case a.Zone() != "":
		return fmt.Errorf("addr %s has a zone: dev says which link is meant", a)
	}
	return nil
}

// neigh is what is asked for.
func (o NeighAdd) neigh() resource.Neigh {
	mac, _ := net.ParseMAC(o.MAC)
	return resource.Neigh{
		Dev: o.Dev, Addr: o.Addr, MAC: mac.String(), Permanent: o.MAC != "",
		Managed: o.Managed, Proxy: o.Proxy, Router: o.Router, Proto: o.Proto,
	}
}

// Plan implements [engine.Change].
func (o NeighAdd) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	want := o.neigh()
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindNeigh, Name: o.Dev, Covers: o.Addr}})
	if err != nil {
		return nil, err
	}
	have, ok := resource.Get[resource.Neigh](s, want.Key())
	if ok && have.MAC == want.MAC && have.Permanent == want.Permanent && have.Managed == want.Managed && have.Router == want.Router &&
		(o.Proto == 0 || have.Proto == o.Proto) && len(have.Extra) == 0 {
		return resource.Of(have), nil
	}
	return resource.Of(want), nil
}

// Result implements [engine.Change].
func (o NeighAdd) Result(changed bool, s resource.State) any {
	found, _ := resource.Get[resource.Neigh](s, o.neigh().Key())
	return map[string]any{"changed": changed, "neigh": fields(found)}
}

// Explain implements [engine.Explainer].
func (o NeighAdd) Explain(ctx context.Context, n engine.Reader, refused *engine.NodeError) (cause, hint string) {
	links, err := list[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink})
	if err != nil {
		return "", ""
	}
	i := slices.IndexFunc(links, func(l resource.Link) bool { return l.Name == o.Dev })
	switch {
	case i < 0:
		return noLink(o.Dev, links), ""
	case refused.Errno == "EINVAL" && o.Addr.Is6():
		return fmt.Sprintf("IPv6 is disabled on %s", o.Dev), "set net.ipv6.conf." + o.Dev + ".disable_ipv6 to 0"
	}
	return "", ""
}

// NeighDelete makes sure that a node has no permanent or managed neighbour Addr
// on Dev, or does not answer for it. One that was learned is left alone: it would be learned again.
//
// It returns changed (a bool).
//
//	node.neigh.delete("192.0.2.9", dev = "eth1")
type NeighDelete struct {
	Addr  netip.Addr `json:"addr"`
	Dev   string     `json:"dev"`
	Proxy bool       `json:"proxy,omitempty"` // the answering for it, and not the neighbour
}

func (o NeighDelete) String() string { return fmt.Sprintf("%s dev %s", o.Addr, o.Dev) }

// Validate checks what no node needs to be asked for.
func (o NeighDelete) Validate() error { return checkNeigh(o.Addr, o.Dev) }

// Plan implements [engine.Change].
func (o NeighDelete) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindNeigh, Name: o.Dev, Covers: o.Addr}})
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	k := resource.Neigh{Dev: o.Dev, Addr: o.Addr, Proxy: o.Proxy}.Key()
	if have, ok := resource.Get[resource.Neigh](s, k); ok && !have.Volatile() {
		want[k] = nil
	}
	return want, nil
}

// Result implements [engine.Change].
func (o NeighDelete) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// NeighList returns the node's permanent and managed neighbours and its proxies, by link.
//
//	[e.mac for e in node.neigh.list(dev = "eth1", learned = True)]
type NeighList struct {
	Dev     string `json:"dev,omitempty"`     // only those on this link
	Family  int    `json:"family,omitempty"`  // only 4 or 6
	Learned bool   `json:"learned,omitempty"` // also those that were learned
}

func (o NeighList) String() string { return o.Dev }

// Validate checks the arguments.
func (o NeighList) Validate() error { return checkFamily(o.Family) }

// Look implements [engine.Probe].
func (o NeighList) Look(ctx context.Context, n engine.Reader) (any, error) {
	if err := needLink(ctx, n, o.Dev); err != nil {
		return nil, err
	}
	found, err := list[resource.Neigh](ctx, n, resource.Selector{Kind: resource.KindNeigh, Name: o.Dev, Family: o.Family})
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, e := range found {
		if o.Learned || !e.Volatile() {
			out = append(out, fields(e))
		}
	}
	return out, nil
}
