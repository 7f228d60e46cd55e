//go:build linux

package main

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"runbook/engine"
	"runbook/internal/integration"
	"runbook/policy"
)

// machine is a folder that is /etc for the commands that are run on it, in
// mounts of their own: the real one is not touched.
type machine struct {
	dir    string // holds etc, and is where the commands are run
	binary string
	uid    uint32
}

func newMachine(t *testing.T) machine {
	t.Helper()
	integration.Need(t, "root", "mount", "sh")
	t.Parallel()
	m := machine{dir: t.TempDir()}
	for d := m.dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755) //nolint:errcheck // another user must reach it
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	m.binary = filepath.Join(m.dir, "runbook") // by its name it is the command, see TestMain
	m.write(t, "runbook", string(text))
	if err := os.Chmod(m.binary, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache"} {
		if text, err := os.ReadFile(filepath.Join("/etc", name)); err == nil {
			m.write(t, "etc/"+name, string(text))
		}
	}
	return m
}

func (m machine) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// runbook runs the command on the machine, in an environment of nothing but env.
func (m machine) runbook(t *testing.T, env []string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	const script = `mount --bind "$0/etc" /etc && cd "$0" && exec "$@"`
	line := append([]string{"-c", script, m.dir}, m.asUser()...)
	c := exec.Command("sh", append(append(line, m.binary), args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "RUNBOOK_LAB=sim", "NO_COLOR=1", "XDG_STATE_HOME=" + filepath.Join(m.dir, "state")}, env...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		integration.Missing(t, "this test needs mounts of its own: %v", err)
	}
	if strings.Contains(errs.String(), "mount:") {
		integration.Missing(t, "this test needs mounts of its own: %s", errs.String())
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// asUser is what runs a command as somebody else than root, where that is wanted.
func (m machine) asUser() []string {
	if m.uid == 0 {
		return nil
	}
	id := strconv.Itoa(int(m.uid))
	return []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups"}
}

const (
	systemFile = `/etc/runbook/policy\.yaml`
	threeNodes = "runbook(limits = limits(nodes = 1000))\n\ndef run(node, p):\n    node.route.add(dst = \"10.20.0.0/16\", via = \"10.98.0.1\")\n"
)

// Nothing that a command line, an environment, an inventory, a runbook or a plan can say leaves the machine's policy out.
func TestSystemPolicyCannotBeLeftOut(t *testing.T) {
	m := newMachine(t)
	m.write(t, "book.star", threeNodes)
	for _, beside := range []string{"policy.yaml", "many.yaml", "home/.config/runbook/policy.yaml", "home/policy.yaml", "config/runbook/policy.yaml", "etc2/runbook/policy.yaml"} {
		m.write(t, beside, "limits: {nodes: 1000}\n")
	}
	m.before(t)
	m.write(t, "etc/runbook/policy.yaml", "limits: {nodes: 2}\n")
	run := func(args ...string) []string { return append([]string{"run", "--yes", "book.star"}, args...) }
	for _, tt := range []struct {
		what string
		env  []string
		args []string
	}{
		{"nothing is tried", nil, run("--lab", "3")},
		{"a plan", nil, []string{"plan", "--lab", "3", "book.star"}},
		{"a flag for another", nil, run("--lab", "3", "--policy", "many.yaml")},
		{"a flag for the same", nil, run("--lab", "3", "--policy", "/etc/runbook/policy.yaml", "--policy", "many.yaml")},
		{"a limit", nil, run("--lab", "3", "--limit", "nodes=1000")},
		{"a plan that was saved before", nil, []string{"apply", "--yes", "-i", "inventory.yaml", "saved.plan"}},
		{"unattended", nil, []string{"run", "--unattended", "--lab", "3", "--policy", "many.yaml", "book.star"}},
		{"an inventory with a policy beside it", nil, run("-i", "inventory.yaml", "-n", "all")},
		{"an inventory that the environment names", []string{"RUNBOOK_INVENTORY=inventory.yaml"}, run("-n", "all")},
		{"a home", []string{"HOME=" + m.dir + "/home"}, run("--lab", "3")},
		{"no home", []string{"HOME="}, run("--lab", "3")},
		{"folders of XDG", []string{"XDG_CONFIG_HOME=" + m.dir + "/config", "XDG_CONFIG_DIRS=" + m.dir + "/config", "XDG_DATA_HOME=" + m.dir}, run("--lab", "3")},
		{"an environment that says so", []string{"RUNBOOK_POLICY=many.yaml", "RUNBOOK_POLICIES=", "RUNBOOK_NO_POLICY=1", "RUNBOOK_ETC=" + m.dir + "/etc2", "POLICY=many.yaml", "SYSCONFDIR=" + m.dir + "/etc2"}, run("--lab", "3")},
	} {
		exit, stdout, stderr := m.runbook(t, tt.env, tt.args...)
		want := regexp.MustCompile(`3 nodes are selected, but limit nodes = 2 \(policy ` + systemFile + `:1:10\)`)
		if exit != 3 || !want.MatchString(stderr+stdout) {
			t.Errorf("%s: exit %d\n%s%s", tt.what, exit, stdout, stderr)
		}
	}
	for _, tt := range []struct {
		what string
		args []string
	}{
		{"a lower one beside it", run("--lab", "2")},
		{"what it shows of itself", []string{"policy"}},
	} {
		if exit, stdout, stderr := m.runbook(t, nil, tt.args...); exit != 0 {
			t.Errorf("%s: exit %d\n%s%s", tt.what, exit, stdout, stderr)
		}
	}
}

// before plans and runs while the machine has no policy, and returns the run's id.
func (m machine) before(t *testing.T) string {
	t.Helper()
	m.write(t, "inventory.yaml", "nodes:\n  node-1: {host: 127.0.0.1}\n  node-2: {host: 127.0.0.1}\n  node-3: {host: 127.0.0.1}\n")
	saved := engine.Plan{
		Version: engine.PlanVersion, Source: engine.Source{Main: "book.star", Files: map[string]string{"book.star": threeNodes}},
		Inventory: "inventory.yaml", Selection: "all",
	}
	for _, n := range []string{"node-1", "node-2", "node-3"} {
		saved.Nodes = append(saved.Nodes, &engine.NodePlan{Node: n})
	}
	if err := savePlan(filepath.Join(m.dir, "saved.plan"), &saved); err != nil {
		t.Fatal(err)
	}
	exit, stdout, stderr := m.runbook(t, nil, "run", "--lab", "3", "--yes", "book.star")
	run := regexp.MustCompile(`(?m)^(\S+): 3 done$`).FindStringSubmatch(stdout)
	if exit != 0 || run == nil {
		t.Fatalf("without a policy: exit %d: %s%s", exit, stdout, stderr)
	}
	m.onInventory(t, run[1])
	return run[1]
}

// onInventory has the journal say of a run on nodes that are gone that it was on
// those of the inventory, so that its undo is not refused for that.
func (m machine) onInventory(t *testing.T, run string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "state/runbook/*.db"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	db, err := sql.Open("sqlite", files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("UPDATE runs SET inventory = ? WHERE id = ?", filepath.Join(m.dir, "inventory.yaml"), run); err != nil {
		t.Fatal(err)
	}
}

// A policy of the machine that cannot be read, or says nothing, stops everything that reaches nodes, with one error.
func TestBrokenSystemPolicyStopsEverything(t *testing.T) {
	m := newMachine(t)
	m.write(t, "book.star", threeNodes)
	m.write(t, "many.yaml", "limits: {nodes: 1000}\n")
	run := m.before(t)
	_, runs, _ := m.runbook(t, nil, "runs")
	path := filepath.Join(m.dir, policy.SystemFile)
	text := func(s string) func() error { return func() error { return os.WriteFile(path, []byte(s), 0o644) } }
	for _, tt := range []struct {
		what, want string
		make       func() error
		uid        uint32
	}{
		{"empty", systemFile + `:1:1: the policy is empty: it would allow everything`, text(""), 0},
		{"a comment", systemFile + `:1:1: the policy is empty`, text("# nothing\n"), 0},
		{"null", systemFile + `:1:1: the policy is empty`, text("null\n"), 0},
		{"an empty mapping", systemFile + `:1:1: the policy is empty`, text("{}\n"), 0},
		{"a document's mark", systemFile + `:1:1: the policy is empty`, text("---\n"), 0},
		{"no YAML", systemFile + `:1:[0-9]+: `, text("limits: {nodes: [\n"), 0},
		{"no text", systemFile + `:1:1: the file is not UTF-8 text`, text("\xff\xfe"), 0},
		{"another key", systemFile + `:1:1: a policy has no key "limit"`, text("limit: {nodes: 1}\n"), 0},
		{"two documents", systemFile + `:.*a second document`, text("limits: {nodes: 1}\n---\nlimits: {nodes: 9}\n"), 0},
		{"too large", systemFile + ` has [0-9]+ bytes, and a policy may have`, text("#" + strings.Repeat("x", 2<<20)), 0},
		{"a folder", systemFile + ` is not a file`, func() error { return os.Mkdir(path, 0o755) }, 0},
		{"a link that leads nowhere", systemFile + `: a link leads nowhere`, func() error { return os.Symlink("/nowhere/policy.yaml", path) }, 0},
		{"a link to itself", `(stat |open )?` + systemFile, func() error { return os.Symlink(policy.SystemFile, path) }, 0},
		{"a device", systemFile + ` is not a file`, func() error { return os.Symlink("/dev/zero", path) }, 0},
		{"a named pipe", systemFile + ` is not a file`, func() error { return syscall.Mkfifo(path, 0o644) }, 0},
		{"for root only", `(stat |open )?` + systemFile + `: permission denied`, func() error { return os.WriteFile(path, []byte("limits: {nodes: 1}\n"), 0o600) }, 65534},
		{"its folder for root only", `(stat |open )?` + systemFile + `: permission denied`, func() error { return errors.Join(text("limits: {nodes: 1}\n")(), os.Chmod(filepath.Dir(path), 0o700)) }, 65534},
		{"its folder is a file", `(stat |open )?` + systemFile + `: not a directory`, func() error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.WriteFile(filepath.Dir(path), nil, 0o644))
		}, 0},
		{"its folder is a link that leads nowhere", systemFile + `: a link leads nowhere`, func() error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.Symlink("/nowhere", filepath.Dir(path)))
		}, 0},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if err := errors.Join(os.RemoveAll(filepath.Dir(path)), os.MkdirAll(filepath.Dir(path), 0o755), tt.make()); err != nil {
				t.Fatal(err)
			}
			m := m
			if m.uid = tt.uid; m.uid != 0 {
				integration.Need(t, "setpriv")
			}
			want := regexp.MustCompile(`(?m)^(policy: )?` + tt.want)
			verbs := [][]string{
				{"run", "--lab", "3", "--yes", "book.star"}, {"run", "--lab", "3", "--unattended", "--policy", "many.yaml", "book.star"}, {"plan", "--lab", "1", "book.star"},
				{"nodes", "--lab", "1"}, {"snapshot", "--lab", "1"}, {"policy"}, {"policy", "--policy", "many.yaml"},
				{"apply", "--yes", "-i", "inventory.yaml", "saved.plan"}, {"undo", "--yes", "-i", "inventory.yaml", run},
			}
			if m.uid != 0 {
				verbs = verbs[:len(verbs)-2] // the plan and the journal are root's
			}
			for _, args := range verbs {
				exit, stdout, stderr := m.runbook(t, nil, args...)
				said := strings.TrimPrefix(stderr, "the 3 lab nodes are simulated: RUNBOOK_LAB=sim says so\n")
				said = strings.TrimPrefix(said, "the 1 lab nodes are simulated: RUNBOOK_LAB=sim says so\n")
				if exit != 1 || stdout != "" || !want.MatchString(said) || strings.Count(said, "policy.yaml") > 2 {
					t.Errorf("%v: exit %d, want one error %s\n%s%s", args, exit, tt.want, stdout, stderr)
				}
			}
		})
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if _, now, _ := m.runbook(t, nil, "runs"); now != runs || runs == "" {
		t.Errorf("the runs that are recorded were\n%s\nand are\n%s", runs, now)
	}
}

// Somebody whom the machine does not know by name is nobody whom a policy names, whatever the environment says.
func TestOperatorIsNotWhoTheEnvironmentSays(t *testing.T) {
	m := newMachine(t)
	integration.Need(t, "setpriv")
	m.uid = 54321 // whom no file names
	m.write(t, "book.star", threeNodes)
	m.write(t, "etc/runbook/policy.yaml", "operations: [{allow: \"*\", users: [root, ann]}]\n")
	if err := os.MkdirAll(filepath.Join(m.dir, "state"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(m.dir, "state"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "ann"} {
		exit, stdout, stderr := m.runbook(t, []string{"USER=" + name, "LOGNAME=" + name, "HOME=" + m.dir}, "run", "--yes", "--lab", "1", "book.star")
		if want := regexp.MustCompile(`uid 54321 may not have route.add on node-1 \(policy ` + systemFile + `\)`); exit != 3 || !want.MatchString(stdout) {
			t.Errorf("USER=%s: exit %d\n%s%s", name, exit, stdout, stderr)
		}
	}
}
