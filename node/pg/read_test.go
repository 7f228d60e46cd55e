//go:build linux

package pg

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"runbook/engine/resource"
)

func TestReadServer(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	got := one[resource.Postgres](t, read(t, s, resource.Selector{Kind: resource.KindPostgres, Name: s.name}))
	if got.Major() < 13 || got.Max != 20 || got.Reserved != 3 || got.InRecovery || got.Pooler || got.Role != "postgres" ||
		!got.Superuser || !got.SeesAll || !got.Signals || !got.AlterSystem || time.Since(got.Started) > time.Hour {
		t.Errorf("%+v", got)
	}
	do(t, client(t, p.DSN("")), "create role looker login; create role seer login in role pg_monitor; create role ender login in role pg_signal_backend")
	for role, want := range map[string][4]bool{"looker": {}, "seer": {false, true}, "ender": {false, false, true}} {
		s := open(t, p.DSN("user="+role))
		p := one[resource.Postgres](t, read(t, s, resource.Selector{Kind: resource.KindPostgres}))
		if got := [4]bool{p.Superuser, p.SeesAll, p.Signals, p.AlterSystem}; got != want || p.Role != role {
			t.Errorf("%s: %v, want %v: %+v", role, got, want, p)
		}
	}
}

func TestReadBackends(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	idle := client(t, p.TCP("application_name=shop"))
	open := client(t, p.DSN("application_name=ledger"))
	do(t, open, "begin; select 1")
	found := read(t, s, resource.Selector{Kind: resource.KindBackend, Name: s.name})
	byApp := map[string]resource.Backend{}
	types := map[string]bool{}
	for _, b := range resource.All[resource.Backend](found) {
		byApp[b.Application] = b
		types[b.Type] = true
	}
	shop, ledger, own := byApp["shop"], byApp["ledger"], byApp["runbook"]
	if shop.PID != int(idle.PID()) || shop.State != "idle" || shop.Client.String() != idle.Conn().LocalAddr().String() || shop.User != "postgres" || shop.DB != "postgres" ||
		shop.Own || shop.XactFor != 0 || shop.Age <= 0 || shop.Age > resource.Duration(time.Minute) || time.Since(shop.Start) > time.Minute {
		t.Errorf("%+v", shop)
	}
	if ledger.State != "idle in transaction" || ledger.XactFor <= 0 || ledger.Client.IsValid() || !own.Own {
		t.Errorf("%+v\n%+v", ledger, own)
	}
	if !types["checkpointer"] {
		t.Errorf("the server's own processes are not there: %v", types)
	}
	// Read again it is the same to any comparison, and one that is named is found alone.
	later := read(t, s, resource.Selector{Kind: resource.KindBackend, Name: s.name, Key: shop.Key()})
	if len(later) != 1 || !resource.Equal(resource.Of(shop), later) || reflect.DeepEqual(resource.State(resource.Of(shop)), later) {
		t.Errorf("%v", later)
	}
}

