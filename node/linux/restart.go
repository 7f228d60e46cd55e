//go:build linux

package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// This file restarts a link: takes it down and up, and puts back what the
// kernel forgets of it without a word. It is captured first, in a form that can be written down, so that the
// guardian can finish a restart whose agent was killed half way.

// capture is what is on a link, and what states do not hold of it.
type capture struct {
	Link   string         `json:"link"`
	Taken  time.Time      `json:"taken"`
	State  resource.State `json:"state"`            // of the link, and all that is on it; volatile resources are left out
	Routes []Left         `json:"routes,omitempty"` // lifetimes of routes
	Addrs  []Left         `json:"addrs,omitempty"`  // lifetimes of addresses
	// Neighs are the messages of neighbours that the kernel has learned. Without them the first packet
	// of every session waits for an answer of its neighbour, for a second where one is lost.
	Neighs [][]byte `json:"neighs,omitempty"`
}

// Left is how long something lives, from when it was captured.
type Left struct {
	Key       resource.Key  `json:"key"`
	Valid     time.Duration `json:"valid"`
	Preferred time.Duration `json:"preferred,omitempty"` // of an address
}

// Capture returns all that is on the link called name, in JSON: what [Node.Restore] takes.
func (n *Node) Capture(ctx context.Context, name string) ([]byte, error) {
	c, err := n.capture(ctx, name)
	if err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// Restore makes again what of a capture is missing: the link goes up, and what is on it
// comes back. Done twice, it does nothing the second time.
func (n *Node) Restore(ctx context.Context, captured []byte) error {
	var c capture
	if err := json.Unmarshal(captured, &c); err != nil {
		return fmt.Errorf("a captured link: %w", err)
	}
	n.applying.Lock()
	defer n.applying.Unlock()
	return n.restore(ctx, c)
}

func (n *Node) capture(ctx context.Context, name string) (capture, error) {
	c := capture{Link: name, Taken: time.Now(), State: resource.State{}}
	now, err := n.readOnLink(ctx, name)
	if err != nil {
		return c, err
	}
	if c.Addrs, err = n.lives(ctx, now.state, name); err != nil {
		return c, err
	}
	for k, r := range now.state {
		lives := slices.ContainsFunc(c.Addrs, func(l Left) bool { return l.Key == k })
		if lives || !r.Volatile() {
			c.State[k] = r
		}
	}
	for _, r := range now.routes {
		if r.Expires {
			c.Routes = append(c.Routes, Left{Key: r.Key(), Valid: r.left})
		}
	}
	c.Neighs, err = n.learned(ctx, name)
	return c, err
}

// readOnLink reads what is on the link called name, and the routes of other links
// that share an identity with one over it: they have an order among themselves.
func (n *Node) readOnLink(ctx context.Context, name string) (reading, error) {
	now, err := n.read(ctx, onLinkOf(name))
	if err != nil {
		return now, err
	}
	routes := resource.State{}
	for _, r := range now.routes {
		routes[r.Key()] = r.Route
	}
	touched, err := selectors(routes)
	if err != nil {
		return now, err
	}
	all, err := n.read(ctx, unique(append(onLinkOf(name), touched...)))
	if err != nil {
		return now, err
	}
	shares := map[resource.Key]bool{}
	for _, r := range now.routes {
		shares[identityOf(r)] = true
	}
	for _, r := range all.routes {
		if !shares[identityOf(r)] {
			delete(all.state, r.Key())
		}
	}
	all.routes = slices.DeleteFunc(all.routes, func(r route) bool { return !shares[identityOf(r)] })
	return all, nil
}

// identityOf is the key of the first route that the kernel does not tell from r but by its place.
func identityOf(r route) resource.Key {
	r.Nth = 0
	return r.Key()
}

// lives returns the lifetimes of those IPv6 addresses of the link called name,
// of s, that were given one. What a router advertised, the kernel has again from the router.
func (n *Node) lives(ctx context.Context, s resource.State, name string) ([]Left, error) {
	const fromRA = 2 // IFAPROT_KERNEL_RA
	req := make([]byte, unix.SizeofIfAddrmsg)
	req[0] = unix.AF_INET6
	names := names{node: n}
	var out []Left
	var failed error
	err := n.dump(ctx, unix.RTM_GETADDR, req, unix.RTM_NEWADDR, func() { out = nil }, func(msg []byte) {
		if len(msg) < unix.SizeofIfAddrmsg || msg[0] != unix.AF_INET6 {
			return
		}
		read, err := decodeAddr(msg, &names)
		if err != nil {
			failed = err
			return
		}
		a, there := resource.Get[resource.Addr](s, read.Key())
		if !there || a.Dev != name || a.Permanent || a.Secondary || a.Proto == fromRA || a.Flags&unix.IFA_F_MANAGETEMPADDR != 0 {
			return
		}
		for kind, at := range attrs(msg[unix.SizeofIfAddrmsg:]) {
			if v := value(at); kind == unix.IFA_CACHEINFO && len(v) >= 8 {
				seconds := func(b []byte) time.Duration { return time.Duration(native.Uint32(b)) * time.Second }
				out = append(out, Left{Key: a.Key(), Preferred: seconds(v), Valid: seconds(v[4:])})
			}
		}
	})
	return out, errors.Join(err, failed)
}

// forever is a lifetime without an end, as the kernel writes it.
const forever = math.MaxUint32 * time.Second

// cacheInfo is the value of IFA_CACHEINFO.
func cacheInfo(preferred, valid time.Duration) []byte {
	b := native.AppendUint32(nil, uint32(preferred/time.Second))
	b = native.AppendUint32(b, uint32(valid/time.Second))
	return append(b, make([]byte, 8)...)
}

// left are the lifetimes of c as they are by now, as routes.
func (c capture) left() []route {
	var out []route
	for _, l := range c.Routes {
		if r, ok := resource.Get[resource.Route](c.State, l.Key); ok {
			out = append(out, route{Route: r, left: max(time.Second, l.Valid-time.Since(c.Taken))})
		}
	}
	return out
}

// lives are the lifetimes of addresses of c as they are by now.
func (c capture) lives() map[resource.Key]Left {
	since := time.Since(c.Taken).Truncate(time.Second)
	out := map[resource.Key]Left{}
	for _, l := range c.Addrs {
		if l.Valid != forever {
			l.Valid = max(time.Second, l.Valid-since)
		}
		if l.Preferred != forever {
			l.Preferred = max(0, l.Preferred-since)
		}
		out[l.Key] = l
	}
	return out
}

// restart takes the link called name down and up and puts back what it loses.
func (n *Node) restart(ctx context.Context, name string) error {
	c, err := n.capture(ctx, name)
	if err != nil {
		return err
	}
	switch l, exists := resource.Get[resource.Link](c.State, resource.LinkKey(name)); {
	case !exists:
		return refusal(unix.ENODEV)
	case !l.Up:
		return refusal(unix.ENETDOWN)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	if _, err := n.send(ctx, []message{upMessage(name, false)}, false); err != nil {
		return err
	}
	return n.restore(ctx, c)
}

func (n *Node) restore(ctx context.Context, c capture) error {
	touched, err := selectors(c.State)
	if err != nil {
		return err
	}
	now, err := n.read(ctx, unique(append(onLinkOf(c.Link), touched...)))
	if err != nil {
		return err
	}
	now.left, now.lives, now.back = c.left(), c.lives(), true
	if _, err := n.make(ctx, c.State, now); err != nil {
		return err
	}
	if err := n.takeOff(ctx, c); err != nil {
		return err
	}
	for _, msg := range c.Neighs { // one that is there again knows better
		err := n.exchange(ctx, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, msg, 0, nil)
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// takeOff takes away what the kernel has made of the link again, where somebody
// had taken that away before the restart.
func (n *Node) takeOff(ctx context.Context, c capture) error {
	now, err := n.read(ctx, onLinkOf(c.Link))
	if err != nil {
		return err
	}
	const kernelLL = 3 // IFAPROT_KERNEL_LL
	more := resource.State{}
	for k, r := range now.state.Select(onLinkOf(c.Link)) {
		if _, was := c.State[k]; was {
			continue
		}
		switch r := r.(type) {
		case resource.Route:
			if r.Proto == resource.ProtoKernel && r.Type == resource.Unicast {
				more[k] = nil
			}
		case resource.Addr:
			if r.Proto == kernelLL {
				more[k] = nil
			}
		}
	}
	if len(more) == 0 {
		return nil
	}
	touched, err := selectors(more)
	if err != nil {
		return err
	}
	if now, err = n.read(ctx, unique(append(onLinkOf(c.Link), touched...))); err != nil {
		return err
	}
	_, err = n.make(ctx, more, now)
	return err
}

// learned returns the messages that make again the neighbours that the kernel
// has learned on the link called name: as stale, so that they are used at once and tried soon.
func (n *Node) learned(ctx context.Context, name string) ([][]byte, error) {
	index, err := n.linkIndex(name)
	if err != nil {
		return nil, refusal(err)
	}
	const usable = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
	var out [][]byte
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, unix.SizeofNdMsg)
		req[0] = family
		req = putU32(req, unix.NDA_IFINDEX, index)
		var found [][]byte
		err := n.dump(ctx, unix.RTM_GETNEIGH, req, unix.RTM_NEWNEIGH, func() { found = nil }, func(msg []byte) {
			if len(msg) < unix.SizeofNdMsg || msg[0] != family || native.Uint32(msg[4:]) != index || native.Uint16(msg[8:])&usable == 0 {
				return
			}
			again := make([]byte, unix.SizeofNdMsg)
			copy(again, msg[:unix.SizeofNdMsg])
			native.PutUint16(again[8:], unix.NUD_STALE)
			for kind, a := range attrs(msg[unix.SizeofNdMsg:]) {
				if kind == unix.NDA_DST || kind == unix.NDA_LLADDR {
					again = put(again, kind, value(a)...)
				}
			}
			found = append(found, again)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
