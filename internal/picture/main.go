// Command picture takes the picture of README: it starts runbook in a terminal of its own
// (tmux), on throw-away nodes, answers its first questions, and writes what the terminal then shows as SVG.
//
//	go run ./internal/picture bin/runbook > docs/screen.svg
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The terminal.
const (
	columns = 110
	rows    = 30
)

// book is what the picture shows.
const book = `"""Add a host route; restart the interface."""

runbook(
    limits = limits(nodes = 20, changes = 20, changes_per_node = 2, repeats = 1),
    rollout = rollout(waves = ["1", "50%", "100%"], bake = "2s", gate_every = "1s", max_failures = 1),
)

def run(node, p):
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.9" if node.name == "node-4" else "10.98.0.1", dev = "eth1")
    node.link.restart("eth1")

def gate(fleet, p):
    up = [n for n in fleet.nodes if n.link.get("eth1").carrier]
    observe("nodes with a carrier", len(up))
    observe("routes", sum([len(n.route.list()) for n in fleet.nodes]))
    expect(len(up) == len(fleet.nodes), "only %d nodes have a carrier" % len(up))

def sum(numbers):
    n = 0
    for i in numbers:
        n += i
    return n
`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: picture RUNBOOK > SVG")
		os.Exit(2)
	}
	screen, err := take(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(svg(screen))
}

// take returns the lines of the terminal when runbook asks about its third node, with their colours.
func take(runbook string) (string, error) {
	runbook, err := filepath.Abs(runbook)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "picture")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is in the temporary folder
	if err := os.WriteFile(filepath.Join(dir, "add_route.star"), []byte(book), 0o600); err != nil {
		return "", err
	}
	t := tmux(filepath.Join(dir, "tmux"))
	if _, err := t.do("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(rows), "-c", dir,
		"env", "HOME="+dir, "XDG_STATE_HOME="+dir, "TERM=screen-256color", runbook, "run", "add_route.star", "--lab", "6"); err != nil {
		return "", err
	}
	defer t.do("kill-server") //nolint:errcheck // it ends with its session
	for _, answer := range []string{"y", "y", ""} {
		if err := t.wait("WAITING FOR YOU"); err != nil {
			return "", err
		}
		time.Sleep(2 * time.Second) // a key counts only once the question was to be seen
		if answer == "" {
			break
		}
		if _, err := t.do("send-keys", answer); err != nil {
			return "", err
		}
		time.Sleep(time.Second)
	}
	return t.do("capture-pane", "-e", "-p")
}

// tmux is a server of its own, by its socket.
type tmux string

func (t tmux) do(args ...string) (string, error) {
	out, err := exec.Command("tmux", append([]string{"-S", string(t)}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tmux %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

// wait waits until the terminal shows text.
func (t tmux) wait(text string) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		shown, err := t.do("capture-pane", "-p")
		if err != nil {
			return err
		}
		if strings.Contains(shown, text) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the terminal does not show %q:\n%s", text, shown)
		}
	}
}
