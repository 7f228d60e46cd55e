package pg

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"runbook/engine"
)

// This file puts what Postgres, the network and TLS say into our words. pgconn's own
// texts are not passed on: they repeat the address, and parts of the DSN.

// SQLSTATEs: appendix A of Postgres's manual.
const (
	stateFull            = "53300" // too_many_connections
	stateBadPassword     = "28P01"
	stateNotAuthorized   = "28000" // no pg_hba.conf entry, no such role, no login
	stateNoDatabase      = "3D000"
	stateNotYet          = "57P03" // cannot_connect_now: it starts, or stops
	stateShutdown        = "57P01"
	stateCanceled        = "57014"
	stateLockTimeout     = "55P03"
	stateReadOnly        = "25006"
	stateNoRight         = "42501"
	stateNotNow          = "55P02" // cant_change_runtime_param
	stateSyntax          = "42601"
	stateProtocol        = "08P01" // all that a pgbouncer says
	classStatement       = "42"    // what is wrong with the text of a statement
	classValue           = "22"    // what is wrong with a value in it
	classNotSupported    = "0A"
	stateIdleSessionOver = "57P05"
)

// failed is err, met while doing something with the server, in our words.
func (s *Server) failed(ctx context.Context, err error) error {
	var known *engine.Error
	var refused *engine.NodeError
	var drift *engine.DriftError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known), errors.As(err, &refused), errors.As(err, &drift):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", s.name, context.Cause(ctx)) // whoever has set the deadline says which it was
	}
	e := &engine.Error{Code: engine.Unreachable, Err: err}
	var said *pgconn.PgError
	if errors.As(err, &said) {
		s.sayServer(e, said)
	} else {
		s.sayNetwork(e, err)
	}
	e.Cause = s.kind() + " " + engine.ShortServer(s.name) + " " + e.Cause // the whole name stands before, as what was asked
	return e
}

// kind is what the server is called.
func (s *Server) kind() string {
	if s.is.console {
		return "pgbouncer"
	}
	return "Postgres"
}

// sayServer fills e with what the server said.
func (s *Server) sayServer(e *engine.Error, said *pgconn.PgError) {
	role, db := s.config.User, s.config.Database
	switch {
	case said.Code == stateFull, strings.HasPrefix(said.Message, "no more connections allowed"):
		e.Cause = fmt.Sprintf("is full: it has no connection left for role %s", role)
		e.Hint = "superusers have some of their own, and so have roles with pg_use_reserved_connections from version 16 on"
	case said.Code == stateBadPassword, said.Code == stateProtocol && strings.Contains(said.Message, "auth"):
		e.Cause = fmt.Sprintf("does not take the password of role %s", role)
		if s.config.Password == "" {
			e.Cause = fmt.Sprintf("wants a password of role %s, and there is none", role)
		}
		e.Hint = "it is read from ~/.pgpass (PGPASSFILE), PGPASSWORD, or the service of ~/.pg_service.conf"
	case said.Code == stateNotAuthorized && strings.HasPrefix(said.Message, "no pg_hba.conf entry"),
		said.Code == stateNotAuthorized && strings.HasPrefix(said.Message, "pg_hba.conf rejects"):
		e.Cause = "lets nobody in as this: " + said.Message
		if strings.Contains(said.Message, "no encryption") || strings.Contains(said.Message, "SSL off") {
			e.Hint = "it may want TLS: sslmode=require, or more"
		}
	case said.Code == stateNotAuthorized:
		e.Cause = "does not let in role " + role + ": " + said.Message
	case said.Code == stateNoDatabase, said.Code == stateProtocol && strings.HasPrefix(said.Message, "no such database"):
		e.Cause = fmt.Sprintf("has no database %q", cmp.Or(db, role)) // as libpq has it, and the server
		e.Hint = "dbname=NAME names another; where nothing does, it is the role's name"
		if said.Code == stateProtocol {
			e.Hint = "dbname=NAME names another; pgbouncer's console is its database pgbouncer"
		}
	case said.Code == stateNotYet:
		e.Cause = "takes no connections at present: " + said.Message
	case said.Code == stateShutdown, said.Code == stateIdleSessionOver:
		e.Cause = "has ended the connection: " + said.Message
	case said.Code == stateCanceled && strings.Contains(said.Message, "statement timeout"):
		e.Cause = fmt.Sprintf("has not answered within %s", statementWithin)
		e.Hint = "does the query wait for something, or look through too much?"
	case said.Code == stateLockTimeout:
		e.Cause = fmt.Sprintf("has something locked that was asked for, for longer than %s", lockWithin)
	case said.Code == stateReadOnly:
		e.Code, e.Cause = engine.Invalid, "is only looked at here: "+said.Message
	case said.Code == stateNoRight:
		e.Cause = fmt.Sprintf("does not allow that to role %s: %s", role, said.Message)
	case strings.HasPrefix(said.Code, classStatement), strings.HasPrefix(said.Code, classValue), strings.HasPrefix(said.Code, classNotSupported):
		e.Code, e.Cause = engine.Invalid, "does not understand that: "+said.Message
		if said.Hint != "" {
			e.Hint = said.Hint
		}
	case strings.HasPrefix(said.Message, "bind message supplies"):
		e.Code, e.Cause = engine.Invalid, "was given another number of arguments than the query has: "+said.Message
	case strings.HasPrefix(said.Message, "admin access needed"):
		e.Cause = fmt.Sprintf("does that for its admins only, and %s is none", role)
		e.Hint = "admin_users in pgbouncer.ini names them"
	case said.Code == stateProtocol && said.Message == "not allowed":
		e.Cause = fmt.Sprintf("does not let role %s look", role)
		e.Hint = "admin_users and stats_users in pgbouncer.ini name who may"
	default:
		e.Cause = fmt.Sprintf("said: %s (SQLSTATE %s)", said.Message, said.Code)
	}
}

