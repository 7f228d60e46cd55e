//go:build linux

package pg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
)

// bouncer starts a pgbouncer before p, whose database shop is p's postgres. It returns how to
// reach that, and the console. databases are lines for more of them.
func bouncer(t *testing.T, p *integration.Postgres, mode string, databases ...string) (shop, console string) {
	t.Helper()
	integration.Need(t, "pgbouncer")
	bin, _ := integration.Path("pgbouncer")
	port := freePort(t)
	dir, err := os.MkdirTemp("", "bouncer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	ini := filepath.Join(dir, "pgbouncer.ini")
	os.WriteFile(ini, []byte(fmt.Sprintf(`[databases]
shop = host=127.0.0.1 port=%[1]d dbname=postgres user=postgres
%[4]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[2]d
unix_socket_dir =
auth_type = trust
auth_file = users.txt
admin_users = someone
stats_users = looker
pool_mode = %[3]s
max_client_conn = 10
`, p.Port, port, mode, strings.Join(databases, "\n"))), 0o644)
	os.WriteFile(filepath.Join(dir, "users.txt"), []byte("\"someone\" \"\"\n\"looker\" \"\"\n\"notsomeone\" \"\"\n"), 0o644)
	cmd := exec.Command(bin, ini)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.As()}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	dsn := func(db string) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=someone sslmode=disable", port, db)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := pgconn.Connect(t.Context(), dsn("pgbouncer")); err == nil {
			c.Close(t.Context())
			return dsn("shop"), dsn("pgbouncer")
		} else if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, log.String())
		}
	}
}

// Through a pooler all is found that is there, but the server is known to be behind one, and
// nothing that is set for looking is left to whom gets the connection next.
func TestThroughPooler(t *testing.T) {
	p := shared(t)
	shop, console := bouncer(t, p, "transaction")
	s := open(t, shop)
	if got := one[resource.Postgres](t, read(t, s, resource.Selector{Kind: resource.KindPostgres})); !got.Pooler || got.Max != 20 {
		t.Errorf("%+v", got)
	}
	read(t, s, resource.Selector{Kind: resource.KindBackend}, resource.Selector{Kind: resource.KindSetting})
	if _, err := query(t, s, "select 1"); err != nil {
		t.Error(err)
	}
	c := client(t, shop) // which gets the same connection: there is but one
	names := []string{"statement_timeout", "lock_timeout", "default_transaction_read_only", "transaction_read_only"}
	if p.Version() >= 14 {
		names = append(names, "idle_session_timeout")
	}
	for _, name := range names {
		r, err := c.Exec(t.Context(), "show "+name).ReadAll()
		if err != nil || string(r[0].Rows[0][0]) != "0" && string(r[0].Rows[0][0]) != "off" {
			t.Errorf("%s is left at %s: %v", name, r[0].Rows[0][0], err)
		}
	}
	fails(t, console, engine.Invalid, "is the console of a pgbouncer, and no Postgres")
	fails(t, strings.Replace(shop, "dbname=shop", "dbname=other", 1), engine.Unreachable, `has no database "other"`)
	fails(t, strings.Replace(console, "user=", "user=not", 1), engine.Unreachable, `does not let role notsomeone look\n.*stats_users`)
	_, err := s.Read(t.Context(), resource.Query{{Kind: resource.KindPool}})
	judge(t, err, engine.Invalid, "is no console of a pgbouncer")
}

// pausing is an edit that has shop paused, or not.
func pausing(t *testing.T, s *Server, verb string, paused bool) engine.Edit {
	t.Helper()
	q := resource.Query{{Kind: resource.KindPool, Name: s.name, Key: resource.PoolKey(s.name, "shop")}}
	before := read(t, s, q...)
	want := one[resource.Pool](t, before)
	want.Paused = paused
	return engine.Edit{Want: resource.Of(want), Query: q, Before: before, After: resource.Of(want), Verb: verb, Settle: engine.Duration(engine.DefaultSettle)}
}

