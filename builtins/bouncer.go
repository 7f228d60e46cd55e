package builtins

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["bouncer.show"] = BouncerShow{}
	Operations["bouncer.pause"] = BouncerPause{}
	Operations["bouncer.resume"] = BouncerResume{}
	Operations["bouncer.kill"] = BouncerKill{}
	Operations["bouncer.reconnect"] = BouncerReconnect{}
}

// shown are what a console shows.
var shown = []string{
	"clients", "config", "databases", "dns_hosts", "lists", "mem", "pools", "servers", "sockets", "stats", "stats_averages", "stats_totals", "users", "version",
}

// BouncerShow returns what a pgbouncer's console shows: a list, with the columns of SHOW.
//
//	waiting = [p for p in node.bouncer("host=bouncer-1 port=6432 dbname=pgbouncer user=stats").show("pools") if p.cl_waiting > 0]
type BouncerShow struct {
	Server string `json:"server"` // the DSN of its console, without a password: dbname=pgbouncer
	What   string `json:"what"`   // such as "pools", "servers", "databases", "clients", "stats"
}

func (o BouncerShow) String() string { return o.What }

// Validate checks the arguments.
func (o BouncerShow) Validate() error {
	if !slices.Contains(shown, o.What) {
		return fmt.Errorf("what is %q: want one of %s", o.What, strings.Join(shown, ", "))
	}
	return resource.CheckServer(o.Server)
}

// Look implements [engine.Probe].
func (o BouncerShow) Look(ctx context.Context, n engine.Reader) (any, error) {
	r, err := rowsOf(ctx, n, o.Server, "show "+o.What)
	if err != nil {
		return nil, err
	}
	return records(r), nil
}

// pool reads a database of a pgbouncer, and its connections to Postgres.
func pool(ctx context.Context, n engine.Reader, server, db string, connections bool) (resource.Pool, []resource.Pooled, error) {
	k := resource.PoolKey(server, db)
	q := resource.Query{{Kind: resource.KindPool, Name: server, Key: k}}
	if connections {
		q = append(q, resource.Selector{Kind: resource.KindPooled, Name: server})
	}
	s, err := n.Read(ctx, q)
	if err != nil {
		return resource.Pool{}, nil, err
	}
	p, ok := resource.Get[resource.Pool](s, k)
	if !ok {
		return p, nil, engine.Invalid.Errorf("pgbouncer %s has no database %s", server, db)
	}
	mine := slices.DeleteFunc(resource.All[resource.Pooled](s), func(c resource.Pooled) bool { return c.DB != db || c.Closing })
	return p, mine, nil
}

func checkPool(server, db string) error {
	if db == "" {
		return fmt.Errorf("db is empty: want the name of a database, as clients of the pgbouncer have it")
	}
	return resource.CheckServer(server)
}

// paused is what a change that opens or closes a database to its clients makes of it.
func paused(ctx context.Context, n engine.Reader, server, db string, is bool) (resource.State, error) {
	p, _, err := pool(ctx, n, server, db, false)
	if err != nil {
		return nil, err
	}
	p.Paused = is
	return resource.Of(p), nil
}

// BouncerPause has a pgbouncer hold the clients of a database back, from their next transaction on in its
// pool mode transaction: they wait, and are not cut. It waits itself until all connections to Postgres are
// free. Where that takes too long, the clients are let on again.
//
// If the database is paused already, it changes nothing. An undo resumes it. It returns changed (a bool).
//
//	node.bouncer("host=bouncer-1 port=6432 dbname=pgbouncer user=admin").pause("shop")
type BouncerPause struct {
	Server string `json:"server"` // the DSN of its console, without a password: dbname=pgbouncer
	DB     string `json:"db"`     // as its clients name it
}

func (o BouncerPause) String() string { return o.DB }

// Disrupts implements [engine.Disruptor].
func (BouncerPause) Disrupts() {}

// Validate checks the arguments.
func (o BouncerPause) Validate() error { return checkPool(o.Server, o.DB) }

// Plan implements [engine.Change].
func (o BouncerPause) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	return paused(ctx, n, o.Server, o.DB, true)
}

