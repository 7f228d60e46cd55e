package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/lab"
)

func labCommand(stop stopper) *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Throw-away nodes on this machine: up N, down, status, exec NODE -- ARGV, incident",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("lab has no %q", args[0]), Hint: "up N, down, status, exec NODE -- ARGV, incident"}
			}
			return c.Help()
		},
	}
	c.AddCommand(labUp(stop), labDown(), labStatus(), labExec(stop), labIncident(stop))
	return c
}

func labUp(stop stopper) *cobra.Command {
	return &cobra.Command{
		Use:   "up N",
		Short: "Make a lab of N nodes that stays until down; its inventory is -i lab",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return engine.Invalid.Errorf("lab up needs one number of nodes")
			}
			n, err := strconv.Atoi(args[0])
			if err != nil {
				return engine.Invalid.Errorf("lab up %q: want a number of nodes", args[0])
			}
			if err := lab.Probe(); err != nil {
				return err
			}
			ctx, cancel := stop.whole()
			defer cancel()
			l, err := lab.Up(ctx, lab.Options{Nodes: n, Standing: true})
			if err != nil {
				return err
			}
			fmt.Printf("%s to %s are up; their inventory is -i lab\n", l.Nodes()[0].Name, l.Nodes()[n-1].Name)
			return nil
		},
	}
}

func labDown() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the lab", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := lab.Open(lab.DefaultDir())
			if err != nil {
				return err
			}
			return l.Down(context.Background())
		},
	}
}

func labStatus() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "status", Short: "List the nodes of the lab", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			l, err := lab.Open(lab.DefaultDir())
			if err != nil {
				return err
			}
			s, err := l.Status(context.Background())
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(s)
			}
			fmt.Printf("%d nodes, up since %s\n", len(s.Nodes), s.Since.Local().Format(time.DateTime))
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			for _, n := range s.Nodes {
				state := "running"
				if !n.Running {
					state = "dead"
				}
				fmt.Fprintf(w, "%s\teth0 %s\teth1 %s\tpid %d\t%s\n", n.Name, n.Addr, strings.Join(n.Data, ", "), n.PID, state)
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// exitStatus is the exit code of a command in a node, which runbook's own becomes.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func labExec(stop stopper) *cobra.Command {
	return &cobra.Command{
		Use:   "exec NODE -- ARGV",
		Short: "Run a command in a node",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return &engine.Error{Code: engine.Invalid, Cause: "lab exec needs a node and a command", Hint: "runbook lab exec node-1 -- ip route"}
			}
			l, err := lab.Open(lab.DefaultDir())
			if err != nil {
				return err
			}
			ctx, cancel := stop.whole()
			defer cancel()
			exit, err := l.Exec(ctx, args[0], args[1:], os.Stdin, os.Stdout, os.Stderr)
			if err == nil && exit != 0 {
				err = exitStatus(exit)
			}
			return err
		},
	}
}
