package resource

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The kernel's numbers that have names, as in rtnetlink(7) and
// /etc/iproute2. Each prints its name where it has one, and reads both.

// Table is the number of a routing table.
type Table uint32

// The tables that every node has.
const (
	TableDefault Table = 253
	TableMain    Table = 254
	TableLocal   Table = 255
)

// Proto says who made a route.
type Proto uint8

// Who makes routes: RTPROT_*.
const (
	ProtoRedirect Proto = 1
	ProtoKernel   Proto = 2
	ProtoBoot     Proto = 3 // what iproute2 sets where nothing is said
	ProtoStatic   Proto = 4 // what runbook sets where nothing is said
	ProtoRA       Proto = 9
)

// Scope is the distance to a destination.
type Scope uint8

// Scopes: RT_SCOPE_*. A larger number is nearer.
const (
	ScopeGlobal  Scope = 0
	ScopeSite    Scope = 200
	ScopeLink    Scope = 253
	ScopeHost    Scope = 254
	ScopeNowhere Scope = 255
)

// RouteType says what becomes of a packet that takes a route.
type RouteType uint8

// Types of route: RTN_*.
const (
	Unicast     RouteType = 1
	Local       RouteType = 2
	Broadcast   RouteType = 3
	Anycast     RouteType = 4
	Multicast   RouteType = 5
	Blackhole   RouteType = 6
	Unreachable RouteType = 7
	Prohibit    RouteType = 8
	Throw       RouteType = 9
	NAT         RouteType = 10
)

var (
	tableNames = map[Table]string{TableDefault: "default", TableMain: "main", TableLocal: "local"}
	protoNames = map[Proto]string{
		0: "unspec", ProtoRedirect: "redirect", ProtoKernel: "kernel", ProtoBoot: "boot", ProtoStatic: "static",
		8: "gated", ProtoRA: "ra", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp",
		18: "keepalived", 42: "babel", 84: "ovn", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
	}
	scopeNames = map[Scope]string{
		ScopeGlobal: "global", ScopeSite: "site", ScopeLink: "link", ScopeHost: "host", ScopeNowhere: "nowhere",
	}
	typeNames = map[RouteType]string{
		Unicast: "unicast", Local: "local", Broadcast: "broadcast", Anycast: "anycast", Multicast: "multicast",
		Blackhole: "blackhole", Unreachable: "unreachable", Prohibit: "prohibit", Throw: "throw", NAT: "nat",
	}
)

var (
	tableNumbers = numbers(tableNames)
	protoNumbers = numbers(protoNames)
	scopeNumbers = numbers(scopeNames)
	typeNumbers  = numbers(typeNames)
)

func (t Table) String() string     { return name(tableNames, t) }
func (p Proto) String() string     { return name(protoNames, p) }
func (s Scope) String() string     { return name(scopeNames, s) }
func (t RouteType) String() string { return name(typeNames, t) }

// MarshalText implements encoding.TextMarshaler.
func (t Table) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (t RouteType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Table) UnmarshalText(b []byte) error { return parse(tableNumbers, t, b, 32, "table") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Proto) UnmarshalText(b []byte) error { return parse(protoNumbers, p, b, 8, "protocol") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Scope) UnmarshalText(b []byte) error { return parse(scopeNumbers, s, b, 8, "scope") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *RouteType) UnmarshalText(b []byte) error { return parse(typeNumbers, t, b, 8, "type") }

type number interface {
	~uint8 | ~uint32
}

func name[N number](names map[N]string, n N) string {
	if s, ok := names[n]; ok {
		return s
	}
	return strconv.FormatUint(uint64(n), 10)
}

// numbers is names the other way round.
func numbers[N number](names map[N]string) map[string]N {
	out := make(map[string]N, len(names))
	for n, s := range names {
		out[s] = n
	}
	return out
}

func parse[N number](numbers map[string]N, to *N, b []byte, bits int, what string) error {
	text := string(b)
	if n, known := numbers[text]; known {
		*to = n
		return nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return fmt.Errorf("%q is not a %s: give a number or one of %s", text, what, strings.Join(slices.Sorted(maps.Keys(numbers)), ", "))
	}
	*to = N(n)
	return nil
}
