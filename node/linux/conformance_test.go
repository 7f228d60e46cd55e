//go:build linux

package linux_test

import (
	"testing"

	"runbook/engine"
	"runbook/node/linux"
	"runbook/node/nodetest"
)

func TestConformance(t *testing.T) {
	nodetest.Run(t, func(t *testing.T, s nodetest.Start) engine.Node {
		n, err := linux.OpenAt("/run/netns/" + s.Namespace(t))
		if err != nil {
			t.Fatal(err)
		}
		return n
	})
}
