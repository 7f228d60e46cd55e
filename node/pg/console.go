package pg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is a pgbouncer, by its console: the database pgbouncer, which speaks the simple protocol
// only and knows SHOW and a few commands. Columns are found by their names, for versions have more and more of them.

// shows are what is shown. SHOW USERS and the like have no secret in them; what could is not here.
var shows = map[string]bool{
	"show clients": true, "show config": true, "show databases": true, "show dns_hosts": true, "show lists": true, "show mem": true,
	"show pools": true, "show servers": true, "show sockets": true, "show stats": true, "show stats_averages": true, "show stats_totals": true,
	"show users": true, "show version": true,
}

// say has the console do a command. Its answer, if it has one, is text.
func (s *Server) say(ctx context.Context, looks bool, command string, rows *resource.Rows) error {
	return s.use(ctx, looks, func(c *pgconn.PgConn) error {
		if !s.is.console {
			return &engine.Error{
				Code: engine.Invalid, Cause: s.name + " is no console of a pgbouncer", Hint: "the console is its database pgbouncer: dbname=pgbouncer",
			}
		}
		results, err := c.Exec(ctx, command).ReadAll()
		if err != nil || rows == nil || len(results) == 0 {
			return err
		}
		for _, f := range results[0].FieldDescriptions {
			rows.Columns = append(rows.Columns, f.Name)
		}
		rows.Rows = [][]any{}
		for _, r := range results[0].Rows {
			row := make([]any, len(r))
			for i, v := range r {
				row[i] = scalar(results[0].FieldDescriptions[i].DataTypeOID, v)
			}
			rows.Rows = append(rows.Rows, row)
		}
		return nil
	})
}

// show answers a question of [shows]. More than maxRows is no error: nobody can ask for less.
func (s *Server) show(ctx context.Context, ask string, rows *resource.Rows) error {
	return s.say(ctx, true, ask, rows)
}

// readPools reads databases and connections that q selects.
func (s *Server) readPools(ctx context.Context, q resource.Query, out resource.State) error {
	wants := func(k resource.Kind) bool {
		return slices.ContainsFunc(q, func(s resource.Selector) bool { return s.Kind == k })
	}
	if wants(resource.KindPool) {
		if err := s.readDatabases(ctx, q, out); err != nil {
			return err
		}
	}
	if !wants(resource.KindPooled) {
		return nil
	}
	var rows resource.Rows
	if err := s.show(ctx, "show servers", &rows); err != nil {
		return err
	}
	for _, r := range rows.Records() {
		p := resource.Pooled{
			Server: s.name, DB: text(r["database"]), User: text(r["user"]), State: text(r["state"]), Closing: number(r["close_needed"]) != 0,
			// A place in its memory is used again; together with the second in which it was connected, and the pid at the server, it is not.
			ID: strings.ReplaceAll(strings.Join([]string{text(r["ptr"]), text(r["connect_time"]), text(r["remote_pid"])}, "/"), " ", "T"),
		}
		if q.Match(p) {
			out[p.Key()] = p
		}
	}
	return nil
}

// readDatabases reads the databases that q selects. One that * of its configuration stands for is not shown while nobody
// uses it, though it may be paused. To have what is not there connect anew cuts nothing, and has it shown again.
func (s *Server) readDatabases(ctx context.Context, q resource.Query, out resource.State) error {
	for _, last := range []bool{false, true} {
		var rows resource.Rows
		if err := s.show(ctx, "show databases", &rows); err != nil {
			return err
		}
		for _, r := range rows.Records() {
			p := resource.Pool{Server: s.name, DB: text(r["name"]), Paused: number(r["paused"]) != 0, Disabled: number(r["disabled"]) != 0, Connections: number(r["current_connections"])}
			if host := text(r["host"]); host != "" {
				p.To = fmt.Sprintf("%s at %s:%s", text(r["database"]), host, text(r["port"]))
			}
			if q.Match(p) {
				out[p.Key()] = p
			}
		}
		hidden := slices.DeleteFunc(slices.Clone(q), func(sel resource.Selector) bool {
			return sel.Kind != resource.KindPool || sel.Key == "" || out[sel.Key] != nil
		})
		if last || len(hidden) == 0 {
			break
		}
		for _, sel := range hidden {
			err := s.say(ctx, true, Reconnect+" "+identifier(resource.PoolOf(sel.Key)), nil)
			var said *pgconn.PgError
			if err != nil && !errors.As(err, &said) { // else there is none of that name, or the role may only look
				return err
			}
		}
	}
	return nil
}

// identifier is name as SQL has it.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func number(v any) int {
	n, _ := strconv.Atoi(text(v)) // what is none counts as 0
	return n
}

// The commands of a console, as the verbs of edits.
const (
	Pause     = "pause"
	Resume    = "resume"
	Kill      = "kill"
	Reconnect = "reconnect"
)

// console does what e wants of databases and connections: one command for each database. Which
// it is, is e's verb, or, where a change is taken back, what the database is to be.
func (s *Server) console(ctx context.Context, e engine.Edit) error {
	verbs := map[string]string{} // by database
	for k, r := range e.Want {
		pool, _ := r.(resource.Pool)
		pooled, _ := e.Before[k].(resource.Pooled)
		switch {
		case k.Kind() == resource.KindPool && r == nil, k.Kind() == resource.KindPooled && r != nil:
			return engine.Internal.Errorf("that cannot be made of %s", k)
		case k.Kind() == resource.KindPooled:
			verbs[pooled.DB] = e.Verb
		case k.Kind() == resource.KindPool && e.Verb == Kill && !e.Undo:
			verbs[pool.DB] = Kill
		case k.Kind() == resource.KindPool && pool.Paused:
			verbs[pool.DB] = Pause
		case k.Kind() == resource.KindPool:
			verbs[pool.DB] = Resume
		}
	}
	for db, verb := range verbs {
		if !slices.Contains([]string{Pause, Resume, Kill, Reconnect}, verb) {
			return engine.Internal.Errorf("a pgbouncer does not %q", verb)
		}
		if err := s.command(ctx, verb, db); err != nil {
			return refused(err)
		}
	}
	return nil
}

// command does verb to the database db. A pause waits until every connection is free: where
// that takes too long, clients are let on again.
func (s *Server) command(ctx context.Context, verb, db string) error {
	quoted := " " + identifier(db)
	if verb != Pause {
		return s.say(ctx, false, verb+quoted, nil)
	}
	within, cancel := context.WithTimeout(ctx, statementWithin)
	defer cancel()
	err := s.say(within, false, Pause+quoted, nil)
	if err == nil || s.conn != nil && !s.conn.IsClosed() && within.Err() == nil { // it was refused
		return err
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockWithin)
	defer cancel()
	if back := s.say(own, false, Resume+quoted, nil); back != nil || ctx.Err() != nil {
		return errors.Join(err, back)
	}
	return &engine.Error{
		Code: engine.Unreachable, Left: engine.NothingChanged, Err: err,
		Cause: fmt.Sprintf("pgbouncer %s could not pause %s within %s, and lets its clients on again: some keep a connection", s.name, db, statementWithin),
		Hint:  "in its pool mode session a client keeps one until it leaves; bouncer.kill cuts them",
	}
}
