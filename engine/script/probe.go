package script

import (
	"context"
	"encoding/json"

	"runbook/engine"
)

// This file finds out how well the evaluator is confined, by trying it.

// Sandbox is what holds the evaluator.
type Sandbox struct {
	Layers []Layer `json:"layers"` // what was set, in the order in which it was
	Tries  []Layer `json:"tries"`  // what an evaluator tried: in force where it was refused
}

// Probe starts an evaluator that tries what it must not be able to do.
func Probe(ctx context.Context, cfg Config) (*Sandbox, error) {
	done, _, err := once(ctx, cfg, engine.Source{Main: "probe.star", Files: map[string]string{"probe.star": ""}}, frame{Type: tProbe})
	if err != nil {
		return nil, err
	}
	out := &Sandbox{}
	if err := json.Unmarshal(done.Value, out); err != nil {
		return nil, engine.Internal.Errorf("what the evaluator tried: %w", err)
	}
	for _, list := range [][]Layer{out.Layers, out.Tries} {
		for i, l := range list {
			list[i].Name, list[i].Detail = clean(l.Name), clean(l.Detail)
		}
	}
	return out, nil
}

// probe is the evaluator's side.
func (ev *evaluator) probe(t *thread) {
	var done frame
	done.Err = t.guard(func() (err error) {
		done.Value, err = json.Marshal(Sandbox{Layers: ev.layers, Tries: tries()})
		return err
	})
	ev.finish(t, done)
}
