//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file changes addresses. Their order on a link cannot be set: it follows
// from the order in which they are added. An address that is put back where it was may so
// need others to be taken off and added again.

// touchedAddr selects the addresses of the link, and the routes that may go with the one under k.
func touchedAddr(k resource.Key) (resource.Query, error) {
	dev, p, err := resource.ParseAddrKey(k)
	family := resource.Addr{Prefix: p}.Family()
	return resource.Query{
		{Kind: resource.KindLink, Name: dev},
		{Kind: resource.KindAddr, Name: dev, Family: family},
		{Kind: resource.KindRoute, Name: dev, Family: family},
		{Kind: resource.KindRoute, PrefSrc: p.Addr()},
		{Kind: resource.KindNeigh, Name: dev, Family: family},
	}, err
}

// addrList is the addresses of a link that have an order among themselves: of
// one family and, for IPv6, one scope.
type addrList struct {
	dev    string
	family int
	scope  resource.Scope
}

func listOf(a resource.Addr) addrList {
	l := addrList{dev: a.Dev, family: a.Family()}
	if l.family == 6 {
		l.scope = a.Scope
	}
	return l
}

// addrSteps turns the addresses of now into those of want, list by list.
func (n *Node) addrSteps(now reading, want resource.State) ([]step, error) {
	lists := map[addrList]resource.State{}
	put := func(l addrList, k resource.Key, r resource.Resource) {
		if lists[l] == nil {
			lists[l] = resource.State{}
		}
		lists[l][k] = r
	}
	for k, r := range want {
		have, exists := resource.Get[resource.Addr](now.state, k)
		a, wanted := r.(resource.Addr)
		switch {
		case r != nil && (!wanted || a.Key() != k):
			return nil, fmt.Errorf("%s cannot become %s", k, r)
		case exists: // it is in its list, whatever scope is wanted
			put(listOf(have), k, r)
		case wanted:
			put(listOf(a), k, a)
		}
	}
	var out []step
	for l, part := range lists {
		link, _ := resource.Get[resource.Link](now.state, resource.LinkKey(l.dev))
		out = append(out, n.listSteps(addrsOf(now.state, l), part, link, now.lives)...)
	}
	return out, nil
}

// addrsOf returns the addresses of l in the kernel's order.
func addrsOf(s resource.State, l addrList) []resource.Addr {
	var out []resource.Addr
	for _, a := range resource.All[resource.Addr](s) {
		if listOf(a) == l {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b resource.Addr) int { return a.Place - b.Place })
	return out
}

// move adds an address to a list, or takes it away.
type move struct {
	addr resource.Addr
	gone bool
}

// listSteps makes of now, the addresses of one list, what want says. How long one
// that comes still lives is in lives.
func (n *Node) listSteps(now []resource.Addr, want resource.State, on resource.Link, lives map[resource.Key]Left) []step {
	keys := want.Keys()
	target := slices.DeleteFunc(slices.Clone(now), func(a resource.Addr) bool {
		r, named := want[a.Key()]
		return named && (r == nil || placed(r) && !sameAddr(a, r.(resource.Addr)))
	})
	var moves []move
	var finish, added []resource.Addr
	for _, k := range keys {
		a, wanted := want[k].(resource.Addr)
		i := slices.IndexFunc(now, func(o resource.Addr) bool { return o.Key() == k })
		switch {
		case !wanted, i >= 0 && sameAddr(now[i], a):
			if wanted && now[i].Flags != a.Flags {
				finish = append(finish, a)
			}
		case a.Place > 0:
			added = append(added, a)
		default: // the kernel may hold it otherwise, and says so
			moves = append(moves, move{addr: a})
		}
	}
	slices.SortFunc(added, func(a, b resource.Addr) int { return a.Place - b.Place })
	for _, a := range added {
		target = slices.Insert(target, min(a.Place-1, len(target)), a)
	}
	moves = append(rearrange(now, target, on.Conf.PromoteSecondaries), moves...)
	var out []step
	if len(moves) > 0 {
		out = append(out, n.addrStep(keys, moves, on.Up, lives))
	}
	for _, a := range finish {
		out = append(out, step{keys: []resource.Key{a.Key()}, rank: rankLast, messages: []message{addrMessage(unix.NLM_F_REPLACE, a, lives)}})
	}
	return out
}

