package main

import (
	"strings"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/internal/spell"
)

// ceilings are the limits that a verb's flags set, name=value, as in limits(…), and those that
// held when a plan was made that is applied, or a run began that is taken up again: it may do no more than then.
type ceilings struct {
	given []string
	then  engine.Limits
}

// limitFlag is the flag, and what errors call what it set.
const limitFlag = "--limit"

// at keeps the limits that held at the time of what, whose own flags are gone.
func (c *ceilings) at(what string, l engine.Limits) {
	c.then = engine.Limits{}
	for name, b := range l {
		if b.Source == limitFlag {
			b.Source = limitFlag + " of " + what
		}
		c.then[name] = b
	}
}

func (c *ceilings) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&c.given, "limit", nil, "lower a limit for this run: `NAME=VALUE`, such as nodes=5; it can be given several times")
}

// parse reads the flags. A limit that is given twice has the lower value.
func (c ceilings) parse() (engine.Limits, error) {
	out := engine.Limits{}
	for _, g := range c.given {
		name, value, ok := strings.Cut(g, "=")
		if !ok {
			return nil, engine.Invalid.Errorf("--limit %q: want NAME=VALUE, such as nodes=5", g)
		}
		info, known := engine.Limit(name).Info()
		if !known {
			e := engine.Invalid.Errorf("--limit: there is no limit %q", name)
			var names []string
			for _, i := range engine.LimitTable {
				names = append(names, string(i.Name))
			}
			e.Hint = "they are " + strings.Join(names, ", ")
			if near := spell.Question(spell.Near(name, names, 2)); near != "" {
				e.Hint = near
			}
			return nil, e
		}
		n, err := info.Parse(value)
		if err != nil {
			return nil, engine.Invalid.Errorf("--limit %s: %w", g, err)
		}
		if had, twice := out[info.Name]; !twice || n < had.N {
			out[info.Name] = engine.Bound{N: n, Source: limitFlag}
		}
	}
	return out.Meet(c.then), nil
}
