package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file answers questions with rows: those that have a name, and a runbook's own queries.
//
// A query of a runbook is opened as a cursor, so that it can be nothing but one query, and no
// more of its answer is worked out than is taken. A transaction that only reads does not keep a
// query from calling a function that acts, such as pg_terminate_backend; so those that the server is
// not known to have for looking are refused.

// What an answer to a query may have.
const (
	maxRows  = 1000
	maxBytes = 1 << 20
)

// questions are those that have a name. Text of queries is in none of their answers, for it may hold what is secret.
var questions = map[string]string{
	"locks": `
select a.pid, a.usename as user, a.datname as db, a.application_name as application, a.state,
  l.locktype as lock, l.mode, coalesce(l.relation::regclass::text, '') as relation,
  array_to_json(pg_blocking_pids(a.pid)) as blocked_by,
  extract(epoch from clock_timestamp() - a.state_change)::float8 as waits
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where not l.granted order by waits desc, a.pid`,
	"address": `select host(inet_server_addr()) as address`, // at which the connection that asks ends
	"standbys": `
select coalesce(application_name, '') as application, host(client_addr) as client, usename as user, state, sync_state,
  pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, replay_lsn)::int8 as lag_bytes,
  extract(epoch from replay_lag)::float8 as lag
from pg_stat_replication order by 1, 2`,
	"slots": `
select slot_name as name, slot_type as type, coalesce(database, '') as db, active, coalesce(wal_status, '') as wal_status,
  pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, restart_lsn)::int8 as keeps_bytes
from pg_replication_slots order by 1`,
	"receiver": `
select coalesce(r.status, '') as status, coalesce(r.sender_host, '') as sender, coalesce(r.sender_port, 0) as port,
  pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::int8 as lag_bytes,
  extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8 as lag
from (select 1) x left join pg_stat_wal_receiver r on true where pg_is_in_recovery()`,
}

func (s *Server) readRows(ctx context.Context, ask string, out resource.State) error {
	rows := resource.Rows{Server: s.name, Ask: ask}
	own, isOwn := resource.ParseAsk(ask)
	named, known := questions[ask]
	setting, value, isValue := resource.ParseAskValue(ask)
	var err error
	switch {
	case isOwn:
		err = s.transaction(ctx, toLook, func(c *pgconn.PgConn) error { return s.query(ctx, c, own, &rows) })
	case known:
		err = s.transaction(ctx, toLook, func(c *pgconn.PgConn) error {
			return take(c.ExecParams(ctx, named, nil, nil, nil, nil), &rows)
		})
	case isValue:
		err = s.transaction(ctx, toLook, func(c *pgconn.PgConn) error { return valueOf(ctx, c, setting, value, &rows) })
	case shows[ask]:
		err = s.show(ctx, ask, &rows)
	default:
		err = engine.Internal.Errorf("no server is asked for %q", ask)
	}
	if err == nil {
		out[rows.Key()] = rows
	}
	return err
}

// valueOf is what a setting comes to that is set to value, for this transaction: the server reads that, and has words of its own for it.
func valueOf(ctx context.Context, c *pgconn.PgConn, name, value string, rows *resource.Rows) error {
	err := take(c.ExecParams(ctx, "select set_config($1, $2, true) as value", [][]byte{[]byte(name), []byte(value)}, nil, nil, nil), rows)
	var said *pgconn.PgError
	if !errors.As(err, &said) || said.Code != stateNotNow && said.Code != stateNoRight {
		return err
	}
	_, err = c.Exec(ctx, "rollback; begin").ReadAll() // a session cannot set it, or not one of this role
	return err
}

// query asks what a runbook asks.
func (s *Server) query(ctx context.Context, c *pgconn.PgConn, q resource.SQL, rows *resource.Rows) error {
	if err := s.onlyLooks(ctx, c, q.Query); err != nil {
		return err
	}
	args := make([][]byte, len(q.Args))
	for i, a := range q.Args {
		if a != nil {
			args[i] = []byte(fmt.Sprint(a))
		}
	}
	// From here on names are what they are to the role, in the database that it asks; and text is UTF-8, or an error.
	if _, err := c.Exec(ctx, "set local search_path to default; set local client_encoding to default").ReadAll(); err != nil {
		return err
	}
	opened := c.ExecParams(ctx, "declare answer no scroll cursor for "+q.Query, args, nil, nil, nil).Read()
	if opened.Err != nil {
		return notQuery(opened.Err, q.Query)
	}
	return take(c.ExecParams(ctx, fmt.Sprintf("fetch %d from answer", maxRows+1), nil, nil, nil, nil), rows)
}

// looks is how a query begins that can be opened as a cursor.
var looks = regexp.MustCompile(`(?is)^(\s|\(|--[^\n]*\n|/\*.*?\*/)*(select|with|values|table)\b`)

