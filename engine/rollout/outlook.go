package rollout

import (
	"runbook/engine"
)

// Outlook is what is ahead of the run with these plans, for who shows how far it is.
func (r *Run) Outlook(plans []*engine.NodePlan) *engine.Outlook {
	h, limits := r.Program.Header(), r.Limits()
	out := &engine.Outlook{Bake: h.Rollout.Bake, ChangesPerMinute: limits.N(engine.LimitChangesPerMinute), Failures: r.Allowed()}
	ends, err := Waves(h.Rollout.Waves, len(r.Nodes))
	if err != nil { // Apply says so
		return out
	}
	byName := make(map[string]*engine.NodePlan, len(plans))
	for _, p := range plans {
		byName[p.Node] = p
	}
	start := 0
	for _, end := range ends {
		w := engine.WaveOutlook{AtOnce: r.atOnce()}
		for _, n := range r.Nodes[start:end] {
			p := byName[n.Name]
			if p == nil || p.Err != nil || r.Past[n.Name].InHand() || len(p.Changes()) == 0 {
				continue
			}
			w.Nodes++
			w.Changes += p.Count()
			if disrupts(p) {
				w.AtOnce = min(w.AtOnce, max(limits.N(engine.LimitDisruptive), 1))
			}
		}
		start = end
		out.Waves = append(out.Waves, w)
	}
	return out
}
