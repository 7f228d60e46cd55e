package script

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/script/lint"
)

func checkText(t *testing.T, text string) []lint.Finding {
	t.Helper()
	found, _, err := Check(context.Background(), Config{Ops: testOps}, engine.Source{Main: "books/main.star", Files: map[string]string{"main.star": text}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var expectedFinding = regexp.MustCompile(`### ([a-z-]+) ("(?:[^"\\]|\\.)*")`)

// complete adds to a chunk the header and the function run that it lacks, at its end.
func complete(chunk string) string {
	if !strings.Contains(chunk, "runbook(") {
		chunk += "\nrunbook(limits = limits())\n"
	}
	if !strings.Contains(chunk, "def run(") {
		chunk += "\ndef run(node, p):\n    pass\n"
	}
	return chunk
}

// TestCheck checks each chunk of testdata/check/rules.star. A line on which
// something is to be found says so, ### rule "regexp"; nothing else may be found.
func TestCheck(t *testing.T) {
	b, err := os.ReadFile("testdata/check/rules.star")
	if err != nil {
		t.Fatal(err)
	}
	line := 0
	shown := map[string]bool{}
	for _, chunk := range strings.Split(string(b), "\n---\n") {
		t.Run(strconv.Itoa(line+1), func(t *testing.T) {
			found := checkText(t, complete(chunk))
			for i, l := range strings.Split(chunk, "\n") {
				for _, m := range expectedFinding.FindAllStringSubmatch(l, -1) {
					text, err := strconv.Unquote(m[2])
					if err != nil {
						t.Fatal(err)
					}
					want := regexp.MustCompile(text)
					n := slices.IndexFunc(found, func(f lint.Finding) bool {
						return f.Line == i+1 && f.Rule == m[1] && want.MatchString(f.Text)
					})
					if n < 0 {
						t.Errorf("line %d: %s %q is not found", i+1, m[1], text)
						continue
					}
					shown[m[1]] = true
					found = slices.Delete(found, n, n+1)
				}
			}
			for _, f := range found {
				if f.Rule != "doc" || f.Line != 1 { // chunks have no docstrings
					t.Errorf("line %d: %s is found: %s", f.Line, f.Rule, f.Text)
				}
			}
		})
		line += strings.Count(chunk, "\n") + 2
	}
	for rule := range lint.Rules {
		if !shown[rule] {
			t.Errorf("nothing shows the rule %s", rule)
		}
	}
}

// What a check calls an error is what a run ends with, on the same line; and
// where a run ends well, it finds none.
func TestCheckAgreesWithRuns(t *testing.T) {
	files, err := filepath.Glob("testdata/*.star")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	failing, foreseen := 0, 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, chunk := range strings.Split(string(b), "\n---\n") {
			if strings.Contains(chunk, "# as is") {
				continue
			}
			text := complete(chunk)
			_, runErr := runText(t, Config{}, text)
			errs := slices.DeleteFunc(checkText(t, text), func(f lint.Finding) bool { return lint.Rules[f.Rule].Level != lint.Error })
			var e *engine.Error
			if runErr == nil {
				if len(errs) > 0 {
					t.Errorf("%s: a run ends well, but a check finds %v in\n%s", file, errs, chunk)
				}
				continue
			}
			failing++
			if len(errs) == 0 || !errors.As(runErr, &e) {
				t.Logf("not found beforehand: %.120v", runErr)
				continue
			}
			foreseen++
			first := slices.MinFunc(errs, func(a, b lint.Finding) int { return cmp.Compare(a.Line, b.Line) })
			at := "books/main.star:" + strconv.Itoa(first.Line) + ":"
			if !strings.HasPrefix(e.Pos, at) {
				t.Errorf("%s: a run fails at %s: %s; a check finds %v in\n%s", file, e.Pos, e.Cause, errs, chunk)
			}
		}
	}
	t.Logf("%d of %d errors of runs are found beforehand", foreseen, failing)
	if foreseen*100 < failing*85 {
		t.Errorf("only %d of %d errors of runs are found beforehand", foreseen, failing)
	}
}

func TestFormat(t *testing.T) {
	src := func(text string) engine.Source {
		return engine.Source{Main: "books/main.star", Files: map[string]string{"main.star": text}}
	}
	got, err := Format(t.Context(), Config{Ops: testOps}, src("runbook( limits=limits(nodes=3) )\ndef run(node,p):\n  # why\n  node.facts( )\n"))
	want := "runbook(limits = limits(nodes = 3))\n\ndef run(node, p):\n    # why\n    node.facts()\n"
	if err != nil || got != want {
		t.Fatalf("got %q, %v", got, err)
	}
	again, err := Format(t.Context(), Config{Ops: testOps}, src(got))
	if err != nil || again != got {
		t.Errorf("formatted again it is %q, %v", again, err)
	}
	var e *engine.Error
	if _, err := Format(t.Context(), Config{Ops: testOps}, src("def run(:\n")); !errors.As(err, &e) || e.Pos != "books/main.star:1:10" {
		t.Errorf("got %v", err)
	}
}
