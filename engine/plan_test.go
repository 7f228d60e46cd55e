package engine_test

import (
	"encoding/json"
	"testing"
	"unsafe"

	"runbook/engine/resource"
	"runbook/node/sim"
)

// A plan that shares says what it said, and has nothing of its own that the other has too.
func TestPlansShareWhatTheyHaveInCommon(t *testing.T) {
	one, other := newWorld(t), newWorld(t)
	other.node = sim.New(sim.LabNode("node-2", 2))
	first, alike := call(t, "route.add", addRoute), call(t, "route.add", addRoute)
	alike.Name = string([]byte(alike.Name)) // as from another frame
	if err := one.predict(first, call(t, "route.add", addSecond)); err != nil {
		t.Fatal(err)
	}
	if err := other.predict(alike, call(t, "route.delete", `{"dst":"10.98.0.0/16"}`)); err != nil {
		t.Fatal(err)
	}
	said := text(t, other.plan)
	other.plan.Share(one.plan)
	if got := text(t, other.plan); got != said {
		t.Errorf("a plan that shares says\n%s\nand said\n%s", got, said)
	}
	a, b := one.plan.Steps[0], other.plan.Steps[0]
	if unsafe.StringData(a.Op) != unsafe.StringData(b.Op) || &a.Args[0] != &b.Args[0] || &a.Edit.Query[0] != &b.Edit.Query[0] {
		t.Error("the call or its query are there twice")
	}
	keyOf := func(s resource.State) *byte {
		for k := range s {
			if k == routeKey {
				return unsafe.StringData(string(k))
			}
		}
		return nil
	}
	if keyOf(a.Edit.After) == nil || keyOf(a.Edit.After) != keyOf(b.Edit.After) {
		t.Error("the key of the route is there twice")
	}
	if resource.Equal(a.Edit.Before, b.Edit.Before) {
		t.Error("the nodes do not differ, so that this test says little")
	}
	if text(t, one.plan.Steps[1]) == text(t, other.plan.Steps[1]) {
		t.Error("a call of one has become that of the other")
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