func placed(r resource.Resource) bool {
	a, ok := r.(resource.Addr)
	return ok && a.Place > 0
}

// sameAddr reports whether have is as a says, but for its place, for what the
// kernel alone decides and, of one that is put back, for duplicate address detection.
func sameAddr(have, a resource.Addr) bool {
	if a.Place == 0 {
		a.Secondary = have.Secondary
	}
	if a.Family() == 6 {
		a.Scope = have.Scope
	}
	if a.Place > 0 {
		a.Flags = a.Flags&^unix.IFA_F_NODAD | have.Flags&unix.IFA_F_NODAD
	}
	a.Place = have.Place
	return a == have
}

// rearrange returns moves that turn now into target: additions alone, where
// these end up in their places; else some others are taken away and added again.
func rearrange(now, target []resource.Addr, promotes bool) []move {
	missing := func(from, to []resource.Addr) (out []resource.Addr) {
		for _, a := range to {
			if !slices.ContainsFunc(from, func(o resource.Addr) bool { return o.Key() == a.Key() && sameAddr(o, a) }) {
				out = append(out, a)
			}
		}
		return out
	}
	gone, come := takeAway(missing(target, now)), add(missing(now, target))
	plain := append(slices.Clone(gone), come...)
	if slices.EqualFunc(after(now, plain, promotes), target, sameKey) {
		return plain
	}
	lasting := func(a resource.Addr) bool { return a.Permanent } // nothing says how long another would have left
	all := append(takeAway(now), add(target)...)
	for _, try := range [][]move{moveLate(now, target, come, gone, promotes), all} {
		again := !slices.ContainsFunc(try, func(m move) bool { return !m.gone && !lasting(m.addr) })
		if again && slices.EqualFunc(after(now, try, promotes), target, sameKey) {
			return try
		}
	}
	return plain
}

func sameKey(a, b resource.Addr) bool { return a.Key() == b.Key() && a.Secondary == b.Secondary }

// moveLate adds what is missing and then takes away, and adds again, only what
// stands where another should: so the link is never without an address.
func moveLate(now, target []resource.Addr, come, gone []move, promotes bool) []move {
	both := func(list []resource.Addr) func(move) bool { // what differs is not missing: it can only be taken away later
		return func(m move) bool {
			return slices.ContainsFunc(list, func(a resource.Addr) bool { return a.Key() == m.addr.Key() })
		}
	}
	moves := slices.DeleteFunc(slices.Clone(come), both(now))
	moves = append(moves, slices.DeleteFunc(slices.Clone(gone), both(target))...)
	list, want := after(now, moves, promotes), slices.Clone(target)
	if len(want) > 0 && want[0].Family() == 6 { // it grows at its head
		slices.Reverse(list)
		slices.Reverse(want)
	}
	i := 0
	for i < min(len(list), len(want)) && sameKey(list[i], want[i]) {
		i++
	}
	if i == len(want) {
		return moves
	}
	first := want[i].Key()
	isFirst := func(a resource.Addr) bool { return a.Key() == first }
	late := slices.DeleteFunc(slices.Clone(list[i:]), isFirst)
	again := slices.DeleteFunc(slices.Clone(want[i:]), isFirst)
	for _, a := range slices.Backward(late) {
		moves = append(moves, move{a, true})
	}
	for _, a := range again {
		moves = append(moves, move{a, false})
	}
	return moves
}

// takeAway takes list away, secondary addresses before their primary one.
func takeAway(list []resource.Addr) (out []move) {
	for _, a := range slices.Backward(list) {
		out = append(out, move{a, true})
	}
	return out
}

// add adds list so that it ends up in this order.
func add(list []resource.Addr) (out []move) {
	for _, a := range list {
		out = append(out, move{addr: a})
	}
	if len(list) > 0 && list[0].Family() == 6 {
		slices.Reverse(out)
	}
	return out
}

