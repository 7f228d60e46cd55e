package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
	"runbook/rehearse"
)

// recordedKinds is all that a snapshot holds of a node.
var recordedKinds = []resource.Kind{
	resource.KindFacts, resource.KindLink, resource.KindAddr, resource.KindRoute, resource.KindRule, resource.KindNeigh, resource.KindNexthop,
}

func snapshotCommand(stop stopper) *cobra.Command {
	var f fleetFlags
	var dir string
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Record what nodes hold, for tests and for plans without access to them",
		Args:  noArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			ctx, cancel := stop.whole()
			defer cancel()
			fl, err := f.open(ctx)
			if err != nil {
				return err
			}
			defer fl.close()
			if len(fl.nodes) > 1 && dir == "" {
				return &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("%d nodes are selected", len(fl.nodes)), Hint: "-o DIR writes a file for each: DIR/NODE.json"}
			}
			for _, n := range fl.nodes {
				if err := record(ctx, fl, n, dir); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(c)
	c.Flags().VarP(&once{text: &dir, filled: true}, "out", "o", "write NODE.json for each node into this folder; else one node's to stdout")
	return c
}

// record writes the snapshot of one node.
func record(ctx context.Context, fl *fleet, info engine.NodeInfo, dir string) error {
	named := func(err error) error {
		e := *engine.AsError(err)
		if e.Node == "" {
			e.Node = info.Name
		}
		return &e
	}
	n, err := fl.dialer.Dial(ctx, info.Name)
	if err != nil {
		return named(err)
	}
	defer n.Close() //nolint:errcheck // it was only read
	var q resource.Query
	for _, k := range recordedKinds {
		q = append(q, resource.Selector{Kind: k})
	}
	s := rehearse.NodeSnapshot{Version: rehearse.SnapshotVersion, Node: info}
	if s.State, err = n.Read(ctx, q); err != nil {
		return named(err)
	}
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return named(err)
	}
	if dir == "" {
		_, err = os.Stdout.Write(append(b, '\n'))
		return err
	}
	path := filepath.Join(dir, info.Name+".json")
	if err := writeWhole(path, append(b, '\n')); err != nil {
		return engine.Invalid.Errorf("cannot save the snapshot: %w", err)
	}
	fmt.Println(path)
	return nil
}

// fromSnapshots is a fleet of nodes as they were recorded.
func fromSnapshots(files []string) (*fleet, error) {
	fl := &fleet{inventory: "snapshots", selection: "all", close: func() {}}
	nodes := simDialer{}
	for _, path := range files {
		s, err := rehearse.LoadSnapshot(path)
		if err != nil {
			return nil, err
		}
		if nodes[s.Node.Name] != nil {
			return nil, engine.Invalid.Errorf("%s is of node %s, and so is another snapshot", path, s.Node.Name)
		}
		fl.nodes = append(fl.nodes, s.Node)
		nodes[s.Node.Name] = sim.New(s.State)
	}
	fl.all, fl.dialer = fl.nodes, nodes
	return fl, nil
}
