// Package inventory says which nodes there are, how each is reached, and which
// of them a selection means.
//
// An inventory is a YAML file as below; or one of Ansible's (INI, YAML, a script that
// prints JSON, or a folder of such, with group_vars and host_vars beside it: see
// docs/inventory.md); or "ssh_config:PATH", whose hosts are the nodes. In which form
// a file is shows by its name and its first line; what could be two is an error.
//
//	defaults:                      # for every node
//	  ssh: {user: ops, port: 22}
//	  become: sudo
//	groups:
//	  web:
//	    vars: {rack: a}            # any YAML values; a script sees them as node.vars
//	    ssh: {user: deploy, identity: ~/.ssh/web}
//	    nodes:
//	      - web-1
//	      - web-[2:12]             # a range: web-2, web-3 … web-12
//	    groups: [canary]           # its child groups: their nodes are in web too
//	  canary:
//	    nodes: [web-1]
//	  db:
//	nodes:                         # what is particular to one node
//	  web-1: {host: 192.0.2.11, ssh: {port: 2222}}
//	  db-1: {groups: [db], vars: {primary: true}}
//
// Every section and every key in it may be left out. A node exists that is
// named under nodes or in a group's list. Nodes keep the order in which the
// file first names them.
//
// It may take nodes and groups from elsewhere, and add to them: from: PATH is another
// inventory, ssh_config: PATH the hosts of an ssh_config, command: [argv] what a program
// prints, within timeout: (else a minute). What these say of a node counts as said
// under nodes:, unless it is said there.
//
// # What a node has
//
//   - host: where it is reached, an address or a name; else its own name. Only
//     under nodes.
//   - vars: names to any values. A value replaces another whole, also a list or a map.
//   - ssh: port, user, identity and known_hosts (a path or a list of paths),
//     proxy_jump (as in ssh_config), config (the path of an ssh_config to read
//     in place of the user's, or none: read no ssh configuration at all).
//   - become: sudo or none, which is what holds where nothing is said.
//
// A node's own word counts most, then its groups', then defaults. Of two groups
// the deeper counts more; of two at the same depth, the one later in the file.
// A path may begin with ~/; a relative one is relative to the inventory's folder.
//
// # Names and ranges
//
// Nodes and groups share their names, so that a selection is never in doubt: no
// name may stand for both. A name has letters, digits, "_", "." and "-" and
// begins with none of the last two; all, and, or and not are taken.
//
// A range counts numbers or letters: [1:12], [01:12] (with zeros before), [a:f],
// [0:10:5] (every fifth). YAML itself wants it quoted inside a list in brackets:
// ["web-[2:12]"].
//
// What is not as described here is an error with its place in the file: an
// unknown key, a name given twice, an unknown group, a group inside itself, a
// value of another type. Also refused is YAML that people and programs read
// differently: anchors, tags, an unquoted yes, 010. Groups and defaults do what anchors are
// used for.
//
// # Selections
//
//	web-1                 a node, or a group with all below it
//	web-*  db-?  x[ab]    a glob: the nodes with such names (no groups)
//	web-[3:12]            a range: every one of these must exist
//	all                   every node
//	A or B, A, B          in either
//	A and B               in both; binds closer than or
//	not A                 every other node; binds closest
//	(A)
//
// The nodes come in the order of the inventory. A selection that selects
// nothing is an error, as is a name that nothing has, wherever it stands.
package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"runbook/engine"
)

// DefaultFile is the inventory that is used where none is given.
const DefaultFile = "inventory.yaml"

// EnvVar names the inventory where no flag does.
const EnvVar = "RUNBOOK_INVENTORY"

// maxSize bounds an inventory's file: a line for each of 100,000 nodes is 5 MB.
const maxSize = 16 << 20

// Inventory is the nodes and groups of one file. It does not change.
type Inventory struct {
	path   string
	nodes  []Node
	index  map[string]int   // name of a node to its place in nodes
	groups map[string][]int // name of a group to the places of its nodes
	names  []string         // of the groups, in the order of the file

	warnings []string
}

