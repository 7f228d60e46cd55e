package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"runbook/engine"
	"runbook/internal/spell"
	"runbook/inventory"
	"runbook/lab"
	"runbook/node/sim"
	"runbook/node/ssh"
	"runbook/policy"
)

// fleetFlags say which nodes a verb is about.
type fleetFlags struct {
	inventory string
	selection string
	limitTo   string // of what is selected: the first N, or a percentage
	lab       int
	repeat    bool
	ceilings  ceilings
	policies  []string // files, beside those that are found
	reason    string
	snapshots []string       // nodes as they were recorded, in place of an inventory
	flags     *pflag.FlagSet // tells --lab 0 from none
	names     []string       // of a saved plan: these nodes, in this order, in place of a selection
	asking    bool           // nothing is changed: nodes that cannot be reached are wanted too
}

func (f *fleetFlags) add(c *cobra.Command) {
	f.addInventory(c)
	c.Flags().VarP(&once{text: &f.selection, hint: "-n 'a,b' is both"}, "nodes", "n", "which nodes: names, globs, groups, all: 'web and not web-3'")
	c.Flags().StringVar(&f.limitTo, "limit-to", "", "only the first `N` of the selected nodes, in the order of the inventory, or N% of them")
	c.Flags().IntVar(&f.lab, "lab", 0, "`N` throw-away nodes on this machine, for this command only")
}

func (f *fleetFlags) addPolicy(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.policies, "policy", nil, "a policy `FILE` that applies too, beside "+policy.SystemFile+" and policy.yaml beside the inventory")
}

// addTerms is for the verbs that predict changes.
func (f *fleetFlags) addTerms(c *cobra.Command) {
	f.ceilings.add(c)
	f.addPolicy(c)
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the record: a ticket, a sentence")
	c.Flags().BoolVar(&f.repeat, "repeat-anyway", false, "disrupt nodes also where they were disrupted in the same place lately")
}

func (f *fleetFlags) addInventory(c *cobra.Command) {
	f.flags = c.Flags()
	c.Flags().VarP(&once{text: &f.inventory, filled: true}, "inventory", "i", "the inventory: a file, an Ansible inventory (INI, YAML, a script), ssh_config:[FILE], or lab (else $RUNBOOK_INVENTORY, ./inventory.yaml)")
}

// once is a flag that names one thing. Were the last of two the one that counts,
// or an empty one none, other nodes would be changed than somebody thinks, or no plan be saved.
type once struct {
	text   *string
	hint   string // what to write in place of two
	filled bool   // an empty one is an error here; else who uses it says so
	given  bool
}

// String implements [pflag.Value].
func (o *once) String() string {
	if o.text == nil {
		return ""
	}
	return *o.text
}

// Set implements [pflag.Value].
func (o *once) Set(s string) error {
	switch {
	case o.given && o.hint != "":
		return fmt.Errorf("it is given twice: %s", o.hint)
	case o.given:
		return errors.New("it is given twice")
	case o.filled && s == "":
		return errors.New("it is empty")
	}
	*o.text, o.given = s, true
	return nil
}

// Type implements [pflag.Value].
func (o *once) Type() string { return "string" }

// fleet is the nodes of a run and how to reach them.
type fleet struct {
	nodes     []engine.NodeInfo
	dialer    engine.Dialer
	inventory string // as the journal and a saved plan name it
	policies  policy.Set
	all       []engine.NodeInfo // of the inventory, also those that are not selected
	selection string
	problems  map[string]*engine.Error // by node: why it cannot be reached, where asking
	close     func()
}

// labName is the inventory that means the standing lab, ownLab what records name
// the nodes that a command made for itself: no later one can reach them.
const (
	labName = "lab"
	ownLab  = "--lab"
)

