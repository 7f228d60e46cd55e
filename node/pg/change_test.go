//go:build linux

package pg

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
)

// setting is an edit that changes one setting as f says, of which after is what is expected.
func setting(t *testing.T, s *Server, name string, f func(*resource.Setting)) engine.Edit {
	t.Helper()
	q := resource.Query{{Kind: resource.KindSetting, Name: s.name, Key: resource.SettingKey(s.name, name)}}
	before := read(t, s, q...)
	c := one[resource.Setting](t, before)
	f(&c)
	return engine.Edit{Want: resource.Of(c), Query: q, Before: before, After: resource.Of(c), Settle: engine.Duration(engine.DefaultSettle)}
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

func to(value string) *string { return &value }

// apply does e, and wants what was predicted to be read back.
func apply(t *testing.T, n engine.Node, e engine.Edit) {
	t.Helper()
	found, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if d := resource.Compare(e.After, found); len(d) > 0 {
		t.Fatalf("not as predicted:\n%s", d)
	}
}

func TestSettings(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	for _, c := range []struct {
		name string
		f    func(*resource.Setting)
	}{
		{"tcp_keepalives_idle", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to("60"), "configuration file", "60" }},
		{"work_mem", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to("8MB"), "configuration file", "8192" }},
		{"log_connections", func(c *resource.Setting) { c.Auto = to("on") }}, // of sessions that begin from then on
		{"max_connections", func(c *resource.Setting) { c.Auto, c.Pending = to("40"), true }},
		{"max_prepared_transactions", func(c *resource.Setting) { c.Auto, c.Pending = to("5"), true }}, // of which no file has anything
		{"search_path", func(c *resource.Setting) {
			c.Auto, c.Source, c.Value = to(`"$user", "it's \ one", public`), "configuration file", `"$user", "it's \ one", public`
		}},
		{"log_line_prefix", func(c *resource.Setting) {
			c.Auto, c.Source, c.Value = to(`it's \ "one"`), "configuration file", `it's \ "one"`
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := setting(t, s, c.name, c.f)
			apply(t, s, e)
			back, left := e.TakeBack(nil, e.After)
			if len(left) > 0 {
				t.Fatal(left)
			}
			later := open(t, p.DSN("")) // the undo of another process
			if now := read(t, later, e.Query...); !resource.Equal(e.After, now) {
				t.Errorf("a session that began after it sees another:\n%s", resource.Compare(e.After, now))
			}
			apply(t, later, back)
			now := read(t, s, e.Query...)
			for deadline := time.Now().Add(10 * time.Second); !resource.Equal(e.Before, now) && time.Now().Before(deadline); now = read(t, s, e.Query...) {
				time.Sleep(readEvery) // the server tells one session after another that there is something to read
			}
			if !resource.Equal(e.Before, now) {
				t.Errorf("taken back, it is not as it was:\n%s", resource.Compare(e.Before, now))
			}
		})
	}
}

func TestSettingsDriftAndRefusal(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	e := setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to("8MB"), "configuration file", "8192" })
	do(t, client(t, p.DSN("")), "alter system set work_mem = '6MB'")
	var drift *engine.DriftError
	if _, err := s.Apply(t.Context(), e); !errors.As(err, &drift) {
		t.Errorf("got %v", err)
	}
	e = setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto = to("much") })
	_, err := s.Apply(t.Context(), e)
	if known := engine.AsError(err); known.Code != engine.Differs || known.Left != engine.NothingChanged || !strings.Contains(known.Cause, "much") {
		t.Errorf("got %v", err)
	}
	// Of two, of which the second is refused, none is made.
	e = setting(t, s, "log_line_prefix", func(c *resource.Setting) { c.Auto = to("x") })
	second := setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto = to("much") })
	for k, r := range second.Want {
		e.Want[k], e.Before[k] = r, second.Before[k]
	}
	e.Query = append(e.Query, second.Query...)
	if _, err = s.Apply(t.Context(), e); err == nil {
		t.Error("it was taken")
	}
	if now := read(t, s, e.Query...); !resource.Equal(e.Before, now) {
		t.Errorf("something was left:\n%s", resource.Compare(e.Before, now))
	}
	do(t, client(t, p.DSN("")), "alter system reset all")
}

