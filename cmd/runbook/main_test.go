package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"runbook/engine/script"
	"runbook/internal/integration"
	"runbook/lab"
)

func TestMain(m *testing.M) {
	// The real binary starts itself again as these; so must this one.
	if lab.IsChild() || script.IsEvaluator() || isAgent() {
		main()
	}
	testscript.Main(m, map[string]func(){"runbook": main})
}

// TestScripts runs the real binary by the scripts of testdata/script, each in
// an empty home. The scripts of testdata/lab need a lab.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// TestLab is TestScripts on real nodes.
func TestLab(t *testing.T) {
	integration.Need(t, "root", "sshd", "ip")
	runScripts(t, "testdata/lab")
}

func runScripts(t *testing.T, dir string) {
	runbooks, err := filepath.Abs("../../runbooks")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("RUNBOOKS", runbooks)
			e.Setenv("NO_COLOR", "1")
			e.Defer(func() { // a script that fails must not leave a lab behind
				if l, err := lab.Open(filepath.Join(e.WorkDir, "state", "runbook", "lab")); err == nil {
					l.Down(context.Background()) //nolint:errcheck // it fails the tests of the lab
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "answers": answers},
	})
}

// answers makes a file the standard input of the next exits: answers FILE
func answers(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("ANSWERS", ts.MkAbs(args[0]))
}

// exits runs runbook and wants an exit code: exits CODE ARG…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	var exe string
	for _, d := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(d, "runbook"); exe == "" && isFile(p) {
			exe = p
		}
	}
	cmd := exec.Command(exe, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, k := range []string{"HOME", "XDG_STATE_HOME", "PATH", "NO_COLOR", "TMPDIR", "RUNBOOK_LAB", "RUNBOOK_INVENTORY"} {
		if v := ts.Getenv(k); v != "" {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	if a := ts.Getenv("ANSWERS"); a != "" {
		f, err := os.Open(a)
		ts.Check(err)
		defer f.Close()
		cmd.Stdin = f
		ts.Setenv("ANSWERS", "")
	}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	err := cmd.Run()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		ts.Fatalf("%v", err)
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit %s, want %s", got, args[0])
	}
}

func isFile(p string) bool {
	st, err := os.Stat(p)
	return err == nil && !st.IsDir()
}