// after is what the kernel makes of list by moves.
func after(list []resource.Addr, moves []move, promotes bool) []resource.Addr {
	for _, m := range moves {
		if !m.gone {
			list = resource.InsertAddr(list, m.addr)
			continue
		}
		at := slices.IndexFunc(list, func(a resource.Addr) bool { return a.Key() == m.addr.Key() })
		if at < 0 {
			continue
		}
		gone := list[at]
		list = slices.Delete(slices.Clone(list), at, at+1)
		if gone.Secondary {
			continue
		}
		follows := func(a resource.Addr) bool { return a.Secondary && a.SameSubnet(gone) }
		next := slices.IndexFunc(list, follows)
		if !promotes || next < 0 {
			list = slices.DeleteFunc(list, follows)
			continue
		}
		a := list[next]
		a.Secondary = false
		to := at
		for i, o := range list[:next] {
			if i >= at && !o.Secondary && gone.Scope <= o.Scope {
				to = i + 1
			}
		}
		list = slices.Insert(slices.Delete(list, next, next+1), to, a)
	}
	return list
}

// addrStep makes moves, which change what has keys. An IPv6 address that is put back on a link that is up is
// usable at once, for its routes are to follow: duplicate address detection is left
// out, and the flag that says so taken off in the end.
func (n *Node) addrStep(keys []resource.Key, moves []move, up bool, lives map[resource.Key]Left) step {
	s := step{keys: keys, rank: rankAddrGone, spreads: true}
	var ready []resource.Addr
	for _, m := range moves {
		if m.gone {
			s.messages = append(s.messages, addrMessage(0, m.addr, nil))
			continue
		}
		if s.rank = rankAddr; m.addr.Place > 0 && m.addr.Family() == 6 && up {
			m.addr.Flags |= unix.IFA_F_NODAD
			ready = append(ready, m.addr)
		}
		s.messages = append(s.messages, addrMessage(unix.NLM_F_CREATE|unix.NLM_F_EXCL, m.addr, lives))
	}
	if len(ready) > 0 {
		s.then = func(ctx context.Context) error { return n.awaitLocal(ctx, ready) }
	}
	return s
}

// spreads reports whether the kernel may change more than want: it changes an address or a link.
func spreads(want resource.State) bool {
	for k := range want {
		if k.Kind() == resource.KindAddr || k.Kind() == resource.KindLink {
			return true
		}
	}
	return false
}

// putsBackAddr reports whether want puts an address where it was.
func putsBackAddr(want resource.State) bool {
	for _, r := range want {
		if placed(r) {
			return true
		}
	}
	return false
}

// readSources reads also the routes that have an address of now for their
// source: they suffer when it is taken off and added again. Those that share an identity
// with one of them, which change places with it, are read too.
func (n *Node) readSources(ctx context.Context, now reading) (reading, error) {
	q := slices.Clone(now.query)
	for _, a := range resource.All[resource.Addr](now.state) {
		q = append(q, resource.Selector{Kind: resource.KindRoute, PrefSrc: a.Prefix.Addr()})
	}
	left := now.left
	now, err := n.read(ctx, unique(q))
	if err != nil {
		return now, err
	}
	q = slices.Clone(now.query)
	for _, r := range now.routes {
		if r.PrefSrc.IsValid() {
			q = append(q, resource.Selector{Kind: resource.KindRoute, Dst: r.Dst, Table: r.Table})
		}
	}
	now, err = n.read(ctx, unique(q))
	now.left = left
	return now, err
}

// keep takes back what the kernel has done along with addresses and links although it
// should not: what e foresees unchanged and, where addresses had to be moved,
// also what it knows nothing of.
func (n *Node) keep(ctx context.Context, e engine.Edit, before reading, moved bool) ([]step, error) {
	now, err := n.read(ctx, before.query)
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	for _, c := range resource.Compare(before.state, now.state) {
		kind := c.Key.Kind()
		if _, wanted := e.Want[c.Key]; wanted || kind == resource.KindLink {
			continue
		}
		if foreseen(e.Query, c) {
			if e.After == nil || len(resource.Compare(resource.State{c.Key: c.Before}, resource.State{c.Key: e.After[c.Key]})) > 0 {
				continue
			}
		} else if !moved {
			continue
		}
		if r, isRoute := c.After.(resource.Route); isRoute && c.Before == nil && slices.ContainsFunc(before.routes, func(o route) bool { return same(o, route{Route: r}) }) {
			continue // it was there, in another place
		}
		want[c.Key] = c.Before
	}
	if len(want) == 0 {
		return nil, nil
	}
	touched, err := selectors(want) // with all routes of an identity
	if err != nil {
		return nil, err
	}
	if now, err = n.read(ctx, unique(append(slices.Clone(now.query), touched...))); err != nil {
		return nil, err
	}
	now.left, now.back, now.exact = before.routes, true, true
	return n.make(ctx, want, now)
}

