// Package arch holds the test that keeps imports pointing down.
package arch

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// may says which packages of runbook each package may import, beside
// engine/resource, which everybody may. A name stands for the package and all
// below it. It is the table of docs/ARCHITECTURE.md; test files are exempt.
var may = map[string][]string{
	"engine/resource":    {},
	"engine":             {},
	"engine/script":      {"engine", "engine/script", "internal/printable", "internal/spell"},
	"engine/script/lint": {},
	"engine/rollout":     {"engine"},
	"engine/journal":     {"engine"},
	"engine/forecast":    {"engine"},
	"builtins":           {"engine"},
	"node":               {"engine", "node"},
	"node/nodetest":      {"engine", "node", "internal"},
	"inventory":          {"engine", "inventory/python", "internal/spell", "internal/yamlfile"},
	"inventory/python":   {},
	"rehearse":           {"engine", "engine/script", "engine/rollout", "node/sim", "tui"},
	"policy":             {"engine", "internal/spell", "internal/yamlfile"},
	"internal/yamlfile":  {"engine", "internal/spell"},
	"lab":                {"engine", "node"},
	"lab/incident":       {"engine", "lab"},
	"tui":                {"engine", "engine/rollout", "engine/script/lint", "internal/printable"},
	"runbooks":           {},
	"internal":           {"engine", "node"}, // helpers of tests
	"internal/reference": {"engine", "engine/script", "builtins", "rehearse"},
	"cmd/runbook":        {"engine", "engine/forecast", "engine/script", "engine/rollout", "engine/journal", "builtins", "node", "inventory", "policy", "rehearse", "lab", "tui", "runbooks", "internal/reference", "internal/spell"},
	"cmd/runbook-agent":  {"node/agent"},
	"bench":              {"engine", "engine/script", "engine/rollout", "builtins", "node/sim", "lab"},
}

// exact names the packages that stand for themselves alone in a list above.
var exact = map[string]bool{"engine": true}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "runbook/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(p.ImportPath, "runbook/")
		allowed, ok := rule(name)
		if !ok {
			t.Errorf("%s is not in the table of imports: enter it here and in docs/ARCHITECTURE.md", name)
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, "runbook/")
			if ours && to != "engine/resource" && !within(to, allowed) {
				t.Errorf("%s imports %s: it may import engine/resource and %v", name, to, allowed)
			}
		}
	}
	if seen < 7 {
		t.Fatalf("only %d packages seen", seen)
	}
}

// rule returns the longest entry of the table that name falls under.
func rule(name string) ([]string, bool) {
	for n := name; ; {
		if allowed, ok := may[n]; ok {
			return allowed, true
		}
		i := strings.LastIndex(n, "/")
		if i < 0 {
			return nil, false
		}
		n = n[:i]
	}
}

func within(name string, allowed []string) bool {
	for _, a := range allowed {
		if name == a || !exact[a] && strings.HasPrefix(name, a+"/") {
			return true
		}
	}
	return false
}
