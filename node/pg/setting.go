package pg

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is ALTER SYSTEM: what it writes holds for the whole server, from a
// reload on, or from a restart where only that can change a setting.

// alter writes what e wants of the settings keys, and has the server read it. Where one is
// refused, those before it are put back.
func (s *Server) alter(ctx context.Context, keys []resource.Key, e engine.Edit) error {
	if len(keys) == 0 {
		return nil
	}
	for i, k := range keys {
		want, ok := e.Want[k].(resource.Setting)
		if !ok {
			return engine.Internal.Errorf("a setting cannot be taken away: %s", k)
		}
		err := s.statement(ctx, alterSQL(want.Name, want.Auto))
		if err == nil {
			continue
		}
		for _, done := range slices.Backward(keys[:i]) {
			was, _ := e.Before[done].(resource.Setting)
			err = errors.Join(err, s.statement(ctx, alterSQL(was.Name, was.Auto)))
		}
		return refused(err)
	}
	return s.statement(ctx, "select pg_catalog.pg_reload_conf()")
}

// refused is err as the error of a change of which nothing was made, though it was predicted.
func refused(err error) error {
	var said *pgconn.PgError
	var known *engine.Error
	if !errors.As(err, &said) || !errors.As(err, &known) {
		return err
	}
	e := *known
	e.Code, e.Left = engine.Differs, engine.NothingChanged
	return &e
}

// statement does a statement that can stand in no transaction.
func (s *Server) statement(ctx context.Context, sql string) error {
	return s.use(ctx, false, func(c *pgconn.PgConn) error {
		if s.is.console {
			return s.isConsole()
		}
		_, err := c.Exec(ctx, sql).ReadAll()
		return err
	})
}

// alterSQL sets name to what is to stand in postgresql.auto.conf; nil: nothing.
func alterSQL(name string, auto *string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = identifier(p)
	}
	quoted := strings.Join(parts, ".")
	if auto == nil {
		return "alter system reset " + quoted
	}
	var values []string
	for _, v := range resource.SettingItems(name, *auto) {
		values = append(values, literal(v))
	}
	return "alter system set " + quoted + " = " + strings.Join(values, ", ")
}

// literal is s as a text of SQL, whatever standard_conforming_strings says.
func literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return " E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}