// open selects the nodes, and finds the policies that hold for them.
func (f fleetFlags) open(ctx context.Context) (*fleet, error) {
	servers := slices.Clone(f.names) // those that a run changed beside its nodes
	servers = slices.DeleteFunc(servers, func(name string) bool { return !engine.IsTarget(name) })
	f.names = slices.DeleteFunc(slices.Clone(f.names), engine.IsTarget)
	fl, err := f.find(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range servers {
		fl.nodes = append(fl.nodes, engine.NodeInfo{Name: name})
	}
	file := inventory.File(fl.inventory)
	if file == labName || file == ownLab || len(f.snapshots) > 0 {
		file = ""
	}
	if fl.policies, err = policy.Find(file, f.policies); err != nil {
		fl.close()
		return nil, err
	}
	return fl, nil
}

func (f fleetFlags) find(ctx context.Context) (*fleet, error) {
	var fl *fleet
	var err error
	switch {
	case len(f.snapshots) > 0 && (f.flags.Changed("lab") || f.inventory != ""):
		return nil, engine.Invalid.Errorf("--snapshot has the nodes: leave out --lab and -i")
	case len(f.snapshots) > 0:
		fl, err = fromSnapshots(f.snapshots)
	case f.flags.Changed("lab") && f.inventory != "":
		return nil, engine.Invalid.Errorf("--lab makes nodes of its own: leave out -i %s", f.inventory)
	case f.flags.Changed("lab"):
		fl, err = throwAway(ctx, f.lab)
	case f.inventory == labName:
		fl, err = standing()
	default:
		return f.fromInventory(ctx)
	}
	if err != nil {
		return nil, err
	}
	// A lab's nodes are all meant where nothing is said: it was made to be changed.
	if !f.flags.Changed("nodes") && f.names == nil { // -n "" is an empty selection, and an error
		f.selection = "all"
	}
	chosen, selection, err := f.choose(inventory.FromNames(labName, names(fl.nodes)))
	if err != nil {
		fl.close()
		return nil, err
	}
	fl.all, fl.selection = fl.nodes, selection
	known := map[string]engine.NodeInfo{} // a snapshot has its node's groups and variables
	for _, n := range fl.all {
		known[n.Name] = n
	}
	fl.nodes = nil
	for _, n := range chosen {
		fl.nodes = append(fl.nodes, known[n.Name])
	}
	return fl, nil
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func names(nodes []engine.NodeInfo) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return out
}

func infos(nodes []inventory.Node) []engine.NodeInfo {
	out := make([]engine.NodeInfo, len(nodes))
	for i, n := range nodes {
		out[i] = n.Info()
	}
	return out
}

// sshDialer reaches nodes over SSH.
type sshDialer map[string]reach

// reach is how a node is reached, or why it cannot be.
type reach struct {
	ssh.Target
	problem *engine.Error
}

// Dial implements [engine.Dialer].
func (d sshDialer) Dial(ctx context.Context, name string) (engine.Node, error) {
	r, ok := d[name]
	switch {
	case !ok:
		return nil, noNode(name, slices.Sorted(maps.Keys(d)))
	case r.problem != nil:
		return nil, r.problem
	}
	return ssh.Dial(ctx, r.Target)
}

// noNode is the error where name is none of the known nodes.
func noNode(name string, known []string) error {
	e := &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("the inventory has no node %s", name), Hint: spell.Question(spell.Near(name, known, 3))}
	if e.Hint == "" && len(known) <= 10 {
		e.Hint = "it has " + strings.Join(known, ", ")
	}
	return e
}

func target(n inventory.Node) ssh.Target {
	t := ssh.Target{
		Name: n.Name, Host: n.SSH.Host, Port: n.SSH.Port, User: n.SSH.User,
		IdentityFiles: n.SSH.Identity, KnownHosts: n.SSH.KnownHosts, ProxyJump: n.SSH.ProxyJump,
		ConfigFile: n.SSH.Config, Agents: carried,
	}
	if n.Become == inventory.BecomeSudo {
		t.Become = "sudo"
	}
	return t
}

// standing is the lab that `runbook lab up` made.
func standing() (*fleet, error) {
	l, err := lab.Open(lab.DefaultDir())
	if err != nil {
		return nil, err
	}
	return labFleet(l, func() {}), nil
}

// maxSimulated is how many nodes can be simulated.
const maxSimulated = 10_000

// throwAway makes a lab of n nodes for this command. Where this machine cannot,
// the nodes are simulated: RUNBOOK_LAB=netns forbids that, RUNBOOK_LAB=sim wants it.
func throwAway(ctx context.Context, n int) (*fleet, error) {
	simulates, most := os.Getenv("RUNBOOK_LAB") == "sim", lab.MaxNodes
	if simulates {
		most = maxSimulated
	}
	if n < 1 || n > most {
		return nil, engine.Invalid.Errorf("--lab %d: a lab has 1 to %d nodes", n, most)
	}
	var err error = engine.Invalid.Errorf("RUNBOOK_LAB=sim says so")
	if !simulates {
		err = lab.Probe()
	}
	if err != nil {
		if os.Getenv("RUNBOOK_LAB") == "netns" {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "the %d lab nodes are simulated: %s\n", n, engine.AsError(err).Cause)
		return simulated(n), nil
	}
	l, err := lab.Up(ctx, lab.Options{Nodes: n})
	if err != nil {
		return nil, err
	}
	fl := labFleet(l, func() { l.Down(context.Background()) }) //nolint:errcheck // it ends with this process at the latest
	fl.inventory = ownLab
	return fl, nil
}

func labFleet(l *lab.Lab, done func()) *fleet {
	fl := &fleet{inventory: labName, close: done}
	targets := sshDialer{}
	for _, n := range l.Nodes() {
		host, _, _ := net.SplitHostPort(n.Addr)
		fl.nodes = append(fl.nodes, engine.NodeInfo{Name: n.Name})
		targets[n.Name] = reach{Target: ssh.Target{
			Name: n.Name, Host: host, Port: 22, User: lab.User, IdentityFiles: []string{l.KeyFile()},
			KnownHosts: []string{l.KnownHosts()}, ConfigFile: "none", Agents: carried,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.Dial(ctx, n.Name) },
		}}
	}
	fl.dialer = targets
	return fl
}

// simDialer reaches simulated nodes.
type simDialer map[string]engine.Node

// Dial implements [engine.Dialer].
func (d simDialer) Dial(_ context.Context, name string) (engine.Node, error) {
	n, ok := d[name]
	if !ok {
		return nil, noNode(name, slices.Sorted(maps.Keys(d)))
	}
	return n, nil
}

func simulated(n int) *fleet {
	fl := &fleet{inventory: ownLab, close: func() {}}
	nodes := simDialer{}
	for i := range n {
		name := fmt.Sprintf("node-%d", i+1)
		fl.nodes = append(fl.nodes, engine.NodeInfo{Name: name})
		nodes[name] = &sim.Remembering{Node: sim.New(sim.LabNode(name, i+1))}
	}
	fl.dialer = nodes
	return fl
}
