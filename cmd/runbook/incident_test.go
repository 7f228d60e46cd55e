//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/internal/integration"
	"runbook/lab/incident"
)

// TestIncident replays the incident with the released program: what the script does to the
// server and the services, and that the same by runbook does none of it.
func TestIncident(t *testing.T) {
	if err := incident.Probe(); err != nil {
		integration.Missing(t, "%v", err)
	}
	l := realLab{dir: t.TempDir()}
	l.binary = filepath.Join(l.dir, "runbook")
	buildRunbook(t, l.binary, nil)

	t.Run("figures", func(t *testing.T) { figures(t, l) })
	t.Run("interrupted early", func(t *testing.T) { interruptedEarly(t, l) })
	for signal, code := range map[syscall.Signal]int{syscall.SIGINT: int(engine.Interrupted), syscall.SIGTERM: int(engine.Interrupted), syscall.SIGKILL: -1} {
		t.Run(signal.String(), func(t *testing.T) { interruptedAtWork(t, l, signal, code) })
	}
}

// replay is the command, with a folder of its own for temporary files.
func (r realLab) replay(t *testing.T, args ...string) (cmd *exec.Cmd, temporary string) {
	t.Helper()
	temporary = t.TempDir()
	cmd = r.command(append([]string{"lab", "incident"}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+temporary, "PGSERVICE=main", "PGUSER=ops") // an operator's own server
	return cmd, temporary
}

func figures(t *testing.T, l realLab) {
	svg := filepath.Join(t.TempDir(), "incident.svg")
	cmd, temporary := l.replay(t, "--format", "json", "--svg", svg)
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	var r incident.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\n%s\n%s\ntook %.1f s", told.String(), r.Chart(), r.Table(), r.Took)
	byScript(t, r)
	byRunbook(t, r.Runbook)
	picture(t, svg)
	empty(t, temporary)
}

// byScript wants the incident to have happened.
func byScript(t *testing.T, r incident.Report) {
	all := func(s incident.Second) int { return s.Backends }
	dead := func(s incident.Second) int { return s.Dead }
	refused := func(s incident.Second) int { return s.Refused }
	a := r.Script
	if n := a.Most(all); n < r.Capacity {
		t.Errorf("the script leaves %d of %d connections: it does not exhaust them", n, r.Capacity)
	}
	if n := a.Most(dead); n < r.Capacity-len(a.Nodes)*r.Pool {
		t.Errorf("of them %d are dead: with %d services of %d connections something else has used them up", n, len(a.Nodes), r.Pool)
	}
	if a.Sum(refused) == 0 {
		t.Error("the script has no connection refused")
	}
	if len(a.Restarts) < 4 {
		t.Errorf("the script restarts %d interfaces", len(a.Restarts))
	}
}

// byRunbook wants nothing of it to have happened.
func byRunbook(t *testing.T, a incident.RunbookAct) {
	for name, c := range map[string]incident.Command{"looping": a.Looping, "again": a.Again} {
		if c.Exit != int(engine.LimitHit) || c.Restarts != 0 || c.Changed {
			t.Errorf("%s: exit code %d, %d restarts, changed: %t; want it to be refused with nothing changed", name, c.Exit, c.Restarts, c.Changed)
		}
	}
	if c := a.Correct; c.Exit != int(engine.OK) || c.Restarts != len(a.Nodes) || !c.Changed {
		t.Errorf("correct: exit code %d, %d restarts, changed: %t; want each of %d nodes to be restarted once", c.Exit, c.Restarts, c.Changed, len(a.Nodes))
	}
	for _, n := range a.Nodes {
		if n.Refused > 0 || n.Stalled > 1 {
			t.Errorf("%s: %d connections refused, %d seconds without service; want none, and one at most", n.Node, n.Refused, n.Stalled)
		}
		if n.Served == 0 || n.Restarts != 1 {
			t.Errorf("%s: %d requests served, %d restarts: it was not put to the test", n.Node, n.Served, n.Restarts)
		}
	}
}

// picture wants the file to be an SVG that can be read.
func picture(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, is := tok.(xml.StartElement); is && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars < 40 {
		t.Errorf("the picture has %d bars", bars)
	}
}

// empty wants a folder to have nothing in it.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("%d files are left, such as %s", len(left), left[0].Name())
	}
}

// interruptedEarly ends the replay while it makes its lab and its server, at one moment after another.
func interruptedEarly(t *testing.T, l realLab) {
	for after := time.Duration(0); after < 1500*time.Millisecond; after += 150 * time.Millisecond {
		if got, _ := interrupted(t, l, "6 nodes", after, os.Interrupt); got != int(engine.Interrupted) {
			t.Errorf("interrupted %s after its first word: exit code %d", after, got)
		}
	}
}

// interruptedAtWork ends the replay while the script runs.
func interruptedAtWork(t *testing.T, l realLab, signal os.Signal, code int) {
	got, processes := interrupted(t, l, "no route yet", 0, signal)
	if got != code || processes < 60 { // with a server and its connections
		t.Errorf("exit code %d, want %d; there were %d processes", got, code, processes)
	}
}

// interrupted ends the replay a time after it has said something, and returns its exit code and how many processes it had.
// No process may be left, and so no namespace; and no file, unless it was killed.
func interrupted(t *testing.T, l realLab, said string, after time.Duration, signal os.Signal) (code, had int) {
	t.Helper()
	picture := filepath.Join(l.dir, "no.svg")
	cmd, temporary := l.replay(t, "--svg", picture)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), said) {
	}
	time.Sleep(after)
	processes := integration.Family(t, cmd.Process.Pid)
	cmd.Process.Signal(signal) //nolint:errcheck // it then goes on, which is seen
	io.Copy(io.Discard, out)   //nolint:errcheck // until its end
	cmd.Wait()                 //nolint:errcheck // the code says it
	integration.AwaitNone(t, processes, 10*time.Second)
	if signal != os.Kill {
		empty(t, temporary)
	}
	if isFile(picture) {
		t.Error("there is a picture of what did not happen")
	}
	return cmd.ProcessState.ExitCode(), len(processes)
}
