package rehearse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// This file makes Postgres servers of literals: beside a node of the test, or for the
// hooks of a runbook, which reach it from wherever they are.

// Postgres makes a Postgres server that the runbook reaches under the same DSN: beside a node of the
// test, or, where none is named, one that hooks share. It is of version 15 with 100 connections, 3 of them reserved, and
// the role that asks may do everything, where server does not say otherwise.
//
//	t.pg("service=main", server = {"max_connections": 50}, backends = [{"application": "shop", "state": "idle", "state_for": "20m", "count": 40}])
//	t.pg("service=shop", node = "db-1", settings = {"tcp_keepalives_idle": 0}, queries = [{"sql": "select count(*) as n from jobs", "rows": [{"n": 3}]}])
type Postgres struct {
	DSN      string                      `json:"dsn"`                // as the runbook names it
	Node     string                      `json:"node,omitempty"`     // that has it; else hooks share it
	Server   map[string]any              `json:"server,omitempty"`   // version (150000), max_connections, reserved, in_recovery, role, superuser, sees_all, signals, pooler
	Backends []map[string]any            `json:"backends,omitempty"` // user, db, application, client (address:port), state, state_for, age, xact_for, type, protected; and count: how many of them
	Settings map[string]any              `json:"settings,omitempty"` // by name: a value in its unit, or a dict of value, unit, type, context, source, auto, base (a dict of value and source: what it is without auto), options, min, max
	Queries  []Answer                    `json:"queries,omitempty"`  // each a dict of sql, args and rows, which are dicts of what the columns have
	Answers  map[string][]map[string]any `json:"answers,omitempty"`  // rows of "locks", "standbys", "slots", "receiver", each a dict of what pg.locks and pg.replication tell of one
}

// Answer is what a server answers to a query.
type Answer struct {
	SQL  string           `json:"sql"`
	Args []any            `json:"args,omitempty"`
	Rows []map[string]any `json:"rows,omitempty"`
}

func (o Postgres) String() string { return o.DSN }

// Validate checks the arguments.
func (o Postgres) Validate() error { return resource.CheckServer(o.DSN) }

const (
	maxBackends = 10_000 // sessions of a server of a test
	backendSize = 500    // bytes of one, which a test need not write
)

// server makes a server of what it holds: beside the node, or, where there is none, one that hooks share.
func (h *host) server(dsn, node string, s resource.State, err error) error {
	if err != nil {
		return engine.Invalid.Errorf("%w", err)
	}
	if h.given += len(s) * backendSize; h.given > maxGiven {
		return engine.LimitHit.Errorf("the nodes and servers of a test can be made of %d MB, and with this one they are of more", maxGiven>>20)
	}
	if node == "" {
		if h.targets[dsn] != nil {
			return engine.Invalid.Errorf("the server %s is made twice", dsn)
		}
		if h.targets == nil {
			h.targets = map[string]engine.Node{}
		}
		h.targets[dsn] = sim.New(s)
		return nil
	}
	n, ok := h.nodes[node].(*sim.Remembering)
	if !ok {
		return &engine.Error{Code: engine.Invalid, Cause: "the test has no node " + node, Hint: fmt.Sprintf("make it first: t.node(%q)", node)}
	}
	n.Hold(s)
	return nil
}

// state is what the server holds.
func (o Postgres) state() (resource.State, error) {
	p := resource.Postgres{Server: o.DSN, Version: 150000, Max: 100, Reserved: 3, Role: "postgres", Superuser: true, SeesAll: true, Signals: true, AlterSystem: true}
	if err := fill(&p, o.Server); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s := resource.Of(p)
	if err := o.backends(s); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(o.Settings)) {
		c, err := settingOf(o.DSN, name, o.Settings[name])
		if err != nil {
			return nil, fmt.Errorf("settings: %s: %w", name, err)
		}
		s[c.Key()] = c
	}
	for i, q := range o.Queries {
		ask, err := resource.AskSQL(resource.SQL{Query: q.SQL, Args: q.Args})
		if err != nil {
			return nil, fmt.Errorf("queries[%d]: %w", i, err)
		}
		r := rowsOf(o.DSN, ask, q.Rows)
		s[r.Key()] = r
	}
	return s, o.answers(s)
}

// Columns are those of the answers to the questions that a server has names for.
var Columns = map[string][]string{
	"locks":    {"pid", "user", "db", "application", "state", "lock", "mode", "relation", "blocked_by", "waits"},
	"standbys": {"application", "client", "user", "state", "sync_state", "lag_bytes", "lag"},
	"slots":    {"name", "type", "db", "active", "wal_status", "keeps_bytes"},
	"receiver": {"status", "sender", "port", "lag_bytes", "lag"},
}

