package rehearse

import (
	"context"
	"net/netip"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// open is a node of a test that says which TCP ends it holds. Of one to which the test gives none nothing can be told.
type open struct {
	engine.Node
	ends []netip.AddrPort
}

// sockets reads the ends that a test gives a node.
func sockets(texts []string) (out []netip.AddrPort, err error) {
	for _, text := range texts {
		e, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, engine.Invalid.Errorf("sockets: %q is not an address with its port, such as 10.98.0.2:40000", text)
		}
		out = append(out, e)
	}
	return out, nil
}

// Read implements [engine.Reader].
func (o open) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	s, err := o.Node.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, asked := range q {
		if asked.Kind != resource.KindSockets {
			continue
		}
		answer, err := o.answer(ctx, asked.Ask)
		if err != nil {
			return nil, err
		}
		s[answer.Key()] = answer
	}
	return s, nil
}

func (o open) answer(ctx context.Context, ask string) (resource.Sockets, error) {
	wanted, err := resource.ParseSockets(ask)
	if err != nil {
		return resource.Sockets{}, err
	}
	s, err := o.Node.Read(ctx, resource.Query{{Kind: resource.KindAddr}})
	if err != nil {
		return resource.Sockets{}, err
	}
	out := resource.Sockets{Ask: ask}
	for _, a := range resource.All[resource.Addr](s) {
		if addr := a.Prefix.Addr(); !addr.IsLoopback() {
			out.Addrs = append(out.Addrs, addr)
		}
	}
	for _, e := range wanted {
		if slices.Contains(o.ends, e) {
			out.Open = append(out.Open, e)
		}
	}
	return out, nil
}
