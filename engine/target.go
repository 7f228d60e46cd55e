package engine

import (
	"cmp"
	"net/url"
	"regexp"
	"strings"
)

// Target is a server that several nodes share, such as a database that is reached by
// name. Hooks and scripts look at it; before and after may change it. It is
// dialed, predicted, recorded and undone as a node is, under a name that no node can have.
type Target struct {
	Domain string // of the operations that it takes: "pg"
	Server string // where it is, without secrets: "service=main"
	Via    string // the node through which it is reached; "": directly
}

const via = " via "

// String is the target's name, which [ParseTarget] reads: "pg service=main via db-1".
func (t Target) String() string {
	s := t.Domain + " " + t.Server
	if t.Via != "" {
		s += via + t.Via
	}
	return s
}

// word finds the words of a DSN that say which server and database it is.
var word = regexp.MustCompile(`(?:^|\s)(host|hostaddr|port|dbname)\s*=\s*('[^']*'|\S+)`)

// Short is the target's name for where there is little room: "pg db-1:5432/shop via web-1". Two
// targets may have the same.
func (t Target) Short() string { return Target{t.Domain, ShortServer(t.Server), t.Via}.String() }

// ShortServer is of a DSN what says which server and database it is: "db-1:5432/shop".
func ShortServer(dsn string) string {
	of := map[string]string{}
	for _, m := range word.FindAllStringSubmatch(dsn, -1) {
		of[m[1]] = strings.Trim(m[2], "'")
	}
	host, port, db := cmp.Or(of["host"], of["hostaddr"]), of["port"], of["dbname"]
	if u, err := url.Parse(dsn); err == nil && u.Host != "" {
		host, port, db = u.Hostname(), u.Port(), strings.TrimPrefix(u.Path, "/")
	}
	if host == "" {
		return dsn // a service, or what no DSN is
	}
	hosts, ports := strings.Split(host, ","), strings.Split(port, ",")
	for i := range hosts { // several have a port each, or all the same
		if p := ports[min(i, len(ports)-1)]; p != "" {
			hosts[i] += ":" + p
		}
	}
	host = strings.Join(hosts, ",")
	if db != "" {
		host += "/" + db
	}
	return host
}

// ParseTarget reads the name of a target, or reports that it is a node's.
func ParseTarget(name string) (Target, bool) {
	var t Target
	var ok bool
	if t.Domain, t.Server, ok = strings.Cut(name, " "); !ok {
		return Target{}, false
	}
	if i := strings.LastIndex(t.Server, via); i >= 0 {
		t.Server, t.Via = t.Server[:i], t.Server[i+len(via):]
	}
	return t, true
}

// IsTarget reports whether name is that of a target, and not of a node.
func IsTarget(name string) bool {
	_, is := ParseTarget(name)
	return is
}
