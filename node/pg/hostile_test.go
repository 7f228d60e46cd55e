//go:build linux

package pg

import (
	"testing"

	"runbook/engine/resource"
)

// hostile gives every function, operator and view of Postgres a namesake that comes before it, and whose body only complains.
const hostile = `
create schema evil;
grant usage on schema evil to public;
create table evil.jobs as select 7 as id;
grant select on evil.jobs to public;
do $do$
declare f record; body text := $$ begin raise exception 'called by %', current_user; end $$;
begin
  for f in select p.oid, p.proname, pg_get_function_identity_arguments(p.oid) as args, pg_get_function_result(p.oid) as result
    from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f'
  loop
    begin
      execute format('create function evil.%I(%s) returns %s language plpgsql as %L', f.proname, f.args, f.result, body);
    exception when others then null; -- of types that no such function can have
    end;
  end loop;
  for f in select o.oid, o.oprname, o.oprleft::regtype as l, o.oprright::regtype as r, o.oprresult::regtype as result from pg_operator o where o.oprleft <> 0
  loop
    begin
      execute format('create function evil.%I(%s, %s) returns %s language plpgsql as %L', 'op' || f.oid, f.l, f.r, f.result, body);
      execute format('create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.%I)', f.oprname, f.l, f.r, 'op' || f.oid);
    exception when others then null;
    end;
  end loop;
  for f in select relname from pg_class where relnamespace = 'pg_catalog'::regnamespace and relkind = 'v'
  loop
    execute format('create view evil.%I as select 1 / (pg_catalog.random() * 0)::int as pid', f.relname);
  end loop;
end $do$;
alter database hostile set search_path = evil, pg_catalog`

// Who owns a database decides what the names in a statement mean there, and what is set for a role holds for
// whoever comes as one. Nothing of that is called by what is done here, or gets in its way.
func TestHostileDatabase(t *testing.T) {
	p := own(t)
	root := client(t, p.DSN(""))
	do(t, root, "create role owner login; create role hasty superuser login; create role asker login; grant pg_monitor to asker")
	do(t, root, "create database hostile owner owner")
	do(t, client(t, p.DSN("user=owner dbname=hostile")), hostile)
	sets := []string{
		"statement_timeout = 1", "lock_timeout = 1", "idle_in_transaction_session_timeout = 1000", "standard_conforming_strings = off",
		"default_transaction_read_only = on", "datestyle = 'sql, dmy'", "intervalstyle = 'sql_standard'", "transform_null_equals = on",
	}
	if p.Version() >= 14 {
		sets = append(sets, "idle_session_timeout = 1000")
	}
	for _, set := range sets {
		do(t, root, "alter role hasty set "+set)
	}
	servers := map[string]*Server{}
	for _, user := range []string{"postgres", "hasty", "asker"} {
		s := open(t, p.DSN("dbname=hostile user="+user))
		servers[user] = s
		for range 100 { // of one, the first statement has a millisecond only
			if _, err := s.Read(t.Context(), resource.Query{{Kind: resource.KindPostgres}}); err == nil {
				break
			}
		}
		t.Run(user, func(t *testing.T) {
			victim := client(t, p.DSN("application_name=victim"))
			read(t, s, resource.Selector{Kind: resource.KindPostgres}, resource.Selector{Kind: resource.KindBackend}, resource.Selector{Kind: resource.KindSetting})
			for ask := range questions {
				read(t, s, resource.Selector{Kind: resource.KindRows, Name: s.name, Ask: ask})
			}
			if user == "asker" { // who may not change anything
				rows, err := query(t, s, "select id from jobs where id is not null") // as the role means it
				if err != nil || len(rows.Rows) != 1 {
					t.Errorf("%v, %v", rows.Rows, err)
				}
				return
			}
			set := setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to("8MB"), "configuration file", "8192" })
			set.Run = "run-1"
			apply(t, s, set)
			back, _ := set.TakeBack(nil, set.After)
			apply(t, s, back)
			s.release()
			end := ending(t, s, resource.Where{Application: "victim"})
			apply(t, s, end)
			if len(end.Want) != 1 || alive(t, victim) {
				t.Errorf("%v is to end, and has not", end.Want.Keys())
			}
		})
	}
	for name, want := range map[string][2]string{"search_path": {"evil, pg_catalog", "database"}, "statement_timeout": {"1", "user"}, "lock_timeout": {"1", "user"}, "transform_null_equals": {"on", "user"}} {
		s := servers["hasty"]
		c := one[resource.Setting](t, read(t, s, resource.Selector{Kind: resource.KindSetting, Key: resource.SettingKey(s.name, name)}))
		if got := [2]string{c.Value, c.Source}; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
