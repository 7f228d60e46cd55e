package resource

import "fmt"

// Pool is a database of a pgbouncer: where its clients are led, and whether they are let on.
type Pool struct {
	Server   string `json:"server"` // the DSN of its console
	DB       string `json:"db"`     // as clients name it
	Paused   bool   `json:"paused,omitempty"`
	Disabled bool   `json:"disabled,omitempty"` // no client is let in
	// To is where it leads: "shop at 10.0.0.7:5432". No comparison sees it, nor Connections.
	To          string `json:"to,omitempty"`
	Connections int    `json:"connections,omitempty"` // to Postgres
}

// PoolKey is the key of the database db of a pgbouncer.
func PoolKey(server, db string) Key { return serverKey(KindPool, db, server) }

// PoolOf is the database that k is the key of.
func PoolOf(k Key) string { return k.onServer() }

// Key implements [Resource].
func (p Pool) Key() Key { return PoolKey(p.Server, p.DB) }

// Match implements [Resource].
func (p Pool) Match(s Selector) bool {
	return (s.Name == "" || s.Name == p.Server) && (s.Key == "" || s.Key == p.Key())
}

// Volatile implements [Resource].
func (p Pool) Volatile() bool { return false }

func (p Pool) String() string {
	s := p.DB
	for _, f := range []struct {
		is   bool
		word string
	}{{p.Paused, " paused"}, {p.Disabled, " disabled"}, {!p.Paused && !p.Disabled, " open"}} {
		if f.is {
			s += f.word
		}
	}
	if p.To != "" {
		s += " to " + p.To
	}
	return s + on + p.Server
}

// Pooled is a connection of a pgbouncer to Postgres.
type Pooled struct {
	Server  string `json:"server"`
	ID      string `json:"id"` // of this connection, and of no later one
	DB      string `json:"db"`
	User    string `json:"user,omitempty"`
	State   string `json:"state,omitempty"`   // "active", "idle", …; no comparison sees it
	Closing bool   `json:"closing,omitempty"` // it is closed as soon as its client is through with it
}

// Key implements [Resource].
func (p Pooled) Key() Key { return serverKey(KindPooled, p.DB+"/"+p.ID, p.Server) }

// Match implements [Resource].
func (p Pooled) Match(s Selector) bool {
	return (s.Name == "" || s.Name == p.Server) && (s.Key == "" || s.Key == p.Key())
}

// Volatile implements [Resource]: one that is being closed is as good as gone.
func (p Pooled) Volatile() bool { return p.Closing }

func (p Pooled) String() string {
	return fmt.Sprintf("%s of %s, %s%s%s", p.DB, p.User, p.State, on, p.Server)
}
