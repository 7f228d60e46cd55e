package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/script"
)

// version is set by the Makefile.
var version = "development"

func versionCommand() *cobra.Command {
	var sandbox bool
	var format string
	c := &cobra.Command{
		Use:   "version",
		Short: "Say which runbook this is, and which agents it carries",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			out := versionInfo{Version: version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Agents: agents()}
			if sandbox {
				var err error
				if out.Sandbox, err = script.Probe(c.Context(), script.Config{Ops: builtins.Operations}); err != nil {
					return err
				}
			}
			if format == "json" {
				enc := json.NewEncoder(os.Stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(out)
			}
			return out.print(os.Stdout)
		},
	}
	c.Flags().BoolVar(&sandbox, "sandbox", false, "start an evaluator that tries what a script must not be able to do, and say what held")
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// versionInfo is what there is to say of this program.
type versionInfo struct {
	Version  string          `json:"version"`
	Platform string          `json:"platform"`
	Agents   []string        `json:"agents"`
	Sandbox  *script.Sandbox `json:"sandbox,omitempty"`
}

func (v versionInfo) print(w io.Writer) error {
	text := fmt.Sprintf("runbook %s %s\n", v.Version, v.Platform)
	for _, a := range v.Agents {
		text += a + "\n"
	}
	if v.Sandbox != nil {
		text += "sandbox of scripts:\n" + layers(v.Sandbox.Layers, "in force", "NOT IN FORCE")
		text += "an evaluator tried to:\n" + layers(v.Sandbox.Tries, "held", "NOT HELD")
	}
	if _, err := io.WriteString(w, text); err != nil {
		return engine.Internal.Errorf("%w", err)
	}
	return nil
}

func layers(list []script.Layer, yes, no string) string {
	var out string
	for _, l := range list {
		word := yes
		if !l.InForce {
			word = no
		}
		out += fmt.Sprintf("  %-34s %-13s %s\n", l.Name, word, l.Detail)
	}
	if out == "" {
		return "  nothing\n"
	}
	return out
}