// longestMessage is how long a message of Postgres can be, in bytes.
const longestMessage = 1 << 30

// sayNetwork fills e with why the server could not be talked to.
func (s *Server) sayNetwork(e *engine.Error, err error) {
	var dns *net.DNSError
	var op *net.OpError
	var call *os.SyscallError
	var cert *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var large *pgproto3.ExceededMaxBodyLenErr
	text := err.Error()
	switch {
	case errors.As(err, &dns):
		e.Cause = fmt.Sprintf("cannot be found: there is no address of %s", dns.Name)
	case errors.As(err, &host):
		e.Cause = "shows a certificate that is not for its name: " + host.Error()
		e.Hint = "sslmode=verify-ca does not look at the name"
	case errors.As(err, &unknown), errors.As(err, &invalid), errors.As(err, &cert):
		e.Cause = "shows a certificate that cannot be trusted: " + certificateWords(unknown, invalid, cert)
		e.Hint = "sslrootcert names the file with who has signed it"
	case errors.As(err, &alert), errors.As(err, &record):
		e.Cause = "and this machine found no way to speak TLS: " + lastOf(text)
	case errors.As(err, &large) && large.ActualBodyLen > longestMessage:
		e.Cause = fmt.Sprintf("is no Postgres: what answers at %s says something else", s.where())
		e.Hint = "it may be another port, or a proxy that stands between"
	case errors.As(err, &large):
		e.Code, e.Cause = engine.Invalid, fmt.Sprintf("has an answer of which one row or value alone is of %d MB, and at most %d are taken", large.ActualBodyLen>>20, maxMessage>>20)
		e.Hint = "have the server count or choose: limit, where, group by"
	case strings.Contains(text, "server refused TLS connection") && s.wantsTLS():
		e.Cause = "has no TLS, and the DSN asks for it"
		e.Hint = "sslmode=prefer takes what there is"
	case strings.Contains(text, "ValidateConnect failed"):
		e.Cause = "is none that the DSN wants by its target_session_attrs: " + lastOf(text)
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		e.Cause = "did not answer in time"
	case errors.As(err, &call):
		e.Cause = fmt.Sprintf("cannot be reached at %s: %v", s.where(), call.Err)
	case errors.As(err, &op):
		e.Cause = fmt.Sprintf("cannot be reached at %s: %v", s.where(), op.Err)
	default:
		e.Cause = "is lost: " + lastOf(text)
	}
}

// wantsTLS reports whether the DSN is for a connection with TLS only.
func (s *Server) wantsTLS() bool {
	return s.config.TLSConfig != nil && !slices.ContainsFunc(s.config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
}

// certificateWords is what the one that there is of these says.
func certificateWords(unknown x509.UnknownAuthorityError, invalid x509.CertificateInvalidError, cert *tls.CertificateVerificationError) string {
	switch {
	case unknown.Cert != nil:
		return unknown.Error()
	case invalid.Cert != nil:
		return invalid.Error()
	}
	return cert.Err.Error()
}

// lastOf is the end of a chain of errors: what the one that met it says, of the last attempt where there were several.
func lastOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	line := lines[len(lines)-1]
	if i := strings.LastIndex(line, ": "); i >= 0 {
		return line[i+2:]
	}
	return line
}

// where is the address, or addresses, at which the server is tried.
func (s *Server) where() string {
	_, addr := pgconn.NetworkAddress(s.config.Host, s.config.Port)
	out := []string{addr}
	for _, f := range s.config.Fallbacks {
		if _, a := pgconn.NetworkAddress(f.Host, f.Port); a != out[len(out)-1] {
			out = append(out, a)
		}
	}
	return strings.Join(out, ", ")
}
