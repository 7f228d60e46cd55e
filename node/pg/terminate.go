package pg

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file ends sessions. Each is ended only if it is the one that was seen, by its pid and its
// beginning, and if it still is what was selected: one statement looks and signals. One that has
// ended by itself is what was wanted; one that is something else by now is left alone, and said to be.

// terminateSQL ends those of $1 that still meet conditions.
const terminateSQL = `
with wanted as (select * from json_to_recordset($1::json) as w(pid int, start timestamptz)),
found as materialized (
  select a.pid, a.backend_start from wanted w
  join pg_stat_activity a on a.pid = w.pid and a.backend_start = w.start
  left join pg_roles r on r.oid = a.usesysid
  where a.pid <> pg_backend_pid() and a.backend_type = '` + resource.ClientBackend + `' and ` + maySignal + ` CONDITIONS)
select coalesce(json_agg(json_build_object('pid', pid, 'start', backend_start, 'sent', pg_terminate_backend(pid))), '[]') from found`

// target names a session.
type target struct {
	PID   int       `json:"pid"`
	Start time.Time `json:"start"`
	Sent  bool      `json:"sent,omitempty"`
}

// terminate ends the sessions that e wants to end. It returns those that it left alone.
func (s *Server) terminate(ctx context.Context, e engine.Edit) (resource.State, error) {
	byWhere := map[resource.Where][]target{} // all of one call have the same
	for k, r := range e.Want {
		if k.Kind() != resource.KindBackend {
			continue
		}
		b, known := e.Before[k].(resource.Backend)
		switch {
		case r != nil:
			return nil, engine.Internal.Errorf("no session can be made: %s", k)
		case !known:
			return nil, engine.Internal.Errorf("of a session that is to end nothing is known: %s", k)
		default:
			w := whereOf(e.Query, k)
			byWhere[w] = append(byWhere[w], target{PID: b.PID, Start: b.Start})
		}
	}
	sent := map[int]bool{}
	for w, targets := range byWhere {
		list, err := json.Marshal(targets)
		if err != nil {
			return nil, err
		}
		sql := strings.Replace(terminateSQL, "CONDITIONS", conditions(w), 1)
		var done []target
		err = s.transaction(ctx, toAct, func(c *pgconn.PgConn) error {
			return ask(ctx, c, &done, sql, append([]string{string(list)}, values(w)...)...)
		})
		if err != nil {
			return nil, err
		}
		for _, t := range done {
			sent[t.PID] = t.Sent
		}
	}
	if len(byWhere) == 0 {
		return nil, nil
	}
	return s.spared(ctx, e, sent)
}

// spared are the sessions of e that were sent nothing and live on.
func (s *Server) spared(ctx context.Context, e engine.Edit, sent map[int]bool) (resource.State, error) {
	now, err := s.read(ctx, unconditional(e.Query))
	if err != nil {
		return nil, err
	}
	out := resource.State{}
	for k, r := range now {
		b, is := r.(resource.Backend)
		if _, wanted := e.Want[k]; !is || !wanted || sent[b.PID] {
			continue
		}
		b.Left = fmt.Sprintf("it is no more what was selected: %s for %s", b.State, time.Duration(b.StateFor).Round(time.Millisecond))
		if b.Protected {
			b.Left = "the role may not end it"
		}
		out[k] = b
	}
	return out, nil
}

// whereOf is what the session k had to be to be selected by q.
func whereOf(q resource.Query, k resource.Key) resource.Where {
	for _, sel := range q {
		if sel.Kind == resource.KindBackend && sel.Key == k && sel.Where != nil {
			return *sel.Where
		}
	}
	return resource.Where{}
}

// conditions is w in SQL, as [resource.Where.Match] is in Go: what [values] gives stands for $2 and so on.
func conditions(w resource.Where) string {
	var b strings.Builder
	for i, c := range parts(w) {
		b.WriteString(" and " + strings.ReplaceAll(c.sql, "$", "$"+strconv.Itoa(i+2)))
	}
	return b.String()
}

func values(w resource.Where) []string {
	var out []string
	for _, c := range parts(w) {
		out = append(out, c.value)
	}
	return out
}

type condition struct{ sql, value string }

func parts(w resource.Where) []condition {
	var out []condition
	add := func(given bool, sql, value string) {
		if given {
			out = append(out, condition{sql, value})
		}
	}
	seconds := func(d resource.Duration) string {
		return strconv.FormatFloat(time.Duration(d).Seconds(), 'f', 6, 64)
	}
	add(w.State != "", "a.state = $", w.State)
	add(w.IdleFor != 0, "a.state like '"+resource.Idle+"%' and clock_timestamp() - a.state_change >= make_interval(secs => $::float8)", seconds(w.IdleFor))
	add(w.OlderThan != 0, "clock_timestamp() - a.backend_start >= make_interval(secs => $::float8)", seconds(w.OlderThan))
	add(w.User != "", "a.usename = $", w.User)
	add(w.Application != "", "a.application_name = $", w.Application)
	add(w.DB != "", "a.datname = $", w.DB)
	add(w.Client.IsValid(), "a.client_addr <<= $::inet", w.Client.String())
	return out
}
