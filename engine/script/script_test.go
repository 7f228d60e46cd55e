package script

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"runbook/engine"
)

// TestScripts runs each chunk of testdata/*.star, between lines of "---", as a
// runbook of its own. A line that is to fail says so: ### "regexp", for what
// the error says. A chunk gets the header or the function run that it lacks,
// unless it says "# as is".
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.star")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		line := 0
		for _, chunk := range strings.Split(string(b), "\n---\n") {
			t.Run(filepath.Base(file)+":"+strconv.Itoa(line+1), func(t *testing.T) {
				t.Parallel()
				testChunk(t, chunk)
			})
			line += strings.Count(chunk, "\n") + 2
		}
	}
}

var expectation = regexp.MustCompile(`### (".*")`)

func testChunk(t *testing.T, chunk string) {
	wantLine, want := 0, ""
	for i, l := range strings.Split(chunk, "\n") {
		if m := expectation.FindStringSubmatch(l); m != nil {
			wantLine = i + 1
			var err error
			if want, err = strconv.Unquote(m[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !strings.Contains(chunk, "# as is") {
		if !strings.Contains(chunk, "runbook(") {
			chunk += "\nrunbook()\n"
		}
		if !strings.Contains(chunk, "def run(") {
			chunk += "\ndef run(node, p):\n    pass\n"
		}
	}
	_, err := runText(t, Config{}, chunk)
	if want == "" {
		if err != nil {
			t.Errorf("unexpected error: %v", err)
		}
		return
	}
	var e *engine.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want %s", err, want)
	}
	if !strings.HasPrefix(e.Pos, "books/main.star:"+strconv.Itoa(wantLine)+":") {
		t.Errorf("error at %s, want line %d: %v", e.Pos, wantLine, e)
	}
	if ok, err := regexp.MatchString(want, e.Error()); !ok {
		t.Errorf("error %q does not match %q (%v)", e, want, err)
	}
}
