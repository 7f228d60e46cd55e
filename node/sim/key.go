package sim

import (
	"fmt"
	"net/netip"
	"strings"

	"runbook/engine/resource"
)

// parseRouteKey returns the identity that k spells: a Route of which only the
// fields of its key are set. It is the reverse of [resource.Route.Key].
func parseRouteKey(k resource.Key) (resource.Route, error) {
	var r resource.Route
	var dst string
	bad := func(err error) (resource.Route, error) {
		return r, fmt.Errorf("%q is not the key of a route: %w", k, err)
	}
	if _, err := fmt.Sscanf(string(k), "route %s table %d metric %d", &dst, &r.Table, &r.Metric); err != nil {
		return bad(err)
	}
	var err error
	if r.Dst, err = netip.ParsePrefix(dst); err != nil {
		return bad(err)
	}
	for words := strings.Fields(string(k))[6:]; len(words) > 0; {
		switch word := words[0]; {
		case strings.HasPrefix(word, "#"):
			_, err = fmt.Sscanf(word, "#%d", &r.Nth)
			r.Nth--
			words = words[1:]
		case word == "dev" && len(words) > 1: // one that the kernel makes of each link
			r.Hops, r.Proto, r.Type = []resource.Hop{{Dev: words[1]}}, resource.ProtoKernel, resource.Multicast
			words = words[2:]
		case word == "from" && len(words) > 1:
			r.Src, err = netip.ParsePrefix(words[1])
			words = words[2:]
		case word == "tos" && len(words) > 1:
			_, err = fmt.Sscanf(words[1], "%v", &r.TOS)
			words = words[2:]
		default:
			err = fmt.Errorf("unexpected %q", word)
		}
		if err != nil {
			return bad(err)
		}
	}
	if r.Key() != k {
		return bad(fmt.Errorf("it would be %q", r.Key()))
	}
	return r, nil
}
