package pg

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine/resource"
)

// This file reads what a server holds. Each query answers with JSON that has the
// names of the fields of the resource that it becomes.

// Read implements [engine.Reader]. Of kinds that no server has there is nothing.
func (s *Server) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	give, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	defer give()
	return s.read(ctx, q)
}

func (s *Server) read(ctx context.Context, q resource.Query) (resource.State, error) {
	out := resource.State{}
	kinds := map[resource.Kind]resource.Query{}
	for _, sel := range q {
		if sel.Name == "" || sel.Name == s.name {
			kinds[sel.Kind] = append(kinds[sel.Kind], sel)
		}
	}
	if len(kinds[resource.KindPostgres])+len(kinds[resource.KindBackend]) > 0 {
		err := s.transaction(ctx, toLook, func(c *pgconn.PgConn) error {
			if len(kinds[resource.KindPostgres]) > 0 {
				if err := s.readServer(ctx, c, out); err != nil {
					return err
				}
			}
			return s.readBackends(ctx, c, kinds[resource.KindBackend], out)
		})
		if err != nil {
			return nil, err
		}
	}
	if err := s.readSettings(ctx, kinds[resource.KindSetting], out); err != nil {
		return nil, err
	}
	for _, sel := range kinds[resource.KindRows] {
		if err := s.readRows(ctx, sel.Ask, out); err != nil {
			return nil, err
		}
	}
	return out, s.readPools(ctx, append(kinds[resource.KindPool], kinds[resource.KindPooled]...), out)
}

// instant is an SQL expression for a time as JSON has it.
func instant(of string) string {
	return `to_char(` + of + ` at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
}

// since is an SQL expression for how long ago something was, as Go reads a duration.
func since(then string) string {
	return `round(greatest(extract(epoch from clock_timestamp() - ` + then + `), 0)::numeric, 6)::text || 's'`
}

var serverSQL = `
select json_build_object(
  'version', current_setting('server_version_num')::int,
  'in_recovery', pg_is_in_recovery(),
  'max_connections', current_setting('max_connections')::int,
  'reserved', current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0),
  'started', ` + instant("pg_postmaster_start_time()") + `,
  'role', current_user,
  'superuser', rolsuper,
  'sees_all', pg_has_role('pg_read_all_stats', 'usage'),
  'signals', pg_has_role('pg_signal_backend', 'usage'),
  'alter_system', rolsuper)
from pg_roles where rolname = current_user`

func (s *Server) readServer(ctx context.Context, c *pgconn.PgConn, out resource.State) error {
	var p resource.Postgres
	if err := ask(ctx, c, &p, serverSQL); err != nil {
		return err
	}
	p.Server, p.Pooler = s.name, s.is.pooler
	out[p.Key()] = p
	return nil
}

// backendSQL has nothing of sessions that the role may not see: what it may is said by
// the server's sees_all, without which nothing can be made of this.
var backendSQL = `
select coalesce(json_agg(json_build_object(
  'pid', a.pid, 'start', ` + instant("a.backend_start") + `, 'type', a.backend_type,
  'user', a.usename, 'db', a.datname, 'application', a.application_name,
  'client', case family(a.client_addr)
     when 4 then host(a.client_addr) || ':' || a.client_port
     when 6 then '[' || host(a.client_addr) || ']:' || a.client_port end,
  'own', a.pid = pg_backend_pid(),
  'protected', not (` + maySignal + `),
  'state', a.state, 'state_for', ` + since("a.state_change") + `, 'age', ` + since("a.backend_start") + `,
  'xact_for', ` + since("a.xact_start") + `, 'query_for', ` + since("a.query_start") + `,
  'wait', a.wait_event_type || ':' || a.wait_event)), '[]')
