package journal

import (
	"sync"
	"sync/atomic"
	"testing"

	"runbook/engine"
)

// Of many that want to drive a run at the same time, one at a time does, and others see that it does,
// also where one comes while another is about to go.
func TestOneHolderAtATime(t *testing.T) {
	j := open(t, t.TempDir())
	id := begin(t, j, record)
	var holding, held atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				release, err := j.Hold(id)
				if err != nil {
					wantError(t, err, engine.Invalid, "is still going, in another process")
					continue
				}
				held.Add(1)
				if n := holding.Add(1); n != 1 || !j.Held(id) {
					t.Errorf("%d hold the run; seen to be held: %v", n, j.Held(id))
				}
				holding.Add(-1)
				release()
			}
		})
	}
	all.Wait()
	if held.Load() == 0 {
		t.Error("nobody has held it")
	}
}
