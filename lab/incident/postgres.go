package incident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/lab"
)

// This file is the database server: a real Postgres on a node of the lab. All of
// its files are in the node's memory, and it ends with the lab, however that ends.

const (
	port     = 5432
	dataDir  = "/tmp/data"     // of the node, as are those that follow
	hbaFile  = "/tmp/hba.conf" // who may connect
	app      = "app"           // the role of the services
	observer = "postgres"      // the superuser
	monitor  = "monitor"       // the role of the runbook's gate: it sees all sessions, and can do nothing to them
)

// accounts lets everybody in who can reach the server: nobody outside the lab can.
const accounts = "local all all trust\nhost all all 10.98.0.0/16 trust\n"

// debian is where Debian has the servers of each version: not in PATH.
const debian = "/usr/lib/postgresql"

// postgresDir is where the programs of Postgres lie: of the one in PATH, else of the newest one below debian.
func postgresDir(debian string) (string, error) {
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	found, _ := filepath.Glob(filepath.Join(debian, "*", "bin", "postgres")) // the pattern is right
	if len(found) == 0 {
		return "", &engine.Error{Code: engine.Invalid, Cause: "no replay here: there is no Postgres server: no postgres in PATH, and none below " + debian,
			Hint: "install it: on Debian the package is postgresql"}
	}
	version := func(program string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(program)))) // what is no number is the oldest
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// server is a Postgres server on a node of a lab.
type server struct {
	node   string
	addr   netip.AddrPort
	conn   *pgx.Conn     // the superuser's, over the unix socket: it can look also when nobody else gets in
	ended  chan struct{} // closed when the server is not there any more
	output bytes.Buffer  // what it said, to be read after its end
}

// backend is a process of the server that works for one connection.
type backend struct {
	role, application string
	client            netip.AddrPort // the zero one: it came over the unix socket
}

// reserved is how many connections Postgres keeps for superusers.
const reserved = 3

// startServer makes a server on the node and waits until it answers. When ctx ends, so does it.
func startServer(ctx context.Context, l *lab.Lab, node lab.NodeStatus, maxConnections int) (*server, error) {
	dir, err := postgresDir(debian)
	if err != nil {
		return nil, err
	}
	data, err := netip.ParsePrefix(node.Data[0])
	if err != nil {
		return nil, engine.Internal.Errorf("the data address of %s: %w", node.Name, err)
	}
	s := &server{node: node.Name, addr: netip.AddrPortFrom(data.Addr(), port), ended: make(chan struct{})}
	if err := put(ctx, l, node.Name, hbaFile, "644", []byte(accounts)); err != nil {
		return nil, err
	}
	argv := asOperator(filepath.Join(dir, "initdb"), "--pgdata="+dataDir, "--username="+observer, "--auth=trust", "--no-sync",
		"--encoding=UTF8", "--locale=C", "--wal-segsize=1")
	if _, err := output(ctx, l, node.Name, argv...); err != nil {
		return nil, err
	}
	if err := s.start(ctx, l, dir, maxConnections); err != nil {
		return nil, err
	}
	return s, s.await(ctx, node.PID)
}

// asOperator makes argv a command of the node's ordinary user: Postgres refuses to be root's.
func asOperator(argv ...string) []string {
	return append([]string{"setpriv", "--reuid=" + lab.Operator, "--regid=" + lab.Operator, "--clear-groups", "--"}, argv...)
}

func (s *server) start(ctx context.Context, l *lab.Lab, dir string, maxConnections int) error {
	argv := asOperator(filepath.Join(dir, "postgres"), "-D", dataDir)
	for _, setting := range []string{
		"listen_addresses=" + s.addr.Addr().String(), "port=" + strconv.Itoa(port), "unix_socket_directories=/tmp", "hba_file=" + hbaFile,
		"max_connections=" + strconv.Itoa(maxConnections), "superuser_reserved_connections=" + strconv.Itoa(reserved),
		"fsync=off", "shared_buffers=16MB", "max_wal_size=32MB", "autovacuum=off",
	} {
		argv = append(argv, "-c", setting)
	}
	said, out, err := os.Pipe()
	if err != nil {
		return engine.Internal.Errorf("a pipe: %w", err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer said.Close()
		s.output.ReadFrom(said) //nolint:errcheck // it is a hint
	}()
	go func() {
		defer close(s.ended)
		l.Exec(ctx, s.node, argv, nil, out, out) //nolint:errcheck // what it said is what counts
		out.Close()
		<-read
	}()
	return nil
}

// patience is how long things of a second are waited for, on a busy machine.
const patience = 30 * time.Second

// await connects as superuser, over the unix socket in the node's own /tmp. init is the node's process 1.
func (s *server) await(ctx context.Context, init int) error {
	config, err := connection(fmt.Sprintf("/proc/%d/root/tmp", init), observer, map[string]string{"application_name": "observer"})
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s.conn, err = pgx.ConnectConfig(ctx, config)
		if err == nil {
			break
		}
		select {
		case <-s.ended:
			return s.death()
		default:
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return engine.Internal.Errorf("the Postgres server does not answer: %w", err)
		}
	}
	if _, err := s.conn.Exec(ctx, "create role "+app+" login; create role "+monitor+" login in role pg_monitor"); err != nil {
		return engine.Internal.Errorf("making the roles of the services and of the gate: %w", err)
	}
	return nil
}

// death says why the server has ended.
func (s *server) death() error {
	said := strings.Split(strings.TrimSpace(s.output.String()), "\n")
	return engine.Internal.Errorf("the Postgres server has ended: %s", said[len(said)-1])
}

// connection is how to connect to the server, whatever the environment says of servers.
func connection(host, user string, settings map[string]string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=disable target_session_attrs=any", host, port, user))
	if err != nil {
		return nil, engine.Internal.Errorf("a connection to Postgres: %w", err)
	}
	config.RuntimeParams = settings
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return config, nil
}

// backends reads which connections the server has.
func (s *server) backends(ctx context.Context) ([]backend, error) {
	rows, err := s.conn.Query(ctx, "select coalesce(usename, ''), application_name, host(client_addr), client_port from pg_stat_activity where backend_type = 'client backend'")
	if err != nil {
		return nil, s.lost(ctx, err)
	}
	var out []backend
	var role, name string
	var host *string // null where the connection did not come over TCP
	var from *int32
	_, err = pgx.ForEachRow(rows, []any{&role, &name, &host, &from}, func() error {
		b := backend{role: role, application: name}
		if host != nil && from != nil {
			addr, err := netip.ParseAddr(*host)
			if err != nil {
				return err
			}
			b.client = netip.AddrPortFrom(addr, uint16(*from))
		}
		out = append(out, b)
		return nil
	})
	return out, s.lost(ctx, err)
}

// lost says more of an error of the superuser's connection.
func (s *server) lost(ctx context.Context, err error) error {
	select {
	case <-s.ended:
		if err != nil && ctx.Err() == nil {
			return s.death()
		}
	default:
	}
	if err != nil && ctx.Err() == nil {
		return engine.Internal.Errorf("looking at the connections of the Postgres server: %w", err)
	}
	return err
}

// isFull reports whether the server refused a connection because it has too many.
func isFull(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "53300" // too_many_connections
}
