package inventory

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
)

// folder makes a folder with these files; a name that ends in "*" may be executed.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		mode := os.FileMode(0o600)
		if plain, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = plain, 0o700
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantError loads path and wants an error of kind Invalid with these words.
func wantError(t *testing.T, path, want string) {
	t.Helper()
	_, err := Load(t.Context(), path)
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.Invalid || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %s", path, err, want)
	}
}

func TestNames(t *testing.T) {
	t.Setenv("HOME", "/home/ops")
	t.Chdir("/")
	for _, tt := range []struct{ name, absolute, file string }{
		{"etc/hosts", "/etc/hosts", "etc/hosts"},
		{"ssh_config:", "ssh_config:", "/home/ops/.ssh/config"},
		{"ssh_config:etc/x", "ssh_config:/etc/x", "etc/x"},
		{"ssh_config:~/x", "ssh_config:/home/ops/x", "/home/ops/x"},
	} {
		if got := Absolute(tt.name); got != tt.absolute {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.absolute)
		}
		if got := File(tt.name); got != tt.file {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.file)
		}
	}
}

const script = `#!/bin/sh
echo '{"web": {"hosts": ["a", "b"], "vars": {"rack": 1}}, "site": {"children": ["web"]}, "_meta": {"hostvars": {"a": {"ansible_host": "192.0.2.1", "ansible_user": "them"}}}}'
exit 0
`

func TestScript(t *testing.T) {
	dir := folder(t, map[string]string{
		"good*": script, "plain": script, "fails*": "#!/bin/sh\necho one >&2\necho two >&2\nexit 4\n",
		"own*": "#!/bin/sh\necho 'nodes: {a: }'\n", "executable.ini*": "[web]\na\n",
	})
	inv := load(t, filepath.Join(dir, "good"))
	if a, _ := inv.Node("a"); a.SSH.Host != "192.0.2.1" || a.SSH.User != "them" || a.Vars["rack"] != int64(1) || !slices.Equal(a.Groups, []string{"site", "web"}) {
		t.Errorf("%+v", a)
	}
	if inv := load(t, filepath.Join(dir, "executable.ini")); len(inv.Nodes()) != 1 {
		t.Error(inv.Nodes())
	}
	large := filepath.Join(dir, "good")
	if err := os.Truncate(large, maxSize+10); err != nil {
		t.Fatal(err)
	}
	load(t, large)
	wantError(t, filepath.Join(dir, "plain"), "plain:1:1: the inventory is a script that may not be executed\n  hint: chmod +x ")
	wantError(t, filepath.Join(dir, "fails"), "has ended with exit status 4; it said:\n    one\n    two")
	wantError(t, filepath.Join(dir, "own"), "output of "+filepath.Join(dir, "own")+":1:2: the output is not JSON")
}

// TestOrigins: an inventory of our own form adds to what it takes its nodes from,
// and what it says itself counts more.
func TestOrigins(t *testing.T) {
	for origin, more := range map[string]string{
		"command: [./list, x]": "", "command: [sh, -c, './list']": "", "from: list": "", "from: hosts.ini": "",
		"command: [cat, own.yaml]": "",
	} {
		dir := folder(t, map[string]string{
			"list*":     script,
			"hosts.ini": "[web]\na ansible_host=192.0.2.1 ansible_user=them\nb\n[web:vars]\nrack=1\n[site:children]\nweb\n",
			"own.yaml":  "groups: {web: {vars: {rack: 1}, nodes: [a, b]}, site: {groups: [web]}}\nnodes: {a: {host: 192.0.2.1, ssh: {user: them}}}\n",
			"inventory.yaml": origin + more + "\ndefaults: {become: sudo, ssh: {user: ops}}\ngroups:\n  site: {ssh: {port: 1}}\n  web: {ssh: {port: 2}, nodes: [c]}\n" +
				"nodes:\n  b: {vars: {rack: 2}, ssh: {port: 3}}\n",
		})
		inv := load(t, filepath.Join(dir, "inventory.yaml"))
		if got := namesOf(inv.Nodes()); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Fatal(origin, got)
		}
		for name, want := range map[string]SSH{
			"a": {Host: "192.0.2.1", User: "them", Port: 2}, "b": {Host: "b", User: "ops", Port: 3}, "c": {Host: "c", User: "ops", Port: 2},
		} {
			n, _ := inv.Node(name)
			rack := map[string]any{"a": int64(1), "b": int64(2)}[name]
			if n.SSH.Host != want.Host || n.SSH.User != want.User || n.SSH.Port != want.Port || n.Become != BecomeSudo ||
				n.Vars["rack"] != rack || !slices.Equal(n.Groups, []string{"site", "web"}) {
				t.Errorf("%s: %s: %+v", origin, name, n)
			}
		}
		if site, err := inv.Select("site"); err != nil || len(site) != 3 {
			t.Error(origin, site, err)
		}
	}
}

