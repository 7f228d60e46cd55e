//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/internal/integration"
)

// These tests have the real binary work on a real Postgres in a node of a lab: as the node's own, and as what all nodes share.

// serverBook changes a shared server before the first wave; told is when it goes on after its first change.
const serverBook = `"""A setting, a session and a route."""

runbook(
    params = {"server": param.string("its DSN"), "tries": param.int("how often it waits", default = 1)},
    limits = limits(nodes = 10, changes_per_node = 5, changes_per_minute = 100000, changes_per_hour = 100000, nodes_per_hour = 100000),
    rollout = rollout(waves = ["1", "100%"]),
)

def before(fleet, p):
    db = pg.connect(p.server, via = "node-1")
    db.set("tcp_keepalives_idle", 60)
    tries = []
    def told():
        tries.append(1)
        expect(len(tries) >= p.tries or "10.99.99.0/24" in [r.dst for r in fleet.nodes[0].route.list()], "not yet")
    retry(p.tries, "100ms", told)
    db.set("tcp_keepalives_count", 4)
    db.terminate(application = "victim")

def gate(fleet, p):
    c = pg.connect(p.server, via = "node-1").connections()
    observe("free connections", c.free)
    expect(c.free >= 5, "%d connections left" % c.free)

def run(node, p):
    if node.name == "node-1":
        print("own: %s" % node.pg("host=127.0.0.1 dbname=postgres user=postgres sslmode=disable").setting("tcp_keepalives_idle").value)
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
`

// withPostgres is a lab in whose first node a Postgres runs, which all nodes reach, and
// how they do; sql asks it, without what psql writes beside.
func withPostgres(t *testing.T, nodes int) (r realLab, dsn string, sql func(string) string) {
	t.Helper()
	integration.Need(t, "postgres")
	bin, err := integration.PostgresBin()
	if err != nil {
		t.Fatal(err)
	}
	r = newRealLab(t, nodes)
	addr := strings.Fields(r.on(t, "node-1", "ip -4 -o addr show eth1"))[3]
	addr, _, _ = strings.Cut(addr, "/")
	as := "setpriv --reuid=nobody --regid=nogroup --clear-groups env LC_ALL=C "
	r.on(t, "node-1", "install -d -o nobody /tmp/pg && cd /tmp/pg && "+as+bin+"/initdb -D /tmp/pg/data -U postgres -A trust --no-sync --no-instructions >/dev/null && "+
		"echo 'host all all 10.98.0.0/16 trust' >> data/pg_hba.conf && sed -i '1i host all locked all scram-sha-256' data/pg_hba.conf && "+
		as+bin+"/pg_ctl -D data -w -l /tmp/pg/log -o \"-k /tmp/pg -c listen_addresses='*' -c fsync=off -c max_connections=20\" start >/dev/null && "+
		bin+"/psql -h /tmp/pg -U postgres -qc 'create role app login; create role locked login' postgres")
	return r, fmt.Sprintf("host=%s dbname=postgres user=postgres sslmode=disable", addr), func(query string) string {
		return r.on(t, "node-1", fmt.Sprintf("%s/psql -h /tmp/pg -U postgres -Atc %q postgres", bin, query))
	}
}

// sessions has so many sessions made from a node, as an application; they last as long as the lab.
func (r realLab) sessions(t *testing.T, node, dsn, application string, n int) {
	t.Helper()
	bin, err := integration.PostgresBin()
	if err != nil {
		t.Fatal(err)
	}
	dsn = strings.Replace(dsn, "user=postgres", "user=app", 1) // who gets none of the connections that are reserved
	r.on(t, node, fmt.Sprintf("for i in $(seq %d); do PGAPPNAME=%s setsid %s/psql %q -c 'select pg_sleep(3600)' >/dev/null 2>&1 </dev/null & done", n, application, bin, dsn))
}