// A server that is not there any more has not been changed.
func TestGoneBeforeAChange(t *testing.T) {
	p := own(t)
	s := open(t, p.DSN(""))
	e := setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to("8MB"), "configuration file", "8192" })
	e.Run = "one"
	p.Halt()
	_, err := s.Apply(t.Context(), e)
	judge(t, err, engine.Unreachable, "")
	if known := engine.AsError(err); known.Left != engine.NothingChanged {
		t.Errorf("got %v, which leaves %q", err, known.Left)
	}
}

// ending is an edit that ends the sessions that w selects.
func ending(t *testing.T, s *Server, w resource.Where) engine.Edit {
	t.Helper()
	before := read(t, s, resource.Selector{Kind: resource.KindBackend, Name: s.name, Where: &w})
	e := engine.Edit{Want: resource.State{}, Before: before, After: resource.State{}, Settle: engine.Duration(engine.DefaultSettle)}
	for _, k := range before.Keys() {
		e.Want[k] = nil
		e.Query = append(e.Query, resource.Selector{Kind: resource.KindBackend, Name: s.name, Key: k, Where: &w})
	}
	return e
}

func alive(t *testing.T, c *pgconn.PgConn) bool {
	t.Helper()
	_, err := c.Exec(t.Context(), "select 1").ReadAll()
	return err == nil
}

func TestTerminate(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	var stale []*pgconn.PgConn
	for range 4 {
		stale = append(stale, client(t, p.TCP("application_name=shop")))
	}
	other := client(t, p.TCP("application_name=ledger"))
	e := ending(t, s, resource.Where{Application: "shop", State: "idle"})
	if len(e.Want) != 4 {
		t.Fatalf("%v", e.Before)
	}
	do(t, stale[1], "begin")                           // works again
	stale[2].Close(t.Context())                        //nolint:errcheck // has ended
	fresh := client(t, p.TCP("application_name=shop")) // came later
	found, err := s.Apply(t.Context(), e)
	if err != nil || !resource.Equal(e.After, found) {
		t.Fatalf("%v, %v", found, err)
	}
	if left := one[resource.Backend](t, found); left.PID != int(stale[1].PID()) || !strings.Contains(left.Left, "idle in transaction") {
		t.Errorf("%+v", left)
	}
	for i, c := range append(stale, other, fresh) {
		if want := i == 1 || i > 3; alive(t, c) != want {
			t.Errorf("session %d: want it to live: %v", i, want)
		}
	}
	if found, err := s.Apply(t.Context(), ending(t, s, resource.Where{Application: "shop", IdleFor: resource.Duration(time.Hour)})); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
}

// A run may have several sessions at a server, and ends none of them.
func TestTerminateLeavesOwn(t *testing.T) {
	p := shared(t)
	first, second := open(t, p.DSN("")), open(t, p.DSN("dbname=template1"))
	read(t, second, resource.Selector{Kind: resource.KindPostgres})
	of := func(s *Server) map[uint32]bool {
		found := map[uint32]bool{}
		for _, b := range resource.All[resource.Backend](ending(t, s, resource.Where{User: "postgres"}).Before) {
			found[uint32(b.PID)] = true
		}
		return found
	}
	other := client(t, p.DSN(""))
	if found := of(first); !found[other.PID()] || found[first.conn.PID()] || found[second.conn.PID()] {
		t.Errorf("%v are to end, of which %d and %d are its own", found, first.conn.PID(), second.conn.PID())
	}
}