// notQuery is err, which the server has met with query; of another statement, which it takes for a syntax error, it says that it is one.
func notQuery(err error, query string) error {
	var said *pgconn.PgError
	if errors.As(err, &said) && said.Code == stateSyntax && !looks.MatchString(query) {
		return &engine.Error{Code: engine.Invalid, Cause: "a query here is a select, with, values or table, and nothing else: " + said.Message, Hint: "pg.setting reads what show does; what changes a server is an operation of its own: pg.terminate, pg.set"}
	}
	return err
}

// take reads an answer into rows.
func take(r *pgconn.ResultReader, rows *resource.Rows) error {
	size := 0
	rows.Rows = [][]any{}
	for r.NextRow() {
		row := make([]any, len(r.Values()))
		for i, v := range r.Values() {
			size += len(v)
			row[i] = scalar(r.FieldDescriptions()[i].DataTypeOID, v)
		}
		if rows.Rows = append(rows.Rows, row); len(rows.Rows) > maxRows || size > maxBytes {
			r.Close() //nolint:errcheck // there is one already
			return &engine.Error{
				Code: engine.Invalid, Cause: fmt.Sprintf("the answer has more than %d rows or %d kB", maxRows, maxBytes>>10),
				Hint: "have the server count or choose: limit, where, group by",
			}
		}
	}
	for _, f := range r.FieldDescriptions() {
		rows.Columns = append(rows.Columns, f.Name)
	}
	_, err := r.Close()
	return err
}

// Types whose values are more than text to a script: pg_type.
const (
	oidBool    = 16
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidOID     = 26
	oidJSON    = 114
	oidFloat4  = 700
	oidFloat8  = 701
	oidNumeric = 1700
	oidJSONB   = 3802
)

// scalar is a value as a script has it. A numeric is a whole number where it is one and
// fits, or else a float, which may be less exact; what is no number, bool or JSON is text.
func scalar(oid uint32, b []byte) any {
	text := string(b)
	switch {
	case b == nil:
		return nil
	case oid == oidBool:
		return text == "t"
	case oid == oidInt2, oid == oidInt4, oid == oidInt8, oid == oidOID, oid == oidNumeric:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
		fallthrough
	case oid == oidFloat4, oid == oidFloat8:
		if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) { // JSON has neither
			return f
		}
	case oid == oidJSON, oid == oidJSONB:
		var v any
		if json.Unmarshal(b, &v) == nil {
			return v
		}
	}
	return text
}

// word finds the names in a query. Those in texts and comments are among them, which does no harm.
var word = regexp.MustCompile(`[\p{L}_][\p{L}\p{N}_$]*`)

// looking are functions that Postgres calls volatile although they only look: by how their names begin.
var looking = []string{
	"pg_stat_get_", "pg_stat_file", "pg_ls_", "pg_show_", "pg_get_", "pg_last_", "pg_current_", "pg_lock_status", "pg_blocking_pids", "pg_safe_snapshot_blocking_pids",
	"pg_prepared_", "pg_cursor", "pg_timezone_", "pg_is_", "pg_control_", "pg_hba_file_rules", "pg_ident_file_mappings", "pg_config", "pg_partition_",
	"pg_relation_size", "pg_table_size", "pg_total_relation_size", "pg_indexes_size", "pg_database_size", "pg_tablespace_size",
	"random", "clock_timestamp", "timeofday", "gen_random_uuid", "inet_", "txid_current_if_assigned", "txid_status", "pg_xact_status",
}

// onlyLooks is an error where a query calls a function of the server's own, or of an
// extension in C or another language that is not trusted, that may do something: no transaction keeps it from
// that. One that is written in SQL or PL/pgSQL writes nothing that the transaction does not let it; what it calls is the business of whoever made it.
func (s *Server) onlyLooks(ctx context.Context, c *pgconn.PgConn, query string) error {
	if strings.Contains(strings.ToLower(query), `u&"`) {
		return engine.Invalid.Errorf(`a query cannot have names written as U&"…": what they mean cannot be told`)
	}
	names := map[string]bool{}
	for _, w := range word.FindAllString(query, -1) {
		names[strings.ToLower(w)] = true
	}
	list := make([]string, 0, len(names))
	for n := range names {
		list = append(list, n)
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	var acts []string
	err = ask(ctx, c, &acts, `
select coalesce(json_agg(distinct p.proname), '[]') from pg_proc p join pg_language l on l.oid = p.prolang
where p.provolatile = 'v' and not l.lanpltrusted
  and p.proname in (select json_array_elements_text($1::json))
  and not exists (select from json_array_elements_text($2::json) k where starts_with(p.proname, k))`, string(b), lookingJSON)
	if err != nil || len(acts) == 0 {
		return err
	}
	return &engine.Error{
		Code: engine.Invalid, Cause: fmt.Sprintf("the query names %s, which may do more than look", strings.Join(acts, " and ")),
		Hint: "a query is for looking; what changes a server is an operation of its own: pg.terminate, pg.set",
	}
}

var lookingJSON = func() string {
	b, _ := json.Marshal(looking) // texts
	return string(b)
}()
