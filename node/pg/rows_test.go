//go:build linux

package pg

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// query asks s for the rows of a query.
func query(t *testing.T, s *Server, sql string, args ...any) (resource.Rows, error) {
	t.Helper()
	ask, err := resource.AskSQL(resource.SQL{Query: sql, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.Read(t.Context(), resource.Query{{Kind: resource.KindRows, Name: s.name, Ask: ask}})
	if err != nil {
		return resource.Rows{}, err
	}
	return one[resource.Rows](t, found), nil
}

func TestQuery(t *testing.T) {
	s := open(t, shared(t).DSN(""))
	rows, err := query(t, s, `select 1 as one, 2.5::numeric as n, 3::numeric, 1.5::float8 as f, 'NaN'::float8 as nan, true as b, null as nothing, 'x' as text,
		'{"a":[1]}'::jsonb as j, '10.0.0.1'::inet as ip, $1::int + 1 as arg, $2::text as other`, json.Number("41"), "it's")
	want := []any{int64(1), 2.5, int64(3), 1.5, "NaN", true, nil, "x", map[string]any{"a": []any{1.0}}, "10.0.0.1", int64(42), "it's"}
	if err != nil || !reflect.DeepEqual(rows.Rows, [][]any{want}) || rows.Columns[0] != "one" {
		t.Errorf("%v\n%#v\nwant\n%#v", err, rows.Rows, want)
	}
	if rows, err = query(t, s, "select 1 where false"); err != nil || len(rows.Rows) != 0 || len(rows.Columns) != 1 {
		t.Errorf("%v %+v", err, rows)
	}
	for _, ok := range []string{"values (1)", "with a as (select 1) select * from a", "select pg_database_size('postgres'), clock_timestamp()", "select count(*) from pg_stat_activity"} {
		if _, err := query(t, s, ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
}

// Whatever a query says, it only looks, and not at too much.
func TestQueryOnlyLooks(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	do(t, client(t, p.DSN("")), `create table kept(a int); insert into kept values (1);
		create function writes() returns int language plpgsql as $$ begin delete from kept; return 1; end $$;
		create language untrusted handler plpgsql_call_handler;
		create function anything() returns int language untrusted as $$ begin return 1; end $$`)
	for sql, words := range map[string]string{
		"delete from kept":  "a query here is a select, with, values or table, and nothing else: syntax error",
		"show work_mem":     "a query here is a select",
		"select from where": "does not understand that: syntax error",
		"with x as (delete from kept returning 1) select * from x":       "DECLARE CURSOR must not contain data-modifying statements",
		"select 1; delete from kept":                                     "cannot insert multiple commands",
		"select writes()":                                                "is only looked at here: cannot execute DELETE in a read-only transaction",
		"select pg_terminate_backend(1)":                                 "names pg_terminate_backend, which may do more than look",
		"select anything()":                                              "names anything, which may do more than look",
		`select "pg_reload_conf"()`:                                      "names pg_reload_conf",
		"select PG_Cancel_Backend /* x */ (1)":                           "names pg_cancel_backend",
		`select U&"\0070g_reload_conf"()`:                                `names written as U&`,
		"select query_to_xml('select pg_reload_conf()', true, true, '')": "may do more than look",
		"select set_config('transaction_read_only', 'off', true)":        "names set_config",
		"select nextval('s')":                                            "names nextval",
		"select * into copied from kept":                                 "DECLARE CURSOR|SELECT INTO|INTO",
		"select * from kept for update":                                  "is only looked at here: .*read-only",
		"select * from generate_series(1, 1001)":                         "more than 1000 rows or 1024 kB",
		"select repeat('x', 1000000) from generate_series(1, 3)":         "more than 1000 rows or 1024 kB",
		"select repeat('x', 100000000)":                                  "of 95 MB, and at most 64 are taken",
		"select 1 / 0":                                                   "division by zero",
		"select $1::int":                                                 "bind message supplies 0 parameters",
		"":                                                               "syntax error",
	} {
		_, err := query(t, s, sql)
		judge(t, err, engine.Invalid, words)
	}
	rows, err := query(t, s, "select count(*) as n from kept")
	if err != nil || rows.Records()[0]["n"] != int64(1) {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestLocks(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	first, second := client(t, p.DSN("application_name=holder")), client(t, p.DSN("application_name=waiter"))
	do(t, first, "create table contested(a int)")
	do(t, first, "begin; lock contested")
	waits := make(chan error, 1)
	go func() {
		_, err := second.Exec(t.Context(), "begin; lock contested").ReadAll()
		waits <- err
	}()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
		rows := one[resource.Rows](t, read(t, s, resource.Selector{Kind: resource.KindRows, Name: s.name, Ask: "locks"}))
		if len(rows.Rows) == 0 {
			continue
		}
		r := rows.Records()[0]
		if r["application"] != "waiter" || r["relation"] != "public.contested" || r["mode"] != "AccessExclusiveLock" ||
			!reflect.DeepEqual(r["blocked_by"], []any{float64(first.PID())}) || r["waits"].(float64) < 0 {
			t.Errorf("%v", r)
		}
		break
	}
	do(t, first, "commit")
	if err := <-waits; err != nil {
		t.Error(err)
	}
}

func TestReplication(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	do(t, client(t, p.DSN("")), "select pg_create_physical_replication_slot('kept', true)")
	for ask, rows := range map[string]int{"standbys": 0, "slots": 1, "receiver": 0} {
		found := one[resource.Rows](t, read(t, s, resource.Selector{Kind: resource.KindRows, Name: s.name, Ask: ask}))
		if len(found.Rows) != rows || len(found.Columns) < 5 {
			t.Errorf("%s: %+v", ask, found)
		}
	}
	do(t, client(t, p.DSN("")), "select pg_drop_replication_slot('kept')")
}