from pg_stat_activity a left join pg_roles r on r.oid = a.usesysid
where a.backend_start is not null and a.backend_type is not null`

// maySignal is whether the role may end the session of a, whose role r is.
const maySignal = `coalesce((select rolsuper from pg_roles where rolname = current_user)
    or not r.rolsuper and (pg_has_role('pg_signal_backend', 'usage') or pg_has_role(r.oid, 'usage')), false)`

func (s *Server) readBackends(ctx context.Context, c *pgconn.PgConn, q resource.Query, out resource.State) error {
	if len(q) == 0 {
		return nil
	}
	var found []resource.Backend
	if err := ask(ctx, c, &found, backendSQL); err != nil {
		return err
	}
	for _, b := range found {
		b.Server, b.Start = s.name, b.Start.UTC()
		if _, own := ownSessions.Load(sessionOf(b.PID, b.Start)); own {
			b.Own = true
		}
		if q.Match(b) {
			out[b.Key()] = b
		}
	}
	return nil
}

// settingSQL has places for what only some roles may read, and for what only some versions know.
// Of the settings of TCP, setting is what the socket of the connection that asks has, which is
// 0 for a unix socket; what is configured is reset_val. So it is of those that the connection has set
// for itself, of which where that comes from is worked out.
// A setting that ALTER SYSTEM had put off to a restart, and then took out, keeps its pending_restart
// until that, although nothing is pending: there is no file that has it, and the server has not got it from one.
const settingSQL = `
with files as materialized (FILES),
auto as (select distinct on (lower(name)) name, setting from files where sourcefile like '%/postgresql.auto.conf' order by lower(name), seqno desc),
other as (select distinct on (lower(name)) name, setting from files where sourcefile not like '%/postgresql.auto.conf' order by lower(name), seqno desc)
select coalesce(json_agg(json_build_object(
  'name', s.name, 'value', case when OFSOCKET or OWN then s.reset_val else s.setting end,
  'actual', case when OFSOCKET and inet_client_port() is not null then s.setting end, 'unit', coalesce(s.unit, ''), 'type', s.vartype,
  'min', s.min_val, 'max', s.max_val, 'options', s.enumvals,
  'source', case when not OWN then s.source else coalesce((
    select case when r.setrole = 0 then 'database' when r.setdatabase = 0 then 'user' else 'database user' end
    from pg_db_role_setting r join pg_roles u on u.rolname = session_user join pg_database d on d.datname = current_database()
    where r.setrole in (0, u.oid) and r.setdatabase in (0, d.oid) and exists (select from unnest(r.setconfig) c where starts_with(c, s.name || '='))
    order by r.setrole <> 0 desc, r.setdatabase <> 0 desc limit 1),
    case when auto.name is null and other.name is null and s.reset_val is not distinct from s.boot_val then 'default' else 'configuration file' end) end,
  'context', s.context,
  'pending_restart', s.pending_restart and (s.source = 'configuration file' or auto.name is not null or other.name is not null or not SEEN),
  'auto', auto.setting,
  'base', case when SEEN then json_build_object('value', coalesce(other.setting, s.boot_val, ''), 'source', case when other.name is null then 'default' else 'configuration file' end) end,
  'alter', (ALTER) and has_function_privilege('pg_reload_conf()', 'execute'))), '[]')
from pg_settings s left join auto on lower(auto.name) = lower(s.name) left join other on lower(other.name) = lower(s.name)
where $1 = '' or lower(s.name) = any(string_to_array($1, ','))`

// What files have of settings, and what has that of one who may not see it. Of a name that is there twice the last counts.
const (
	filesSQL   = `select name, setting, sourcefile, seqno from pg_file_settings where name is not null`
	noFilesSQL = `select null as name, null as setting, null as sourcefile, 0 as seqno where false`
)

func (s *Server) readSettings(ctx context.Context, q resource.Query, out resource.State) error {
	if len(q) == 0 {
		return nil
	}
	var names []string // none: all
	if !slices.ContainsFunc(q, func(s resource.Selector) bool { return s.Key == "" }) {
		for _, sel := range q {
			name, _, _ := strings.Cut(strings.TrimPrefix(string(sel.Key), string(resource.KindSetting)+" "), " ")
			names = append(names, name)
		}
	}
	var found []resource.Setting
	seen := true // what ALTER SYSTEM has written
	err := s.transaction(ctx, toLook, func(c *pgconn.PgConn) error {
		err := ask(ctx, c, &seen, `select to_json(has_table_privilege('pg_file_settings', 'select') and has_function_privilege('pg_show_all_file_settings()', 'execute'))`)
		if err != nil {
			return err
		}
		files, alter := noFilesSQL, "select rolsuper from pg_roles where rolname = current_user"
		if seen {
			files = filesSQL
		}
		if s.is.version >= 150000 {
			alter = "has_parameter_privilege(s.name, 'alter system')"
		}
		sql := strings.NewReplacer("FILES", files, "SEEN", strconv.FormatBool(seen), "ALTER", alter, "OFSOCKET", "s.name like 'tcp!_%' escape '!'",
			"OWN", "s.name = any(string_to_array($2, ','))").Replace(settingSQL)
		return ask(ctx, c, &found, sql, strings.Join(names, ","), strings.Join(ownNames(), ","))
	})
	for _, c := range found {
		c.Server, c.Hidden = s.name, !seen
		if c.Value = resource.HidePassword(c.Value); c.Auto != nil { // which records would keep
			*c.Auto = resource.HidePassword(*c.Auto)
		}
		if c.Base != nil {
			c.Base.Value = resource.HidePassword(c.Base.Value)
		}
		if q.Match(c) {
			out[c.Key()] = c
		}
	}
	return err
}

// ownNames are the names of [ownSettings].
func ownNames() (out []string) {
	for _, o := range ownSettings() {
		out = append(out, o.name)
	}
	return out
}