// What is selected is the same in Go, where it is shown, and in SQL, where it is done.
func TestConditions(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	make := func() map[string]*pgconn.PgConn {
		all := map[string]*pgconn.PgConn{
			"tcp": client(t, p.TCP("application_name=a")), "unix": client(t, p.DSN("application_name=b")), "busy": client(t, p.TCP("application_name=c")),
			"db": client(t, p.TCP("application_name=d dbname=template1")),
		}
		do(t, all["busy"], "begin")
		return all
	}
	do(t, client(t, p.DSN("")), "create role conditions login")
	for _, c := range []struct {
		name string
		w    resource.Where
		ends []string
	}{
		{"state", resource.Where{State: "idle in transaction"}, []string{"busy"}},
		{"idle, in a transaction too", resource.Where{IdleFor: 1, Application: "c"}, []string{"busy"}},
		{"not idle so long", resource.Where{IdleFor: resource.Duration(time.Hour)}, nil},
		{"older", resource.Where{OlderThan: 1, DB: "template1"}, []string{"db"}},
		{"not so old", resource.Where{OlderThan: resource.Duration(time.Hour)}, nil},
		{"client", resource.Where{Client: loopback}, []string{"busy", "db", "tcp"}},
		{"user", resource.Where{User: "conditions"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			sessions := make()
			e := ending(t, s, c.w)
			if len(e.Want) != len(c.ends) {
				t.Fatalf("%v, want %v", e.Before, c.ends)
			}
			apply(t, s, e)
			for name, conn := range sessions {
				if ends := strings.Contains(fmt.Sprint(c.ends), name); alive(t, conn) == ends {
					t.Errorf("%s: want its end: %v", name, ends)
				}
				conn.Close(t.Context()) //nolint:errcheck // it may have ended
			}
			for _, application := range []string{"a", "b", "c", "d"} { // the server takes its time
				for len(ending(t, s, resource.Where{Application: application}).Want) > 0 {
					time.Sleep(readEvery)
				}
			}
		})
	}
}

// A pid that is another session's by the time is left alone: for once, the number is made to come again.
func TestPidReused(t *testing.T) {
	integration.Need(t, "root", "nsenter")
	if _, err := os.Stat("/proc/sys/kernel/ns_last_pid"); err != nil {
		integration.Missing(t, "the kernel does not let the next pid be set: %v", err)
	}
	p := own(t)
	p.Halt()
	if err := p.StartApart(); err != nil {
		t.Fatal(err)
	}
	s := open(t, p.DSN(""))
	first := client(t, p.TCP("application_name=shop"))
	e := ending(t, s, resource.Where{Application: "shop"})
	if len(e.Want) != 1 {
		t.Fatalf("%v", e.Before)
	}
	pid := first.PID()
	first.Close(t.Context()) //nolint:errcheck // as said
	var second *pgconn.PgConn
	for range 50 {
		if out, err := exec.Command("nsenter", "-t", fmt.Sprint(p.Pid()), "-p", "sh", "-c", fmt.Sprintf("echo %d >/proc/sys/kernel/ns_last_pid", pid-1)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if second = client(t, p.TCP("application_name=shop")); second.PID() == pid {
			break
		}
		second.Close(t.Context()) //nolint:errcheck // as said
	}
	if second.PID() != pid {
		t.Fatalf("the pid %d did not come again, but %d", pid, second.PID())
	}
	apply(t, s, e)
	if !alive(t, second) {
		t.Error("the session that has the pid by now was ended")
	}
	again := ending(t, s, resource.Where{Application: "shop"})
	apply(t, s, again)
	if alive(t, second) {
		t.Error("asked for by its own beginning, it lives on")
	}
}

// A role that may not end a session leaves it alone, and says so.
func TestProtected(t *testing.T) {
	p := shared(t)
	do(t, client(t, p.DSN("")), "create role killer login in role pg_signal_backend, pg_read_all_stats; create role shopper login")
	s := open(t, p.DSN("user=killer"))
	super, app := client(t, p.TCP("application_name=shop")), client(t, p.TCP("application_name=shop user=shopper"))
	e := ending(t, s, resource.Where{Application: "shop"})
	for _, b := range resource.All[resource.Backend](e.Before) {
		if b.Protected != (b.User == "postgres") {
			t.Errorf("%+v", b)
		}
	}
	found, err := s.Apply(t.Context(), e)
	if err != nil || one[resource.Backend](t, found).Left != "the role may not end it" {
		t.Fatalf("%v, %v", found, err)
	}
	if !alive(t, super) || alive(t, app) {
		t.Error("the wrong one was ended")
	}
}
