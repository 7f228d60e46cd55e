//go:build linux

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"runbook/engine"
	"runbook/internal/integration"
)

// up makes a lab that ends with the test.
func up(t testing.TB, o Options) *Lab {
	t.Helper()
	integration.Need(t, "root", "sshd")
	if err := Probe(); err != nil {
		integration.Missing(t, "%v", err)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "lab")
	}
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		log, _ := os.ReadFile(filepath.Join(l.Dir(), logName))
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the lab's log:\n%s", log)
		}
	})
	return l
}

// run runs a program in a node and returns its exit code and what it printed.
func run(t testing.TB, l *Lab, node string, argv ...string) (int, string) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	code, err := l.Exec(t.Context(), node, argv, nil, out, out)
	if err != nil {
		t.Fatalf("%s: %q: %v", node, argv, err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(b)
}

func wantCode(t *testing.T, err error, code engine.Code, text string) {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), text) {
		t.Errorf("error is %v, want one of code %d that says %q", err, code, text)
	}
}

func TestAddresses(t *testing.T) {
	for i, want := range map[int]string{1: "10.99.0.2:22", 254: "10.99.0.255:22", 255: "10.99.1.0:22"} {
		if got := nodeInfo(i).Addr; got != want {
			t.Errorf("node %d is at %s, want %s", i, got, want)
		}
	}
	if got := address(dataNet6, 26).String(); got != "fd00:98::1a/64" {
		t.Errorf("data address is %s", got)
	}
}

func TestBounds(t *testing.T) {
	for _, n := range []int{-1, 0, MaxNodes + 1} {
		_, err := Up(t.Context(), Options{Nodes: n})
		wantCode(t, err, engine.Invalid, "a lab has 1 to 250 nodes")
	}
}

func TestNodes(t *testing.T) {
	l := up(t, Options{Nodes: 3})
	if n := l.Nodes(); len(n) != 3 || n[2] != (NodeInfo{"node-3", "10.99.0.4:22"}) {
		t.Errorf("nodes are %v", n)
	}
	for _, n := range l.Nodes() {
		c, err := l.Dial(t.Context(), n.Name)
		if err != nil {
			t.Fatal(err)
		}
		if banner, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(banner, "SSH-2.0-") {
			t.Errorf("%s greets with %q, %v", n.Name, banner, err)
		}
		c.Close()
	}
	for _, c := range []struct{ argv, want string }{
		{"hostname", "node-3\n"},
		{"ip -o -4 addr show eth0", "10.99.0.4/16 "},
		{"ip -o -4 addr show eth1", "10.98.0.4/16 "},
		{"ip -o -6 addr show eth1", "fd00:98::4/64 "},
		{"ip route", "10.98.0.0/16 dev eth1 "},
		{"ip -o link show eth1", "link/ether 02:00:0a:62:00:04 "},
		{"ip -o link show lo", "LOOPBACK,UP"},
		{"cat /etc/hostname", "node-3\n"},
		{"getent hosts node-2", "10.99.0.3"},
		{"cat /sys/class/net/eth1/address", "02:00:0a:62:00:04"},
	} {
		if code, out := run(t, l, "node-3", strings.Fields(c.argv)...); code != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, %q, want %q", c.argv, code, out, c.want)
		}
	}
	if _, out := run(t, l, "node-1", "ip", "-6", "addr", "show", "tentative"); out != "" {
		t.Errorf("addresses wait for duplicate detection:\n%s", out)
	}
	_, err := l.Dial(t.Context(), "node-4")
	wantCode(t, err, engine.Invalid, "it has node-1 to node-3")
}

func TestNetNS(t *testing.T) {
	l := up(t, Options{Nodes: 1})
	ns, err := l.NetNS(t.Context(), "node-1")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, gw := range []string{"10.98.0.1", "fd00:98::1", "10.99.0.1"} { // which answer as gateways
		if err := ns.Do(func() error { return ping(gw) }); err != nil {
			t.Errorf("%s does not answer: %v", gw, err)
		}
	}
	c, err := ns.Dial(t.Context(), "tcp", "10.98.0.2:22")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if from := c.LocalAddr().String(); !strings.HasPrefix(from, "10.98.0.2:") {
		t.Errorf("a connection of node-1 to itself comes from %s", from)
	}
	_, err = l.NetNS(t.Context(), "node-2")
	wantCode(t, err, engine.Invalid, `the lab has no node "node-2"`)
}