func TestConsole(t *testing.T) {
	p := shared(t)
	shop, console := bouncer(t, p, "transaction")
	s := open(t, console)
	c := client(t, shop)
	do(t, c, "select 1")
	pool := resource.Selector{Kind: resource.KindPool, Name: console, Key: resource.PoolKey(console, "shop")}
	got := one[resource.Pool](t, read(t, s, pool))
	if got.Paused || got.Disabled || got.Connections != 1 || got.To != fmt.Sprintf("postgres at 127.0.0.1:%d", p.Port) {
		t.Errorf("%+v", got)
	}
	rows := one[resource.Rows](t, read(t, s, resource.Selector{Kind: resource.KindRows, Ask: "show pools"}))
	if len(rows.Rows) < 2 || rows.Records()[1]["database"] != "shop" {
		t.Errorf("%+v", rows)
	}

	looker := open(t, strings.Replace(console, "user=someone", "user=looker", 1))
	lookerPool := resource.Pool{Server: looker.name, DB: "shop", Paused: true}
	_, err := looker.Apply(t.Context(), engine.Edit{Want: resource.Of(lookerPool), Verb: Pause})
	judge(t, err, engine.Differs, "does that for its admins only, and looker is none")

	// Paused, clients wait; taken back, they go on.
	paused := pausing(t, s, Pause, true)
	apply(t, s, paused)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client(t, shop).Exec(ctx, "select 1").ReadAll(); err == nil {
		t.Error("a client of a paused database is served")
	}
	back, _ := paused.TakeBack(nil, paused.After)
	apply(t, s, back)
	do(t, c, "select 1")

	// One who keeps a connection keeps it from being paused; nobody waits for that for ever.
	was := statementWithin
	statementWithin = 300 * time.Millisecond
	defer func() { statementWithin = was }()
	do(t, c, "begin; select 1")
	_, err = s.Apply(t.Context(), pausing(t, s, Pause, true))
	judge(t, err, engine.Unreachable, "could not pause shop within 300ms, and lets its clients on again")
	do(t, c, "commit; select 1")
	do(t, client(t, shop), "select 1")

}

// What a reconnect and a kill make of connections.
func TestConsoleCuts(t *testing.T) {
	shop, console := bouncer(t, shared(t), "transaction")
	s := open(t, console)
	c := client(t, shop)
	do(t, c, "select 1")

	// A reconnect closes what there is, when it is free.
	pooled := one[resource.Pooled](t, read(t, s, resource.Selector{Kind: resource.KindPooled, Name: console}))
	gone := engine.Edit{
		Want: resource.State{pooled.Key(): nil}, Query: resource.Query{{Kind: resource.KindPooled, Name: console, Key: pooled.Key()}},
		Before: resource.Of(pooled), After: resource.State{}, Verb: Reconnect, Settle: engine.Duration(engine.DefaultSettle),
	}
	do(t, c, "begin; select 1") // it is not free now
	apply(t, s, gone)
	if left := read(t, s, gone.Query...); len(left) != 1 || !one[resource.Pooled](t, left).Closing {
		t.Errorf("%v", left)
	}
	do(t, c, "commit; select 1")

	apply(t, s, pausing(t, s, Kill, true))
	if alive(t, c) {
		t.Error("a client of a killed database lives on")
	}
	apply(t, s, pausing(t, s, Resume, false))
	do(t, client(t, shop), "select 1")
}

// A database that * stands for is not shown while nobody uses it. Paused it can be resumed all the same, and a name
// that no database has is still none.
func TestConsoleHiddenDatabase(t *testing.T) {
	p := shared(t)
	shop, console := bouncer(t, p, "transaction", fmt.Sprintf("* = host=127.0.0.1 port=%d user=postgres", p.Port))
	s := open(t, console)
	user := client(t, strings.Replace(shop, "dbname=shop", "dbname=postgres", 1))
	do(t, user, "select 1")
	q := resource.Query{{Kind: resource.KindPool, Name: s.name, Key: resource.PoolKey(s.name, "postgres")}}
	change := func(verb string, paused bool) {
		t.Helper()
		before := read(t, s, q...)
		want := one[resource.Pool](t, before)
		want.Paused = paused
		apply(t, s, engine.Edit{Want: resource.Of(want), Query: q, Before: before, After: resource.Of(want), Verb: verb, Settle: engine.Duration(engine.DefaultSettle)})
	}
	if all := read(t, s, resource.Selector{Kind: resource.KindPool}); len(all) < 2 {
		t.Fatalf("%v", all)
	}
	change(Pause, true)
	user.Close(t.Context()) //nolint:errcheck // it is of no more use
	for deadline := time.Now().Add(30 * time.Second); len(read(t, s, resource.Selector{Kind: resource.KindPool})) > 2 && time.Now().Before(deadline); time.Sleep(readEvery) {
	}
	if all := read(t, s, resource.Selector{Kind: resource.KindPool}); len(all) != 2 { // shop and pgbouncer
		t.Fatalf("it is shown still: %v", all)
	}
	change(Resume, false)
	do(t, client(t, strings.Replace(shop, "dbname=shop", "dbname=postgres", 1)), "select 1")

	_, console = bouncer(t, p, "transaction")
	s = open(t, console)
	if found := read(t, s, resource.Selector{Kind: resource.KindPool, Name: s.name, Key: resource.PoolKey(s.name, "no such")}); len(found) > 0 {
		t.Errorf("%v", found)
	}
}
