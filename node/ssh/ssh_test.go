//go:build linux

package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/nodetest"
)

// proxyTo has the test binary be a ProxyCommand: it joins its stdin and stdout to this address.
const proxyTo = "RUNBOOK_TEST_PROXY_TO"

func TestMain(m *testing.M) {
	if addr := os.Getenv(proxyTo); addr != "" {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			os.Exit(1)
		}
		go io.Copy(conn, os.Stdin)
		io.Copy(os.Stdout, conn)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var factsQuery = resource.Query{{Kind: resource.KindFacts}}

// reach dials t and reads its facts.
func reach(t *testing.T, to Target) (engine.Node, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n, err := Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	s, err := n.Read(ctx, factsQuery)
	if err != nil {
		n.Close()
		return nil, err
	}
	if f, ok := resource.Get[resource.Facts](s, resource.FactsKey); !ok || f.Arch != runtime.GOARCH {
		t.Errorf("facts: %v", s)
	}
	t.Cleanup(func() { n.Close() })
	return n, nil
}

// unreachable checks that err is one, of web-1, and says all of words.
func unreachable(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	e := engine.AsError(err)
	if e.Code != engine.Unreachable || e.Node != "web-1" {
		t.Errorf("%#v is not that web-1 is unreachable", err)
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("%q does not say %q", e.Error(), w)
		}
	}
	t.Log(e)
}

func TestConformance(t *testing.T) {
	home := t.TempDir()
	nodetest.RunSome(t, func(t *testing.T, s nodetest.Start) engine.Node {
		server := startServer(t, setup{ns: s.Namespace(t), home: home})
		n, err := Dial(t.Context(), server.target(t))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}, 8)
}

func TestInstalledOnce(t *testing.T) {
	s := startServer(t, setup{})
	to := s.target(t)
	if _, err := reach(t, to); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(s.dir + "/home/.cache/runbook/*")
	if len(files) != 1 {
		t.Errorf("installed: %v", files)
	}
	to.Agents = func(platform string) (Agent, error) {
		a, err := builtAgent(t)(platform)
		a.Gzip = func() ([]byte, error) { return nil, nil } // it cannot be installed again
		return a, err
	}
	if _, err := reach(t, to); err != nil {
		t.Error(err)
	}
}

// damagedAgent is an agent that arrives otherwise than it was sent.
func damagedAgent(t *testing.T) func(string) (Agent, error) {
	return func(platform string) (Agent, error) {
		a, err := builtAgent(t)(platform)
		a.SHA256 = strings.Repeat("0", 64)
		return a, err
	}
}

