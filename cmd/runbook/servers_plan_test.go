//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"runbook/engine"
)

// planBook looks at a server, and changes it where the first node has a route.
const planBook = `"""A setting, where there is a route."""

runbook(
    params = {"server": param.string("its DSN"), "always": param.bool("also without the route", default = True)},
    limits = limits(nodes = 10, changes_per_node = 5),
)

def before(fleet, p):
    if p.always or "10.77.0.0/16" in [r.dst for r in fleet.nodes[0].route.list()]:
        db = pg.connect(p.server, via = "node-1")
        db.set("tcp_keepalives_idle", 60)
        print("before it is %ds" % (db.setting("tcp_keepalives_idle").actual or 0))
    observe("nodes", len(fleet.nodes))

def run(node, p):
    pass
`

// What people see of servers in plans and records; and a saved plan is done as it was shown, or not at all.
func TestServersInPlans(t *testing.T) {
	r, dsn, sql := withPostgres(t, 2)
	if err := os.WriteFile(filepath.Join(r.dir, "plan.star"), []byte(planBook), 0o600); err != nil {
		t.Fatal(err)
	}
	name := "pg " + dsn + " via node-1"
	// says wants what runbook is asked to end so and to say all of these.
	says := func(t *testing.T, code engine.Code, args []string, words ...string) string {
		t.Helper()
		cmd := r.command(args...)
		out, _ := cmd.CombinedOutput()
		if got := engine.Code(cmd.ProcessState.ExitCode()); got != code {
			t.Errorf("%q: exit %d, want %d\n%s", args[0], got, code, out)
		}
		for _, w := range words {
			if !strings.Contains(string(out), w) {
				t.Errorf("%q does not say %q:\n%s", args[0], w, out)
			}
		}
		return string(out)
	}
	plan := func(more ...string) []string {
		return append([]string{"plan", "plan.star", "server=" + dsn, "-i", "lab", "-n", "all"}, more...)
	}
	apply := []string{"apply", "saved", "--yes", "--plain"}
	const set = "  - setting tcp_keepalives_idle = 0\n  + setting tcp_keepalives_idle = 1min, ALTER SYSTEM to 60\n"
	hooks := []string{"before | before it is 7200s\n", "before: nodes = 2\n"}

	t.Run("plans", func(t *testing.T) {
		says(t, engine.OK, plan(), append(hooks, "2 nodes, 1 server, 1 change", "\nnode-1, node-2\n", "\n"+name+"\n"+set)...)
		says(t, engine.OK, plan("--format", "markdown"), "* "+hooks[0], "* "+hooks[1], "\n**"+name+"**\n\n```diff\n"+strings.ReplaceAll(set, "  ", "")+"```\n")
		var doc struct {
			Said  []string
			Seen  []engine.Observed
			Nodes []struct{ Node string }
		}
		if out := says(t, engine.OK, plan("--format", "json")); json.Unmarshal([]byte(out), &doc) != nil || strings.Join(doc.Said, "\n")+"\n" != strings.Join(hooks, "") || !slices.Equal(doc.Seen, []engine.Observed{{Hook: "before", Name: "nodes", Value: 2}}) || len(doc.Nodes) != 3 {
			t.Errorf("it has %+v", doc)
		}
	})
	t.Run("a setting drifts", func(t *testing.T) {
		says(t, engine.OK, plan("-o", "saved"))
		sql("alter system set tcp_keepalives_idle = 30")
		sql("select pg_reload_conf()")
		awaitSQL(t, sql, "select setting from pg_settings where name = 'tcp_keepalives_count' and exists (select from pg_file_settings where setting = '30' and applied)", "0")
		says(t, engine.Differs, apply, "! the server has drifted since it was planned; nothing changed\n", "+ setting tcp_keepalives_idle = 30s, ALTER SYSTEM to 30\n")
		if got := sql("select setting from pg_file_settings where name = 'tcp_keepalives_idle' and sourcefile like '%auto.conf'"); got != "30" {
			t.Errorf("ALTER SYSTEM has set %s", got)
		}
		sql("alter system reset all")
		sql("select pg_reload_conf()")
	})
	t.Run("it was applied already", func(t *testing.T) {
		says(t, engine.OK, plan("-o", "saved"))
		says(t, engine.OK, apply)
		says(t, engine.Differs, apply, "! the server has drifted since it was planned", "hint: nothing of the plan is left to be done here: has it been applied?")
		sql("alter system reset all")
		sql("select pg_reload_conf()")
	})
	t.Run("a server is asked only now, or not any more", func(t *testing.T) {
		route := func(verb string) { r.on(t, "node-1", "ip route "+verb+" 10.77.0.0/16 dev eth1") }
		says(t, engine.OK, plan("always=false", "-o", "saved"))
		route("add")
		says(t, engine.Differs, apply, "\n"+name+"\n"+set+"  ! the server has drifted since it was planned")
		says(t, engine.OK, plan("always=false", "-o", "saved"))
		route("del")
		says(t, engine.Differs, apply, "\n"+name+"\n  ! the server has drifted since it was planned", "+ setting tcp_keepalives_idle = 1min, ALTER SYSTEM to 60\n")
		if sql(keepalives) != "0" {
			t.Error("it was set")
		}
	})
	t.Run("records", func(t *testing.T) {
		says(t, engine.OK, plan("-o", "saved"))
		says(t, engine.OK, apply, ": 1 done, 2 unchanged")
		id := r.states(t).ID
		says(t, engine.OK, []string{"show", id}, `apply plan.star server="`+dsn+`"`+"\n", "2 nodes\n", "\n"+name+"  done, ", "\n"+set, "\nunchanged: node-1, node-2\n")
		says(t, engine.OK, []string{"show", id, "--format", "html"}, name, "&#43; setting tcp_keepalives_idle = 1min, ALTER SYSTEM to 60<", "<dd>2 nodes: all of lab</dd>")
		says(t, engine.OK, []string{"undo", id, "-i", "lab", "--yes", "--plain"})
		says(t, engine.OK, []string{"show", r.states(t).ID}, "of lab: 0 nodes, 1 server\n", "  + setting tcp_keepalives_idle = 0\n")
	})
}