// Node is a node as the inventory has it, with all that its groups give it.
// Its maps and slices are shared and must not be changed.
type Node struct {
	Name   string         `json:"name"`
	Groups []string       `json:"groups,omitempty"` // in the order of the alphabet; with the groups that hold its groups
	Vars   map[string]any `json:"vars,omitempty"`   // string, int64, float64, bool, nil, []any, map[string]any
	SSH    SSH            `json:"ssh"`
	Become Become         `json:"become"`
	Pos    string         `json:"pos"` // file:line:col where it is named first

	// Problem is why the node cannot be reached as the inventory wants it to be;
	// nil where it can. Who selects such a node must not go on without it.
	Problem *engine.Error `json:"problem,omitempty"`
}

// Info is what a script can know of n.
func (n Node) Info() engine.NodeInfo {
	return engine.NodeInfo{Name: n.Name, Groups: n.Groups, Vars: n.Vars}
}

// SSH says how a node is reached. What is zero is left to the ssh configuration
// of the user.
type SSH struct {
	Host       string   `json:"host"` // never empty: the node's name where nothing is said
	Port       int      `json:"port,omitempty"`
	User       string   `json:"user,omitempty"`
	Identity   []string `json:"identity,omitempty"`    // paths of private keys
	KnownHosts []string `json:"known_hosts,omitempty"` // paths
	ProxyJump  string   `json:"proxy_jump,omitempty"`
	Config     string   `json:"config,omitempty"` // a path, or NoConfig
}

// NoConfig in [SSH].Config means that no ssh configuration is read.
const NoConfig = "none"

// Become says as whom the agent works on a node.
type Become string

// The ways to become root.
const (
	BecomeNone Become = "none" // as the user who logs in
	BecomeSudo Become = "sudo"
)

// Find returns the path of the inventory to use: flag, which is what -i says,
// else $RUNBOOK_INVENTORY, else ./inventory.yaml if there is one. There is no
// other place where one is looked for.
func Find(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if env := os.Getenv(EnvVar); env != "" {
		return env, nil
	}
	if _, err := os.Lstat(DefaultFile); errors.Is(err, fs.ErrNotExist) {
		return "", &engine.Error{
			Code: engine.Invalid, Cause: "there is no inventory to say which nodes there are",
			Hint: fmt.Sprintf("give one with -i FILE or $%s, or write ./%s; -i lab is the standing lab", EnvVar, DefaultFile),
		}
	}
	return DefaultFile, nil
}

// Absolute returns the name of an inventory with which it is found from any folder.
func Absolute(name string) string {
	file, config := strings.CutPrefix(name, SSHConfig)
	if config && file == "" {
		return name
	}
	if full, err := homePath(file); err == nil && config {
		file = full
	}
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	if config {
		return SSHConfig + file
	}
	return file
}

// File returns the file that the name of an inventory means.
func File(name string) string {
	file, config := strings.CutPrefix(name, SSHConfig)
	if !config {
		return name
	}
	if file == "" {
		file = userConfig
	}
	if full, err := homePath(file); err == nil {
		file = full
	}
	return file
}

// Path returns the path that the inventory was loaded from, as it was given.
func (inv *Inventory) Path() string { return inv.path }

// Warnings returns what people should know of what was read, a line each.
func (inv *Inventory) Warnings() []string { return slices.Clone(inv.warnings) }

// Nodes returns every node in the order of the inventory.
func (inv *Inventory) Nodes() []Node { return slices.Clone(inv.nodes) }

// Node returns the node with this name.
func (inv *Inventory) Node(name string) (Node, bool) {
	i, ok := inv.index[name]
	if !ok {
		return Node{}, false
	}
	return inv.nodes[i], true
}

// Groups returns the names of the groups in the order of the inventory.
func (inv *Inventory) Groups() []string { return slices.Clone(inv.names) }
