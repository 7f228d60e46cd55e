// Package resource says what a node holds: links, addresses, routes, facts.
//
// A [State] maps the [Key] of each resource to its value. Everything that
// runbook shows, compares, saves, applies and undoes is a State or the [Diff]
// of two. A [Query] says which part of a node's State is meant, so that a node
// with 100,000 routes sends only those that matter.
//
// This package is the bottom of the house: it imports the standard library
// only, and every other package may import it. A new kind of resource is one
// file here: its type, its key, which selectors match it, and its place in
// [decoders].
package resource

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Kind names a kind of resource, such as "route".
type Kind string

// Key identifies a resource on its node: the kind, a space, and what tells it
// apart from others of its kind, such as "route 10.20.0.0/16 table 254 metric 0".
// It holds only what the kernel itself tells two resources apart by.
type Key string

// Kind is the kind of the resource that k identifies.
func (k Key) Kind() Kind {
	kind, _, _ := strings.Cut(string(k), " ")
	return Kind(kind)
}

// of reports whether k identifies a resource of this kind.
func (k Key) of(kind Kind) bool {
	return len(k) >= len(kind) && string(k[:len(kind)]) == string(kind) && (len(k) == len(kind) || k[len(kind)] == ' ')
}

// Resource is one thing that a node holds. The implementations are plain
// values: [Link], [Addr], [Route], [Rule], [Neigh], [Nexthop], [Facts]; what a
// node tells of itself, [Sessions], [Sockets] and [Memory]; and what a Postgres server
// holds, [Postgres], [Backend], [Setting] and [Rows], and a pgbouncer, [Pool] and [Pooled].
type Resource interface {
	Key() Key
	// Match reports whether s, which is of this resource's kind, selects it.
	Match(s Selector) bool
	// Volatile reports whether the resource comes and goes by itself (a route
	// from a router advertisement), so that no comparison should see it.
	Volatile() bool
	// String is the resource on one line, in the words of iproute2, without
	// its kind: "10.20.0.0/16 via 10.98.0.1 dev eth1".
	String() string
}

// decoders has one entry for each kind of resource: it adds a JSON list to s.
var decoders = map[Kind]func(b []byte, s State) error{
	KindLink:  decode[Link],
	KindAddr:  decode[Addr],
	KindRoute: decode[Route],
	KindFacts: decode[Facts],

	KindRule:    decode[Rule],
	KindNeigh:   decode[Neigh],
	KindNexthop: decode[Nexthop],
	KindSession: decode[Sessions],
	KindMemory:  decode[Memory],
	KindSockets: decode[Sockets],

	KindPostgres: decode[Postgres],
	KindBackend:  decode[Backend],
	KindSetting:  decode[Setting],
	KindRows:     decode[Rows],
	KindPool:     decode[Pool],
	KindPooled:   decode[Pooled],
}

func decode[R Resource](b []byte, s State) error {
	var list []R
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for _, r := range list {
		s[r.Key()] = r
	}
	return nil
}

// State is what is known of a node. A key with a value is present; a key with
// a nil value is known to be absent; a key that is missing was not read.
type State map[Key]Resource

// Of makes a State that holds rs.
func Of(rs ...Resource) State {
	s := make(State, len(rs))
	for _, r := range rs {
		s[r.Key()] = r
	}
	return s
}

// Keys returns the keys of s in order.
func (s State) Keys() []Key { return slices.Sorted(maps.Keys(s)) }

// Clone returns a copy of s. Resources are values and are shared.
func (s State) Clone() State { return maps.Clone(s) }

// Share makes s hold the keys and the resources that o has too as o does, so that
// they are in memory once. It changes nothing of what s says.
func (s State) Share(o State) {
	for k, r := range o {
		if own, there := s[k]; there && Identical(own, r) {
			s[k] = r
		}
	}
}

// Select returns what q selects of s: present resources only.
func (s State) Select(q Query) State {
	out := State{}
	for k, r := range s {
		if r != nil && q.match(k, r) {
			out[k] = r
		}
	}
	return out
}

// All returns the present resources of type R in the order of their keys.
func All[R Resource](s State) []R {
	var out []R
	for _, k := range s.Keys() {
		if r, ok := s[k].(R); ok {
			out = append(out, r)
		}
	}
	return out
}

// Get returns the resource of type R under k, if it is present.
func Get[R Resource](s State, k Key) (R, bool) {
	r, ok := s[k].(R)
	return r, ok
}

