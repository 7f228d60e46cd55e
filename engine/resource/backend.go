package resource

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Backend is a process of a Postgres server: a client's session, or one of the
// server's own. Two are told apart by their pid and when they began, for pids come again.
type Backend struct {
	Server string    `json:"server"`
	PID    int       `json:"pid"`
	Start  time.Time `json:"start"` // to the microsecond, in UTC
	Type   string    `json:"type"`  // [ClientBackend], "walsender", "checkpointer", …

	User        string         `json:"user,omitempty"`
	DB          string         `json:"db,omitempty"`
	Application string         `json:"application,omitempty"`
	Client      netip.AddrPort `json:"client,omitzero"`     // not set: it came by a unix socket
	Own         bool           `json:"own,omitempty"`       // it is one of those that ask
	Protected   bool           `json:"protected,omitempty"` // the role that asks may not end it; no comparison sees that

	// What comes and goes: for people, and for selecting. No comparison sees it. All
	// times are by the server's clock, from then until it was read.
	State    string   `json:"state,omitempty"` // "active", "idle", "idle in transaction", …
	StateFor Duration `json:"state_for,omitempty"`
	Age      Duration `json:"age,omitempty"`
	XactFor  Duration `json:"xact_for,omitempty"`  // 0: it is in no transaction
	QueryFor Duration `json:"query_for,omitempty"` // since its last query began
	Wait     string   `json:"wait,omitempty"`      // "Lock:transactionid"
	// Left is why it lives on after a change that was to end it: it was no more what was selected.
	Left string `json:"left,omitempty"`
}

// ClientBackend is the type of a client's session.
const ClientBackend = "client backend"

// Key implements [Resource].
func (b Backend) Key() Key {
	return serverKey(KindBackend, fmt.Sprintf("%d/%s", b.PID, b.Start.UTC().Format(time.RFC3339Nano)), b.Server)
}

// Match implements [Resource].
func (b Backend) Match(s Selector) bool {
	return (s.Name == "" || s.Name == b.Server) && (s.Key == "" || s.Key == b.Key()) && (s.Where == nil || s.Where.Match(b))
}

// Volatile implements [Resource]: whoever was right to leave it alone does not see it any more.
func (b Backend) Volatile() bool { return b.Left != "" }

// Who is whose session it is, and from where: "app@shop (billing) from 10.0.0.5:43210".
func (b Backend) Who() string {
	var out strings.Builder
	out.WriteString(b.User)
	if b.DB != "" {
		out.WriteString("@" + b.DB)
	}
	if b.Application != "" {
		fmt.Fprintf(&out, " (%s)", b.Application)
	}
	switch {
	case b.Client.IsValid():
		fmt.Fprintf(&out, " from %s", b.Client)
	case b.Type == ClientBackend:
		out.WriteString(" from the server itself")
	}
	return strings.TrimSpace(out.String())
}

func (b Backend) String() string {
	s := fmt.Sprintf("%d %s", b.PID, b.Who())
	if b.Type != ClientBackend {
		s = fmt.Sprintf("%d %s", b.PID, b.Type)
	}
	if b.State != "" {
		s += fmt.Sprintf(", %s for %s", b.State, time.Duration(b.StateFor).Round(time.Second))
	}
	if b.XactFor > 0 {
		s += fmt.Sprintf(", in a transaction for %s", time.Duration(b.XactFor).Round(time.Second))
	}
	s += fmt.Sprintf(", %s old", time.Duration(b.Age).Round(time.Second))
	if b.Left != "" {
		s += ", left alone: " + b.Left
	}
	return s + on + b.Server
}

// Where selects sessions of clients, but for the one that asks. A zero field selects any.
type Where struct {
	State       string       `json:"state,omitempty"`
	IdleFor     Duration     `json:"idle_for,omitempty"`   // idle, in a transaction or not, for so long or longer
	OlderThan   Duration     `json:"older_than,omitempty"` // begun so long ago or longer
	User        string       `json:"user,omitempty"`
	Application string       `json:"application,omitempty"`
	Client      netip.Prefix `json:"client,omitzero"` // where it came from
	DB          string       `json:"db,omitempty"`
}

// Idle is how the states begin in which a session waits for its client.
const Idle = "idle"

// Match reports whether w selects b.
func (w Where) Match(b Backend) bool {
	return b.Type == ClientBackend && !b.Own &&
		(w.State == "" || w.State == b.State) &&
		(w.IdleFor == 0 || strings.HasPrefix(b.State, Idle) && b.StateFor >= w.IdleFor) &&
		(w.OlderThan == 0 || b.Age >= w.OlderThan) &&
		(w.User == "" || w.User == b.User) &&
		(w.Application == "" || w.Application == b.Application) &&
		(w.DB == "" || w.DB == b.DB) &&
		(!w.Client.IsValid() || w.Client.Contains(b.Client.Addr().Unmap()))
}
