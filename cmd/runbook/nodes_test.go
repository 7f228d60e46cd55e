package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/internal/integration"
	"runbook/lab"
)

// site is a lab as an operator sees other people's machines: by an inventory
// file, over TCP, with known_hosts of one's own.
type site struct {
	*testing.T
	lab *lab.Lab
	dir string
}

func newSite(t *testing.T, nodes int) *site {
	integration.Need(t, "root", "sshd", "nsenter")
	t.Parallel()
	l, err := lab.Up(t.Context(), lab.Options{Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Down(context.Background()) }) //nolint:errcheck // it ends with this process
	return &site{t, l, t.TempDir()}
}

// inventory writes an inventory of the site's nodes with these ssh settings and become.
func (s *site) inventory(user, knownHosts, become string) {
	s.Helper()
	text := fmt.Sprintf("defaults:\n  ssh: {user: %s, identity: %q, known_hosts: %q, config: none}\n  become: %s\nnodes:\n", user, s.lab.KeyFile(), knownHosts, become)
	for _, n := range s.lab.Nodes() {
		text += fmt.Sprintf("  %s: {host: %s}\n", n.Name, strings.TrimSuffix(n.Addr, ":22"))
	}
	if err := os.WriteFile(filepath.Join(s.dir, "inventory.yaml"), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// command is runbook where the site's network is.
func (s *site) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	exe := filepath.Join(s.dir, "runbook") // by this name the test binary is runbook
	if _, err := os.Lstat(exe); err != nil {
		if err := os.Symlink(self, exe); err != nil {
			s.Fatal(err)
		}
	}
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(s.lab.HolderPID()), "-n", "--", exe}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(s.dir, "state"), "HOME="+s.dir, "NO_COLOR=1")
	return cmd
}

// runbook runs a command line and wants its exit code and all of these in what it prints.
func (s *site) runbook(exit int, args []string, wants ...string) {
	s.Helper()
	out, err := s.command(args...).CombinedOutput()
	code := 0
	if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // CombinedOutput returns it as it is
		code = e.ExitCode()
	} else if err != nil {
		s.Fatal(err)
	}
	if code != exit {
		s.Errorf("runbook %s: exit %d, want %d\n%s", strings.Join(args, " "), code, exit, out)
	}
	for _, w := range wants {
		if !strings.Contains(string(out), w) {
			s.Errorf("runbook %s: no %q in\n%s", strings.Join(args, " "), w, out)
		}
	}
}

// exec runs argv in a node and returns what it prints.
func (s *site) exec(node string, argv ...string) string {
	s.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	_, err = s.lab.Exec(s.Context(), node, argv, nil, w, w)
	w.Close()
	out := make([]byte, 1<<16)
	n, _ := r.Read(out)
	r.Close()
	if err != nil {
		s.Fatal(err)
	}
	return string(out[:n])
}

func addRouteArgs(verb string, more ...string) []string {
	runbooks, _ := filepath.Abs("../../runbooks")
	return append([]string{verb, filepath.Join(runbooks, "add_route.star"), "dst=10.20.0.0/16", "via=10.98.0.1"}, more...)
}

func TestInventoryOverSSH(t *testing.T) {
	s := newSite(t, 2)
	good, err := os.ReadFile(s.lab.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a server through a node that is not selected", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		s.inventory("root", s.lab.KnownHosts(), "none")
		check, _ := filepath.Abs("../../runbooks/check_pg.star")
		args := []string{"plan", check, "-n", "node-1", "server=host=127.0.0.1 port=1 user=a dbname=b"}
		s.runbook(4, append(args, "via=node-2"), "cannot connect from node-2 to 127.0.0.1:1: Connection refused")
		s.runbook(1, append(args, "via=node-3"), "the inventory has no node node-3", "did you mean node-1 or node-2?")
	})
	t.Run("unknown host key", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		empty := filepath.Join(s.dir, "empty")
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.inventory("root", empty, "none")
		s.runbook(6, addRouteArgs("run", "-n", "all", "--yes"), "host key", "nothing changed", "hint: ")
	})
	t.Run("changed host key", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		// Each node has the other's key.
		text := strings.NewReplacer("10.99.0.2", "10.99.0.3", "10.99.0.3", "10.99.0.2").Replace(string(good))
		swapped := filepath.Join(s.dir, "swapped")
		if err := os.WriteFile(swapped, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.inventory("root", swapped, "none")
		s.runbook(6, addRouteArgs("run", "-n", "all", "--yes"), "changed", "nothing changed", swapped+":")
	})
	t.Run("without rights", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		s.inventory(lab.Operator, s.lab.KnownHosts(), "none")
		s.runbook(5, addRouteArgs("run", "-n", "node-1", "--yes"), "kernel: operation not permitted", "nothing changed")
	})
	for _, n := range s.lab.Nodes() {
		if got := s.exec(n.Name, "ip", "route", "show", "10.20.0.0/16"); got != "" {
			t.Errorf("%s was changed: %s", n.Name, got)
		}
	}
	t.Run("sudo", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		s.inventory(lab.Operator, s.lab.KnownHosts(), "sudo")
		s.runbook(0, addRouteArgs("run", "-n", "all", "--yes"), "2 done")
		if got := s.exec("node-2", "ip", "route", "show", "10.20.0.0/16"); !strings.Contains(got, "via 10.98.0.1 dev eth1") {
			t.Errorf("node-2 has %q", got)
		}
		if got := s.exec("node-2", "find", "/var/lib/runbook", "-name", "agent-*", "-printf", "%u %m\\n"); got != "root 755\n" {
			t.Errorf("the agent that runs as root is not root's alone: %q", got)
		}
	})
	t.Run("an unreachable node", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		s.inventory("root", s.lab.KnownHosts(), "none")
		inv := filepath.Join(s.dir, "inventory.yaml")
		text, _ := os.ReadFile(inv)
		if err := os.WriteFile(inv, append(text, "  node-9: {host: 127.0.0.1, ssh: {port: 1}}\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		s.runbook(6, []string{"run", addRouteArgs("")[1], "dst=10.30.0.0/16", "via=10.98.0.1", "-n", "all", "--yes"}, "node-9", "127.0.0.1:1", "nothing changed on any node")
		if got := s.exec("node-1", "ip", "route", "show", "10.30.0.0/16"); got != "" {
			t.Errorf("node-1 was changed: %s", got)
		}
		s.runbook(6, []string{"nodes"}, "node-1", "kernel", "127.0.0.1:1")
	})
}

