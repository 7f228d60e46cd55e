//go:build linux

package pg

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
)

// The servers of all tests: made when the first asks for one, ended with the last.
var started []*integration.Postgres

func TestMain(m *testing.M) {
	code := m.Run()
	for _, p := range started {
		p.Stop()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "left behind:", err)
		code = 1
	}
	os.Exit(code)
}

var common = sync.OnceValues(func() (*integration.Postgres, error) { return integration.StartPostgres() })

// shared is the server that tests share which leave it as it was.
func shared(t testing.TB) *integration.Postgres {
	t.Helper()
	integration.Need(t, "postgres")
	p, err := common()
	if err != nil {
		t.Fatal(err)
	}
	if len(started) == 0 || started[0] != p {
		started = append([]*integration.Postgres{p}, started...)
	}
	return p
}

// own is a server of this test alone.
func own(t testing.TB, settings ...string) *integration.Postgres {
	t.Helper()
	integration.Need(t, "postgres")
	p, err := integration.StartPostgres(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// open opens dsn, and closes it when the test ends.
func open(t testing.TB, dsn string) *Server {
	t.Helper()
	s, err := Open(dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// client is a session of somebody else's.
func client(t testing.TB, dsn string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// do does statements on c.
func do(t testing.TB, c *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// read reads what q selects.
func read(t testing.TB, n engine.Reader, q ...resource.Selector) resource.State {
	t.Helper()
	s, err := n.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// one is the only resource of its type in s.
func one[R resource.Resource](t testing.TB, s resource.State) R {
	t.Helper()
	all := resource.All[R](s)
	if len(all) != 1 {
		t.Fatalf("want one, got %v", s)
	}
	return all[0]
}
