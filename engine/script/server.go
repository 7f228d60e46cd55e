package script

import (
	"fmt"
	"strings"

	"go.starlark.net/starlark"

	"runbook/engine"
)

// This file is how scripts reach servers, such as a database: through the domains of
// operations whose first argument is the server. What a server can be asked is
// what that returns which names it:
//
//	node.pg("dbname=app")                the node's own: it is as much a part of it as its routes
//	pg.connect("service=main", via = n)  a target that several nodes share

// serverArg is the name of the argument that makes an operation one of a server.
const serverArg = "server"

// maxServer bounds what names a server, in bytes.
const maxServer = 1000

// server is a domain of operations that servers take.
type server struct {
	domain  string
	methods starlark.StringDict
}

// ofServer reports whether op is done to a server.
func ofServer(op engine.Operation) bool {
	args := engine.Args(op)
	return len(args) > 0 && args[0].Name == serverArg
}

// own implements node.pg(server): is a Postgres server that the node has to itself, which run may change as it may the node; node.bouncer(server) is
// the console of its pgbouncer. What it can be asked stands under pg and bouncer.
//
//	db = node.pg("dbname=app").connections()
func (s server) own(_ *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	if err := unpack(s.domain, args, kwargs, serverArg, &name); err != nil {
		return nil, err
	}
	if err := s.valid(s.domain, name); err != nil {
		return nil, err
	}
	node, _ := asked(fn)
	return s.of(node, name), nil
}

// connect implements pg.connect(server, via = None): is a Postgres server that several nodes share, reached from here, or through the SSH connection to
// the node via; bouncer.connect is the console of a pgbouncer. Everybody may look at it; before and after may change it, once for all nodes. The name of a
// server is a DSN or a service of ~/.pg_service.conf, and has no password in it, which belongs in ~/.pgpass.
//
//	db = pg.connect("service=main", via = "db-1").connections()
func (s server) connect(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	var through starlark.Value = starlark.None
	fn := s.domain + ".connect"
	if err := unpack(fn, args, kwargs, serverArg, &name, "via?", &through); err != nil {
		return nil, err
	}
	t := engine.Target{Domain: s.domain, Server: name}
	switch v := through.(type) {
	case starlark.NoneType:
	case starlark.String:
		if t.Via = string(v); strings.TrimSpace(t.Via) == "" { // from here the same words may reach another server
			return nil, invalid("", "%s: via names no node: leave it out, if the server is to be reached from here", fn)
		}
	case *onNode:
		t.Via = v.node
	default:
		return nil, invalid("", "%s: via: want a node or its name, got %s", fn, describe(through))
	}
	if err := s.valid(fn, name); err != nil {
		return nil, err
	}
	return s.of(t.String(), name), nil
}

func (s server) valid(fn, name string) error {
	switch {
	case strings.TrimSpace(name) == "" || len(name) > maxServer:
		return invalid("", "%s: server must have 1 to %d bytes", fn, maxServer)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) || strings.Contains(name, " via "):
		return invalid("", "%s: server: %s names none", fn, describe(starlark.String(name)))
	}
	return nil
}

// of is what a server can be asked: node is the node that it is part of, or the name of the target.
func (s server) of(node, name string) starlark.Value {
	bound := starlark.StringDict{}
	for method, fn := range s.methods {
		bound[method] = fn.(*starlark.Builtin).BindReceiver(starlark.Tuple{starlark.String(node), starlark.String(name)})
	}
	r := newRecord(s.domain, bound)
	r.Freeze()
	return r
}

// serverName is how r is called where it is what a server can be asked, or "".
func serverName(r *record) string {
	for _, v := range r.open().values {
		fn, is := v.(*starlark.Builtin)
		if !is {
			return ""
		}
		switch node, server := asked(fn); {
		case server == "":
			return ""
		case engine.IsTarget(node):
			return node
		default:
			return strings.TrimSuffix(r.kind+" "+server+" of "+node, " of ")
		}
	}
	return ""
}

// asked is the node of a fleet, or the target, that fn is of, or "", and the server that it is of, or "".
func asked(fn *starlark.Builtin) (node, server string) {
	switch r := fn.Receiver().(type) {
	case starlark.String:
		node = string(r)
	case starlark.Tuple:
		node, server = string(r[0].(starlark.String)), string(r[1].(starlark.String))
	}
	return node, server
}

// serversOf are the domains of servers among domains, as modules that connect to targets.
func serversOf(domains map[string]starlark.StringDict, ops engine.Operations) (map[string]server, starlark.StringDict) {
	servers, modules := map[string]server{}, starlark.StringDict{}
	for domain, methods := range domains {
		n := 0
		for method := range methods {
			if ofServer(ops[domain+"."+method]) {
				n++
			}
		}
		switch n {
		case 0:
		case len(methods):
			s := server{domain, methods}
			servers[domain] = s
			modules[domain] = newRecord(domain, starlark.StringDict{"connect": starlark.NewBuiltin(domain+".connect", s.connect)})
		default:
			panic(fmt.Sprintf("some operations of %s are of servers, and others are not", domain))
		}
	}
	modules.Freeze()
	return servers, modules
}
