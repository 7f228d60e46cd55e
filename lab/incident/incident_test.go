package incident

import (
	"os"
	"testing"

	"runbook/lab"
)

func TestMain(m *testing.M) {
	if lab.IsChild() {
		lab.ChildMain()
	}
	os.Exit(m.Run())
}

func TestTry(t *testing.T) {
	r, err := Replay(t.Context(), Config{Program: "/work/wt/inc11/main/bin/runbook", Out: os.Stdout})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.Took)
	for _, s := range r.Script.Seconds {
		t.Log(s)
	}
	for _, n := range r.Script.Nodes {
		t.Log(n)
	}
	for _, s := range r.Runbook.Seconds {
		t.Log(s)
	}
	for _, n := range r.Runbook.Nodes {
		t.Log(n)
	}
	t.Log(r.Runbook.Looping.Changed, r.Runbook.Correct.Changed, r.Runbook.Again.Changed)
}