func TestDamagedAgentIsNotStarted(t *testing.T) {
	s := startServer(t, setup{})
	to := s.target(t)
	to.Agents = damagedAgent(t)
	_, err := reach(t, to)
	unreachable(t, err, "could not be installed")
	if files, _ := filepath.Glob(s.dir + "/home/.cache/runbook/*"); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

func TestFolderWithoutExecIsSkipped(t *testing.T) {
	s := startServer(t, setup{script: "mount -t tmpfs -o noexec tmpfs /root\n"})
	for range 2 {
		if _, err := reach(t, s.target(t)); err != nil {
			t.Fatal(err)
		}
	}
	nowhere := startServer(t, setup{script: "for d in /root /var/tmp; do mount -t tmpfs -o noexec tmpfs $d; done\n"})
	_, err := reach(t, nowhere.target(t))
	unreachable(t, err, "has no folder to put the agent in", "noexec")
}

func TestFolderOfAnotherIsSkipped(t *testing.T) {
	s := startServer(t, setup{user: "rbtest", script: `
mkdir -p user/.cache/runbook /var/tmp/runbook-54321
chown -R 1:1 user/.cache
mkdir /run/user/54321; chown 54321 /run/user/54321; ln -s /var/tmp /run/user/54321/runbook
chown 1:1 /var/tmp/runbook-54321
`})
	to := s.target(t)
	to.User = "rbtest"
	_, err := reach(t, to)
	unreachable(t, err, "has no folder")
}

// What another user has put where an agent would lie is not started, whoever's the folder is.
func TestAgentOfAnotherIsNotStarted(t *testing.T) {
	a, err := builtAgent(t)("linux/" + runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	plant := `
touch started; chmod 666 started
mkdir -p user/.cache/runbook /var/tmp/runbook-54321 /run/user/54321/runbook
for d in user/.cache/runbook /var/tmp/runbook-54321 /run/user/54321/runbook; do
	printf "#!/bin/sh\necho $d >>$PWD/started\n" >$d/agent-` + a.SHA256[:32] + `; chmod 755 $d $d/agent-*
done
chown -R 1:1 user/.cache /var/tmp/runbook-54321 /run/user/54321/runbook
chown 54321 /run/user/54321
`
	for more, whose := range map[string]string{"": "of another", "chown 54321 /run/user/54321/runbook\n": "of the user"} {
		s := startServer(t, setup{user: "rbtest", script: plant + more})
		to := s.target(t)
		to.User = "rbtest"
		if _, err := reach(t, to); more == "" {
			unreachable(t, err, "has no folder")
		} else if err != nil { // it is put in the place of the other's
			t.Errorf("a folder %s: %v", whose, err)
		}
		if b, err := os.ReadFile(filepath.Join(s.dir, "started")); err != nil || len(b) > 0 {
			t.Errorf("a folder %s: started in %s%v", whose, b, err)
		}
	}
}

func TestHostKeys(t *testing.T) {
	s := startServer(t, setup{})
	addr := joinPort("127.0.0.1", s.port)
	known := func(name string, keys ...ssh.PublicKey) []string {
		var b strings.Builder
		for _, k := range keys {
			b.WriteString(knownhosts.Line([]string{addr}, k) + "\n")
		}
		return []string{s.file(t, name, b.String())}
	}
	other := startServer(t, setup{}).keys
	to := s.target(t)
	for i := range s.keys { // known by any one of its three keys
		to.KnownHosts = known(fmt.Sprintf("known_%d", i), s.keys[i])
		if _, err := reach(t, to); err != nil {
			t.Errorf("known by %s: %v", s.keys[i].Type(), err)
		}
	}
	to.KnownHosts = known("known_none")
	_, err := reach(t, to)
	unreachable(t, err, "not known", "ssh-keyscan", "known_none", addr)
	to.KnownHosts = []string{filepath.Join(s.dir, "missing")}
	_, err = reach(t, to)
	unreachable(t, err, "not known")
	to.KnownHosts = known("known_changed", other[2])
	_, err = reach(t, to)
	unreachable(t, err, "CHANGED", "known_changed:1", ssh.FingerprintSHA256(other[2]))
	to.KnownHosts = []string{s.file(t, "known_revoked", "@revoked * "+string(ssh.MarshalAuthorizedKey(s.keys[2])))}
	_, err = reach(t, to)
	unreachable(t, err, "revoked", "known_revoked:1")
}

func TestNotLetIn(t *testing.T) {
	s, other := startServer(t, setup{}), startServer(t, setup{})
	to := s.target(t)
	to.IdentityFiles = []string{other.userKey}
	_, err := reach(t, to)
	unreachable(t, err, "does not let root in", other.userKey)
	missing := filepath.Join(s.dir, "missing")
	to.IdentityFiles = []string{missing}
	_, err = reach(t, to)
	unreachable(t, err, "no key to log in", "there is no "+missing)
	to.IdentityFiles = []string{missing, other.userKey}
	_, err = reach(t, to)
	unreachable(t, err, "does not let root in", other.userKey, "there is no "+missing)
}

func TestNobodyThere(t *testing.T) {
	s := startServer(t, setup{})
	to := s.target(t)
	to.Port = freePort(t, "")
	_, err := reach(t, to)
	unreachable(t, err, fmt.Sprintf("cannot connect to 127.0.0.1:%d: connection refused", to.Port))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to.Port = l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = Dial(ctx, to)
	unreachable(t, err, "did not answer in time")
	if d := time.Since(start); d > time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestShellThatTalks(t *testing.T) {
	for says, want := range map[string]string{
		"Welcome to web-1":          `prints "Welcome to web-1"`,
		"runbook-need Darwin arm64": "Darwin arm64: there are agents for Linux",
		"runbook-need Linux mips64": "Linux mips64",
	} {
		s := startServer(t, setup{config: "ForceCommand echo " + says})
		_, err := reach(t, s.target(t))
		unreachable(t, err, want)
	}
}

func TestSudo(t *testing.T) {
	integration.Need(t, "sudo")
	s := startServer(t, setup{user: "rbtest", script: sudoers("rbtest ALL=(root) NOPASSWD: ALL")})
	to := s.target(t)
	to.User, to.Become = "rbtest", "sudo"
	n, err := reach(t, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range s.agents(t) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if !strings.Contains(string(status), "Uid:\t0\t0\t0\t0") {
			t.Errorf("the agent is not root: %s", status)
		}
	}
	n.Close()
	if _, err := reach(t, to); err != nil {
		t.Error(err)
	}

	s = startServer(t, setup{user: "rbtest", script: sudoers("rbtest ALL=(root) ALL")})
	to = s.target(t)
	to.User, to.Become = "rbtest", "sudo"
	_, err = reach(t, to)
	unreachable(t, err, "wants a password of rbtest", "NOPASSWD")

	to.User = "root" // needs no sudo
	if _, err := reach(t, to); err != nil {
		t.Error(err)
	}
}

func TestAgentKilled(t *testing.T) {
	s := startServer(t, setup{})
	n, err := reach(t, s.target(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range s.agents(t) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	_, err = n.Read(t.Context(), factsQuery)
	unreachable(t, err, "has ended (signal KILL)")
}

// deaf is a conn that can be cut without either side being told.
type deaf struct {
	net.Conn
	cut    atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) Write(b []byte) (int, error) {
	if d.cut.Load() {
		return len(b), nil
	}
	return d.Conn.Write(b)
}

func (d *deaf) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if d.cut.Load() {
		<-d.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

func TestBothSidesNoticeACutLine(t *testing.T) {
	t.Parallel()
	s := startServer(t, setup{})
	to := s.target(t)
	var line *deaf
	to.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := s.dial(ctx, network, addr)
		line = &deaf{Conn: conn, closed: make(chan struct{})}
		return line, err
	}
	n, err := reach(t, to)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.agents(t)) != 1 {
		t.Fatalf("agents: %v", s.agents(t))
	}
	start := time.Now()
	line.cut.Store(true)
	_, err = n.Read(t.Context(), factsQuery)
	unreachable(t, err, "silent")
	if d := time.Since(start); d > 13*time.Second {
		t.Errorf("the controller noticed after %v", d)
	}
	for len(s.agents(t)) > 0 {
		if time.Since(start) > 13*time.Second {
			t.Fatalf("the agent is still there after %v", time.Since(start))
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("the agent was gone after %v", time.Since(start))
}

func TestConfigFile(t *testing.T) {
	s := startServer(t, setup{})
	config := s.file(t, "ssh_config", fmt.Sprintf(`
Host web
  HostName 127.0.0.1
  Port %d
Host proxied
  HostName 127.0.0.9
  HostKeyAlias web-alias
  ProxyCommand /usr/bin/env %s=127.0.0.1:%d %s
Host jumped
  HostName 127.0.0.1
  Port %d
  ProxyJump web
Host *
  User root
  IdentityFile %s
  UserKnownHostsFile %s %s
`, s.port, proxyTo, s.port, os.Args[0], s.port, s.userKey, s.knownHosts,
		s.file(t, "known_alias", knownhosts.Line([]string{"web-alias"}, s.keys[1])+"\n")))
	for _, path := range []string{os.Getenv("PATH"), "/nonexistent"} { // with ssh and without
		t.Setenv("PATH", path)
		configs.Clear()
		for _, host := range []string{"web", "proxied", "jumped"} {
			if _, err := reach(t, Target{Name: "web-1", Host: host, ConfigFile: config, Agents: builtAgent(t)}); err != nil {
				t.Errorf("PATH=%.20s: %s: %v", path, host, err)
			}
		}
	}
	_, err := reach(t, Target{Name: "web-1", Host: "-oProxyCommand=x", ConfigFile: config, Agents: builtAgent(t)})
	unreachable(t, err, "cannot be a host")
}

func TestJumpHostIsShared(t *testing.T) {
	s := startServer(t, setup{})
	to := s.target(t)
	to.DialContext = nil
	addr, dialed := countingProxy(t, joinPort("127.0.0.1", s.port))
	known, err := os.ReadFile(s.knownHosts)
	if err != nil {
		t.Fatal(err)
	}
	s.file(t, "known_hosts", string(known)+knownhosts.Line([]string{addr}, s.keys[0])+"\n")
	to.ProxyJump = "root@" + addr
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := reach(t, to); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections to the jump host, want 1", n)
	}
	to.Port = freePort(t, "")
	_, err = reach(t, to)
	unreachable(t, err, "by way of root@")
	to.ProxyJump = fmt.Sprintf("root@127.0.0.1:%d", freePort(t, ""))
	_, err = reach(t, to)
	unreachable(t, err, "connection refused")
}

// A server that turns away every connection beyond the tenth that has not shown who it
// is yet is reached by sixty at the same time.
func TestMaxStartupsIsRespected(t *testing.T) {
	s := startServer(t, setup{startups: "10:100:10"})
	to := s.target(t)
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			if _, err := reach(t, to); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(entries.doors); n != 0 {
		t.Errorf("%d servers are still being entered", n)
	}
}

// countingProxy passes connections on to an address, and counts them.
func countingProxy(t *testing.T, to string) (string, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var count atomic.Int32
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				return
			}
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					io.Copy(way[0], way[1])
					way[0].Close()
				}()
			}
		}
	}()
	return l.Addr().String(), &count
}

