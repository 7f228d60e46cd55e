package pg

import (
	"context"
	"errors"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is one change: compared, made, read back.

// readEvery is the wait between two looks whether a change shows.
const readEvery = 50 * time.Millisecond

// Apply implements [engine.Node]. A session that is to be ended, and has ended or is no more
// what was selected, is no drift: see terminate.go.
func (s *Server) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	give, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	defer give()
	if len(e.Want) > 0 {
		if err := s.hold(ctx, e.Run); err != nil {
			return nil, untouched(err)
		}
	}
	if e.Before != nil || len(e.Want) == 0 {
		found, err := s.read(ctx, e.Query)
		if err != nil {
			return nil, untouched(err)
		}
		if e.Before != nil && !resource.Equal(stays(e.Before, e.Want), stays(found, e.Want)) {
			return nil, &engine.DriftError{Found: found}
		}
		if len(e.Want) == 0 {
			return found, nil
		}
	}
	var settings []resource.Key
	var left resource.State // of the sessions that were to end: those that did not
	for _, k := range e.Want.Keys() {
		switch k.Kind() {
		case resource.KindSetting:
			settings = append(settings, k)
		case resource.KindBackend, resource.KindPool, resource.KindPooled:
		default:
			return nil, engine.Internal.Errorf("nothing of kind %s can be changed", k.Kind())
		}
	}
	if err := s.alter(ctx, settings, e); err != nil {
		return nil, err
	}
	if err := s.console(ctx, e); err != nil {
		return nil, err
	}
	if left, err = s.terminate(ctx, e); err != nil {
		return nil, err
	}
	return s.settle(ctx, e, left)
}

// stays is s without the sessions that want has end: they may do that by themselves.
func stays(s, want resource.State) resource.State {
	out := s.Clone()
	for k, r := range want {
		if r == nil && k.Kind().Ends() {
			delete(out, k)
		}
	}
	return out
}

// settle reads what e selects until it is as predicted, or the time for that has passed. left
// are sessions that were left alone: they stand in the answer as such.
func (s *Server) settle(ctx context.Context, e engine.Edit, left resource.State) (resource.State, error) {
	for deadline := time.Now().Add(time.Duration(e.Settle)); ; {
		found, err := s.read(ctx, unconditional(e.Query))
		if err != nil {
			return nil, err
		}
		for k, r := range left {
			if _, still := found[k]; still {
				found[k] = r
			}
		}
		if e.After == nil || resource.Equal(e.After, found) || !time.Now().Before(deadline) {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(readEvery):
		}
	}
}

// unconditional is q with each session that it names selected as long as it lives.
func unconditional(q resource.Query) resource.Query {
	out := make(resource.Query, len(q))
	for i, sel := range q {
		if out[i] = sel; sel.Key != "" {
			out[i].Where = nil
		}
	}
	return out
}

// untouched is err, which comes before anything is changed, such as that of a server that is not there.
func untouched(err error) error {
	var known *engine.Error
	if !errors.As(err, &known) {
		return err
	}
	e := *known
	e.Left = engine.NothingChanged
	return &e
}
