package rollout

import (
	"context"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

func planOf(changes int, disrupts bool) *engine.NodePlan {
	p := &engine.NodePlan{Node: "n"}
	for range changes {
		e := engine.Edit{Restart: "eth1"}
		if disrupts {
			e.Disrupts = resource.LinkKey("eth1")
		}
		p.Steps = append(p.Steps, engine.PlannedChange{Edit: e})
	}
	return p
}

func TestChangesPerMinute(t *testing.T) {
	c := newPace(engine.Limits{engine.LimitChangesPerMinute: {N: 5}}, nil)
	now := time.Now()
	for _, step := range []struct {
		at      time.Duration
		changes int
		wait    time.Duration
	}{
		{0, 3, 0},
		{10 * time.Second, 2, 0},
		{20 * time.Second, 1, 40 * time.Second}, // the first three leave
		{20 * time.Second, 4, 50 * time.Second}, // and then the next two
		{61 * time.Second, 3, 0},
		{61 * time.Second, 5, 60 * time.Second},
		{200 * time.Second, 5, 0},
	} {
		at := now.Add(step.at)
		wait := c.wait(step.changes, at)
		if wait != step.wait {
			t.Errorf("%d changes at %s wait %s, want %s", step.changes, step.at, wait, step.wait)
		}
		if wait == 0 {
			c.begun = append(c.begun, begun{at, step.changes})
		}
	}
}

// One node is disrupted at a time; whoever waits is freed by a stop.
func TestDisruptiveAtATime(t *testing.T) {
	c := newPace(engine.Limits{engine.LimitDisruptive: {N: 1}}, nil)
	stop := make(chan struct{})
	done, ok := c.start(t.Context(), stop, planOf(1, true), nil)
	if !ok {
		t.Fatal("the first does not start")
	}
	if _, ok := c.start(t.Context(), stop, planOf(1, false), nil); !ok {
		t.Error("one that disrupts nothing has to wait")
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, ok := c.start(short, stop, planOf(1, true), nil); ok {
		t.Error("two are disrupted at a time")
	}
	done()
	if _, ok = c.start(t.Context(), stop, planOf(1, true), nil); !ok {
		t.Fatal("the second does not start after the first")
	}
	close(stop)
	if _, ok := c.start(t.Context(), stop, planOf(1, true), nil); ok {
		t.Error("one starts after the run was stopped")
	}
}
