package pg

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
)

// This file keeps other runs off a server while one changes it: advisory locks of the connection that is kept, which the
// server gives up with it. One is that of whoever changes the server; another, beside it, says which run that is, for one
// run may reach a server through several nodes. They are a database's: runs that reach a server by two of them do not see
// each other. Through a pooler nothing is held, for it would hand the connection to others.

// holding is the first key of these locks: "rbk" in ASCII.
const holding = 0x72626b

// holder is who changes a server.
type holder struct {
	PID  int       `json:"pid"`
	User string    `json:"user"`
	From time.Time `json:"since"`
	Same bool      `json:"same"` // it is the run that asks
}

// holderSQL is whoever has the first lock, and whether it has that of the run $1 beside.
const holderSQL = `
select coalesce((select json_build_object('pid', a.pid, 'user', a.usename, 'since', to_json(a.backend_start),
  'same', exists (select from pg_locks r where r.pid = l.pid and r.database = l.database and r.locktype = 'advisory'
    and r.classid = l.classid and r.objid = $1::oid and r.objsubid = 2))
from pg_locks l join pg_stat_activity a on a.pid = l.pid join pg_database d on d.oid = l.database
where d.datname = current_database() and l.locktype = 'advisory' and l.classid = $2::oid and l.objid = 0
  and l.objsubid = 2 and l.granted limit 1), 'null')`

// goneWithin is how long it takes at the most until a server has seen that the session of a run that has ended is over.
const goneWithin = time.Second

// hold has the server for run until release, or says who has it. Once it has, it costs nothing.
func (s *Server) hold(ctx context.Context, run string) error {
	if run == "" {
		return nil
	}
	return s.use(ctx, true, func(c *pgconn.PgConn) error {
		if s.is.console || s.is.pooler || s.held == c {
			return nil
		}
		for deadline := time.Now().Add(goneWithin); ; { // whoever has it may have ended
			other, err := s.tryHold(ctx, c, run)
			switch {
			case err != nil:
				return err
			case s.held == c || other != nil && other.Same:
				return nil
			case time.Now().After(deadline):
				return s.isHeld(other)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(readEvery):
			}
		}
	})
}

// tryHold has the server for run, if nobody has it. Else it returns who has, if he still does.
func (s *Server) tryHold(ctx context.Context, c *pgconn.PgConn, run string) (other *holder, err error) {
	h := fnv.New32a()
	h.Write([]byte(run)) //nolint:errcheck // it returns none
	mine := max(h.Sum32()&0x7fffffff, 1)
	var got bool
	err = ask(ctx, c, &got, fmt.Sprintf("select to_json(case when pg_try_advisory_lock(%d, 0) then pg_try_advisory_lock_shared(%[1]d, %d) else false end)", holding, mine))
	switch {
	case err != nil:
		return nil, err
	case got:
		s.held = c
		return nil, nil
	}
	err = ask(ctx, c, &other, holderSQL, strconv.Itoa(int(mine)), strconv.Itoa(holding))
	return other, err
}

// isHeld is the error where another run has the server; nil is one that could not be found out.
func (s *Server) isHeld(other *holder) error {
	e := &engine.Error{Code: engine.Unreachable, Left: engine.NothingChanged, Cause: fmt.Sprintf("another run works on Postgres %s", engine.ShortServer(s.name))}
	if other != nil {
		e.Cause += fmt.Sprintf(", as %s, by session %d, which began at %s", other.User, other.PID, other.From.UTC().Format(time.DateTime))
		e.Hint = "wait until it is through with it; where it is none any more, that session can be ended"
	}
	return e
}

// Release implements [engine.Holder].
func (s *Server) Release() { go s.release() }

// release lets other runs on, when whoever uses the connection is through with it.
func (s *Server) release() {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.held == nil || s.held != s.conn || s.held.IsClosed() {
		s.held = nil
		return
	}
	s.held = nil
	ctx, cancel := context.WithTimeout(context.Background(), lockWithin)
	defer cancel()
	if _, err := s.conn.Exec(ctx, "select pg_advisory_unlock_all()").ReadAll(); err != nil {
		s.conn.Close(ctx) //nolint:errcheck // with it they are given up too
	}
}
