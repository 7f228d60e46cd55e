package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "development"

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which runbook this is, and which agents it carries",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Printf("runbook %s %s/%s\n", version, runtime.GOOS, runtime.GOARCH)
			for _, a := range agents() {
				fmt.Println(a)
			}
			return nil
		},
	}
}
