package builtins

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["pg.connections"] = PgConnections{}
	Operations["pg.locks"] = PgLocks{}
	Operations["pg.replication"] = PgReplication{}
	Operations["pg.query"] = PgQuery{}
}

// This file looks at a Postgres server. Its settings are in pgset.go, the ending
// of sessions in pgterminate.go, pgbouncer in bouncer.go.

// askServer reads what a server is, and of it what q selects.
func askServer(ctx context.Context, n engine.Reader, server string, q ...resource.Selector) (resource.Postgres, resource.State, error) {
	s, err := n.Read(ctx, append(resource.Query{{Kind: resource.KindPostgres, Name: server}}, q...))
	if err != nil {
		return resource.Postgres{}, nil, err
	}
	p, ok := resource.Get[resource.Postgres](s, resource.PostgresKey(server))
	if !ok {
		return p, nil, engine.Unreachable.Errorf("nothing is known of a Postgres %s", server)
	}
	return p, s, nil
}

// needsSight is an error where the role that asks cannot see the sessions of others. It
// would find only its own, and take a full server for an empty one.
func needsSight(p resource.Postgres) error {
	if p.SeesAll || p.Superuser {
		return nil
	}
	return &engine.Error{
		Code: engine.Unreachable, Cause: fmt.Sprintf("role %s cannot see the sessions of others at Postgres %s, and would take a full server for an empty one", p.Role, engine.ShortServer(p.Server)),
		Hint: fmt.Sprintf("GRANT pg_monitor TO %s, or pg_read_all_stats, which is the part of it that is needed", p.Role),
	}
}

// PgConnections tells how many connections a Postgres server has left, and who has
// the others. It fails where the role that asks cannot see the sessions of all others.
//
// It returns max (max_connections), reserved (of these, for superusers and such), capacity
// (what the rest can have), used (clients' sessions), free, free_pct (a whole number, rounded down); active,
// idle and idle_in_transaction (how many sessions are); by_state, by_application, by_client (an
// address, or "local"), by_user, by_db and by_age, each a list of name and count, the largest first; longest (the
// ten longest transactions: pid, user, db, application, client, state, wait, and xact_for, query_for, state_for and age in
// seconds); oldest (the age of the oldest session, in seconds); version (a whole number such as 15), in_recovery, and
// pooler (a pooler stands between).
//
//	db = node.pg("service=main").connections()
//	expect(db.free_pct > 20, "Postgres has %d of %d connections left" % (db.free, db.capacity))
type PgConnections struct {
	Server string `json:"server"` // its DSN, without a password
}

func (o PgConnections) String() string { return o.Server }

// Validate checks the arguments.
func (o PgConnections) Validate() error { return resource.CheckServer(o.Server) }

// Look implements [engine.Probe].
func (o PgConnections) Look(ctx context.Context, n engine.Reader) (any, error) {
	p, s, err := askServer(ctx, n, o.Server, resource.Selector{Kind: resource.KindBackend, Name: o.Server})
	if err == nil {
		err = needsSight(p)
	}
	if err != nil {
		return nil, err
	}
	clients := slices.DeleteFunc(resource.All[resource.Backend](s), func(b resource.Backend) bool { return b.Type != resource.ClientBackend })
	capacity := max(0, p.Max-p.Reserved)
	free := max(0, capacity-len(clients))
	out := map[string]any{
		"version": p.Major(), "in_recovery": p.InRecovery, "pooler": p.Pooler,
		"max": p.Max, "reserved": p.Reserved, "capacity": capacity, "used": len(clients), "free": free, "free_pct": 0,
		"longest": longest(clients), "oldest": 0.0,
	}
	if capacity > 0 {
		out["free_pct"] = 100 * free / capacity
	}
	for name, by := range map[string]func(resource.Backend) string{
		"by_state": func(b resource.Backend) string { return b.State }, "by_application": func(b resource.Backend) string { return b.Application },
		"by_user": func(b resource.Backend) string { return b.User }, "by_db": func(b resource.Backend) string { return b.DB },
		"by_client": from, "by_age": ageClass,
	} {
		out[name] = tally(clients, by)
	}
	for name, state := range map[string]string{"active": "active", "idle": resource.Idle, "idle_in_transaction": "idle in transaction"} {
		n := 0
		for _, b := range clients {
			if b.State == state {
				n++
			}
		}
		out[name] = n
	}
	if len(clients) > 0 {
		out["oldest"] = seconds(slices.MaxFunc(clients, func(a, b resource.Backend) int { return cmp.Compare(a.Age, b.Age) }).Age)
	}
	return out, nil
}