func awaitSQL(t *testing.T, sql func(string) string, query, want string) {
	t.Helper()
	for range 600 {
		if sql(query) == want {
			return
		}
	}
	t.Fatalf("%s is %q, want %q", query, sql(query), want)
}

const (
	keepalives = "select count(*) from pg_file_settings where name like 'tcp_keepalives%' and sourcefile like '%auto.conf'"
	ofVictim   = "select count(*) from pg_stat_activity where application_name = 'victim'"
)

// What hooks change of a server is shown, done, recorded and taken back; what cannot be is said. A run
// that was killed in the middle of it goes on, and each is done once.
func TestServers(t *testing.T) {
	r, dsn, sql := withPostgres(t, 2)
	if err := os.WriteFile(filepath.Join(r.dir, "server.star"), []byte(serverBook), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "server.star", "server=" + dsn, "-i", "lab", "-n", "all"}
	target := "pg " + dsn + " via node-1"

	t.Run("all of it", func(t *testing.T) {
		r.sessions(t, "node-2", dsn, "victim", 2)
		awaitSQL(t, sql, ofVictim, "2")
		plan, err := r.command(append([]string{"plan"}, args[1:]...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(plan), "2 nodes, 1 server, 6 changes") || strings.Count(string(plan), "(victim)") != 2 {
			t.Errorf("%v\n%s", err, plan)
		}
		g := r.begin(t, append(args, "--yes")...)
		said := g.exits(t, engine.OK)
		if sql(keepalives) != "2" || sql(ofVictim) != "0" {
			t.Errorf("%s settings, %s sessions\n%s", sql(keepalives), sql(ofVictim), said)
		}
		own := false
		for _, e := range g.snapshot() {
			own = own || e.Kind == engine.EventPrint && e.Text == "own: 60"
		}
		if !own {
			t.Error("the node's own server has not said what was set") // it is predicted before that is done
		}
		shown, err := r.command("show", r.states(t).ID).CombinedOutput()
		if err != nil || !strings.Contains(string(shown), "tcp_keepalives_count") {
			t.Errorf("%v\n%s", err, shown)
		}
		undone, err := r.command("undo", r.states(t).ID, "-i", "lab", "--yes").CombinedOutput()
		if err != nil || sql(keepalives) != "0" || !regexp.MustCompile(`(?i)session|backend`).Match(undone) {
			t.Errorf("%v: %s settings are left\n%s", err, sql(keepalives), undone)
		}
		if left := r.everywhere(t, "ip route show 10.20.0.0/16"); left != "" {
			t.Errorf("the undo left %s", left)
		}
	})
	halfway := func(t *testing.T) *going { // a run that has made its first setting, and waits to be told before the next
		r.everywhere(t, tell)
		g := r.begin(t, append(args, "tries=6000")...)
		g.until(t, "it asks about the server", func(e engine.Event) bool { return e.Kind == engine.EventQuestion && e.Node == target })
		r.everywhere(t, untell)
		if _, err := g.in.Write([]byte("y\n")); err != nil {
			t.Fatal(err)
		}
		g.until(t, "the first setting is there", func(e engine.Event) bool { return e.Kind == engine.EventChange && e.Node == target })
		return g
	}
	t.Run("killed and resumed", func(t *testing.T) {
		g := halfway(t)
		g.Process.Kill()
		<-g.ended
		if sql(keepalives) != "1" {
			t.Fatalf("%s settings", sql(keepalives))
		}
		r.everywhere(t, tell)
		defer r.everywhere(t, untell)
		id := r.states(t).ID
		again := r.begin(t, "resume", id, "-i", "lab", "--yes")
		again.exits(t, engine.OK)
		done := map[string]int{}
		for _, e := range append(g.snapshot(), again.snapshot()...) {
			if e.Kind == engine.EventChange {
				done[e.Node+" "+e.Op]++
			}
		}
		for what, n := range done {
			if n != 1 {
				t.Errorf("%s was done %d times", what, n)
			}
		}
		if sql(keepalives) != "2" || len(done) != 4 {
			t.Errorf("%s settings, done: %v", sql(keepalives), done)
		}
		out, err := r.command("undo", id, "-i", "lab", "--yes").CombinedOutput()
		if err != nil || sql(keepalives) != "0" {
			t.Errorf("%v: %s settings are left\n%s", err, sql(keepalives), out)
		}
	})
	t.Run("two runs", func(t *testing.T) {
		other := strings.ReplaceAll(serverBook[:strings.Index(serverBook, "    tries = []")], "keepalives_idle", "keepalives_interval")
		other = strings.Replace(other, "def before", "def run(node, p):\n    pass\n\ndef before", 1)
		if err := os.WriteFile(filepath.Join(r.dir, "other.star"), []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		g := halfway(t)
		second := []string{"run", "other.star", "server=" + dsn, "-i", "lab", "-n", "node-1", "--yes", "--plain"}
		if out, err := r.command(second...).CombinedOutput(); err == nil || !strings.Contains(string(out), "another run works on Postgres ") || sql(keepalives) != "1" {
			t.Errorf("the second: %v, %s settings\n%s", err, sql(keepalives), out)
		}
		g.Process.Kill()
		<-g.ended
		if out, err := r.command(second...).CombinedOutput(); err != nil || sql(keepalives) != "2" {
			t.Errorf("after the first: %v, %s settings\n%s", err, sql(keepalives), out)
		}
		sql("alter system reset all")
		sql("select pg_reload_conf()")
	})
	t.Run("a limit", func(t *testing.T) { // of what was to be done until there, the plan tells
		out, err := r.command(append([]string{"plan", "--limit", "changes_per_node=1"}, args[1:]...)...).CombinedOutput()
		for _, want := range []string{"\n" + target + "\n  - setting tcp_keepalives_idle = 0\n", "this would be change 2 on the server, but limit changes_per_node = 1 (--limit); nothing changed"} {
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%v: it does not say %q\n%s", err, want, out)
			}
		}
	})
	t.Run("a question", func(t *testing.T) {
		g := r.begin(t, args...)
		g.until(t, "it asks about the server", func(e engine.Event) bool { return e.Kind == engine.EventQuestion && e.Node == target })
		if _, err := g.in.Write([]byte("q\n")); err != nil {
			t.Fatal(err)
		}
		g.exits(t, engine.Interrupted)
		if left := r.everywhere(t, "ip route show 10.20.0.0/16"); sql(keepalives) != "0" || left != "" {
			t.Errorf("%s settings, routes %q", sql(keepalives), left)
		}
	})
	t.Run("a server that is full", func(t *testing.T) {
		g := r.begin(t, args...)
		g.until(t, "it asks about the server", func(e engine.Event) bool { return e.Kind == engine.EventQuestion && e.Node == target })
		r.sessions(t, "node-2", dsn, "crowd", 40) // far more than there is room for
		awaitSQL(t, sql, "select count(*) >= 14 from pg_stat_activity where application_name = 'crowd'", "t")
		if _, err := g.in.Write([]byte("y\n")); err != nil {
			t.Fatal(err)
		}
		said := g.exits(t, engine.GateFailed)
		if !strings.Contains(said, "connections left") {
			t.Errorf("the gate could not look:\n%s", said)
		}
		if left := r.everywhere(t, "ip route show 10.20.0.0/16"); left != "" {
			t.Errorf("a node was changed: %s", left)
		}
	})
}

// What keeps a server from answering is one clear error, before anything is changed, and no password is in it, in the record or in a report.
func TestServersThatDoNotAnswer(t *testing.T) {
	r, dsn, _ := withPostgres(t, 1)
	if err := os.WriteFile(filepath.Join(r.dir, "server.star"), []byte(serverBook), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "hunter2"
	if err := os.WriteFile(filepath.Join(r.dir, ".pgpass"), []byte("*:*:*:locked:"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	as := func(user string) string { return strings.Replace(dsn, "user=postgres", "user="+user, 1) }
	for what, c := range map[string]struct {
		server, says string
		code         engine.Code
	}{
		"a password in the name": {dsn + " password=" + secret, "has a password in it", engine.Invalid},
		"a wrong password":       {as("locked"), "password", engine.GateFailed},
		"no such role":           {as("nobody"), `role "nobody" does not exist`, engine.GateFailed},
		"no such database":       {strings.Replace(dsn, "dbname=postgres", "dbname=none", 1), `has no database "none"`, engine.GateFailed},
		"nobody listens":         {dsn + " port=1", "refused", engine.GateFailed},
		"no TLS":                 {strings.Replace(dsn, "disable", "require", 1), "TLS", engine.GateFailed},
		"no rights":              {as("app"), "ALTER SYSTEM", engine.GateFailed},
	} {
		cmd := r.command("run", "server.star", "server="+c.server, "-i", "lab", "-n", "all", "--yes", "--plain")
		out, _ := cmd.CombinedOutput()
		if code := engine.Code(cmd.ProcessState.ExitCode()); code != c.code || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: exit %d, want %d, and %q in\n%s", what, code, c.code, c.says, out)
		}
		if strings.Contains(string(out), secret) {
			t.Errorf("%s: it shows the password:\n%s", what, out)
		}
		if c.code != engine.Invalid { // that is no run
			report, _ := r.command("show", r.states(t).ID, "--format", "html").CombinedOutput()
			if strings.Contains(string(report), secret) {
				t.Errorf("%s: the report shows the password", what)
			}
		}
	}
	// A runbook that says the password itself is no run either.
	for _, said := range []string{`"host=db-1 password=hunter2"`, `'postgres://app:hunter2@db-1/x'`} {
		book := "\"\"\"Look.\"\"\"\nrunbook()\ndef run(node, p):\n    pass\ndef gate(fleet, p):\n    pg.connect(" + said + ").connections()\n"
		if err := os.WriteFile(filepath.Join(r.dir, "says.star"), []byte(book), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := r.command("run", "says.star", "-i", "lab", "-n", "all", "--yes", "--plain")
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), "says.star:6: the runbook has a password in it") || engine.Code(cmd.ProcessState.ExitCode()) != engine.Invalid || strings.Contains(string(out), secret) {
			t.Errorf("%s: exit %d\n%s", said, cmd.ProcessState.ExitCode(), out)
		}
	}
	kept, err := os.ReadFile(filepath.Join(r.dir, "state", "runbook", "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	if wal, err := os.ReadFile(filepath.Join(r.dir, "state", "runbook", "journal.db-wal")); err == nil {
		kept = append(kept, wal...)
	}
	if strings.Contains(string(kept), secret) {
		t.Error("the journal has the password")
	}
	if left := r.everywhere(t, "ip route show 10.20.0.0/16"); left != "" {
		t.Errorf("a node was changed: %s", left)
	}
}

// cutBook takes the link of a node down over which its sessions go.
const cutBook = `"""A link down."""

runbook(
    params = {
        "server": param.string("its DSN"),
        "own": param.bool("the link of the server, and of no client", default = False),
        "of": param.string("the node whose own server it is", default = ""),
    },
    limits = limits(nodes = 10, changes_per_node = 2),
    rollout = rollout(waves = ["1", "2", "100%%"], bake = "%s"),
)

def gate(fleet, p):
    db = [n for n in fleet.nodes if n.name == p.of][0].pg(p.server) if p.of else pg.connect(p.server, via = "node-1")
    expect(db.connections().free >= 0, "")

def run(node, p):
    if (node.name == "node-1") == p.own:
        node.link.down("eth1")
`

// A rollout that would fill a server is refused, with nothing changed, and told what would be enough; with that it may start.
func TestForecastOfARollout(t *testing.T) {
	r, dsn, sql := withPostgres(t, 3)
	for _, node := range []string{"node-2", "node-3"} {
		r.sessions(t, node, dsn, "shop", 5)
	}
	awaitSQL(t, sql, "select count(*) from pg_stat_activity where application_name = 'shop'", "10")
	planOf := func(server, bake string, more ...string) (string, engine.Code) {
		if err := os.WriteFile(filepath.Join(r.dir, "cut.star"), fmt.Appendf(nil, cutBook, bake), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := r.command(append([]string{"plan", "cut.star", "server=" + server, "-i", "lab", "-n", "all"}, more...)...)
		out, _ := cmd.CombinedOutput()
		return string(out), engine.Code(cmd.ProcessState.ExitCode())
	}
	plan := func(bake string, more ...string) (string, engine.Code) { return planOf(dsn, bake, more...) }
	// 17 connections can be had, 11 are used, and one that is cut lives for hours: two of five are too many.
	out, code := plan("1s")
	if code != engine.GateFailed || !strings.Contains(out, "would leave "+dsn+" at 21 of 17 connections: 11 are used") || !strings.Contains(out, "nothing changed") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	advised := regexp.MustCompile(`bake = "([0-9hms]+)" lets the dead ones go first`).FindStringSubmatch(out)
	if advised == nil {
		t.Fatalf("it does not say how long to bake:\n%s", out)
	}
	if left := r.everywhere(t, "ip link show eth1 | grep -c 'state DOWN'; true"); strings.Contains(left, "1") && strings.Contains(left, " 1\n") {
		t.Errorf("a link is down: %s", left)
	}
	if out, code := plan(advised[1]); code != engine.OK || !strings.Contains(out, "forecast: "+dsn+": 11 of 17 connections used; at most 16 in wave") {
		t.Errorf("with bake = %s: exit %d\n%s", advised[1], code, out)
	}
	// Its own link is that of all of its clients.
	if out, code := plan(advised[1], "own=true"); code != engine.GateFailed || !strings.Contains(out, "wave 1 would leave "+dsn+" at 21 of 17 connections: 11 are used") {
		t.Errorf("exit %d\n%s", code, out)
	}
	// And so it is where the hooks ask it as a node's own.
	if out, code := plan("1s", "of=node-1"); code != engine.GateFailed || !strings.Contains(out, "would leave "+dsn+" of node-1 at 21 of 17 connections: 11 are used") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if out, code := plan(advised[1], "of=node-2"); code != engine.OK || !strings.Contains(out, "forecast: "+dsn+" of node-2: 11 of 17") {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, s := range []string{"alter system set tcp_keepalives_idle = 20", "alter system set tcp_keepalives_interval = 5", "select pg_reload_conf()", "create role looker login in role pg_monitor"} {
		sql(s)
	}
	awaitSQL(t, sql, "select reset_val from pg_settings where name = 'tcp_keepalives_idle'", "20")
	// All of its sessions sleep, and have not taken that up.
	if out, code := plan("5m"); code != engine.GateFailed || !strings.Contains(out, "(tcp_keepalives 20s + 9 x 5s), and 10 of them for 2h11m15s or as long as before") {
		t.Errorf("what the sessions have of it is not counted: exit %d\n%s", code, out)
	}
	looks := strings.Replace(dsn, "user=postgres", "user=looker", 1) // who may not look when it was set
	if out, code := planOf(looks, "5m"); code != engine.OK || !strings.Contains(out, "; 10 of the sessions have said nothing since the server has read its configuration") {
		t.Errorf("what the sessions have of it is not said: exit %d\n%s", code, out)
	}
	raw, err := r.command("plan", "cut.star", "server="+looks, "-i", "lab", "-n", "all", "--format", "json").Output()
	var doc struct{ Forecast []string }
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	if err != nil || len(doc.Forecast) != 1 {
		t.Errorf("%v: %s", err, raw)
	}
}
