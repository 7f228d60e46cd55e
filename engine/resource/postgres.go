package resource

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What a Postgres server holds. Several servers may be asked through one node, so
// that every key ends with the server's name: its DSN, as it was written. Plans and journals
// keep these, so that a DSN has no secret in it: see [CheckServer].
const (
	KindPostgres Kind = "postgres" // see [Postgres]
	KindBackend  Kind = "backend"  // see [Backend]
	KindSetting  Kind = "setting"  // see [Setting]
	KindRows     Kind = "rows"     // see [Rows]
	KindPool     Kind = "pool"     // see [Pool]
	KindPooled   Kind = "pooled"   // see [Pooled]
)

// OfServer reports whether resources of this kind are a Postgres server's, and no machine's.
func (k Kind) OfServer() bool {
	return slices.Contains([]Kind{KindPostgres, KindBackend, KindSetting, KindRows, KindPool, KindPooled}, k)
}

// Ends reports whether a resource of this kind that has gone cannot be made again: a session.
func (k Kind) Ends() bool { return k == KindBackend || k == KindPooled }

// on is what stands between what a server holds and the server's name.
const on = " on "

func serverKey(kind Kind, what, server string) Key {
	if what != "" {
		what = " " + strings.NewReplacer("%", "%25", " ", "%20").Replace(what)
	}
	return Key(string(kind) + what + on + server)
}

// onServer is what k identifies on its server: the reverse of serverKey.
func (k Key) onServer() string {
	text, _, _ := strings.Cut(strings.TrimPrefix(string(k), string(k.Kind())+" "), on)
	return strings.NewReplacer("%20", " ", "%25", "%").Replace(text)
}

// Server is the name of the server that holds what k identifies; "" where k is none's.
func (k Key) Server() string {
	if !k.Kind().OfServer() {
		return ""
	}
	_, server, _ := strings.Cut(string(k), on)
	return server
}

// secret finds what a DSN says of a password among its words. What stands before such a word does
// not matter: of a DSN that is written wrong it may be anything.
var secret = regexp.MustCompile(`(?i)(password|passwd|secret|scram_)[a-z_]*\s*=`)

// userinfo finds what stands before the last @ of a DSN that is a URL: a user, and after the colon what may be a password.
var userinfo = regexp.MustCompile(`(?is)^\s*[a-z]+://([^/?#@:\[]*):(.*)@`)

// aPort finds, in place of a password, the port of a host, of a URL that has an @ further on.
var aPort = regexp.MustCompile(`^[0-9]*[,/?]`)

// HasPassword reports whether text says a password, as a DSN can in either of its forms. One that has
// characters in it that a URL cannot have there is found too.
func HasPassword(text string) bool {
	if said := userinfo.FindStringSubmatch(text); said != nil && !aPort.MatchString(said[2]) {
		return true
	}
	plain := text
	if _, query, has := strings.Cut(text, "?"); has { // where a letter can be written as %70
		if unescaped, err := url.QueryUnescape(query); err == nil {
			plain += " " + strings.ReplaceAll(unescaped, "&", " ")
		}
	}
	return secret.MatchString(plain)
}

// hidden stands for what is not shown.
const hidden = "********"

// HidePassword is text without the password that it says, and without what follows. That it says one is still to be seen ([HasPassword]).
func HidePassword(text string) string {
	if !HasPassword(text) {
		return text
	}
	if said := userinfo.FindStringSubmatchIndex(text); said != nil && !aPort.MatchString(text[said[4]:said[5]]) {
		return text[:said[4]] + hidden + "@"
	}
	if said := secret.FindStringIndex(text); said != nil {
		return text[:said[1]] + hidden
	}
	return "password=" + hidden
}

// CheckServer is an error where the DSN server has a password in it, or names nothing.
// The error shows nothing of it.
func CheckServer(server string) error {
	switch {
	case strings.TrimSpace(server) == "":
		return fmt.Errorf(`server names no Postgres: give a DSN, such as "service=main"`)
	case strings.ContainsAny(server, "\n\r\x00"):
		return fmt.Errorf("server has a line break in it")
	case HasPassword(server):
		return fmt.Errorf("server has a password in it, which plans and journals would keep: " +
			"leave it out, and put it in ~/.pgpass (PGPASSFILE), in PGPASSWORD, or in a service of ~/.pg_service.conf (PGSERVICEFILE)")
	}
	return nil
}

