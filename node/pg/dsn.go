package pg

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is how a DSN becomes what is needed to connect: its own words, the user's
// service and password files, and libpq's environment variables, all by pgconn.

// Dial connects as net.Dialer.DialContext does: from this machine, or from a node ([Through]).
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// words are what a DSN can say. It has no password (see [resource.CheckServer]), names no service
// file, which is the operator's own, and sets nothing on the server.
var words = []string{
	"host", "port", "dbname", "user", "service", "passfile", "connect_timeout", "target_session_attrs", "application_name",
	"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcertmode", "sslsni", "sslnegotiation",
	"channel_binding", "require_auth", "krbsrvname", "krbspn", "min_protocol_version", "max_protocol_version",
}

const (
	connectWithin = 10 * time.Second // where the DSN does not say
	maxMessage    = 64 << 20         // bytes of one answer; thousands of sessions have some megabytes
)

// Through has connections made from n, or says that they cannot be.
func Through(n engine.Node) Dial {
	if d, can := n.(engine.Dialing); can {
		return d.Dial
	}
	return func(context.Context, string, string) (net.Conn, error) { return nil, engine.NotDialing("") }
}

// Ports are those at which the DSN server has its server reached, which another may stand before.
func Ports(server string) ([]uint16, error) {
	config, err := configOf(server, nil)
	if err != nil {
		return nil, err
	}
	out := []uint16{config.Port}
	for _, f := range config.Fallbacks {
		out = append(out, f.Port)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// configOf reads the DSN server. No error shows anything of it but the words that it
// may have, for whatever cannot be read may be a password in a wrong place. dial is nil for this machine.
func configOf(server string, dial Dial) (*pgconn.Config, error) {
	if err := resource.CheckServer(server); err != nil {
		return nil, engine.Invalid.Errorf("%w", err)
	}
	config, err := pgconn.ParseConfigWithOptions(server, pgconn.ParseConfigOptions{ConnStringAllowedKeys: words})
	if err != nil {
		return nil, unreadable(err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectWithin
	}
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	config.DialFunc = d.DialContext
	if dial != nil { // the node knows what the name means there
		config.DialFunc = pgconn.DialFunc(dial)
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	}
	config.MaxProtocolMessageBodyLen = maxMessage
	// A statement that takes too long is canceled at the server, and the connection kept:
	// there may be no other, where the server is full.
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 2 * time.Second}
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "runbook"
	}
	config.RuntimeParams["client_encoding"] = "UTF8"
	return config, nil
}

// unreadable says what is wrong with a DSN, as far as that shows nothing of it.
func unreadable(err error) error {
	said := err.Error()
	e := &engine.Error{Code: engine.Invalid, Cause: "server is no DSN that can be read", Hint: `give one such as "service=main", "host=db-1 dbname=postgres user=monitor" or "postgres://monitor@db-1/postgres"`}
	_, why, known := strings.Cut(said, "): ")
	if !known {
		_, why, known = strings.Cut(said, "`: ")
	}
	switch {
	case !known:
	case strings.Contains(why, "is not in ConnStringAllowedKeys"):
		e.Cause = "server has a word that no DSN here can have; it can have " + strings.Join(words, ", ")
		e.Hint = "what is secret stands in ~/.pgpass or in a service; what is set on the server is its own"
	case strings.HasPrefix(why, "failed to read service"):
		e.Cause = "server names a service, and the services cannot be read: " + inside(why)
		if _, name, none := strings.Cut(inside(why), "unable to find service: "); none {
			e.Cause = fmt.Sprintf("server names service %q, and there is none", name)
		}
		e.Hint = "services stand in ~/.pg_service.conf, or in the file that PGSERVICEFILE names"
	case strings.HasPrefix(why, "failed to configure TLS"):
		e.Cause, e.Hint = "the TLS settings of server do not work: "+inside(why), ""
		if strings.Contains(why, "sslmode is invalid") {
			e.Hint = "sslmode is disable, allow, prefer, require, verify-ca or verify-full"
		}
	}
	return e
}

// inside is what stands in the brackets at the end of one of pgconn's errors: the cause of a
// failure that is about files, and not about the DSN.
func inside(why string) string {
	_, cause, _ := strings.Cut(why, " (")
	return strings.TrimSuffix(cause, ")")
}
