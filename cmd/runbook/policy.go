package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/inventory"
	"runbook/policy"
	"runbook/tui"
)

// operator is who runs this program, as policies and records name them.
func operator() string {
	id := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(id); err == nil { // not user.Current, which falls back on $USER
		return u.Username
	}
	return "uid " + id
}

// obey holds the run to the policies. What they forbid of every run is refused at once.
func (s *session) obey(f fleetFlags) error {
	policies := s.fleet.policies
	s.reason = f.reason
	if f.repeat {
		if err := policies.Repeat(); err != nil {
			return err
		}
	}
	s.run.Ceilings = s.run.Ceilings.Meet(policies.Limits())
	who := operator()
	s.run.Allow = func(node engine.NodeInfo, op string, args json.RawMessage) *engine.Error {
		if op == engine.PutBackName || op == engine.DoAgainName { // who may do it may take it back
			var back engine.PutBack
			if json.Unmarshal(args, &back) == nil {
				op, _, _ = strings.Cut(back.Op, " ")
			}
		}
		return policies.Operation(who, node, op, args)
	}
	s.run.Permit = func() *engine.Error { return policies.Now(time.Now()) }
	return nil
}

// start refuses a run that may not begin, whatever it would do.
func (s *session) start(f runFlags) error {
	switch policies := s.fleet.policies; {
	case !f.unattended:
	case len(policies) == 0:
		return &engine.Error{
			Code: engine.Invalid, Cause: "--unattended needs a policy, and there is none", Left: engine.NothingChanged,
			Hint: "a policy says what may be done while nobody looks: policy.yaml beside the inventory, or --policy FILE",
		}
	case runtime.GOOS != "linux":
		return engine.Invalid.Errorf("--unattended needs Linux: nothing bounds the memory of a runbook on %s", runtime.GOOS)
	}
	if err := s.fleet.policies.Reason(f.reason); err != nil {
		return err
	}
	return nil
}

// questions decides who is asked about which node, and refuses changes that may not be made now.
func (s *session) questions(p *engine.Plan, f runFlags) error {
	policies := s.fleet.policies
	if p.Changes() == 0 {
		return nil
	}
	if err := policies.Now(time.Now()); err != nil {
		err.Left = engine.NothingChanged
		return err
	}
	if f.unattended {
		for _, np := range p.Nodes {
			if source, must := policies.Confirm(s.info(np.Node)); must && len(np.Changes()) > 0 {
				return &engine.Error{
					Code: engine.LimitHit, Node: np.Node, Cause: fmt.Sprintf("somebody must be asked, and nobody is there (policy %s)", source),
					Left: engine.NothingChanged,
				}
			}
		}
		return nil
	}
	switch s.run.Confirm = tui.Prompt(os.Stdin, os.Stderr, tui.StyleOf(os.Stderr)); {
	case f.screen != nil:
		s.run.Confirm = f.screen.Confirm
	case f.live != nil:
		s.run.Confirm = f.live.Asking(s.run.Confirm)
	}
	if f.yes {
		s.run.Asks = func(n engine.NodeInfo) bool {
			_, must := policies.Confirm(n)
			return must
		}
	}
	return nil
}

func (s *session) info(node string) engine.NodeInfo {
	for _, n := range s.fleet.nodes {
		if n.Name == node {
			return n
		}
	}
	return engine.NodeInfo{Name: node}
}

// findPolicies finds them for an inventory that need not be there.
func (f fleetFlags) findPolicies() (policy.Set, error) {
	file, err := inventory.Find(f.inventory)
	if f.inventory == "" && err != nil || file == labName {
		file = ""
	} else if err != nil {
		return nil, err
	}
	file = inventory.File(file)
	if _, err := os.Stat(file); file != "" && err != nil {
		return nil, engine.Invalid.Errorf("inventory: %w", err)
	}
	return policy.Find(file, f.policies)
}

func policyCommand() *cobra.Command {
	var f fleetFlags
	c := &cobra.Command{
		Use:   "policy",
		Short: "Show the policies that apply, and whether a change may be made now",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			policies, err := f.findPolicies()
			if err != nil {
				return err
			}
			if len(policies) == 0 {
				fmt.Println("no policy applies: the limits are those of the runbook, or the defaults")
				return nil
			}
			for _, p := range policies {
				fmt.Println(tui.Line(p.Path))
				for _, l := range p.Describe() {
					fmt.Println("  " + tui.Line(l))
				}
			}
			fmt.Println("limits, at most:")
			limits := policies.Limits()
			for _, info := range engine.LimitTable {
				if b, set := limits[info.Name]; set {
					fmt.Printf("  %s = %s (%s)\n", info.Name, info.Show(b.N), b.Source)
				}
			}
			if err := policies.Now(time.Now()); err != nil {
				fmt.Println("no change may be made now: " + tui.Line(err.Cause))
				return nil
			}
			fmt.Println("a change may be made now")
			return nil
		},
	}
	f.addInventory(c)
	f.addPolicy(c)
	return c
}
