package rehearse

import (
	"fmt"
	"maps"
	"slices"

	"runbook/engine/resource"
)

// Bouncer makes a pgbouncer that the runbook reaches under the same DSN of its console: beside a node of
// the test, or, where none is named, one that hooks share.
//
//	t.bouncer("host=bouncer-1 dbname=pgbouncer", databases = {"shop": {"connections": 3}}, shows = {"pools": [{"database": "shop", "cl_waiting": 2}]})
type Bouncer struct {
	DSN       string                      `json:"dsn"`                 // as the runbook names it
	Node      string                      `json:"node,omitempty"`      // that has it; else hooks share it
	Databases map[string]map[string]any   `json:"databases,omitempty"` // by name: a dict of paused, disabled, to, and connections: how many it has to Postgres
	Shows     map[string][]map[string]any `json:"shows,omitempty"`     // by what SHOW takes: rows, each a dict of what the columns have
}

func (o Bouncer) String() string { return o.DSN }

// Validate checks the arguments.
func (o Bouncer) Validate() error { return resource.CheckServer(o.DSN) }

// state is what the pgbouncer holds.
func (o Bouncer) state() (resource.State, error) {
	s := resource.State{}
	for _, db := range slices.Sorted(maps.Keys(o.Databases)) {
		p := resource.Pool{Server: o.DSN, DB: db}
		if err := fill(&p, o.Databases[db]); err != nil {
			return nil, fmt.Errorf("databases: %s: %w", db, err)
		}
		if p.Connections < 0 || p.Connections > maxBackends {
			return nil, fmt.Errorf("databases: %s: a pgbouncer of a test can have 0 to %d connections", db, maxBackends)
		}
		s[p.Key()] = p
		for i := range p.Connections {
			c := resource.Pooled{Server: o.DSN, ID: fmt.Sprint(i + 1), DB: db, User: "app", State: resource.Idle}
			s[c.Key()] = c
		}
	}
	for what, rows := range o.Shows {
		r := rowsOf(o.DSN, "show "+what, rows)
		s[r.Key()] = r
	}
	return s, nil
}
