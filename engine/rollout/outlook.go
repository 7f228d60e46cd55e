package rollout

import (
	"runbook/engine"
)

// Outlook is what is ahead of the run with these plans, for who shows how far it is.
func (r *Run) Outlook(plans []*engine.NodePlan) *engine.Outlook {
	h, limits := r.Program.Header(), r.Limits()
	out := &engine.Outlook{Bake: h.Rollout.Bake, ChangesPerMinute: limits.N(engine.LimitChangesPerMinute), Failures: r.Allowed()}
	for _, plans := range r.ByWave(plans) {
		w := engine.WaveOutlook{AtOnce: r.atOnce(), Nodes: len(plans)}
		for _, p := range plans {
			w.Changes += p.Count()
			if disrupts(p) {
				w.AtOnce = min(w.AtOnce, max(limits.N(engine.LimitDisruptive), 1))
			}
		}
		out.Waves = append(out.Waves, w)
	}
	return out
}

// ByWave is, wave after wave, those of plans by which nodes are still to be changed. A run that is taken up has the waves
// that it always had. There are none where the rollout is wrong, as [Run.Apply] says.
func (r *Run) ByWave(plans []*engine.NodePlan) [][]*engine.NodePlan {
	ends, err := Waves(r.Program.Header().Rollout.Waves, len(r.Nodes))
	if err != nil {
		return nil
	}
	byName := make(map[string]*engine.NodePlan, len(plans))
	for _, p := range plans {
		byName[p.Node] = p
	}
	out := make([][]*engine.NodePlan, len(ends))
	start := 0
	for i, end := range ends {
		for _, n := range r.Nodes[start:end] {
			if p := byName[n.Name]; p != nil && p.Err == nil && !r.Past[n.Name].InHand() && len(p.Changes()) > 0 {
				out[i] = append(out[i], p)
			}
		}
		start = end
	}
	return out
}