// readdress has the inventory and the known_hosts file of the site name other
// addresses: old, new, ….
func (s *site) readdress(oldnew ...string) {
	s.Helper()
	keys, err := os.ReadFile(s.lab.KnownHosts())
	if err != nil {
		s.Fatal(err)
	}
	known := filepath.Join(s.dir, "known_hosts")
	more := append(keys, strings.NewReplacer(oldnew...).Replace(string(keys))...)
	if err := os.WriteFile(known, more, 0o600); err != nil {
		s.Fatal(err)
	}
	s.inventory("root", known, "none")
	inv := filepath.Join(s.dir, "inventory.yaml")
	text, err := os.ReadFile(inv)
	if err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(inv, []byte(strings.NewReplacer(oldnew...).Replace(string(text))), 0o600); err != nil {
		s.Fatal(err)
	}
}

// An undo finds a machine under its name in the inventory of today, at whatever
// address, and leaves another one alone that has the name by now.
func TestUndoByTheInventoryOfToday(t *testing.T) {
	s := newSite(t, 3)
	s.inventory("root", s.lab.KnownHosts(), "none")
	s.runbook(0, addRouteArgs("run", "-n", "node-1, node-2", "--yes"), "2 done")
	s.exec("node-3", "ip", "route", "add", "10.20.0.0/16", "via", "10.98.0.1", "dev", "eth1")
	out, err := s.command("runs", "--format", "json").Output()
	var runs []engine.RunRecord
	if err := errors.Join(err, json.Unmarshal(out, &runs)); err != nil {
		t.Fatal(err)
	}
	run := runs[0].ID
	has := func(node string) bool {
		return strings.Contains(s.exec(node, "ip", "route", "show", "10.20.0.0/16"), "via")
	}

	inv := filepath.Join(s.dir, "inventory.yaml")
	without := filepath.Join(s.dir, "without.yaml")
	text, err := os.ReadFile(inv)
	if err == nil {
		err = os.WriteFile(without, []byte(strings.Replace(string(text), "node-1:", "web-1:", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.runbook(1, []string{"undo", "--yes", "-i", without, run}, "has no node node-1 any more")

	s.readdress("10.99.0.2", "10.99.0.4") // node-1 is node-3's machine now
	s.runbook(5, []string{"undo", "--yes", run}, "node-1: this is another machine than the one that run "+run+" changed", "node-2: put back route.add 10.20.0.0/16: done")
	if !has("node-1") || has("node-2") || !has("node-3") {
		t.Errorf("there are routes on node-1 %t, node-2 %t, node-3 %t", has("node-1"), has("node-2"), has("node-3"))
	}

	s.readdress("10.99.0.2", "10.98.0.2") // another address of the same machine
	s.runbook(0, []string{"undo", "--yes", run}, "1 done, 1 unchanged")
	if has("node-1") || !has("node-3") {
		t.Errorf("there are routes on node-1 %t, node-3 %t", has("node-1"), has("node-3"))
	}
	s.runbook(1, []string{"undo", "--yes", run}, "taken back already")
}

// A killed controller leaves no process on a node, whenever it is killed.
func TestKilledControllerLeavesNothing(t *testing.T) {
	s := newSite(t, 2)
	s.inventory("root", s.lab.KnownHosts(), "none")
	s.runbook(0, []string{"nodes"}) // the agent is there from now on
	alive := 0
	const last = 1000
	for _, after := range []time.Duration{10, 30, 60, 100, 150, 250, last} {
		cmd := s.command(addRouteArgs("run", "-n", "all")...) // it waits for an answer
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		for wait := 0; after == last && s.agents() == "" && wait < 100; wait++ { // a slow machine
			time.Sleep(100 * time.Millisecond)
		}
		if s.agents() != "" {
			alive++
		}
		cmd.Process.Signal(syscall.SIGKILL) //nolint:errcheck // what it leaves is looked at below
		cmd.Wait()                          //nolint:errcheck // it was killed
		in.Close()
		deadline := time.Now().Add(10 * time.Second)
		for s.agents() != "" {
			if time.Now().After(deadline) {
				t.Fatalf("killed after %d ms, and 10 s later there is still %s", after, s.agents())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if alive == 0 {
		t.Error("no agent was ever seen: the test shows nothing")
	}
}

// agents lists the agents that run on the site's nodes.
func (s *site) agents() string {
	var out string
	for _, n := range s.lab.Nodes() {
		out += s.exec(n.Name, "find", "/proc", "-maxdepth", "2", "-name", "exe", "-lname", "*/agent-*")
	}
	return out
}
