package incident

import (
	"encoding/json"
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
	b, _ := json.MarshalIndent(r, "", " ")
	os.WriteFile("/work/wt/inc11/try/report.json", b, 0o600)
	t.Log(r.Took)
}
func TestDraw(t *testing.T) {
	r := &Report{}
	b, _ := os.ReadFile("/work/wt/inc11/try/report.json")
	json.Unmarshal(b, r)
	t.Log("\n" + r.Chart() + "\n" + r.Table())
	os.WriteFile("/work/wt/inc11/try/x.svg", []byte(r.SVG()), 0o644)
}