// from is the address that a session came from, or "local".
func from(b resource.Backend) string {
	if !b.Client.IsValid() {
		return "local"
	}
	return b.Client.Addr().String()
}

// ageClasses are how old sessions are told apart.
var ageClasses = []struct {
	under time.Duration
	name  string
}{{time.Minute, "under 1m"}, {10 * time.Minute, "under 10m"}, {time.Hour, "under 1h"}, {24 * time.Hour, "under 1d"}, {math.MaxInt64, "1d and more"}}

func ageClass(b resource.Backend) string {
	for _, c := range ageClasses {
		if time.Duration(b.Age) < c.under {
			return c.name
		}
	}
	return "" // the last is for all
}

// tally counts sessions by a name, the largest count first.
func tally(sessions []resource.Backend, by func(resource.Backend) string) []any {
	counts := map[string]int{}
	for _, b := range sessions {
		counts[by(b)]++
	}
	var names []string
	for n := range counts {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	out := []any{}
	for _, n := range names {
		out = append(out, map[string]any{"name": n, "count": counts[n]})
	}
	return out
}

// longest are the ten sessions that have been in a transaction for the longest time.
func longest(sessions []resource.Backend) []any {
	in := slices.DeleteFunc(slices.Clone(sessions), func(b resource.Backend) bool { return b.XactFor == 0 })
	slices.SortFunc(in, func(a, b resource.Backend) int { return cmp.Or(cmp.Compare(b.XactFor, a.XactFor), a.PID-b.PID) })
	out := []any{}
	for _, b := range in[:min(len(in), 10)] {
		out = append(out, session(b))
	}
	return out
}

// session is a session as scripts see it.
func session(b resource.Backend) map[string]any {
	return map[string]any{
		"pid": b.PID, "user": b.User, "db": b.DB, "application": b.Application, "client": from(b), "state": b.State, "wait": b.Wait,
		"age": seconds(b.Age), "state_for": seconds(b.StateFor), "xact_for": seconds(b.XactFor), "query_for": seconds(b.QueryFor),
	}
}

// seconds is d in seconds, to the millisecond.
func seconds(d resource.Duration) float64 { return math.Round(time.Duration(d).Seconds()*1000) / 1000 }

// rowsOf asks a server a question.
func rowsOf(ctx context.Context, n engine.Reader, server, ask string) (resource.Rows, error) {
	q := resource.Selector{Kind: resource.KindRows, Name: server, Ask: ask}
	found, err := list[resource.Rows](ctx, n, q)
	if err == nil && len(found) == 0 {
		e := &engine.Error{Code: engine.Unreachable, Hint: "t.bouncer gives one: shows = {…: [{…}]}"} // a server has one to each: this is one that a test has made
		if own, is := resource.ParseAsk(ask); is {
			ask = fmt.Sprintf("%q, with the args %v", own.Query, own.Args)
			e.Hint = "t.pg gives one: queries = [{\"sql\": …, \"args\": […], \"rows\": [{…}]}]"
		}
		e.Cause = fmt.Sprintf("%s has no answer to %s", server, ask)
		err = e
	}
	if err != nil {
		return resource.Rows{}, err
	}
	return found[0], nil
}

// records are the rows as scripts see them.
func records(r resource.Rows) []any {
	out := []any{}
	for _, row := range r.Records() {
		out = append(out, row)
	}
	return out
}

// PgLocks tells who waits for a lock at a Postgres server, and for whom: a list, the longest wait
// first, of pid, user, db, application, state, lock (its type), mode, relation (with its schema; "" where it is of none), blocked_by
// (pids) and waits (seconds).
//
//	waiting = [l for l in node.pg("service=main").locks() if l.waits > 60]
type PgLocks struct {
	Server string `json:"server"` // its DSN, without a password
}

func (o PgLocks) String() string { return o.Server }

// Validate checks the arguments.
func (o PgLocks) Validate() error { return resource.CheckServer(o.Server) }

// Look implements [engine.Probe].
func (o PgLocks) Look(ctx context.Context, n engine.Reader) (any, error) {
	p, _, err := askServer(ctx, n, o.Server)
	if err == nil {
		err = needsSight(p)
	}
	if err != nil {
		return nil, err
	}
	r, err := rowsOf(ctx, n, o.Server, "locks")
	if err != nil {
		return nil, err
	}
	return records(r), nil
}

// PgReplication tells how a Postgres server's copies keep up.
//
// It returns in_recovery (the server is itself a copy); standbys (those that follow it: application, client,
// user, state, sync_state, lag_bytes, and lag in seconds, None where nothing was written lately); slots (name, type, db,
// active, wal_status, keeps_bytes: how much is kept for it); and receiver, of a server in recovery (status, sender, port,
// lag_bytes, lag), or None.
//
//	r = node.pg("service=main").replication()
//	expect(all([s.state == "streaming" for s in r.standbys]), "a standby does not follow")
type PgReplication struct {
	Server string `json:"server"` // its DSN, without a password
}

func (o PgReplication) String() string { return o.Server }

// Validate checks the arguments.
func (o PgReplication) Validate() error { return resource.CheckServer(o.Server) }

// Look implements [engine.Probe].
func (o PgReplication) Look(ctx context.Context, n engine.Reader) (any, error) {
	p, _, err := askServer(ctx, n, o.Server)
	if err == nil {
		err = needsSight(p)
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{"in_recovery": p.InRecovery, "receiver": nil}
	for _, ask := range []string{"standbys", "slots", "receiver"} {
		r, err := rowsOf(ctx, n, o.Server, ask)
		if err != nil {
			return nil, err
		}
		switch all := records(r); {
		case ask != "receiver":
			out[ask] = all
		case len(all) > 0:
			out[ask] = all[0]
		}
	}
	return out, nil
}

// PgQuery asks a Postgres server one query, in a transaction that only reads, and returns a list of
// its rows: r.name is what its column name has. It takes ten seconds at most, and gives a thousand rows at most.
//
// A whole number, a float (also of a numeric that is no whole number), a bool, None and JSON are
// as such; all else is text. What would do more than look is refused, a call of pg_terminate_backend just as a DELETE.
//
//	late = node.pg("service=shop").query("select count(*) as n from jobs where due < now() - $1::interval", args = ["1 hour"])[0].n
type PgQuery struct {
	Server string `json:"server"` // its DSN, without a password
	SQL    string `json:"sql"`
	Args   []any  `json:"args,omitempty"` // what stands for $1, $2, …: text, numbers, bools and None
}

func (o PgQuery) String() string { return o.Server }

// Validate checks the arguments.
func (o PgQuery) Validate() error {
	for i, a := range o.Args {
		switch a.(type) {
		case map[string]any, []any:
			return fmt.Errorf("args[%d]: want text, a number, a bool or None", i)
		}
	}
	if o.SQL == "" {
		return fmt.Errorf("sql is empty: want a query, such as select 1 as n")
	}
	return resource.CheckServer(o.Server)
}

// Look implements [engine.Probe].
func (o PgQuery) Look(ctx context.Context, n engine.Reader) (any, error) {
	ask, err := resource.AskSQL(resource.SQL{Query: o.SQL, Args: o.Args})
	if err != nil {
		return nil, err
	}
	r, err := rowsOf(ctx, n, o.Server, ask)
	if err != nil {
		return nil, err
	}
	for i, c := range r.Columns {
		if c == "?column?" || slices.Contains(r.Columns[:i], c) {
			return nil, &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("the query has a column without a name of its own, number %d (%s)", i+1, c), Hint: "name it: select … as n"}
		}
	}
	return records(r), nil
}
