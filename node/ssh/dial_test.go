//go:build linux

package ssh

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/pg"
)

// Through the connection to a node a Postgres is asked that only the node reaches: over TCP, and
// by a unix socket of the node's own. What takes too long can be given up.
func TestDialThroughNode(t *testing.T) {
	integration.Need(t, "postgres")
	p, err := integration.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	s := startServer(t, setup{})
	n, err := reach(t, s.target(t))
	if err != nil {
		t.Fatal(err)
	}
	both := pg.Beside(n, pg.Through(n))
	t.Cleanup(func() { both.Close() })
	for _, dsn := range []string{p.TCP(""), p.DSN(""), p.TCP("sslmode=prefer")} {
		found, err := both.Read(t.Context(), resource.Query{{Kind: resource.KindPostgres, Name: dsn}, {Kind: resource.KindFacts}})
		if err != nil || len(found) != 2 {
			t.Errorf("%s: %v, %v", dsn, found, err)
		}
	}
	ask, err := resource.AskSQL(resource.SQL{Query: "select count(*) from generate_series(1, 1000000000) a"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err = both.Read(ctx, resource.Query{{Kind: resource.KindRows, Name: p.TCP(""), Ask: ask}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	p.Halt()
	_, err = both.Read(t.Context(), resource.Query{{Kind: resource.KindPostgres, Name: p.TCP("")}})
	if e := engine.AsError(err); e == nil || e.Code != engine.Unreachable || !strings.Contains(e.Cause, "cannot connect from web-1 to 127.0.0.1") {
		t.Errorf("got %v", err)
	}
}

// Where the agent could not be started, and the connection went with it, whoever connects through it is told that.
func TestDialAfterTheAgentFailed(t *testing.T) {
	s := startServer(t, setup{})
	to := s.target(t)
	to.Agents = damagedAgent(t)
	n, err := Dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_, why := n.Read(t.Context(), resource.Query{{Kind: resource.KindFacts}})
	unreachable(t, why, "could not be installed")
	if _, err := n.(engine.Dialing).Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil || err.Error() != why.Error() {
		t.Errorf("reading says %v, connecting %v", why, err)
	}
}

// A server that allows no other connections says so, and how that is changed.
func TestDialForbidden(t *testing.T) {
	s := startServer(t, setup{config: "AllowTcpForwarding no"})
	n, err := reach(t, s.target(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	_, err = n.(engine.Dialing).Dial(t.Context(), "tcp", "127.0.0.1:5432")
	if e := engine.AsError(err); e == nil || !strings.Contains(e.Cause, "sshd there allows no connection") || !strings.Contains(e.Hint, "AllowTcpForwarding") {
		t.Errorf("got %v", err)
	}
}
