package builtins_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/linux"
	"runbook/node/nodetest"
	"runbook/node/pg"
)

// nodes are a fleet to look at.
type nodes map[string]engine.Node

func (f nodes) ReadAll(ctx context.Context, q resource.Query) (map[string]resource.State, map[string]error) {
	found, missing := map[string]resource.State{}, map[string]error{}
	for name, n := range f {
		s, err := n.Read(ctx, q)
		if err != nil {
			missing[name] = err
		} else {
			found[name] = s
		}
	}
	return found, missing
}

// through is a session from the namespace ns, and its socket.
func through(t *testing.T, ns string, port int) (*pgconn.PgConn, *net.TCPConn) {
	t.Helper()
	c := nodetest.DialTCP(t, ns, "", fmt.Sprintf("10.98.0.1:%d", port))
	config, err := pgconn.ParseConfig("host=db-1 user=postgres dbname=postgres application_name=shop sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"10.98.0.1"}, nil }
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return c, nil }
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return conn, c
}

// The incident's own dead: connections of which the client's end was closed while its link was
// down, so that the server never heard of it. Forty are ended, and not one of those that live.
func TestReapDeadForReal(t *testing.T) {
	integration.Need(t, "root", "ip")
	_, _, p := postgres(t)
	ns, peer := nodetest.Peered(t)
	p.Halt()
	if err := errors.Join(p.Append("postgresql.conf", "listen_addresses = '*'"), p.Append("pg_hba.conf", "host all all 10.98.0.0/16 trust"), p.StartIn(peer)); err != nil {
		t.Fatal(err)
	}
	web, err := linux.OpenAt("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	var living []*pgconn.PgConn
	for range 6 {
		c, _ := through(t, ns, p.Port)
		living = append(living, c)
	}
	var lost []*net.TCPConn
	for range 40 {
		_, c := through(t, ns, p.Port)
		lost = append(lost, c)
	}
	nodetest.IP(t, "-n", ns, "link", "set", "eth1", "down")
	for _, c := range lost {
		c.SetLinger(0) // the RST finds no link
		c.Close()
	}
	nodetest.IP(t, "-n", ns, "link", "set", "eth1", "up")

	n := pg.Beside(nil, nil)
	defer n.Close()
	server := p.DSN("")
	on := func(name string) engine.Call {
		c := ask(t, name, map[string]any{"server": server})
		c.Op = c.Op.(engine.OnFleet).OnFleet(nodes{"web-1": web})
		return c
	}
	count := func() (dead, alive, unproved int) {
		t.Helper()
		v, err := on("pg.dead").Op.(engine.Probe).Look(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(v)
		var all struct{ Dead, Alive, Unproved []any }
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
		return len(all.Dead), len(all.Alive), len(all.Unproved)
	}
	admin := dial(t, p.DSN("")) // which nothing can be proved of
	if dead, alive, unproved := count(); dead != 40 || alive != 6 || unproved != 1 {
		t.Fatalf("%d dead, %d alive, %d unproved", dead, alive, unproved)
	}
	plan, _, err := run(t, n, engine.Limits{engine.LimitChangesPerNode: {N: 40}}, on("pg.reap_dead"))
	if err != nil || plan.Count() != 40 {
		t.Fatalf("%v, %d ended", err, plan.Count())
	}
	if dead, alive, unproved := count(); dead != 0 || alive != 6 || unproved != 1 {
		t.Errorf("after it %d dead, %d alive, %d unproved", dead, alive, unproved)
	}
	for _, c := range append(living, admin) {
		if _, err := c.Exec(t.Context(), "select 1").ReadAll(); err != nil {
			t.Error(err)
		}
	}
}