func TestReadSettings(t *testing.T) {
	p := own(t)
	s := open(t, p.DSN(""))
	all := resource.All[resource.Setting](read(t, s, resource.Selector{Kind: resource.KindSetting, Name: s.name}))
	if len(all) < 300 {
		t.Errorf("%d settings", len(all))
	}
	get := func(name string) resource.Setting {
		t.Helper()
		return one[resource.Setting](t, read(t, s, resource.Selector{Kind: resource.KindSetting, Name: s.name, Key: resource.SettingKey(s.name, name)}))
	}
	if c := get("timezone"); c.Name != "TimeZone" || c.Context != "user" {
		t.Errorf("%+v", c)
	}
	if c := get("max_connections"); c.Value != "20" || c.Context != "postmaster" || c.Source != "configuration file" || c.Auto != nil || c.Hidden || !c.Alter {
		t.Errorf("%+v", c)
	}
	// What the system's default is, only a TCP connection shows.
	if c := get("tcp_keepalives_idle"); c.Value != "0" || c.Actual != "" {
		t.Errorf("%+v", c)
	}
	tcp := open(t, p.TCP(""))
	if c := one[resource.Setting](t, read(t, tcp, resource.Selector{Kind: resource.KindSetting, Key: resource.SettingKey(tcp.name, "tcp_keepalives_idle")})); c.Value != "0" || c.Actual == "0" || c.Actual == "" {
		t.Errorf("%+v", c)
	}
	// What this connection has set for itself does not show.
	own := []string{"statement_timeout", "lock_timeout", "default_transaction_read_only"}
	if p.Version() >= 14 {
		own = append(own, "idle_session_timeout")
	}
	for _, name := range own {
		if c := get(name); c.Value != "0" && c.Value != "off" || c.Source != "default" {
			t.Errorf("%+v", c)
		}
	}
	do(t, client(t, p.DSN("")), "alter system set work_mem = '8MB'")
	if c := get("work_mem"); c.Auto == nil || *c.Auto != "8MB" || c.Value != "4096" || c.Shown() != "4MB" {
		t.Errorf("%+v", c)
	}
	do(t, client(t, p.DSN("")), "create role looker login")
	low := open(t, p.DSN("user=looker"))
	c := one[resource.Setting](t, read(t, low, resource.Selector{Kind: resource.KindSetting, Key: resource.SettingKey(low.name, "work_mem")}))
	if !c.Hidden || c.Auto != nil || c.Alter {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(c.String(), "work_mem = 4MB") {
		t.Error(c)
	}
	// Of what this connection has set for itself, where it comes from is as exact.
	if err := p.Append("postgresql.conf", "lock_timeout = 0", "statement_timeout = 1h"); err != nil {
		t.Fatal(err)
	}
	do(t, client(t, p.DSN("")), "select pg_reload_conf()")
	for deadline := time.Now().Add(10 * time.Second); get("statement_timeout").Value == "0" && time.Now().Before(deadline); time.Sleep(readEvery) {
	}
	for name, want := range map[string]string{"lock_timeout": "0", "statement_timeout": "3600000"} {
		if c := get(name); c.Value != want || c.Source != "configuration file" {
			t.Errorf("%+v", c)
		}
	}
	// A password that a setting says is in nothing that is read: records would keep it.
	do(t, client(t, p.DSN("")), "alter system set primary_conninfo = 'host=db-1 password=hunter2 user=copy'")
	do(t, client(t, p.DSN("")), "select pg_reload_conf()")
	for deadline := time.Now().Add(10 * time.Second); get("primary_conninfo").Value == "" && time.Now().Before(deadline); time.Sleep(readEvery) {
	}
	if c := get("primary_conninfo"); c.Value != "host=db-1 password=********" || *c.Auto != c.Value || !resource.HasPassword(c.Value) {
		t.Errorf("%+v, by ALTER SYSTEM %s", c, *c.Auto)
	}
	if p.Version() < 15 { // superusers alone have it
		return
	}
	do(t, client(t, p.DSN("")), "grant alter system on parameter work_mem to looker; grant execute on function pg_reload_conf() to looker")
	if c = one[resource.Setting](t, read(t, low, resource.Selector{Kind: resource.KindSetting, Key: resource.SettingKey(low.name, "work_mem")})); !c.Alter {
		t.Errorf("%+v", c)
	}
}

// A name that is no UTF-8, as one that was made in another database can be, keeps nobody from looking.
func TestReadNamesOfAnyEncoding(t *testing.T) {
	p := own(t)
	root := client(t, p.DSN(""))
	do(t, root, "create database latin encoding 'LATIN1' template template0")
	do(t, root, "create database bytes encoding 'SQL_ASCII' template template0")
	do(t, client(t, p.DSN("dbname=latin client_encoding=LATIN1")), "create role \"l\xe9on\" login; grant pg_monitor to \"l\xe9on\"")
	theirs := client(t, p.DSN("dbname=latin application_name=theirs client_encoding=LATIN1 user='l\xe9on'"))
	for db, want := range map[string]string{"postgres": "l\ufffdon", "latin": "léon", "bytes": "l\ufffdon"} {
		s := open(t, p.DSN("dbname="+db))
		for _, b := range resource.All[resource.Backend](read(t, s, resource.Selector{Kind: resource.KindBackend}, resource.Selector{Kind: resource.KindSetting})) {
			if b.PID == int(theirs.PID()) && b.User != want {
				t.Errorf("in %s it is of %q, want %q", db, b.User, want)
			}
		}
		if e := ending(t, s, resource.Where{Application: "theirs"}); len(e.Want) != 1 {
			t.Errorf("in %s: %v", db, e.Before)
		}
	}
	// What a runbook asks for as text is text, or an error.
	if _, err := query(t, open(t, p.DSN("dbname=bytes")), "select rolname from pg_roles where oid >= 16384"); err == nil || !strings.Contains(err.Error(), "invalid byte sequence") {
		t.Error(err)
	}
}