func TestSSHAgent(t *testing.T) {
	s := startServer(t, setup{})
	b, err := os.ReadFile(s.userKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.ParseRawPrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	ring := sshagent.NewKeyring()
	if err := ring.Add(sshagent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(s.dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go sshagent.ServeAgent(ring, conn)
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", l.Addr().String())
	t.Setenv("HOME", s.dir) // without keys
	to := s.target(t)
	to.IdentityFiles = nil
	if _, err := reach(t, to); err != nil {
		t.Error(err)
	}
}

func TestCanceledDialStops(t *testing.T) {
	s := startServer(t, setup{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, s.target(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// slow delays what is read by a round trip.
type slow struct {
	net.Conn
	in   chan []byte
	rest []byte
}

func newSlow(c net.Conn, rtt time.Duration) *slow {
	s := &slow{Conn: c, in: make(chan []byte, 1000)}
	late := make(chan func(), 1000)
	go func() {
		defer close(s.in)
		for deliver := range late {
			deliver()
		}
	}()
	go func() {
		defer close(late)
		for {
			b := make([]byte, 32<<10)
			n, err := c.Read(b)
			if err != nil {
				return
			}
			at := time.Now().Add(rtt)
			late <- func() {
				time.Sleep(time.Until(at))
				s.in <- b[:n]
			}
		}
	}()
	return s
}

func (s *slow) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		var ok bool
		if s.rest, ok = <-s.in; !ok {
			return 0, io.EOF
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// What a connection costs is what a run of many nodes costs.
func TestCost(t *testing.T) {
	s := startServer(t, setup{})
	to := s.target(t)
	if _, err := reach(t, to); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := reach(t, to); err != nil {
		t.Fatal(err)
	}
	quick := time.Since(start)

	const rtt = 60 * time.Millisecond
	far := to
	far.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := s.dial(ctx, network, addr)
		return newSlow(conn, rtt), err
	}
	start = time.Now()
	if _, err := reach(t, far); err != nil {
		t.Fatal(err)
	}
	trips := float64(time.Since(start)-quick) / float64(rtt)
	t.Logf("warm: %v, and %.1f round trips after TCP's", quick, trips)
	if trips > 12 { // a busy machine adds some
		t.Errorf("%.1f round trips to the first answer", trips)
	}

	const many = 40
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start = time.Now()
	for range many {
		if _, err := reach(t, to); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse) / many
	t.Logf("%d connections: %v and %d KB each", many, took/many, each>>10)
	if each > 300<<10 {
		t.Errorf("a connection takes %d KB", each>>10)
	}
}
