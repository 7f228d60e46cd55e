package script

import (
	"runtime"
	"testing"
)

// TestProbe tries what an evaluator must not be able to do, in a real one.
func TestProbe(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux confines a process")
	}
	s, err := Probe(t.Context(), Config{Ops: testOps, Command: released(t)})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Layers) != 8 || len(s.Tries) < 20 {
		t.Errorf("%d layers and %d tries", len(s.Layers), len(s.Tries))
	}
	for _, l := range append(s.Layers, s.Tries...) {
		t.Logf("%-32s %t: %s", l.Name, l.InForce, l.Detail)
		if !l.InForce {
			t.Errorf("%s: %s", l.Name, l.Detail)
		}
	}
}
