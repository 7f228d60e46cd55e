package sim_test

import (
	"testing"

	"runbook/engine"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

func TestConformance(t *testing.T) {
	nodetest.Run(t, func(_ *testing.T, s nodetest.Start) engine.Node { return sim.New(s.State) })
}