// absentKey is where the JSON form of a State lists the keys known to be absent.
const absentKey Kind = "absent"

// MarshalJSON writes s as an object with a list for each kind, in the order of
// the keys, and one for the keys known to be absent:
//
//	{"link": [{"name": "eth1", …}], "absent": ["route 10.20.0.0/16 table 254 metric 0"]}
func (s State) MarshalJSON() ([]byte, error) {
	if s == nil {
		return []byte("null"), nil // which is not the same as a state in which nothing is
	}
	lists := map[Kind][]any{}
	for _, k := range s.Keys() {
		if r := s[k]; r != nil {
			lists[k.Kind()] = append(lists[k.Kind()], r)
		} else {
			lists[absentKey] = append(lists[absentKey], k)
		}
	}
	return json.Marshal(lists)
}

// UnmarshalJSON reads what MarshalJSON wrote. A kind that it does not know is an error.
func (s *State) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var lists map[Kind]json.RawMessage
	if err := json.Unmarshal(b, &lists); err != nil {
		return err
	}
	*s = State{}
	for kind, list := range lists {
		if kind == absentKey {
			var keys []Key
			if err := json.Unmarshal(list, &keys); err != nil {
				return fmt.Errorf("absent: %w", err)
			}
			for _, k := range keys {
				(*s)[k] = nil
			}
			continue
		}
		dec := decoders[kind]
		if dec == nil {
			return fmt.Errorf("there is no kind of resource %q", kind)
		}
		if err := dec(list, *s); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// Selector selects resources of one kind. A zero field selects any.
type Selector struct {
	Kind Kind `json:"kind"`
	// Name is the name of a link; for an address or a route the link that it is on;
	// for all that a Postgres server holds the server.
	Name string `json:"name,omitempty"`
	// Dst selects the routes to exactly this destination, or the addresses
	// with exactly this address and length.
	Dst netip.Prefix `json:"dst,omitzero"`
	// Covers selects the routes whose destination contains this address, and
	// the addresses whose subnet does.
	Covers netip.Addr `json:"covers,omitzero"`
	// Family is 4 or 6.
	Family int `json:"family,omitempty"`
	// Table selects the routes of this table.
	Table Table `json:"table,omitempty"`
	// PrefSrc selects the routes that suggest this source address.
	PrefSrc netip.Addr `json:"prefsrc,omitzero"`
	// Key selects what has this key, of what a Postgres server holds.
	Key Key `json:"key,omitempty"`
	// Where selects backends.
	Where *Where `json:"where,omitempty"`
	// Ask is the question to which Rows or Sockets are wanted.
	Ask string `json:"ask,omitempty"`
}

// Query is a list of selectors: it selects what any of them selects.
type Query []Selector

// Match reports whether q selects r.
func (q Query) Match(r Resource) bool { return q.match(r.Key(), r) }

// match is Match for who knows the key, for it takes time to make.
func (q Query) match(k Key, r Resource) bool {
	for _, s := range q {
		if k.of(s.Kind) && r.Match(s) {
			return true
		}
	}
	return false
}

// Change is one resource that differs. Before is nil where it was absent,
// After where it is.
type Change struct {
	Key           Key
	Before, After Resource
}

// Diff is what differs between two states, in the order of the keys.
type Diff []Change

// Compare returns what differs between two reads of the same Query. A key that
// only one of them has is absent in the other. Volatile resources are left out.
func Compare(before, after State) Diff {
	var d Diff
	for k, b := range before {
		if a := after[k]; !same(b, a) {
			d = append(d, Change{Key: k, Before: b, After: a})
		}
	}
	for k, a := range after {
		if _, both := before[k]; !both && !same(nil, a) {
			d = append(d, Change{Key: k, After: a})
		}
	}
	slices.SortFunc(d, func(x, y Change) int { return cmp.Compare(x.Key, y.Key) })
	return d
}

// Equal reports whether Compare finds no difference between before and after,
// without making a list of them.
func Equal(before, after State) bool {
	for k, b := range before {
		if !same(b, after[k]) {
			return false
		}
	}
	for k, a := range after {
		if _, both := before[k]; !both && !same(nil, a) {
			return false
		}
	}
	return true
}

// same reports whether no comparison should see a difference between a and b.
func same(a, b Resource) bool {
	if (a == nil || a.Volatile()) && (b == nil || b.Volatile()) {
		return true
	}
	switch a := a.(type) {
	case Addr:
		other, ok := b.(Addr)
		a.Place, other.Place = 0, 0 // it moves when another address comes or goes
		return ok && a == other
	case Backend: // the rest of it cannot change, or does so all the time
		other, ok := b.(Backend)
		return ok && a.Key() == other.Key()
	case Pooled:
		other, ok := b.(Pooled)
		return ok && a.Key() == other.Key()
	case Setting:
		if other, ok := b.(Setting); ok {
			a.Actual, a.Base = other.Actual, other.Base
			if a.EachSession() { // the one that asks may have begun before or after a change
				a.Value, a.Source = other.Value, other.Source
			}
		}
		return Identical(a, b)
	case Pool:
		other, ok := b.(Pool)
		a.To, a.Connections = other.To, other.Connections
		return ok && a == other
	}
	return Identical(a, b)
}

// Identical reports whether a and b are equal in every field, also in those that
// no comparison looks at.
func Identical(a, b Resource) bool {
	switch a := a.(type) { // the kinds that most footprints hold
	case Route:
		other, ok := b.(Route)
		return ok && a.equal(other)
	case Link:
		other, ok := b.(Link)
		return ok && a == other
	case Addr:
		other, ok := b.(Addr)
		return ok && a == other
	case Rule:
		other, ok := b.(Rule)
		return ok && a.equal(other)
	}
	return reflect.DeepEqual(a, b)
}

// Before is the state of the resources that d changes, before it.
func (d Diff) Before() State {
	s := make(State, len(d))
	for _, c := range d {
		s[c.Key] = c.Before
	}
	return s
}

// After is the state of the resources that d changes, after it.
func (d Diff) After() State {
	s := make(State, len(d))
	for _, c := range d {
		s[c.Key] = c.After
	}
	return s
}

// changeJSON is the published form of a Change.
type changeJSON struct {
	Action string   `json:"action"` // add, delete, change
	Kind   Kind     `json:"kind"`
	Key    Key      `json:"key"`
	Before Resource `json:"before,omitempty"`
	After  Resource `json:"after,omitempty"`
}

// MarshalJSON writes the change with its action, for people's programs.
func (c Change) MarshalJSON() ([]byte, error) {
	return json.Marshal(changeJSON{c.Action(), c.Key.Kind(), c.Key, c.Before, c.After})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Change) UnmarshalJSON(b []byte) error {
	var in struct {
		Kind          Kind
		Key           Key
		Before, After json.RawMessage
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*c = Change{Key: in.Key}
	var err1, err2 error
	c.Before, err1 = decodeOne(in.Kind, in.Before)
	c.After, err2 = decodeOne(in.Kind, in.After)
	return errors.Join(err1, err2)
}

// decodeOne reads one resource; of no text, none.
func decodeOne(kind Kind, text json.RawMessage) (Resource, error) {
	if len(text) == 0 {
		return nil, nil
	}
	dec := decoders[kind]
	if dec == nil {
		return nil, fmt.Errorf("there is no kind of resource %q", kind)
	}
	s := State{}
	if err := dec(append(append([]byte("["), text...), ']'), s); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	for _, r := range s {
		return r, nil
	}
	return nil, fmt.Errorf("%s: nothing in it", kind)
}

// Ends reports whether c is the end of a session, which cannot be taken back.
func (c Change) Ends() bool { return c.After == nil && c.Key.Kind().Ends() }

// Action is "add", "delete" or "change".
func (c Change) Action() string {
	switch {
	case c.Before == nil:
		return "add"
	case c.After == nil:
		return "delete"
	default:
		return "change"
	}
}

// Lines renders the change the way every diff of runbook looks: a sign, the
// kind, the resource; a changed resource is two lines.
//
//	"+ route 10.20.0.0/16 via 10.98.0.1 dev eth1"
func (c Change) Lines() []string {
	var out []string
	if c.Before != nil {
		out = append(out, fmt.Sprintf("- %-5s %s", c.Key.Kind(), c.Before))
	}
	if c.After != nil {
		out = append(out, fmt.Sprintf("+ %-5s %s", c.Key.Kind(), c.After))
	}
	return out
}

// String is the whole diff, one line for each side of each change.
func (d Diff) String() string {
	var b strings.Builder
	for _, c := range d {
		for _, l := range c.Lines() {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	return b.String()
}
