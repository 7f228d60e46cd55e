package builtins_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/pg"
	"runbook/node/sim"
	"runbook/rehearse"
)

// postgres is a real server for one test, how it is called, and a session of its superuser.
func postgres(t *testing.T) (server string, admin *pgconn.PgConn, p *integration.Postgres) {
	t.Helper()
	integration.Need(t, "postgres")
	p, err := integration.StartPostgres("max_connections = 60")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p.DSN(""), dial(t, p.DSN("")), p
}

func dial(t *testing.T, dsn string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// run does calls to n as a run does: predicted first, then live.
func run(t *testing.T, n engine.Node, limits engine.Limits, calls ...engine.Call) (*engine.NodePlan, *engine.Pass, error) {
	t.Helper()
	plan := &engine.NodePlan{Node: "db-1"}
	predicting := engine.NewPrediction(plan, limits, sim.Over(n), func(engine.Event) {})
	for _, c := range calls {
		if _, err := predicting.Do(t.Context(), c); err != nil {
			return plan, nil, err
		}
	}
	b, err := json.Marshal(plan) // as a saved plan and a journal hold it
	if err != nil {
		t.Fatal(err)
	}
	saved := &engine.NodePlan{}
	if err := json.Unmarshal(b, saved); err != nil {
		t.Fatal(err)
	}
	live := engine.NewLive(saved, limits, n, nothing{}, "R", func(engine.Event) {})
	for _, c := range calls {
		if _, err := live.Do(t.Context(), c); err != nil {
			return plan, live, err
		}
	}
	return plan, live, live.Finish(t.Context())
}

// nothing is a journal that keeps nothing.
type nothing struct{ engine.Journal }

func (nothing) Append(context.Context, ...engine.Entry) error { return nil }

func ask(t *testing.T, name string, args map[string]any) engine.Call {
	t.Helper()
	b, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	op, err := builtins.Operations.Decode(name, b)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Call{Name: name, Args: b, Op: op, Pos: "x.star:1:1"}
}

// The whole life of ending sessions at a real server: 40 that are stale, and no other.
func TestTerminateForReal(t *testing.T) {
	server, _, p := postgres(t)
	n := pg.Beside(sim.New(sim.LabNode("db-1", 1)), nil)
	defer n.Close()
	var stale, living []*pgconn.PgConn
	for range 40 {
		stale = append(stale, dial(t, p.TCP("application_name=stale")))
	}
	for range 6 {
		living = append(living, dial(t, p.TCP("application_name=living")))
	}
	call := ask(t, "pg.terminate", map[string]any{"server": server, "application": "stale"})
	if _, _, err := run(t, n, engine.Limits{}, call); err == nil || engine.AsError(err).Code != engine.LimitHit {
		t.Fatalf("40 of 10 are allowed: %v", err)
	}
	plan, _, err := run(t, n, engine.Limits{engine.LimitChangesPerNode: {N: 40}}, call)
	if err != nil || plan.Count() != 40 {
		t.Fatalf("%v, %d changes", err, plan.Count())
	}
	for i, c := range append(stale, living...) {
		_, err := c.Exec(t.Context(), "select 1").ReadAll()
		if lives := err == nil; lives != (i >= 40) {
			t.Errorf("session %d lives: %v", i, lives)
		}
	}
}

// checkInterval is a setting that is a time, and that p has: the one that matters came with version 14.
func checkInterval(p *integration.Postgres) string {
	if p.Version() < 14 {
		return "log_autovacuum_min_duration"
	}
	return "client_connection_check_interval"
}

// A setting through its whole life, and back.
func TestSetForReal(t *testing.T) {
	server, admin, p := postgres(t)
	n := pg.Beside(sim.New(sim.LabNode("db-1", 1)), nil)
	defer n.Close()
	check, yes := checkInterval(p), "yes"
	if p.Version() >= 18 {
		yes = "on" // there it is text
	}
	shows := func(name string) string {
		r, err := admin.Exec(t.Context(), "show "+name).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return string(r[0].Rows[0][0])
	}
	set := func(name string, value any) engine.Call {
		return ask(t, "pg.set", map[string]any{"server": server, "name": name, "value": value})
	}
	unset := shows(check)
	_, pass, err := run(t, n, engine.Limits{}, set("work_mem", "8MB"), set(check, "2s"), set("max_connections", 80), set("log_connections", true), set("search_path", "$user, shop"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"work_mem": "8MB", check: "2s", "max_connections": "60", "search_path": `"$user", shop`} {
		if got := shows(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	again, _, err := run(t, n, engine.Limits{}, set("work_mem", "8192kB"), set("max_connections", 80), set("log_connections", yes))
	if err != nil || len(again.Changes()) != 0 {
		t.Errorf("again: %v, %v", err, again.Changes())
	}
	// What a server writes otherwise than it was given, or does not show at all.
	odd := []engine.Call{
		set("search_path", ""), set("archive_command", "cp %p '/x'"), set("timezone", "+3"), set("log_timezone", "utc"), set("datestyle", "german"),
		set("default_text_search_config", "english"),
	}
	_, second, err := run(t, n, engine.Limits{}, odd...)
	if err != nil {
		t.Fatal(err)
	}
	if got := shows("search_path"); got != `""` {
		t.Errorf("search_path is %s", got)
	}
	for name, value := range map[string]string{"timezone": "Nowhere/City", "log_timezone": "Nowhere/City", "default_tablespace": "none"} { // what it would not take is no plan
		if _, _, err := run(t, n, engine.Limits{}, set(name, value)); err == nil || engine.AsError(err).Code != engine.Invalid || !strings.Contains(err.Error(), "invalid value for parameter") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if again, _, err = run(t, n, engine.Limits{}, odd...); err != nil || len(again.Changes()) != 0 {
		t.Errorf("again: %v, %d changes", err, len(again.Changes()))
	}
	if err := second.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := pass.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"work_mem": "4MB", check: unset, "search_path": `"$user", public`} {
		if got := shows(name); got != want {
			t.Errorf("put back, %s is %s, want %s", name, got, want)
		}
	}
}

// What resets come to at a real server, of settings that a file has and of others, is as predicted; they are put back.
func TestResetForReal(t *testing.T) {
	server, admin, p := postgres(t)
	n := pg.Beside(sim.New(sim.LabNode("db-1", 1)), nil)
	defer n.Close()
	do := func(sql string) string {
		t.Helper()
		r, err := admin.Exec(t.Context(), sql).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if last := r[len(r)-1]; len(last.Rows) > 0 {
			return string(last.Rows[0][0])
		}
		return ""
	}
	set := map[string]string{
		"work_mem": "8MB", "max_wal_size": "2GB", "max_connections": "80", "max_prepared_transactions": "5", "log_connections": "on", "search_path": "shop", "tcp_keepalives_idle": "60",
		"wal_buffers": "1MB", "TimeZone": "Europe/Berlin", "jit": "off", "archive_command": "true", checkInterval(p): "5s", "commit_delay": "10", "bgwriter_lru_multiplier": "3",
	}
	var calls []engine.Call
	for name, value := range set {
		do(fmt.Sprintf("alter system set %s = '%s'", name, value))
		calls = append(calls, ask(t, "pg.reset", map[string]any{"server": server, "name": name}))
	}
	do("select pg_reload_conf()")
	const written = "select count(*) from pg_file_settings where sourcefile like '%auto.conf'"
	for deadline := time.Now().Add(30 * time.Second); do("show work_mem") != "8MB" && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	_, pass, err := run(t, n, engine.Limits{engine.LimitChangesPerNode: {N: 20}}, calls...)
	if err != nil {
		t.Fatal(err)
	}
	if left, mem := do(written), do("show work_mem"); left != "0" || mem != "4MB" {
		t.Errorf("%s are left, work_mem is %s", left, mem)
	}
	again, _, err := run(t, n, engine.Limits{}, calls...)
	if err != nil || len(again.Changes()) != 0 {
		t.Errorf("again: %v, %v", err, again.Changes())
	}
	if err := pass.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if back := do(written); back != fmt.Sprint(len(set)) || do("show work_mem") != "8MB" {
		t.Errorf("%s of %d are back", back, len(set))
	}
}

// A server of a test has the columns in its answers that a real one has.
func TestColumnsOfTests(t *testing.T) {
	server, _, _ := postgres(t)
	s, err := pg.Open(server, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for ask, want := range rehearse.Columns {
		found, err := s.Read(t.Context(), resource.Query{{Kind: resource.KindRows, Name: server, Ask: ask}})
		if err != nil {
			t.Fatal(err)
		}
		if got := resource.All[resource.Rows](found); len(got) != 1 || !slices.Equal(got[0].Columns, want) {
			t.Errorf("%s: %+v, a test has %v", ask, got, want)
		}
	}
}

// What a text comes to as the value of a setting is what the server makes of it: of each setting
// that a session may set, and texts of every kind.
func TestValuesAgainstServer(t *testing.T) {
	server, admin, _ := postgres(t)
	s, err := pg.Open(server, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found, err := s.Read(t.Context(), resource.Query{{Kind: resource.KindSetting, Name: server}})
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	if text := os.Getenv("RUNBOOK_SEED"); text != "" {
		fmt.Sscan(text, &seed)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	texts := []string{"on", "tru", "o", "n", "0", "1", "-1", "2.5", "60", "1e2", "5s", "100ms", "1.5min", "2 h", "64kB", "1MB", "1.5GB", "8", "x", "", "10us", "1d", "3B", "0.5s", "7.5", "1TB"}
	checked, refused := 0, 0
	for _, c := range resource.All[resource.Setting](found) {
		if got, err := builtins.SettingValue(c, c.Shown()); c.Value != "" && len(resource.SettingItems(c.Name, c.Value)) == 1 && c.Name != "unix_socket_directories" && (err != nil || got != c.Value) {
			t.Errorf("%s is %s, which is shown as %s and read as %q: %v", c.Name, c.Value, c.Shown(), got, err)
		}
		if c.Context != "user" && c.Context != "superuser" || c.Type == "string" || c.Source == "client" || strings.HasPrefix(c.Name, "transaction_") || c.Name == "seed" || c.Name == "max_stack_depth" || c.Name == "vacuum_buffer_usage_limit" || strings.HasPrefix(c.Name, "tcp_") {
			continue
		}
		for _, text := range append(c.Options, texts[r.IntN(len(texts))], texts[r.IntN(len(texts))], texts[r.IntN(len(texts))], strings.ToUpper(c.Value), c.Min, c.Max) {
			ours, bad := builtins.SettingValue(c, text)
			if _, err := admin.Exec(t.Context(), "begin").ReadAll(); err != nil {
				t.Fatal(err)
			}
			res := admin.ExecParams(t.Context(), "select set_config($1, $2, true)", [][]byte{[]byte(c.Name), []byte(text)}, nil, nil, nil).Read()
			theirs := ""
			if res.Err == nil {
				res = admin.ExecParams(t.Context(), "select setting from pg_settings where name = $1", [][]byte{[]byte(c.Name)}, nil, nil, nil).Read()
				theirs = string(res.Rows[0][0])
			}
			checked++
			switch {
			case res.Err != nil && bad != nil:
				refused++
			case res.Err == nil && bad != nil && c.Type == "enum": // there are names for the same that the server does not tell of
			case (res.Err != nil) != (bad != nil), res.Err == nil && ours != theirs:
				t.Errorf("seed %d: %s = %q (%s, unit %q): we say %q, %v; the server %q, %v", seed, c.Name, text, c.Type, c.Unit, ours, bad, theirs, res.Err)
			}
			if _, err := admin.Exec(t.Context(), "rollback").ReadAll(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d texts, of which both refuse %d", checked, refused)
	if checked < 200 || refused < 20 {
		t.Errorf("only %d texts were tried, of which %d were refused", checked, refused)
	}
}