// foreseen reports whether q covers what c changes.
func foreseen(q resource.Query, c resource.Change) bool {
	return c.Before != nil && q.Match(c.Before) || c.After != nil && q.Match(c.After)
}

// addrMessage makes a, which lives as lives says, or, without flags, deletes it.
func addrMessage(flags int, a resource.Addr, lives map[resource.Key]Left) message {
	m := message{kind: unix.RTM_NEWADDR, flags: flags}
	if flags == 0 {
		m.kind = unix.RTM_DELADDR
		m.gone = func(err error) bool { return errors.Is(err, unix.EADDRNOTAVAIL) }
	}
	m.payload = func(n *Node) ([]byte, error) {
		msg, err := n.encodeAddr(a, flags == 0)
		if left, limited := lives[a.Key()]; limited {
			msg = put(msg, unix.IFA_CACHEINFO, cacheInfo(left.Preferred, left.Valid)...)
		}
		return msg, err
	}
	return m
}

// encodeAddr makes the message that creates or deletes a.
func (n *Node) encodeAddr(a resource.Addr, deleting bool) ([]byte, error) {
	index, err := n.linkIndex(a.Dev)
	if err != nil {
		return nil, refusal(err)
	}
	far := a.Prefix.Addr()
	if a.Peer.IsValid() {
		far = a.Peer.Addr()
	}
	msg := make([]byte, unix.SizeofIfAddrmsg, 96)
	msg[0] = unix.AF_INET
	if a.Family() == 6 {
		msg[0] = unix.AF_INET6
	}
	msg[1], msg[3] = uint8(a.Prefix.Bits()), uint8(a.Scope)
	native.PutUint32(msg[4:], index)
	msg = put(msg, unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()...)
	msg = put(msg, unix.IFA_ADDRESS, far.AsSlice()...)
	if deleting {
		return msg, nil
	}
	if a.Broadcast.IsValid() {
		msg = put(msg, unix.IFA_BROADCAST, a.Broadcast.AsSlice()...)
	}
	if a.Label != "" {
		msg = put(msg, unix.IFA_LABEL, append([]byte(a.Label), 0)...)
	}
	flags := a.Flags
	if a.NoPrefixRoute {
		flags |= unix.IFA_F_NOPREFIXROUTE
	}
	if a.Permanent {
		flags |= unix.IFA_F_PERMANENT
	}
	msg = putU32(msg, unix.IFA_FLAGS, flags)
	if a.Metric != 0 {
		msg = putU32(msg, unix.IFA_RT_PRIORITY, a.Metric)
	}
	if a.Proto != 0 {
		msg = put(msg, ifaProto, a.Proto)
	}
	if a.Flags&unix.IFA_F_DEPRECATED != 0 {
		msg = put(msg, unix.IFA_CACHEINFO, cacheInfo(0, forever)...)
	}
	return msg, nil
}

// awaitLocal waits for the routes to IPv6 addresses on links that are up, which
// the kernel adds a moment later, even without duplicate address detection.
func (n *Node) awaitLocal(ctx context.Context, list []resource.Addr) error {
	var q resource.Query
	for _, a := range list {
		q = append(q, resource.Selector{Kind: resource.KindRoute, Name: a.Dev, Table: resource.TableLocal, Dst: netip.PrefixFrom(a.Prefix.Addr(), 128)})
		q = append(q, resource.Selector{Kind: resource.KindLink, Name: a.Dev})
	}
	q = unique(q)
	for end := time.Now().Add(readyWithin); time.Now().Before(end); {
		now, err := n.read(ctx, q)
		if err != nil {
			return err
		}
		missing := slices.ContainsFunc(list, func(a resource.Addr) bool {
			l, _ := resource.Get[resource.Link](now.state, resource.LinkKey(a.Dev))
			return l.Up && !slices.ContainsFunc(now.routes, func(r route) bool {
				return r.Type == resource.Local && r.Dst.Addr() == a.Prefix.Addr() && r.Hops[0].Dev == a.Dev
			})
		})
		if !missing {
			return nil
		}
		select {
		case <-time.After(readyEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil // what is read back tells
}
