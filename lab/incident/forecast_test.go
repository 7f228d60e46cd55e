package incident

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"runbook/internal/integration"
)

// TestMeasure prints the peak of connections in random scenarios, as many as
// RUNBOOK_SCENARIOS says: what a forecast must come to. Their seed is the number itself.
func TestMeasure(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("RUNBOOK_SCENARIOS"))
	if n == 0 {
		t.Skip("RUNBOOK_SCENARIOS says how many scenarios to measure")
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
		t.Logf("peak %3d, of %3d to %3d; dead %3d: %s", o.Peak(), low, high, o.Act.Most(Second.dead), s)
		if o.Peak() < low || o.Peak() > high {
			t.Errorf("the peak is %d, and must be from %d to %d", o.Peak(), low, high)
		}
		if s.Habits.Settings["tcp_keepalives_idle"] == "" && o.Peak() < high*9/10 {
			t.Errorf("the peak is %d, though no dead connection is ever found out: want %d", o.Peak(), high)
		}
	}
	t.Logf("%d scenarios in %s", n, time.Since(began).Round(time.Second))
}

// String is the scenario on a line.
func (s Scenario) String() string {
	what := fmt.Sprintf("%v down", s.Down)
	if s.Down == 0 {
		what = "renumbered"
	}
	return fmt.Sprintf("%d nodes of %d, %d times %s, bake %v, %v", s.Nodes, s.Habits.Pool, s.Disruptions, what, s.Bake, s.Habits.Settings)
}
