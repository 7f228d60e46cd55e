// Package pg is a Postgres server as a kind of node: it can be read and changed
// through the life of a change that is there.
//
// A [Server] is one server under its name, which is its DSN. [Beside] puts servers beside a
// machine, so that whoever works on the machine asks for both.
//
// A server keeps one connection from its first use on, so that a gate can still look
// when nobody else gets in. All that only looks is done in read-only transactions that end soon.
// What is set through a pooler is set for one transaction alone, so that it hands it to nobody else. Names in statements
// are those of Postgres, whatever the owner of the database has made of them; in a runbook's own queries they are what they are to the role.
//
//	dsn.go       the DSN, and how it is dialed
//	pg.go        the connection, and transactions
//	read.go      what a server holds
//	rows.go      questions: queries of a runbook's own, and those that have names
//	apply.go     comparing, changing, reading back
//	setting.go   ALTER SYSTEM
//	terminate.go ending sessions
//	hold.go      one run at a time
//	console.go   a pgbouncer, by its console
//	beside.go    servers beside a machine
//	errors.go    what goes wrong, in our words
//
// # Versions
//
// From 13 to 18. What differs among them, and is told apart where it is used:
//
//   - 14: idle_session_timeout; before, no server ends an idle session by itself.
//   - 15: rights to single settings (has_parameter_privilege); before, only superusers have ALTER SYSTEM.
//   - 16: reserved_connections; before, superuser_reserved_connections are all that is reserved.
//   - 17: pg_replication_slots has inactive_since.
//
// What all of them have is used in the form that 13 knows: pg_terminate_backend with one
// argument, extract(epoch …), which is a float8 there and numeric from 14 on.
package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
)

// Server is one Postgres server, or the console of a pgbouncer. It is safe for concurrent use:
// one statement goes on at a time.
type Server struct {
	name   string // the DSN as it was written
	config *pgconn.Config

	turn chan struct{}  // holds one token; whoever has it may use what is below
	conn *pgconn.PgConn // nil: there is none
	is   identity       // of what conn leads to
	held *pgconn.PgConn // that has the server for a run: see hold.go
}

var (
	_ engine.Node   = (*Server)(nil)
	_ engine.Holder = (*Server)(nil)
)

// identity is what was found out about a server when it was connected to.
type identity struct {
	console bool // it is the console of a pgbouncer
	pooler  bool // a pooler is between
	bytes   bool // the database takes text for bytes: names in it can be of any encoding
	version int  // server_version_num
}

// oldest is the version, as server_version_num, before which nothing is known here.
const oldest = 130000

// How long statements may take, by the server's own clock, and wait for what is locked.
var statementWithin = 10 * time.Second

const lockWithin = 2 * time.Second

// Open returns the server with the DSN server, to which it connects when it is first
// used, by dial, or from this machine where that is nil. An error is about the DSN.
func Open(server string, dial Dial) (*Server, error) {
	config, err := configOf(server, dial)
	if err != nil {
		return nil, err
	}
	return &Server{name: server, config: config, turn: make(chan struct{}, 1)}, nil
}

// Close implements [engine.Node].
func (s *Server) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx) //nolint:errcheck // it is over in any case
	s.conn = nil
	return nil
}

