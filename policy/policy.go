// Package policy is what an organisation allows of runs, whatever a runbook or
// an operator says: ceilings for limits, which operations whom and where, when, which nodes
// somebody must be asked about, how many must stay untouched.
//
// A policy is a YAML file. All that are found apply ([Find]): each is asked by
// itself, and what one of them forbids is forbidden, so that the strictest
// wins without any of them knowing of the others. One that cannot be read
// stops everything.
//
//	limits: {nodes: 50, duration: 20m}
//	operations:                     # if it is there, nothing else may be changed
//	  - allow: [route.*, addr.*]
//	    users: [ann, bob]           # else everybody
//	    on: [web, "db-*"]           # groups, or nodes by name; else everywhere
//	  - allow: exec
//	    argv: [systemctl, restart, "nginx*"]
//	windows:                        # if it is there, nothing is changed outside of them
//	  - {days: [mon, tue, wed, thu], from: "09:00", to: "17:00", zone: Europe/Berlin}
//	freezes:
//	  - {from: 2026-12-20, to: 2027-01-03, why: year end}
//	confirm: [db]                   # groups or nodes that are asked for even with --yes
//	untouched:                      # within an hour, by all runs together
//	  - {group: db, at_least: 2}    # or "50%"
//	forbid_repeat_anyway: true
//	require_reason: true
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"runbook/engine"
)

// SystemFile is the policy of a machine: nobody who runs runbook on it can leave it out.
const SystemFile = "/etc/runbook/policy.yaml"

// FileName is the name of a policy that lies beside an inventory.
const FileName = "policy.yaml"

// Policy is one file.
type Policy struct {
	Path          string
	Limits        engine.Limits
	ForbidRepeat  bool // --repeat-anyway is refused
	RequireReason bool // a run must give --reason

	closed     bool // operations says all that is allowed
	operations []allowance
	windows    []window // nil: always
	freezes    []freeze
	confirm    []string
	untouched  []quota
}

// allowance is operations that some may do somewhere. Nil is everybody, everywhere, any.
type allowance struct {
	allow, users, on, argv []string
}

// quota is how many nodes of a group must stay untouched.
type quota struct {
	group   string
	least   int
	percent bool
	pos     string
}

// Set is all policies that apply. An empty one allows everything.
type Set []*Policy

// Find reads the policies that apply: the machine's, the one beside the inventory (a
// file; "" has none; where it is a link, also the one beside what that leads to), and those that flags name, which must be there.
func Find(inventory string, flags []string) (Set, error) {
	var out Set
	optional := []string{SystemFile}
	if inventory != "" {
		optional = append(optional, beside(inventory)...)
	}
	for _, p := range optional {
		policy, err := Load(p)
		switch {
		case errors.Is(err, fs.ErrNotExist) && absent(p):
			continue
		case errors.Is(err, fs.ErrNotExist):
			return nil, unreadable(fmt.Errorf("%s: a link leads nowhere: %w", p, fs.ErrNotExist))
		case err != nil:
			return nil, err
		}
		out = append(out, policy)
	}
	for _, p := range flags {
		policy, err := Load(p)
		if err != nil {
			return nil, err
		}
		out = append(out, policy)
	}
	return out, nil
}

// beside is where policies of an inventory may lie.
func beside(inventory string) []string {
	out := []string{filepath.Join(filepath.Dir(inventory), FileName)}
	real, err := filepath.EvalSymlinks(inventory)
	if err != nil {
		return out // reading it says so
	}
	here, err := os.Stat(filepath.Dir(inventory))
	there, err2 := os.Stat(filepath.Dir(real))
	if err == nil && err2 == nil && os.SameFile(here, there) {
		return out
	}
	return append(out, filepath.Join(filepath.Dir(real), FileName))
}

// absent reports whether there is nothing at path. A link that leads nowhere is
// something, also where it is a folder on the way: somebody meant a policy to be there.
func absent(path string) bool {
	_, err := os.Lstat(path)
	dir := filepath.Dir(path)
	if !errors.Is(err, fs.ErrNotExist) || dir == path {
		return false
	}
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() || err != nil && absent(dir)
}

// maxSize is how large a policy may be.
const maxSize = 1 << 20

// Load reads the policy in the file at path.
func Load(path string) (*Policy, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a file", path)
	case info.Size() > maxSize:
		err = fmt.Errorf("%s has %d bytes, and a policy may have %d", path, info.Size(), maxSize)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, unreadable(err)
	}
	return Parse(path, text)
}