func TestExec(t *testing.T) {
	l := up(t, Options{Nodes: 1})
	if code, _ := run(t, l, "node-1", "sh", "-c", "exit 7"); code != 7 {
		t.Errorf("exit code is %d, want 7", code)
	}
	if code, _ := run(t, l, "node-1", "sh", "-c", "kill -9 $$"); code != 137 {
		t.Errorf("exit code is %d, want 137", code)
	}
	if _, out := run(t, l, "node-1", "echo", "$HOME; echo *"); out != "$HOME; echo *\n" {
		t.Errorf("a shell has seen the arguments: %q", out)
	}
	code, err := l.Exec(t.Context(), "node-1", []string{"no-such-program"}, nil, nil, nil)
	wantCode(t, err, engine.Invalid, "node-1: command not found: no-such-program")
	if code != 127 {
		t.Errorf("exit code is %d, want 127", code)
	}
	if code, err = l.Exec(t.Context(), "node-1", []string{"/etc/passwd"}, nil, nil, nil); code != 126 {
		t.Errorf("exit code is %d, %v, want 126", code, err)
	}
	_, err = l.Exec(t.Context(), "node-1", nil, nil, nil, nil)
	wantCode(t, err, engine.Invalid, "no command is given")

	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fmt.Fprint(w, "through the node")
	w.Close()
	if code, err := l.Exec(t.Context(), "node-1", []string{"cat"}, in, out, nil); code != 0 || err != nil {
		t.Errorf("cat: %d, %v", code, err)
	}
	out.Close()
	if s, err := bufio.NewReader(r).ReadString(0); s != "through the node" {
		t.Errorf("cat printed %q, %v", s, err) // and its end is seen: nothing else holds the pipe
	}
}

func TestExecCanceled(t *testing.T) {
	l := up(t, Options{Nodes: 1})
	for _, argv := range [][]string{{"sleep", "1000"}, {"sh", "-c", "trap '' TERM; sleep 1000 & wait; sleep 1000"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := l.Exec(ctx, "node-1", argv, nil, nil, nil)
		cancel()
		if err == nil {
			t.Errorf("%q has ended by itself", argv)
		}
		if code, out := run(t, l, "node-1", "pgrep", "-a", "sleep"); code != 1 {
			t.Errorf("%q is still running: %s", argv, out)
		}
	}
}

func dialSSH(t testing.TB, l *Lab, user string, n NodeInfo) (*ssh.Client, error) {
	t.Helper()
	key, err := os.ReadFile(l.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.New(l.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Dial(t.Context(), n.Name)
	if err != nil {
		t.Fatal(err)
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, n.Addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known, Timeout: 10 * time.Second,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func TestSSH(t *testing.T) {
	l := up(t, Options{Nodes: 2})
	n := l.Nodes()
	for _, c := range []struct{ user, command, want string }{
		{User, "id -u; cat /proc/sys/kernel/hostname", "0\nnode-2\n"},
		{Operator, "id -un; pwd; touch f && echo ok", "ops\n/home/ops\nok\n"},
		{Operator, "sudo -n id -u", "0\n"},
		{Operator, "cat /etc/shadow 2>/dev/null || echo no", "no\n"},
	} {
		client, err := dialSSH(t, l, c.user, n[1])
		if err != nil {
			t.Fatalf("as %s: %v", c.user, err)
		}
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := s.CombinedOutput(c.command); string(out) != c.want {
			t.Errorf("as %s, %s: %q, %v, want %q", c.user, c.command, out, err, c.want)
		}
		client.Close()
	}
	mistaken := NodeInfo{Name: n[0].Name, Addr: n[1].Addr}
	if _, err := dialSSH(t, l, User, mistaken); err == nil || !strings.Contains(err.Error(), "key mismatch") {
		t.Errorf("a node that pretends to be another is met with %v", err)
	}
}

func TestPlainSSH(t *testing.T) {
	integration.Need(t, "ssh", "nsenter")
	l := up(t, Options{Nodes: 1})
	out, err := exec.Command("nsenter", "-t", strconv.Itoa(l.HolderPID()), "-n", "ssh", "-F", "none", "-i", l.KeyFile(),
		"-o", "UserKnownHostsFile="+l.KnownHosts(), "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
		"root@10.99.0.2", "hostname").CombinedOutput()
	if err != nil || string(out) != "node-1\n" {
		t.Errorf("ssh: %v, %q", err, out)
	}
}

func TestMany(t *testing.T) {
	const many = 50
	start := time.Now()
	l := up(t, Options{Nodes: many})
	t.Logf("%d nodes took %s", many, time.Since(start))
	var wg sync.WaitGroup
	for _, n := range l.Nodes() {
		wg.Go(func() {
			c, err := dialSSH(t, l, User, n)
			if err != nil {
				t.Errorf("%s: %v", n.Name, err)
				return
			}
			c.Close()
		})
	}
	wg.Wait()
}

func BenchmarkUp(b *testing.B) {
	for _, nodes := range []int{3, 50, 200} {
		b.Run(strconv.Itoa(nodes), func(b *testing.B) {
			integration.Need(b, "root", "sshd")
			for b.Loop() {
				l, err := Up(b.Context(), Options{Nodes: nodes})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := l.Down(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