// take waits for the turn of the caller, who must give it back.
func (s *Server) take(ctx context.Context) (give func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connection is the one that there is, or a new one.
func (s *Server) connection(ctx context.Context) (*pgconn.PgConn, error) {
	if s.conn != nil && !s.conn.IsClosed() {
		return s.conn, nil
	}
	c, err := pgconn.ConnectConfig(ctx, s.config)
	if err != nil {
		return nil, err
	}
	if s.is, err = s.identify(ctx, c); err != nil {
		c.Close(ctx) //nolint:errcheck // it is of no use
		return nil, err
	}
	s.conn = c
	return c, nil
}

// identify finds out what is at the other end of c.
func (s *Server) identify(ctx context.Context, c *pgconn.PgConn) (identity, error) {
	if strings.Contains(c.ParameterStatus("server_version"), "bouncer") {
		return identity{console: true}, nil
	}
	// All in one request, and first of all with names that mean what they mean to Postgres.
	all, err := c.Exec(ctx, fmt.Sprintf("begin read only; set local statement_timeout = %d; set local search_path = pg_catalog, pg_temp; %s; commit", statementWithin.Milliseconds(), identitySQL)).ReadAll()
	if err != nil {
		return identity{}, err
	}
	var found struct {
		Version, PID int
		Start        time.Time
	}
	said := slices.IndexFunc(all, func(r *pgconn.Result) bool { return len(r.Rows) > 0 })
	if said < 0 {
		return identity{}, errors.New("the server does not say what it is")
	}
	if err := answer(all[said], &found); err != nil {
		return identity{}, err
	}
	if found.Version < oldest {
		return identity{}, engine.Unreachable.Errorf("Postgres %s is of version %s, which is too old: 13 is the oldest that is known here", s.name, c.ParameterStatus("server_version"))
	}
	// Whoever is at the other end gives a number under which queries are canceled. Of a pooler it is its own.
	is := identity{version: found.Version, pooler: uint32(found.PID) != c.PID(), bytes: c.ParameterStatus("server_encoding") == "SQL_ASCII"}
	if is.pooler {
		return is, nil
	}
	ownSessions.Store(sessionOf(found.PID, found.Start), true)
	_, err = c.Exec(ctx, is.settings("set ")).ReadAll() // for what can be in no transaction; and the server is not to end the connection that is kept
	return is, err
}

// identitySQL is what a server says of itself, and of the session that asks.
var identitySQL = `select json_build_object('version', current_setting('server_version_num')::int, 'pid', pg_backend_pid(),
  'start', (select ` + instant("backend_start") + ` from pg_stat_activity where pid = pg_backend_pid()))`

// ownSessions are the sessions of this process, by [sessionOf]: a run may have several at a server, one for each
// of its databases, or node that it is reached through, and must end none of them.
var ownSessions sync.Map

// session tells a session from all others.
type session struct {
	pid   int
	start int64 // in microseconds
}

func sessionOf(pid int, start time.Time) session { return session{pid, start.UnixMicro()} }

// use calls f with the connection. What f has begun and not ended is over then. A connection
// that turns out to be lost is made again, once, where that cannot do anything twice.
func (s *Server) use(ctx context.Context, looks bool, f func(*pgconn.PgConn) error) error {
	for again := looks; ; again = false {
		kept := s.conn != nil
		c, err := s.connection(ctx)
		if err != nil {
			return s.failed(ctx, err)
		}
		err = f(c)
		if err != nil && !c.IsClosed() && c.TxStatus() != 'I' {
			s.end(ctx, c)
		}
		if err == nil || !c.IsClosed() || !kept || ctx.Err() != nil || !again && !pgconn.SafeToRetry(err) {
			return s.failed(ctx, err)
		}
	}
}

// end ends the transaction in which c is left by an error.
func (s *Server) end(ctx context.Context, c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockWithin)
	defer cancel()
	if _, err := c.Exec(ctx, "rollback").ReadAll(); err != nil {
		c.Close(ctx) //nolint:errcheck // it cannot be used any more
	}
}

// ownSetting is a setting that a connection has otherwise than its role and its database have it.
type ownSetting struct {
	name, value string
	since       int // the version that knows it first
}

// ownSettings keep what roles and databases have from getting in the way of what is done here. Who owns a
// database can have every name in a statement mean a function of his own, which would then do whatever the role
// may; so names are those of Postgres itself.
func ownSettings() []ownSetting {
	return []ownSetting{
		{"statement_timeout", strconv.FormatInt(statementWithin.Milliseconds(), 10), 0},
		{"lock_timeout", strconv.FormatInt(lockWithin.Milliseconds(), 10), 0},
		{"idle_in_transaction_session_timeout", "0", 0},
		{"idle_session_timeout", "0", 140000},
		{"transaction_timeout", "0", 170000},
		{"search_path", "pg_catalog, pg_temp", 0},
	}
}

// settings are the statements that make them so, each of which begins with set.
func (is identity) settings(set string) string {
	var out []string
	for _, o := range ownSettings() {
		if is.version >= o.since {
			out = append(out, set+o.name+" = "+o.value)
		}
	}
	if is.bytes { // or one name that is no UTF-8 would keep all from being read
		out = append(out, set+"client_encoding = sql_ascii")
	}
	return strings.Join(out, "; ")
}

// purpose is what a transaction is for: the statement with which it begins.
type purpose string

const (
	toLook purpose = "begin read only"
	toAct  purpose = "begin"
)

// transaction calls f in a transaction.
func (s *Server) transaction(ctx context.Context, p purpose, f func(*pgconn.PgConn) error) error {
	return s.use(ctx, p != toAct, func(c *pgconn.PgConn) error {
		if s.is.console {
			return s.isConsole()
		}
		if _, err := c.Exec(ctx, string(p)+"; "+s.is.settings("set local ")).ReadAll(); err != nil {
			return err
		}
		if err := f(c); err != nil {
			return err
		}
		_, err := c.Exec(ctx, "commit").ReadAll()
		return err
	})
}

// isConsole is the error for asking the console of a pgbouncer what Postgres knows.
func (s *Server) isConsole() error {
	return &engine.Error{
		Code: engine.Invalid, Cause: fmt.Sprintf("%s is the console of a pgbouncer, and no Postgres", s.name),
		Hint: "name another database than pgbouncer; bouncer.show and its like ask the console",
	}
}

// ask does a query whose one value is JSON, and reads it into v.
func ask(ctx context.Context, c *pgconn.PgConn, v any, sql string, args ...string) error {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	return answer(c.ExecParams(ctx, sql, params, nil, nil, nil).Read(), v)
}

// answer reads into v the JSON that is all of r.
func answer(r *pgconn.Result, v any) error {
	if r.Err != nil {
		return r.Err
	}
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 {
		return errors.New("the server answered with another number of rows than one")
	}
	return json.Unmarshal(r.Rows[0][0], v)
}
