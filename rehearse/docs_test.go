package rehearse

import (
	"os"
	"regexp"
	"testing"
)

// The runbook of the documentation and its tests are what they say they are.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```python\n(\"\"\".*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("it has %d whole files, want the runbook and its tests", len(blocks))
	}
	dir := files(t, map[string]string{"route.star": blocks[0][1], "route_test.star": blocks[1][1]})
	told, _ := rehearsed(t, dir, config())
	wants(t, dir, told, map[string]string{"test_ends_what_hangs_and_adds_the_route": "", "test_waits_for_the_standbys": "", "test_a_full_server": ""})
}