// Result implements [engine.Change].
func (o BouncerPause) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// BouncerResume has a pgbouncer let the clients of a database on that was paused or killed.
//
// If it is not paused, it changes nothing. An undo pauses it. It returns changed (a bool).
//
//	node.bouncer("host=bouncer-1 port=6432 dbname=pgbouncer user=admin").resume("shop")
type BouncerResume struct {
	Server string `json:"server"` // the DSN of its console, without a password: dbname=pgbouncer
	DB     string `json:"db"`     // as its clients name it
}

func (o BouncerResume) String() string { return o.DB }

// Validate checks the arguments.
func (o BouncerResume) Validate() error { return checkPool(o.Server, o.DB) }

// Plan implements [engine.Change].
func (o BouncerResume) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	return paused(ctx, n, o.Server, o.DB, false)
}

// Result implements [engine.Change].
func (o BouncerResume) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// BouncerKill has a pgbouncer cut all connections of a database at once, those of its clients and those to Postgres, and
// hold clients back that come from then on.
//
// If the database is paused and has no connection, it changes nothing. An undo resumes it; what was cut stays
// so. It returns changed (a bool) and connections (how many there were to Postgres).
//
//	node.bouncer("host=bouncer-1 port=6432 dbname=pgbouncer user=admin").kill("shop")
type BouncerKill struct {
	Server string `json:"server"` // the DSN of its console, without a password: dbname=pgbouncer
	DB     string `json:"db"`     // as its clients name it
}

func (o BouncerKill) String() string { return o.DB }

// Disrupts implements [engine.Disruptor].
func (BouncerKill) Disrupts() {}

// Validate checks the arguments.
func (o BouncerKill) Validate() error { return checkPool(o.Server, o.DB) }

// Plan implements [engine.Change].
func (o BouncerKill) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	p, connections, err := pool(ctx, n, o.Server, o.DB, true)
	if err != nil {
		return nil, err
	}
	p.Paused = true
	want := resource.Of(p)
	for _, c := range connections {
		want[c.Key()] = nil
	}
	return want, nil
}

// Shape implements [engine.Shaper].
func (o BouncerKill) Shape(e *engine.Edit) {
	e.Verb = "kill"
	about(e, nil)
}

// Result implements [engine.Change].
func (o BouncerKill) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// Tell implements [engine.Teller].
func (o BouncerKill) Tell(e engine.Edit) any { return cut(e) }

// BouncerReconnect has a pgbouncer close each connection of a database to Postgres that is there now, as soon as its
// client is through with it, and make new ones for those who come: after a failover, or when Postgres has moved.
//
// If there is none, it changes nothing. There is nothing to take back. It returns changed (a bool) and
// connections (how many).
//
//	node.bouncer("host=bouncer-1 port=6432 dbname=pgbouncer user=admin").reconnect("shop")
type BouncerReconnect struct {
	Server string `json:"server"` // the DSN of its console, without a password: dbname=pgbouncer
	DB     string `json:"db"`     // as its clients name it
}

func (o BouncerReconnect) String() string { return o.DB }

// Validate checks the arguments.
func (o BouncerReconnect) Validate() error { return checkPool(o.Server, o.DB) }

// Plan implements [engine.Change].
func (o BouncerReconnect) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	_, connections, err := pool(ctx, n, o.Server, o.DB, true)
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	for _, c := range connections {
		want[c.Key()] = nil
	}
	return want, nil
}

// Shape implements [engine.Shaper].
func (o BouncerReconnect) Shape(e *engine.Edit) {
	e.Verb = "reconnect"
	about(e, nil)
}

// Result implements [engine.Change].
func (o BouncerReconnect) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// Tell implements [engine.Teller].
func (o BouncerReconnect) Tell(e engine.Edit) any { return cut(e) }

// cut is the result of a change that ends connections.
func cut(e engine.Edit) any {
	n := 0
	for _, c := range e.Diff() {
		if c.Ends() {
			n++
		}
	}
	return map[string]any{"changed": e.Happens(), "connections": n}
}
