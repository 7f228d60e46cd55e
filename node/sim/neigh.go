package sim

import (
	"net"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is the kernel's rules for permanent and managed neighbours and for
// proxies (neigh_add and neigh_delete in net/core/neighbour.c). What a node
// learns of its neighbours is not modelled: it is on no side of a comparison.

// makeNeigh makes of the neighbour k what want says.
func (w *kernel) makeNeigh(k resource.Key, want resource.Resource) error {
	id, err := resource.ParseNeighKey(k)
	if err != nil {
		return err
	}
	w.look(neighAt(id))
	have, exists := w.state[k].(resource.Neigh)
	if exists && !have.Volatile() {
		if err := modelledNeigh(have); err != nil {
			return err
		}
	}
	if want == nil {
		if exists && have.Volatile() {
			return unpredictable("a change of a neighbour that comes and goes by itself: %s", have)
		}
		w.set(k, nil)
		return nil
	}
	n, ok := want.(resource.Neigh)
	if !ok || n.Key() != k {
		return engine.Internal.Errorf("%s cannot become %s", k, want.Key())
	}
	if err := modelledNeigh(n); err != nil {
		return err
	}
	if exists && len(resource.Compare(resource.Of(have), resource.Of(n))) == 0 {
		return nil
	}
	if n, err = w.newNeigh(n); err != nil {
		return err
	}
	w.set(k, n)
	return nil
}

// neighAt selects the neighbour n, and the proxy of the same address.
func neighAt(n resource.Neigh) resource.Selector {
	return resource.Selector{Kind: resource.KindNeigh, Name: n.Dev, Covers: n.Addr}
}

// modelledNeigh reports what there is about n that the model does not cover.
func modelledNeigh(n resource.Neigh) error {
	kinds := 0
	for _, is := range []bool{n.Permanent, n.Proxy, n.Managed} {
		if is {
			kinds++
		}
	}
	switch {
	case len(n.Extra) > 0:
		return unpredictable("a change of a neighbour with attributes that are not modelled: %s", n)
	case kinds != 1 || n.NoARP:
		return unpredictable("a neighbour that is not permanent, managed or a proxy, or more than one of these: %s", n)
	case n.Dev == "":
		return unpredictable("a proxy on every link: %s", n)
	case n.Addr.Is4In6() || n.Addr.Zone() != "":
		return unpredictable("a neighbour %s", n.Addr)
	case n.Permanent && n.MAC == "", !n.Permanent && n.MAC != "":
		return unpredictable("the link address of a neighbour that has to have one, or cannot: %s", n)
	case n.Router && (n.Managed || n.Addr.Is4()), n.External && n.Proxy:
		return unpredictable("a neighbour with a flag that is not of its kind: %s", n)
	}
	return nil
}

// newNeigh is n as the kernel would hold it.
func (w *kernel) newNeigh(n resource.Neigh) (resource.Neigh, error) {
	l, err := w.link(n.Dev)
	switch {
	case err != nil:
		return n, err
	case n.Proxy:
		return n, nil
	case n.Addr.Is6() && (l.Conf.DisableIPv6 || l.Up && !w.enabled6(n.Dev)): // ndisc_allow_add
		return n, refuse("EINVAL", "IPv6 is disabled on this device")
	case n.Managed:
		return n, nil
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil || len(mac) > 6 || mac.String() != n.MAC {
		return n, unpredictable("the link address %s, which is none of Ethernet, or not as the kernel writes it", n.MAC)
	}
	return n, nil
}
