package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// released starts an evaluator as it is released: without C, which keeps Go from
// confining all of its threads, and without the race detector, which no limit
// of memory leaves alive. It is these tests, built so.
func released(t testing.TB) []string {
	t.Helper()
	path, err := buildReleased()
	if err != nil {
		t.Fatal(err)
	}
	return []string{path, EvaluatorArg}
}

var buildReleased = sync.OnceValues(func() (string, error) {
	if releasedDir == "" {
		dir, err := os.MkdirTemp("", "runbook-evaluator-")
		if err != nil {
			return "", err
		}
		releasedDir = dir
	}
	path := filepath.Join(releasedDir, "evaluator")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	return path, build.Run()
})

// releasedDir is removed when all tests have ended.
var releasedDir string
