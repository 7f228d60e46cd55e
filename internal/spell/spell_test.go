package spell

import (
	"strings"
	"testing"
)

func TestNear(t *testing.T) {
	names := []string{"dst", "via", "dev", "web-1", "web-2", "changes_per_node"}
	for name, want := range map[string]string{
		"dts": "dst", "DST": "dst", "web-3": "web-1 web-2", "changespernode": "changes_per_node", "web-6": "web-1 web-2",
		"chnages_per_nod": "changes_per_node", "zzz": "", "": "", strings.Repeat("x", 100): "",
	} {
		if got := strings.Join(Near(name, names, 2), " "); got != want {
			t.Errorf("Near(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestQuestion(t *testing.T) {
	for want, names := range map[string][]string{
		"": nil, "did you mean a?": {"a"}, "did you mean a, b or c?": {"a", "b", "c"},
	} {
		if got := Question(names); got != want {
			t.Errorf("Question(%v) = %q, want %q", names, got, want)
		}
	}
}