func TestSSHConfig(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for name, text := range map[string]string{
		"config": "# mine\nInclude conf.d/*.conf\nHost web-1 \"web-2\" *.example.com !no\n  HostName 192.0.2.1\nhost=db\nHost bad@name\n" +
			"Match all\nInclude also\nMatch user x\nInclude never\nHost in-*\nInclude within\n",
		"conf.d/a.conf": "Host included\n", "also": "Host also\n", "never": "Host never\n", "within": "Host in-1 out-1\n",
	} {
		path := filepath.Join(home, ".ssh", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inv := load(t, SSHConfig)
	want := []string{"included", "web-1", "web-2", "db", "also", "in-1"}
	if got := namesOf(inv.Nodes()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if w := inv.Warnings(); len(w) != 1 || !strings.Contains(w[0], "config:6:1: hosts whose names no node can have are left out: bad@name") {
		t.Error(w)
	}
	if n, _ := inv.Node("db"); n.SSH.Config != "" || n.SSH.Host != "db" {
		t.Errorf("%+v", n)
	}
	path := filepath.Join(home, ".ssh", "config")
	if n, _ := load(t, SSHConfig+path).Node("db"); n.SSH.Config != path {
		t.Errorf("%+v", n)
	}
	dir := folder(t, map[string]string{"inventory.yaml": "ssh_config: ~/.ssh/config\ngroups: {web: {nodes: [web-1]}}\n"})
	if got, err := load(t, filepath.Join(dir, "inventory.yaml")).Select("web"); err != nil || len(got) != 1 || got[0].SSH.Config != path {
		t.Error(got, err)
	}
	wantError(t, SSHConfig+"/none", "/none cannot be read: no such file or directory")
}

// TestVarsBeside: what lies beside an inventory, where it is unusual.
func TestVarsBeside(t *testing.T) {
	dir := folder(t, map[string]string{
		"hosts": "[web]\na\n", "group_vars/all/vault.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "group_vars/web.yml": "x: 1\n", "group_vars/web.yaml": "x: 2\n",
	})
	inv := load(t, filepath.Join(dir, "hosts"))
	if a, _ := inv.Node("a"); a.Vars["x"] != int64(1) {
		t.Errorf("%+v", a)
	}
	all := strings.Join(inv.Warnings(), "\n")
	for _, want := range []string{
		filepath.Join(dir, "group_vars/all/vault.yml") + ":1:1: vault.yml: encrypted as a whole, so nothing in it is read",
		"beside web.yml lie others for the same name, which Ansible does not read either",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	dir = folder(t, map[string]string{"hosts": "[web]\na\n", "group_vars/web.yml": "a: 1\nx: [\n"})
	wantError(t, filepath.Join(dir, "hosts"), filepath.Join(dir, "group_vars/web.yml")+":2:4: ")
	dir = folder(t, map[string]string{"hosts": "[web]\na\n", "group_vars/web.yml": "- a\n"})
	wantError(t, filepath.Join(dir, "hosts"), "web.yml:1:1: the variables: want a mapping, got a list")
}

// TestForms: in which form a file is read.
func TestForms(t *testing.T) {
	for name, text := range map[string]string{
		"ini": "a x=1\n", "section": "# c\n\n[web]\na\n", "yaml": "---\nnodes: {a: }\n", "key": "nodes:\n  a:\n", "all": "all: {hosts: {a: }}", "braces": "{nodes: {a: }}",
		"x.cfg": "a\n", "x.yml": "all:\n  hosts:\n    a:\n", "x.json": `{"all": {"hosts": {"a": {}}}}`, "list.json": `{"all": ["a"], "_meta": {"hostvars": {}}}`,
		"own.json": `{"nodes": {"a": {}}}`, "anchor.yml": "web: &w {hosts: {a: }}\nprod: {children: {web: *w}}\n", "port": "a:22\n", "string.yml": "web: {hosts: a}",
	} {
		dir := folder(t, map[string]string{name: text})
		if inv, err := Load(t.Context(), filepath.Join(dir, name)); err != nil || !slices.Equal(namesOf(inv.Nodes()), []string{"a"}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := folder(t, map[string]string{"own.yaml": "nodes: {a: }", "hosts": "a\n"})
	wantError(t, dir, "own.yaml:1:1: a folder is an Ansible inventory, and this file of it is not Ansible's")
	dir = folder(t, map[string]string{"inventory.yaml": "command: [cat, inventory.yaml]"})
	wantError(t, filepath.Join(dir, "inventory.yaml"), "inventories take nodes from each other more than 16 deep")
}

// TestCommandEnds: a program that takes too long is ended with what it has started,
// also where nobody waits any more.
func TestCommandEnds(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	argv := []string{"/bin/sh", "-c", "sleep 600 & echo $! >" + pidFile + "; wait"}
	started := func() bool { b, err := os.ReadFile(pidFile); return err == nil && len(b) > 1 }
	for _, how := range []string{"late", "canceled"} {
		os.Remove(pidFile) //nolint:errcheck // it may not be there
		ctx, cancel := context.WithCancel(t.Context())
		patience := time.Second
		if how == "canceled" {
			patience = time.Minute
			go func() {
				for !started() {
					time.Sleep(10 * time.Millisecond)
				}
				cancel()
			}()
		}
		_, err := output(ctx, argv, dir, patience)
		if how == "late" && !strings.Contains(err.Error(), "had printed no whole inventory after 1s") || how == "canceled" && !errors.Is(err, context.Canceled) {
			t.Error(how, err)
		}
		cancel()
		b, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the process %d goes on", how, pid)
			}
		}
	}
}

// alive reports whether a process runs: one that has ended and that nobody has waited for does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(stat), ") Z ")
}