// Postgres is what a server is, and what the role that asks it may do there.
type Postgres struct {
	Server     string    `json:"server"`
	Version    int       `json:"version"` // server_version_num: 150020 is 15.20
	InRecovery bool      `json:"in_recovery,omitempty"`
	Max        int       `json:"max_connections"`
	Reserved   int       `json:"reserved,omitempty"` // of them, for superusers and, from 16 on, roles with pg_use_reserved_connections
	Started    time.Time `json:"started"`
	Role       string    `json:"role"`
	// A pooler answers in its place: each question may reach another of its sessions.
	Pooler bool `json:"pooler,omitempty"`

	Superuser   bool `json:"superuser,omitempty"`
	SeesAll     bool `json:"sees_all,omitempty"`     // the sessions of all roles: pg_read_all_stats
	Signals     bool `json:"signals,omitempty"`      // sessions of other roles, but superusers': pg_signal_backend
	AlterSystem bool `json:"alter_system,omitempty"` // every setting; a role may have the right to single ones beside: [Setting.Alter]
}

// PostgresKey is the key of what a server is.
func PostgresKey(server string) Key { return serverKey(KindPostgres, "", server) }

// Key implements [Resource].
func (p Postgres) Key() Key { return PostgresKey(p.Server) }

// Match implements [Resource].
func (p Postgres) Match(s Selector) bool { return s.Name == "" || s.Name == p.Server }

// Volatile implements [Resource].
func (p Postgres) Volatile() bool { return false }

// Major is the version of which there is one a year: 15.
func (p Postgres) Major() int { return p.Version / 10000 }

func (p Postgres) String() string {
	s := fmt.Sprintf("%s version %d.%d, %d connections, %d reserved, as %s", p.Server, p.Major(), p.Version%10000, p.Max, p.Reserved, p.Role)
	if p.InRecovery {
		s += ", in recovery"
	}
	return s
}

// Setting is a configuration parameter of a server, as a new session of the role
// that asks would have it.
type Setting struct {
	Server  string   `json:"server"`
	Name    string   `json:"name"`
	Value   string   `json:"value"`          // in Unit
	Unit    string   `json:"unit,omitempty"` // "ms", "8kB"; "" for none
	Type    string   `json:"type"`           // bool, integer, real, string, enum
	Min     string   `json:"min,omitempty"`
	Max     string   `json:"max,omitempty"`
	Options []string `json:"options,omitempty"` // of an enum
	Source  string   `json:"source"`            // "default", "configuration file", "database", …
	Context string   `json:"context"`           // who can change it when: "postmaster" at a restart only, "sighup", "user", …
	Auto    *string  `json:"auto,omitempty"`    // what ALTER SYSTEM has written to postgresql.auto.conf; nil: nothing
	Hidden  bool     `json:"hidden,omitempty"`  // the role may not see what that is
	Pending bool     `json:"pending_restart,omitempty"`
	// Actual is what a Value of 0 comes to that means what the system has, as far as the
	// connection that asks shows it: of the TCP settings, of a TCP connection. No comparison sees it.
	Actual string `json:"actual,omitempty"`
	// Base is what it comes to without what ALTER SYSTEM has written; nil: not known. No comparison sees it.
	Base  *SettingBase `json:"base,omitempty"`
	Alter bool         `json:"alter,omitempty"` // the role may change it by ALTER SYSTEM
}

// SettingBase is what a setting is by the other files, or by the server itself.
type SettingBase struct {
	Value  string `json:"value"`  // as it is written
	Source string `json:"source"` // "configuration file" or "default"
}

// EachSession reports whether a session has the setting as it was when that began: of what is
// changed later only sessions that begin then show anything.
func (c Setting) EachSession() bool { return strings.HasSuffix(c.Context, "backend") } // and "superuser-backend"

// SettingKey is the key of the setting name of a server, whatever the case in which that is written.
func SettingKey(server, name string) Key {
	return serverKey(KindSetting, strings.ToLower(name), server)
}

// Key implements [Resource].
func (c Setting) Key() Key { return SettingKey(c.Server, c.Name) }

// Match implements [Resource].
func (c Setting) Match(s Selector) bool {
	return (s.Name == "" || s.Name == c.Server) && (s.Key == "" || s.Key == c.Key())
}

// Volatile implements [Resource].
func (c Setting) Volatile() bool { return false }

// Shown is the value as people write it, with its unit.
func (c Setting) Shown() string { return ShowSetting(c.Value, c.Unit) }

func (c Setting) String() string {
	s := fmt.Sprintf("%s = %s", c.Name, c.Shown())
	if c.Auto != nil {
		s += fmt.Sprintf(", ALTER SYSTEM to %s", *c.Auto)
	}
	if c.Pending {
		s += ", pending restart"
	}
	return s + on + c.Server
}
