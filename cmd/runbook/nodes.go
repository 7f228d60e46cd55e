package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/tui"
)

// answer is what a node said when it was asked who it is.
type answer struct {
	Node   string            `json:"node"`
	Groups []string          `json:"groups,omitempty"`
	Took   string            `json:"took,omitempty"`
	Facts  resource.Resource `json:"facts,omitempty"`
	Err    *engine.Error     `json:"error,omitempty"`
}

func nodesCommand(stop stopper) *cobra.Command {
	var f fleetFlags
	var format string
	c := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the inventory, and who answers",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			ctx, cancel := stop.whole()
			defer cancel()
			if !f.flags.Changed("nodes") { // asking who is there changes nothing: all are meant
				f.selection = "all"
			}
			fl, err := f.open(ctx)
			if err != nil {
				return err
			}
			defer fl.close()
			answers := ask(ctx, fl)
			if format == "json" {
				err = printJSON(answers)
			} else {
				err = printAnswers(answers)
			}
			for _, a := range answers {
				if a.Err != nil && err == nil {
					err = shown(a.Err)
				}
			}
			return err
		},
	}
	f.add(c)
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// ask asks every node who it is, at most 100 at a time.
func ask(ctx context.Context, fl *fleet) []answer {
	out := make([]answer, len(fl.nodes))
	var g errgroup.Group
	g.SetLimit(100)
	for i, n := range fl.nodes {
		g.Go(func() error { out[i] = askOne(ctx, fl.dialer, n); return nil })
	}
	g.Wait() //nolint:errcheck // every answer keeps its own error
	return out
}

func askOne(ctx context.Context, d engine.Dialer, n engine.NodeInfo) answer {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	a := answer{Node: n.Name, Groups: n.Groups}
	start := time.Now()
	node, err := d.Dial(ctx, n.Name)
	if err == nil {
		defer node.Close() //nolint:errcheck // it was only read
		var s resource.State
		s, err = node.Read(ctx, resource.Query{{Kind: resource.KindFacts}})
		a.Facts = s[resource.FactsKey]
	}
	a.Took = time.Since(start).Round(time.Millisecond).String()
	a.Err = engine.AsError(err)
	return a
}

func printAnswers(answers []answer) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, a := range answers {
		what := ""
		switch {
		case a.Err != nil:
			what, _, _ = strings.Cut(a.Err.Cause, "\n")
		case a.Facts != nil:
			what = a.Facts.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.Node, strings.Join(a.Groups, ","), a.Took, tui.Line(what))
	}
	return w.Flush()
}
