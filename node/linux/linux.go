//go:build linux

// Package linux is the kernel of this machine as an engine.Node: links,
// addresses, routes and facts, read and changed over rtnetlink.
//
// It uses the nl layer of vishvananda/netlink, and not that package's structs,
// for these lose attributes: what is read here and put back later must be what
// was there. An attribute that the resource types have no field for is carried
// as bytes.
//
//	linux.go      the node, and which request answers which selector
//	socket.go     sockets, requests, the kernel's errors
//	attr.go       netlink attributes as bytes
//	filter.go     choosing routes by their bytes, before they are decoded
//	decode.go     bytes to Route
//	encode.go     Route to bytes
//	apply.go      compare, change, put back, read back
//	converge.go   from the routes of one identity to others, message by message
//	session.go    TCP sessions over sock_diag; way.go and own.go serve it
//	addrstep.go   from the addresses of one link to others, in their order
//	link.go, addr.go, rule.go, neigh.go, nexthop.go, facts.go
package linux

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netns"

	"runbook/engine"
	"runbook/engine/resource"
)

// Node is the kernel in one network namespace. It is safe for concurrent use.
type Node struct {
	ns netns.NsHandle // where sockets are opened; closed handle: where the caller is

	sysctls  sysctls
	applying sync.Mutex // held from the comparison to the last message of an Apply

	mu     sync.Mutex // guards what follows
	idle   []*socket
	closed bool
}

var (
	_ engine.Node        = (*Node)(nil)
	_ engine.Sequencer   = (*Node)(nil)
	_ engine.Snapshotter = (*Node)(nil)
)

// Open returns the kernel as seen from the network namespace of the process.
func Open() (*Node, error) { return open(netns.None()) }

// OpenAt returns the kernel as seen from the network namespace at nsPath, such
// as /run/netns/lab1. Facts are those of the calling process all the same. It
// needs CAP_SYS_ADMIN.
func OpenAt(nsPath string) (*Node, error) {
	ns, err := netns.GetFromPath(nsPath)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", nsPath, err)
	}
	return open(ns)
}

func open(ns netns.NsHandle) (*Node, error) {
	n := &Node{ns: ns}
	s, err := n.socket()
	if err != nil {
		n.Close()
		return nil, err
	}
	n.release(s)
	return n, nil
}

// Close implements engine.Node.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	for _, s := range n.idle {
		s.Close()
	}
	n.idle = nil
	n.sysctls.close()
	if n.ns.IsOpen() {
		return n.ns.Close()
	}
	return nil
}

// Read implements engine.Reader. Each kind of resource that q asks for costs
// one dump for each family, however many selectors there are.
func (n *Node) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	r, err := n.read(ctx, q)
	return r.state, err
}

// Snapshot implements engine.Snapshotter. Of a node with more than max routes
// it reads no more than so many. Sessions do not count, they are few groups always, and what the machine is.
func (n *Node) Snapshot(ctx context.Context, max int) (resource.State, bool, error) {
	routes, err := n.routes(ctx, resource.Query{{Kind: resource.KindRoute}}, max)
	if errors.Is(err, errTooMany) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	out, err := n.readOthers(ctx, resource.Query{
		{Kind: resource.KindLink}, {Kind: resource.KindAddr}, {Kind: resource.KindRule}, {Kind: resource.KindNexthop},
	})
	if err != nil || len(out)+len(routes) > max {
		return nil, false, err
	}
	for _, r := range routes {
		out[r.Key()] = r.Route
	}
	f, err := facts()
	if err != nil {
		return nil, false, err
	}
	out[f.Key()] = f
	return out, true, n.readSessions(ctx, resource.Query{{Kind: resource.KindSession}}, out)
}

// readOthers reads what q selects of everything but routes.
func (n *Node) readOthers(ctx context.Context, q resource.Query) (resource.State, error) {
	out := resource.State{}
	var links, addrs, rules, neighs, nexthops, sessions, sockets resource.Query
	for _, s := range q {
		switch s.Kind {
		case resource.KindLink:
			links = append(links, s)
		case resource.KindAddr:
			addrs = append(addrs, s)
		case resource.KindRule:
			rules = append(rules, s)
		case resource.KindNeigh:
			neighs = append(neighs, s)
		case resource.KindNexthop:
			nexthops = append(nexthops, s)
		case resource.KindSession:
			sessions = append(sessions, s)
		case resource.KindSockets:
			sockets = append(sockets, s)
		case resource.KindRoute:
		case resource.KindMemory: // a kernel has none: node/guard adds it
		case resource.KindFacts:
			f, err := facts()
			if err != nil {
				return nil, err
			}
			out[f.Key()] = f
		default:
			return nil, fmt.Errorf("a linux node has no resources of the kind %q", s.Kind)
		}
	}
	return out, errors.Join(n.links(ctx, links, out), n.addrs(ctx, addrs, out), n.rules(ctx, rules, out),
		n.neighs(ctx, neighs, out), n.nexthops(ctx, nexthops, out), n.readSessions(ctx, sessions, out), n.readSockets(ctx, sockets, out))
}