// answers adds what is answered to the questions that have names to s: where nothing is said, no rows; what a row does not say is None.
func (o Postgres) answers(s resource.State) error {
	known := slices.Sorted(maps.Keys(Columns))
	for ask := range o.Answers {
		if Columns[ask] == nil {
			return fmt.Errorf("answers: no question is called %q: want one of %s", ask, strings.Join(known, ", "))
		}
	}
	for _, ask := range known {
		rows := resource.Rows{Server: o.DSN, Ask: ask, Columns: Columns[ask], Rows: [][]any{}}
		for i, given := range o.Answers[ask] {
			for name := range given {
				if !slices.Contains(rows.Columns, name) {
					return fmt.Errorf("answers: %s[%d] has no %s: it has %s", ask, i, name, strings.Join(rows.Columns, ", "))
				}
			}
			row := make([]any, len(rows.Columns))
			for c, name := range rows.Columns {
				row[c] = given[name]
			}
			rows.Rows = append(rows.Rows, row)
		}
		s[rows.Key()] = rows
	}
	return nil
}

// backends adds the sessions to s: each has a pid of its own.
func (o Postgres) backends(s resource.State) error {
	n := 0
	for i, fields := range o.Backends {
		count := 1
		if given, has := fields["count"]; has {
			var err error
			if count, err = strconv.Atoi(fmt.Sprint(given)); err != nil || count < 0 {
				return fmt.Errorf("backends[%d]: count is %v: want how many there are", i, given)
			}
			fields = maps.Clone(fields)
			delete(fields, "count")
		}
		for range count {
			if n++; n > maxBackends {
				return fmt.Errorf("a server of a test can have %d sessions", maxBackends)
			}
			b := resource.Backend{Server: o.DSN, PID: 1000 + n, Start: time.UnixMicro(int64(n)).UTC(), Type: resource.ClientBackend, User: "app", DB: "app", State: resource.Idle}
			if err := fill(&b, fields); err != nil {
				return fmt.Errorf("backends[%d]: %w", i, err)
			}
			s[b.Key()] = b
		}
	}
	return nil
}

// settingOf is a setting of which v is the value, or which has the fields of v.
func settingOf(server, name string, v any) (resource.Setting, error) {
	c := resource.Setting{Server: server, Name: name, Type: "string", Source: "default", Context: "user", Alter: true}
	value := v
	fields, described := v.(map[string]any)
	if described {
		fields = maps.Clone(fields)
		value = fields["value"]
		delete(fields, "value")
	}
	switch v := value.(type) {
	case bool:
		c.Type, c.Value = "bool", map[bool]string{true: "on", false: "off"}[v]
	case json.Number:
		c.Type, c.Value, c.Min, c.Max = "integer", v.String(), "-1", strconv.Itoa(math.MaxInt32)
		if _, err := v.Int64(); err != nil {
			c.Type = "real"
		}
	case string:
		c.Value = v
	default:
		return c, fmt.Errorf("want a value, or a dict that has one: text, a number or a bool")
	}
	err := fill(&c, fields)
	switch {
	case c.Base != nil:
	case c.Auto == nil:
		c.Base = &resource.SettingBase{Value: c.Value, Source: c.Source}
	default:
		c.Base = &resource.SettingBase{Source: "default"}
	}
	return c, err
}

// fill sets the fields of to that a dict names, by the names of their json tags.
func fill(to any, fields map[string]any) error {
	b, err := json.Marshal(fields)
	if err != nil || len(fields) == 0 {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err = dec.Decode(to)
	if err != nil && strings.Contains(err.Error(), "unknown field") {
		var has []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(to).Elem()) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			has = append(has, name)
		}
		return fmt.Errorf("%s: it has %s", strings.TrimPrefix(err.Error(), "json: "), strings.Join(has, ", "))
	}
	return err
}

// rowsOf are rows with the columns that any of them has.
func rowsOf(server, ask string, rows []map[string]any) resource.Rows {
	r := resource.Rows{Server: server, Ask: ask, Rows: [][]any{}}
	columns := map[string]bool{}
	for _, row := range rows {
		for c := range row {
			columns[c] = true
		}
	}
	r.Columns = slices.Sorted(maps.Keys(columns))
	for _, row := range rows {
		values := make([]any, len(r.Columns))
		for i, c := range r.Columns {
			values[i] = row[c]
		}
		r.Rows = append(r.Rows, values)
	}
	return r
}
