package incident

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/forecast"
	"runbook/engine/resource"
	"runbook/internal/integration"
)

// TestForecastAgainstFact measures the peak of connections in random scenarios, twenty or as many as
// RUNBOOK_SCENARIOS says, and holds to it what is forecast: within 10%. Their seed is the number itself.
func TestForecastAgainstFact(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("RUNBOOK_SCENARIOS"))
	if err != nil {
		n = 20
	}
	if err := Probe(); err != nil {
		integration.Missing(t, "%v", err)
	}
	random := rand.New(rand.NewPCG(uint64(n), 0))
	var scenarios []Scenario
	for range n {
		scenarios = append(scenarios, RandomScenario(random))
	}
	began := time.Now()
	outcomes, err := Measure(t.Context(), scenarios)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		s := o.Scenario
		low, high := s.Nodes*s.Habits.Pool, (s.Nodes+s.Disruptions)*s.Habits.Pool
		foretold := foretell(s)
		off := float64(foretold-o.Peak()) / float64(o.Peak())
		t.Logf("peak %3d, forecast %3d (%+3.0f%%), of %3d to %3d: %s", o.Peak(), foretold, 100*off, low, high, s)
		if math.Abs(off) > 0.1 {
			t.Errorf("the forecast is %d, and the peak was %d", foretold, o.Peak())
		}
		if o.Peak() < low || o.Peak() > high {
			t.Errorf("the peak is %d, and must be from %d to %d", o.Peak(), low, high)
		}
	}
	t.Logf("%d scenarios in %s", n, time.Since(began).Round(time.Second))
}

// foretell is the peak that is forecast for a rollout that does to the nodes what the scenario
// does: a wave for each disruption, as far apart as these are.
func foretell(s Scenario) int {
	settings := func(name string) string { return s.Habits.Settings[name] }
	server := forecast.Server{
		Name: "lab", Ports: []uint16{port}, Capacity: math.MaxInt, Used: s.Nodes * s.Habits.Pool,
		Clients: map[netip.Addr]int{}, Dead: forecast.LifeOf(settings),
	}
	var waves []forecast.Wave
	for i := range s.Disruptions {
		local := netip.AddrFrom4([4]byte{10, 98, 0, byte(2 + i%s.Nodes)})
		server.Clients[local] = s.Habits.Pool
		up, down := resource.Link{Name: "eth1", Up: true}, resource.Link{Name: "eth1"}
		cut := engine.Cut{Sessions: resource.Sessions{Local: local, Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 98, 0, 1}), port), Dev: "eth1", Count: s.Habits.Pool}}
		steps := []engine.PlannedChange{{Edit: engine.Edit{Before: resource.Of(up), After: resource.Of(down), Cuts: []engine.Cut{cut}}}}
		if s.Down > 0 { // else the address does not come back
			steps = append(steps, engine.PlannedChange{Edit: engine.Edit{Before: resource.Of(down), After: resource.Of(up)}})
		}
		waves = append(waves, forecast.Wave{{Steps: steps}})
	}
	return forecast.Of(waves, forecast.Pace{Bake: s.Bake, Outage: s.Down, Return: s.Habits.Timeout + s.Habits.Retry/2}, []forecast.Server{server})[0].Worst().Total
}

// String is the scenario on a line.
func (s Scenario) String() string {
	what := fmt.Sprintf("%v down", s.Down)
	if s.Down == 0 {
		what = "renumbered"
	}
	return fmt.Sprintf("%d nodes of %d, %d times %s, bake %v, %v", s.Nodes, s.Habits.Pool, s.Disruptions, what, s.Bake, s.Habits.Settings)
}
