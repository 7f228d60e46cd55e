package sim_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// editCase is an edit that runbook can make, and how many sessions it hits.
type editCase struct {
	name, prepare string
	edit          func(*sessionWorld) engine.Edit
	hit           int
}

// Edits are predicted and then made, as runbook does both, while something is
// sent on each session: those that were said to be cut answer no more, and all
// others do.
func TestCutsOfEdits(t *testing.T) {
	link := func(w *sessionWorld, dev string, up bool) engine.Edit {
		l, _ := resource.Get[resource.Link](w.read(resource.KindLink), resource.LinkKey(dev))
		l.Up = up
		return engine.Edit{Want: resource.Of(l)}
	}
	gone := func(dst string) engine.Edit {
		p := netip.MustParsePrefix(dst)
		return engine.Edit{Want: resource.State{resource.RouteKey(p, resource.TableMain, resource.DefaultMetric(p)): nil}}
	}
	for _, c := range []editCase{
		{"restart", "", func(*sessionWorld) engine.Edit { return engine.Edit{Restart: "eth1"} }, 140},
		{"IPv4 address gone", "", func(*sessionWorld) engine.Edit {
			return engine.Edit{Want: resource.State{resource.AddrKey("eth1", netip.MustParsePrefix("10.98.0.2/16")): nil}}
		}, 80},
		{"IPv6 address gone", "", func(*sessionWorld) engine.Edit {
			return engine.Edit{Want: resource.State{resource.AddrKey("eth1", netip.MustParsePrefix("fd00:98::2/64")): nil}}
		}, 80},
		{"restart of the other link", "", func(*sessionWorld) engine.Edit { return engine.Edit{Restart: "eth0"} }, 40},
		{"link down", "-n NODE route del default", func(w *sessionWorld) engine.Edit { return link(w, "eth1", false) }, 140},
		{"IPv4 route gone", "-n NODE route del default", func(*sessionWorld) engine.Edit { return gone("10.20.0.0/16") }, 20},
		{"IPv6 route gone", "", func(*sessionWorld) engine.Edit { return gone("fd00:20::/64") }, 20},
		{"route to nobody gone", "-n NODE route add 10.77.0.0/16 via 10.98.0.1", func(*sessionWorld) engine.Edit { return gone("10.77.0.0/16") }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newSessionWorld(t, c.prepare)
			e := c.edit(w)
			e.Settle = engine.Duration(10 * time.Second)
			if err := sim.Over(w.node).Predict(t.Context(), &e); err != nil {
				t.Fatal(err)
			}
			made := make(chan error, 1)
			go func() {
				_, err := w.node.Apply(t.Context(), e)
				made <- err
			}()
			time.Sleep(2 * time.Millisecond) // so that some of it is sent while the change goes on
			w.ask()
			if err := <-made; err != nil {
				t.Fatal(err)
			}
			w.answers(func(session) time.Duration { return time.Second }) // what got through in time does not count
			w.ask()
			c.compare(w, e)
		})
	}
}

func (c editCase) compare(w *sessionWorld, e engine.Edit) {
	dead := func(s session) bool {
		return slices.ContainsFunc(s.of(e.Cuts), func(p engine.Cut) bool { return !p.Stalls })
	}
	answered := w.answers(func(s session) time.Duration {
		if dead(s) {
			return silence
		}
		return answerTime
	})
	hit := 0
	for _, s := range w.sessions {
		if len(s.of(e.Cuts)) > 0 {
			hit++
		}
		if answered[s] == dead(s) {
			w.t.Errorf("%s to %s answers: %t; predicted: %v", s.local, s.peer, answered[s], s.of(e.Cuts))
		}
	}
	if hit != c.hit {
		w.t.Errorf("%d sessions are said to be hit, want %d: %v", hit, c.hit, e.Cuts)
	}
}
