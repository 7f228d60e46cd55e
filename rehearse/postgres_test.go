package rehearse

import "testing"

// A Postgres beside a node of the test: what is planned is what is done to it, and what a
// runbook looks at is what the test says.
func TestPostgres(t *testing.T) {
	dir := files(t, map[string]string{
		"pg.star": `"""Clean a Postgres up."""
runbook(params = {"least": param.int("free connections wanted", default = 20)}, limits = limits(changes_per_node = 45))

def run(node, p):
    db = node.pg("service=main").connections()
    print("%d of %d" % (db.used, db.capacity))
    expect(db.free >= p.least, "Postgres has %d of %d connections left" % (db.free, db.capacity))
    node.pg("service=main").terminate(idle_for = "10m", application = "shop")
    node.pg("service=main").set("tcp_keepalives_idle", 60)
    print(node.pg("service=main").query("select $1 as n", args = [7])[0].n)
    print(len(node.pg("service=main").connections().longest))
`,
		"hooks.star": `"""End what is stale, and look before each wave."""
runbook(limits = limits(changes_per_node = 45))

def before(fleet, p):
    db = pg.connect("service=main")
    ended = db.terminate(state = "idle", idle_for = "10m").terminated
    print("%d ended" % len(ended))

def gate(fleet, p):
    db = pg.connect("service=main").connections()
    expect(db.free > 40, "Postgres has %d of %d connections left" % (db.free, db.capacity))

def run(node, p):
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
`,
		"looks.star": `"""Look at copies and locks."""
runbook()

def run(node, p):
    pass

def before(fleet, p):
    db = pg.connect("service=main")
    r = db.replication()
    s = r.standbys[0]
    print("%s %s %s, %d slots, %s, %d locks" % (s.application, s.state, s.lag, len(r.slots), r.receiver, len(db.locks())))
    db.reset("work_mem")
`,
		"bouncer.star": `"""Hold clients back for as long as the nodes are changed."""
runbook(limits = limits(changes_per_node = 5))

def shop():
    return bouncer.connect("host=bouncer-1 dbname=pgbouncer", via = "web-1")

def before(fleet, p):
    print("%d wait" % shop().show("pools")[0].cl_waiting)
    shop().pause("shop")
    shop().reconnect("shop")

def run(node, p):
    pass

def after(fleet, p):
    shop().resume("shop")
`,
		"asks.star": `"""Ask."""
runbook()

def run(node, p):
    pass

def gate(fleet, p):
    pg.connect("service=main").query("select 1 as n")
`,
		"hooks_test.star": `"""On a server that all share."""

def test_ends_what_is_stale(t):
    t.node("web-1")
    t.pg("service=main", backends = [{"state_for": "20m", "count": 2}, {"state": "active", "count": 3}])
    r = t.run(diff = """
        web-1
        + route 10.20.0.0/16 via 10.98.0.1 dev eth1
        pg service=main
        - backend 1001 app@app from the server itself, idle for 20m0s, 0s old
        - backend 1002 app@app from the server itself, idle for 20m0s, 0s old
    """)
    expect(r.changes == 3, "%d changes" % r.changes)
    expect(len(t.read("service=main", "backend")) == 3, "they live on")

def test_gate_is_shut(t):
    t.node("web-1")
    t.pg("service=main", backends = [{"state": "active", "count": 60}])
    t.plan()  ### "Postgres has 37 of 97 connections left"

def test_no_server(t):
    t.node("web-1")
    t.plan()  ### "the test has no server service=main"
`,
		"pg_test.star": `"""Of literals."""

def server(t, **more):
    t.node("db-1")
    t.pg("service=main", node = "db-1", settings = {"tcp_keepalives_idle": {"value": 0, "unit": "s"}}, queries = [{"sql": "select $1 as n", "args": [7], "rows": [{"n": 7}]}],
         backends = [
             {"application": "shop", "state_for": "20m", "count": 2},
             {"application": "shop", "state": "idle in transaction", "state_for": "5m", "xact_for": "5m", "client": "10.0.0.5:1234"},
         ], **more)

def test_cleans_up(t):
    server(t)
    r = t.run(runbook = "pg.star", diff = """
        - backend 1001 app@app (shop) from the server itself, idle for 20m0s, 0s old on service=main
        - backend 1002 app@app (shop) from the server itself, idle for 20m0s, 0s old on service=main
        - setting tcp_keepalives_idle = 0 on service=main
        + setting tcp_keepalives_idle = 1min, ALTER SYSTEM to 60 on service=main
    """)
    expect(r.prints == ["3 of 97", "7", "1"], "it printed %s" % r.prints)
    expect(len(t.read("db-1", "backend")) == 1, "they live on")
    t.run(runbook = "pg.star", diff = "")

def test_is_full(t):
    server(t, server = {"max_connections": 10, "reserved": 1})
    t.plan(runbook = "pg.star")  ### "Postgres has 6 of 9 connections left"

def test_cannot_see(t):
    server(t, server = {"sees_all": False, "superuser": False, "role": "monitor"})
    t.plan(runbook = "pg.star")  ### "GRANT pg_monitor TO monitor"

def test_no_node(t):
    t.pg("service=main", node = "db-2")  ### "the test has no node db-2"

def test_no_such_field(t):
    t.pg("service=main", backends = [{"colour": "red"}])  ### "backends.0.: unknown field \"colour\": it has .*application, client"

def test_no_such_question(t):
    t.pg("service=main", answers = {"standby": []})  ### "no question is called \"standby\": want one of locks, receiver, slots, standbys"

def test_no_such_column(t):
    t.pg("service=main", answers = {"standbys": [{"delay": 5}]})  ### "standbys.0. has no delay: it has application, .*lag"

def test_answers(t):
    t.node("web-1")
    t.pg("service=main", answers = {"standbys": [{"application": "db-2", "state": "catchup"}]}, settings = {"work_mem": {"value": 8192, "unit": "kB", "auto": "8MB", "source": "configuration file", "base": {"value": "4MB", "source": "default"}}})
    r = t.run(runbook = "looks.star", diff = """
        pg service=main
        - setting work_mem = 8MB, ALTER SYSTEM to 8MB
        + setting work_mem = 4MB
    """)
    expect(r.prints[0] == "db-2 catchup None, 0 slots, None, 0 locks", r.prints[0])

def test_bouncer(t):
    t.node("web-1")
    t.bouncer("host=bouncer-1 dbname=pgbouncer", databases = {"shop": {"connections": 2, "to": "shop at 10.0.0.7:5432"}, "other": {"paused": True}}, shows = {"pools": [{"database": "shop", "cl_waiting": 3}]})
    r = t.run(runbook = "bouncer.star")
    expect(r.prints[0] == "3 wait" and r.hooks[-1] == "after", "%s" % r)
    expect("+ pool  shop paused to shop at 10.0.0.7:5432" in r.diff and r.diff.count("- pooled shop of app, idle") == 2, r.diff)
    expect(t.read("host=bouncer-1 dbname=pgbouncer", "pool") == ["other paused on host=bouncer-1 dbname=pgbouncer", "shop open to shop at 10.0.0.7:5432 on host=bouncer-1 dbname=pgbouncer"], "%s" % t.read("host=bouncer-1 dbname=pgbouncer", "pool"))

def test_no_bouncer(t):
    t.node("web-1")
    t.plan(runbook = "bouncer.star")  ### "the test has no server host=bouncer-1 dbname=pgbouncer.*\n.*t.bouncer"

def test_no_such_database_field(t):
    t.bouncer("host=b dbname=pgbouncer", databases = {"shop": {"colour": 1}})  ### "databases: shop: unknown field .*: it has .*paused"

def test_no_answer(t):
    t.node("web-1")
    t.pg("service=main")
    t.plan(runbook = "asks.star")  ### "service=main has no answer to \"select 1 as n\", with the args .*\n.*t.pg gives one: queries"

def test_no_such_count(t):
    t.pg("service=main", backends = [{"count": "many"}])  ### "count is many"

def test_too_many(t):
    t.pg("service=main", backends = [{"count": 10001}])  ### "can have 10000 sessions"

def test_twice(t):
    t.pg("service=main")
    t.pg("service=main")  ### "is made twice"

def test_password(t):
    t.pg("host=a password=b")  ### "has a password in it"
`,
	})
	told, _ := rehearsed(t, dir, config())
	wants(t, dir, told, map[string]string{
		"test_cleans_up": "", "test_is_full": "", "test_cannot_see": "", "test_no_node": "", "test_no_such_field": "", "test_no_such_question": "", "test_no_such_column": "", "test_answers": "", "test_bouncer": "", "test_no_bouncer": "", "test_no_such_database_field": "", "test_no_answer": "", "test_no_such_count": "", "test_too_many": "", "test_twice": "", "test_password": "",
		"test_ends_what_is_stale": "", "test_gate_is_shut": "", "test_no_server": "",
	})
}
