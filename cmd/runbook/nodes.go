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
	"runbook/node/agent"
	"runbook/tui"
)

// answerTime is how long a node may take to say who it is.
const answerTime = 20 * time.Second

// answer is what a node said when it was asked who it is.
type answer struct {
	Node    string            `json:"node"`
	Groups  []string          `json:"groups,omitempty"`
	Answers bool              `json:"answers"`
	Took    string            `json:"took,omitempty"` // to connect, to start the agent and to answer
	Agent   string            `json:"agent,omitempty"`
	Facts   resource.Resource `json:"facts,omitempty"`
	Err     *engine.Error     `json:"error,omitempty"`
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
			f.asking = true
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
			if err != nil {
				return engine.Internal.Errorf("%w", err)
			}
			return verdict(ctx, answers)
		},
	}
	f.add(c)
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// verdict is an error where not all have answered.
func verdict(ctx context.Context, answers []answer) error {
	there := 0
	for _, a := range answers {
		if a.Answers {
			there++
		}
	}
	fmt.Fprintf(os.Stderr, "%d of %d nodes answer\n", there, len(answers))
	switch {
	case ctx.Err() != nil:
		return &engine.Error{Code: engine.Interrupted}
	case there < len(answers):
		return &engine.Error{Code: engine.Unreachable}
	}
	return nil
}

// ask asks every node who it is, at most 100 at a time.
func ask(ctx context.Context, fl *fleet) []answer {
	out := make([]answer, len(fl.nodes))
	var g errgroup.Group
	g.SetLimit(100)
	for i, n := range fl.nodes {
		g.Go(func() error {
			if p := fl.problems[n.Name]; p != nil { // there is no way to ask it
				out[i] = answer{Node: n.Name, Groups: n.Groups, Err: p}
			} else {
				out[i] = askOne(ctx, fl.dialer, n)
			}
			return nil
		})
	}
	g.Wait() //nolint:errcheck // every answer keeps its own error
	return out
}

func askOne(ctx context.Context, d engine.Dialer, n engine.NodeInfo) answer {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
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
	if a.Answers = err == nil; a.Answers {
		a.Agent = agentOn(node, a.Facts)
	}
	return a
}

// agentOn says which agent answers for a node: the first digits of its hash, as
// runbook version has them. A simulated node has none.
func agentOn(n engine.Node, facts resource.Resource) string {
	if _, ok := n.(*agent.Client); !ok {
		return "simulated"
	}
	f, ok := facts.(resource.Facts)
	if !ok {
		return ""
	}
	own, err := carried("linux/" + f.Arch) // the node runs it by this hash, and no other
	if err != nil {
		return ""
	}
	return own.SHA256[:12]
}

func printAnswers(answers []answer) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "node\tgroups\tanswers\ttook\tagent\twhat it is, or why it does not answer")
	for _, a := range answers {
		there, what := "yes", ""
		switch {
		case a.Err != nil:
			e := *a.Err
			e.Node, e.Hint, e.Kernel = "", "", "" // the table has the node
			there = "no"
			what, _, _ = strings.Cut(e.Error(), "\n")
		case a.Facts != nil:
			what = a.Facts.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Node, or(strings.Join(a.Groups, ","), "-"), there, or(a.Took, "-"), or(a.Agent, "-"), tui.Line(what))
	}
	return w.Flush()
}
