package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/lab/incident"
)

func labIncident(stop stopper) *cobra.Command {
	var svg, format string
	c := &cobra.Command{
		Use:   "incident",
		Short: "Replay the incident that runbook exists because of: a script that loops, Postgres, and runbook in its place",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			if info, err := os.Stat(filepath.Dir(svg)); svg != "" && (err != nil || !info.IsDir()) { // said before a minute has passed
				return engine.Invalid.Errorf("--svg %s: there is no folder %s", svg, filepath.Dir(svg))
			}
			if info, err := os.Stat(svg); err == nil && info.IsDir() {
				return engine.Invalid.Errorf("--svg %s: it is a folder", svg)
			}
			out := os.Stdout
			if format == "json" {
				out = os.Stderr
			}
			for _, v := range os.Environ() { // what the operator's own servers are reached by is not meant for this one
				if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
					os.Unsetenv(name) //nolint:errcheck // it has a name
				}
			}
			ctx, cancel := stop.whole()
			defer cancel()
			r, err := incident.Replay(ctx, incident.Config{Program: "/proc/self/exe", Out: out})
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "\n%s\n%s\nAll of it took %.0f s, and nothing of it is left.\n", r.Chart(), r.Table(), r.Took)
			if format == "json" {
				err = printJSON(r)
			}
			if svg != "" && err == nil {
				if err = os.WriteFile(svg, []byte(r.SVG()), 0o644); err != nil { //nolint:gosec // a picture to be looked at
					err = engine.Invalid.Errorf("--svg: %w", err)
				}
			}
			return err
		},
	}
	c.Flags().StringVar(&svg, "svg", "", "draw what happened, second by second, to this `FILE`")
	c.Flags().StringVar(&format, "format", "text", "text, or json: the figures")
	return c
}
