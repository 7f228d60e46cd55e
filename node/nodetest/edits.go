package nodetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// editCase is one edit of resources of any kind, on top of others.
type editCase struct {
	name    string
	start   *Start           // nil: Usual
	given   []resource.State // what was made before, one after the other
	want    resource.State
	restart string         // the link that is restarted
	then    resource.State // what differs from before, afterwards; nil: what is wanted and no more
	errno   string         // the kernel refuses
	// cutsLoopback says that the node cannot reach itself meanwhile.
	cutsLoopback bool
	words        string
	noUndo       bool // what it does cannot be put back exactly: say why in the case's name
}

// ofLoopback reports whether c changes the loopback link or its addresses.
func (c editCase) ofLoopback() bool {
	for k := range c.want {
		if k == resource.LinkKey("lo") || strings.HasPrefix(string(k), "addr lo ") {
			return true
		}
	}
	return false
}

// testEdit predicts c, applies it, takes it back, and compares all along.
func testEdit(t *testing.T, f Factory, c editCase) {
	start := Usual
	if c.start != nil {
		start = *c.start
	}
	n := open(t, f, start)
	for _, g := range c.given {
		e := engine.Edit{Want: g, Settle: engine.Duration(engine.DefaultSettle)}
		if err := sim.Over(n).Predict(t.Context(), &e); err != nil { // what is not modelled can be there all the same
			e = engine.Edit{Want: g}
		}
		apply(t, n, e)
	}
	before := read(t, n, Everything)
	m := sim.Over(n)
	e := engine.Edit{Want: c.want, Restart: c.restart, Settle: engine.Duration(engine.DefaultSettle)}
	err := m.Predict(t.Context(), &e)
	if c.errno != "" {
		refused(t, "predicted", err, c.errno, c.words)
		_, err := n.Apply(t.Context(), e)
		refused(t, "applied", err, c.errno, c.words)
		same(t, "the node after a refusal", before, read(t, n, Everything))
		return
	}
	if err != nil {
		t.Fatalf("predict: %v", err)
	}
	found, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	same(t, "from the prediction to the node", e.After, found)
	foreseen, err := m.Read(t.Context(), Everything)
	if err != nil {
		t.Fatal(err)
	}
	after := settled(t, n, foreseen)
	same(t, "from the model to the node", foreseen, after)
	then := c.then
	if then == nil {
		then = c.want
	}
	expected := before.Clone()
	for k, r := range then {
		expected[k] = r
	}
	same(t, "from the case to the node", expected, after)
	if c.noUndo {
		return
	}
	if _, err := n.Apply(t.Context(), e.Reverse()); err != nil {
		t.Fatalf("take back: %v", err)
	}
	same(t, "the node after taking back", before, settled(t, n, before))
}

// settled reads everything until it is as expected, or does not become so.
func settled(t *testing.T, n engine.Reader, expected resource.State) resource.State {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s := read(t, n, Everything)
		if len(resource.Compare(expected, s)) == 0 || time.Now().After(end) {
			return s
		}
	}
}

// unpredictableEdit wants the model to admit that it cannot foresee e.
func unpredictableEdit(t *testing.T, n engine.Reader, e engine.Edit) {
	t.Helper()
	if err := sim.Over(n).Predict(t.Context(), &e); !errors.Is(err, engine.ErrUnpredictable) {
		t.Errorf("got %v, want that it cannot be predicted", err)
	}
}