func unreadable(err error) *engine.Error {
	return &engine.Error{Code: engine.Invalid, Cause: "policy: " + err.Error(), Hint: "nothing is run without knowing what is allowed", Err: err}
}

// Limits are the lowest that any policy sets.
func (s Set) Limits() engine.Limits {
	var out engine.Limits
	for _, p := range s {
		out = out.Meet(p.Limits)
	}
	return out
}

// Now is an error where no change may be begun at t.
func (s Set) Now(t time.Time) *engine.Error {
	for _, p := range s {
		for _, f := range p.freezes {
			if f.covers(t) {
				return refused(f.pos, "changes are frozen until %s%s", f.to.Format(timeForm), f.reason())
			}
		}
		if len(p.windows) > 0 && !slices.ContainsFunc(p.windows, func(w window) bool { return w.covers(t) }) {
			var all []string
			for _, w := range p.windows {
				all = append(all, w.String())
			}
			return refused(p.windows[0].pos, "%s is outside of the change windows: %s", t.In(p.windows[0].zone).Format(timeForm), strings.Join(all, "; "))
		}
	}
	return nil
}

// Operation is an error where user may not have node changed by an operation.
// args are the operation's arguments in JSON; where they have an argv, it counts.
func (s Set) Operation(user string, node engine.NodeInfo, name string, args json.RawMessage) *engine.Error {
	var with struct{ Argv []string }
	if json.Unmarshal(args, &with) != nil {
		with.Argv = nil
	}
	for _, p := range s {
		if !p.closed || slices.ContainsFunc(p.operations, func(a allowance) bool { return a.covers(user, node, name, with.Argv) }) {
			continue
		}
		what := name
		if with.Argv != nil {
			what += fmt.Sprintf(" %q", with.Argv)
		}
		return refused(p.Path, "%s may not have %s on %s", user, what, node.Name)
	}
	return nil
}

func (a allowance) covers(user string, node engine.NodeInfo, name string, argv []string) bool {
	return matchAny(a.allow, name) &&
		(a.users == nil || slices.Contains(a.users, user)) &&
		(a.on == nil || on(a.on, node)) &&
		(a.argv == nil || matchEach(a.argv, argv))
}

// on reports whether one of list is a group of node, or a pattern of its name.
func on(list []string, node engine.NodeInfo) bool {
	return matchAny(list, node.Name) || slices.ContainsFunc(list, func(g string) bool { return slices.Contains(node.Groups, g) })
}

func matchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, s) })
}

// matchEach matches word by word. Nothing may follow what the patterns say.
func matchEach(patterns, words []string) bool {
	if len(patterns) != len(words) {
		return false
	}
	for i, p := range patterns {
		if !match(p, words[i]) {
			return false
		}
	}
	return true
}

// match is path.Match, but that * stands for a / too.
func match(pattern, s string) bool {
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(s, "/", "\x00"))
	return ok && err == nil
}

// Confirm reports whether somebody must be asked about node, and which policy says so.
func (s Set) Confirm(node engine.NodeInfo) (source string, must bool) {
	for _, p := range s {
		if on(p.confirm, node) {
			return p.Path, true
		}
	}
	return "", false
}

// Quotas returns what must stay untouched of a fleet that has these nodes.
func (s Set) Quotas(fleet []engine.NodeInfo) []engine.Quota {
	var out []engine.Quota
	for _, p := range s {
		for _, q := range p.untouched {
			var members []string
			for _, n := range fleet {
				if slices.Contains(n.Groups, q.group) {
					members = append(members, n.Name)
				}
			}
			least := q.least
			if q.percent { // a part of a node is a node
				least = (len(members)*q.least + 99) / 100
			}
			out = append(out, engine.Quota{Group: q.group, Nodes: members, AtLeast: least, Source: "policy " + q.pos})
		}
	}
	return out
}

// Repeat is an error where nobody may disrupt a node again within the time that it remembers.
func (s Set) Repeat() *engine.Error {
	for _, p := range s {
		if p.ForbidRepeat {
			return refused(p.Path, "--repeat-anyway is forbidden")
		}
	}
	return nil
}

// Reason is an error where a run must give a reason and has none.
func (s Set) Reason(reason string) *engine.Error {
	for _, p := range s {
		if p.RequireReason && strings.TrimSpace(reason) == "" {
			e := refused(p.Path, "a run must say why")
			e.Code, e.Hint = engine.Invalid, `--reason "…"`
			return e
		}
	}
	return nil
}

func refused(by, format string, args ...any) *engine.Error {
	return &engine.Error{Code: engine.LimitHit, Cause: fmt.Sprintf(format, args...) + " (policy " + by + ")"}
}
