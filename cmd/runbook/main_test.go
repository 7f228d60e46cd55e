package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	testscript.Main(tests{m}, map[string]func(){"runbook": main})
}

// tests is what TestMain runs.
type tests struct{ *testing.M }

// builds is a folder for what is built for several tests.
var builds string

// Run implements [testscript.TestingM].
func (m tests) Run() int {
	if signal.Ignored(syscall.SIGHUP) { // what is started has it from here
		fmt.Fprintln(os.Stderr, "some of these tests end terminals, which has no effect under nohup: run them without")
		return 1
	}
	var err error
	if builds, err = os.MkdirTemp("", "runbook-builds-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(builds)
	return m.M.Run()
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
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Defer(func() { // a script that fails must not leave a lab behind
				if l, err := lab.Open(filepath.Join(e.WorkDir, "state", "runbook", "lab")); err == nil {
					l.Down(context.Background()) //nolint:errcheck // it fails the tests of the lab
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "answers": answers, "newest": newest, "dumps": dumps, "odd": odd, "escape": escape},
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
	cmd := exec.Command(binary(ts), args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), environment(ts)
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

// binary is the runbook of the scripts.
func binary(ts *testscript.TestScript) string {
	for _, d := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(d, "runbook"); isFile(p) {
			return p
		}
	}
	ts.Fatalf("there is no runbook in PATH")
	return ""
}

// environment is what runbook sees of the script's.
func environment(ts *testscript.TestScript) (env []string) {
	for _, k := range []string{"HOME", "XDG_STATE_HOME", "PATH", "NO_COLOR", "TMPDIR", "RUNBOOK_LAB", "RUNBOOK_INVENTORY", "USER", "LOGNAME", "GORACE"} {
		if v := ts.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// newest sets a variable to the id of the newest run: newest NAME
func newest(ts *testscript.TestScript, _ bool, args []string) {
	var out bytes.Buffer // the script goes on to match what the run itself wrote
	cmd := exec.Command(binary(ts), "runs", "--format", "json")
	cmd.Env = environment(ts)
	cmd.Stdout, cmd.Stderr = &out, ts.Stderr()
	ts.Check(cmd.Run())
	var runs []struct{ Run string }
	ts.Check(json.Unmarshal(out.Bytes(), &runs))
	ts.Setenv(args[0], runs[0].Run)
}

// escape sets a variable to what clears the terminal: escape NAME
func escape(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], "\x1b[2J") }

// odd sets a variable to the name of a copy of a file that would clear the terminal: odd NAME FILE
func odd(ts *testscript.TestScript, _ bool, args []string) {
	const name = "odd\x1b[2J.star"
	ts.Check(os.WriteFile(ts.MkAbs(name), []byte(ts.ReadFile(args[1])), 0o600))
	ts.Setenv(args[0], name)
}

// dumps writes all that the kernels of the standing lab's nodes hold to a file,
// but for what counts and ages: dumps FILE
func dumps(ts *testscript.TestScript, _ bool, args []string) {
	l, err := lab.Open(filepath.Join(ts.Getenv("XDG_STATE_HOME"), "runbook", "lab"))
	ts.Check(err)
	text, err := dumpOf(l, func(args ...string) ([]byte, error) {
		cmd := exec.Command(binary(ts), args...)
		cmd.Env = environment(ts)
		return cmd.Output()
	})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// dumpOf is what the kernels of a lab's nodes hold. runbook runs the command.
func dumpOf(l *lab.Lab, runbook func(args ...string) ([]byte, error)) (string, error) {
	var dump strings.Builder
	for _, n := range l.Nodes() {
		out, err := runbook("lab", "exec", n.Name, "--", "sh", "-c", dumpScript)
		if err != nil {
			return "", fmt.Errorf("%s: %w", n.Name, err)
		}
		fmt.Fprintf(&dump, "%s\n%s\n", n.Name, sortedDump(string(out)))
	}
	return dump.String(), nil
}

// dumpScript has a node's shell say all that its kernel holds, once its addresses can be used.
const dumpScript = "until ! ip addr show tentative | grep -q .; do sleep 0.05; done; " +
	"ip -d addr; ip -d route show table all; ip -6 -d route show table all; ip rule; ip -6 rule; ip nexthop; ip neigh show nud permanent"

var ages = regexp.MustCompile(`(expires|valid_lft|preferred_lft) [0-9]+sec`)

// sortedDump is what dumpScript said, in an order of its own and without what ages.
func sortedDump(out string) string {
	lines := strings.Split(ages.ReplaceAllString(out, "$1"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func isFile(p string) bool {
	st, err := os.Stat(p)
	return err == nil && !st.IsDir()
}
