package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/rollout"
	"runbook/engine/script"
	"runbook/node/sim"
	"runbook/tui"
)

// onePlan is a saved plan of two changes on each of two nodes, one of them an event.
func onePlan(t testing.TB) []byte {
	t.Helper()
	book := engine.Source{Main: "book.star", Files: map[string]string{"book.star": `"""Two changes."""
runbook(params = {"via": param.ip("next hop", default = "10.98.0.1")}, limits = limits(changes_per_node = 3, disruptive = 5))
def run(node, p):
    node.route.add(dst = "10.20.0.0/16", via = p.via, dev = "eth1")
    node.link.restart("eth1")
    print(node.name)
`}}
	program, err := script.Start(t.Context(), script.Config{Ops: builtins.Operations}, book)
	if err != nil {
		t.Fatal(err)
	}
	fl := simulated(2)
	s := &session{program: program, source: program.Source(), params: map[string]string{}, fleet: fl}
	s.run = &rollout.Run{
		Program: program, Nodes: fl.nodes, Dialer: fl.dialer, Emit: func(engine.Event) {},
		Model: func(r engine.Reader) engine.Model { return sim.Over(r) },
	}
	defer s.close()
	p, err := s.predict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzPlan reads any bytes as a saved plan: they are one, which can be shown,
// compared and saved again without a loss, or there is an error that names the file.
func FuzzPlan(f *testing.F) {
	whole := onePlan(f)
	f.Add(whole)
	for _, change := range [][2]string{
		{`"before":`, `"befor":`}, {`"route":[`, `"route":[{},null,`}, {`"node-2"`, `"node-1"`}, {`"version":1`, `"version":2`}, {`"changes":`, `"after":`},
		{`"main":"book.star"`, `"main":"../\u001b[2J\nbook.star"`}, {`"planned":[`, `"error":{"code":9,"cause":"\u001b[2J"},"planned":[`}, {`"args":{`, `"args":[`},
		{`"prints":[`, `"prints":["\u001b]0;x\u0007",`}, {`"edit":{`, `"refused":{},"edit":{`}, {`"edit":{`, `"edit":null,"x":{`},
	} {
		if text := strings.ReplaceAll(string(whole), change[0], change[1]); text != string(whole) {
			f.Add([]byte(text))
		} else {
			f.Errorf("the plan has no %s", change[0])
		}
	}
	for _, text := range []string{``, `null`, `[]`, `{}`, `{"version":1,"source":{"files":{"a":""}},"nodes":[null]}`, `{"version":1,"source":{"files":{"a":""}},"nodes":[{"node":"a"},{"node":"a"}]}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlan("x.plan", b)
		if err != nil {
			var e *engine.Error
			if !errors.As(err, &e) || e.Code != engine.Invalid || !strings.HasPrefix(e.Cause, "x.plan ") {
				t.Fatalf("an error that does not name the file: %v", err)
			}
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("it is read and cannot be saved: %v", err)
		}
		now, err := parsePlan("x.plan", again)
		if err != nil {
			t.Fatalf("it cannot be read again: %v", err)
		}
		hold(p, now, func(*engine.NodePlan) {})
		for i, np := range now.Nodes {
			if np.Err != nil && p.Nodes[i].Err == nil {
				t.Fatalf("saved and read again it differs: %v\n%s\n%s", np.Err, b, again)
			}
		}
		for _, format := range []string{"text", "markdown", "json"} {
			var shown bytes.Buffer
			if err := tui.Plan(&shown, p, format, tui.Style{}); err != nil {
				t.Fatal(err)
			}
			if bytes.ContainsAny(shown.Bytes(), "\x1b\a\b\r") {
				t.Fatalf("%s: it reaches for the terminal: %q", format, shown.Bytes())
			}
		}
	})
}

// Whoever lays a plan out anew, or takes a node out, has changed nothing of the rest.
func TestPlanThatWasLaidOutAnew(t *testing.T) {
	saved := onePlan(t)
	was, err := parsePlan("x.plan", saved)
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, saved, "", "  "); err != nil {
		t.Fatal(err)
	}
	now, err := parsePlan("x.plan", pretty.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	now.Nodes = now.Nodes[1:]
	hold(was, now, func(*engine.NodePlan) {})
	if e := now.Nodes[0].Err; e != nil || len(now.Nodes[0].Steps) != 2 {
		t.Errorf("%v, %d calls", e, len(now.Nodes[0].Steps))
	}
}

// What -o names is a plan's, or new: a runbook is not overwritten, a link's
// target is, and a device or a pipe stays one.
func TestWherePlansAreWritten(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"book.star": "runbook()\n", "short": "x", "old.plan": `{"version":0}`, "empty": ""} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := isForPlans(at(name)); (err == nil) != (name == "old.plan" || name == "empty") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"", at("new"), dir, "/dev/null"} {
		if err := isForPlans(path); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	if err := os.Symlink("old.plan", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(at("link"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(at("old.plan")); err != nil || string(b) != "new" {
		t.Errorf("through a link: %q, %v", b, err)
	}
	fifo := at("fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := isForPlans(fifo); err != nil {
		t.Error(err)
	}
	read := make(chan string)
	go func() {
		b, _ := os.ReadFile(fifo)
		read <- string(b)
	}()
	if err := writeWhole(fifo, []byte("piped")); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "piped" {
		t.Errorf("through a pipe: %q", got)
	}
	if info, err := os.Stat(fifo); err != nil || info.Mode().IsRegular() {
		t.Errorf("the pipe is a file now: %v", err)
	}
	if err := writeWhole(dir, nil); err == nil {
		t.Error("a folder is written")
	}
}

// What is no file is refused before it is read: a device has no end.
func TestLoadPlanOfNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo, large := filepath.Join(dir, "fifo"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(large)
	if err == nil {
		err = f.Truncate(maxPlan + 1) // takes no room
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for path, want := range map[string]string{
		"/dev/zero": "/dev/zero is not a file", fifo: "is not a file", dir: "is not a file", large: "a plan may have",
		filepath.Join(dir, "none"): "no such file", "/dev/null": "is not a file",
	} {
		_, err := loadPlan(path)
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.Invalid || !strings.Contains(e.Error(), want) || !strings.Contains(e.Error(), "cannot read the plan") {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}
