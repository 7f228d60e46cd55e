//go:build linux

package ssh

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"runbook/internal/integration"
)

// server is a real sshd in a mount namespace of its own: what is installed on
// it is in dir, and nothing of the machine is touched.
type server struct {
	dir        string
	port       int
	ns         string // the network namespace that it is in; "": the machine's, on the loopback
	userKey    string // file of a private key that may log in
	knownHosts string // file
	keys       []ssh.PublicKey
	pid        int
	log        bytes.Buffer
}

// setup is how a server differs from the usual.
type setup struct {
	ns     string
	home   string // folder that becomes /root
	config string // lines of sshd_config
	script string // run as root in the mount namespace, before sshd
	user   string // a user besides root, with number 54321

	startups string // MaxStartups; "": 100
}

// startServer starts an sshd and stops it when the test ends.
func startServer(t testing.TB, set setup) *server {
	t.Helper()
	integration.Need(t, "root", "sshd", "ip", "unshare")
	sshd, _ := integration.Path("sshd")
	s := &server{dir: t.TempDir(), ns: set.ns}
	// sshd drops its privileges, and a user must reach his home
	for d := s.dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	if set.home == "" {
		set.home = filepath.Join(s.dir, "home")
		os.Mkdir(set.home, 0o700)
	}
	s.makeKeys(t)
	s.port = freePort(t, set.ns)
	s.knownHosts = s.file(t, "known_hosts", knownhosts.Line([]string{joinPort("127.0.0.1", s.port)}, s.keys[0])+"\n")
	config := s.file(t, "sshd_config", fmt.Sprintf(`
ListenAddress 127.0.0.1:%d
HostKey %[2]s/host_0
HostKey %[2]s/host_1
HostKey %[2]s/host_2
AuthorizedKeysFile %[2]s/authorized_keys
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups %[4]s
%[3]s
`, s.port, s.dir, set.config, cmp.Or(set.startups, "100")))
	script := fmt.Sprintf(`set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd /run/user
mount -t tmpfs tmpfs /var/tmp
chmod 1777 /var/tmp
mount -t tmpfs tmpfs /var/lib
mount --bind %s /root
%s
exec %s -D -e -f %s
`, set.home, s.addUser(t, set.user)+set.script, sshd, config)
	args := []string{"unshare", "-m", "sh", "-c", script}
	if set.ns != "" {
		args = append([]string{"ip", "netns", "exec", set.ns}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("sshd: %s", s.log.String())
		}
	})
	for range 500 {
		conn, err := s.dial(context.Background(), "tcp", joinPort("127.0.0.1", s.port))
		if err == nil {
			conn.Close()
			return s
		}
		select {
		case <-exited:
			t.Fatalf("sshd ended: %s", s.log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("sshd does not listen")
	return nil
}

func (s *server) file(t testing.TB, name, content string) string {
	t.Helper()
	p := filepath.Join(s.dir, name)
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// makeKeys makes three host keys (RSA, ECDSA, Ed25519) and a user's.
func (s *server) makeKeys(t testing.TB) {
	t.Helper()
	_, user, _ := ed25519.GenerateKey(rand.Reader)
	s.userKey, _ = s.writeKey(t, "user_key", user)
	public, _ := ssh.NewSignerFromKey(user)
	auth := s.file(t, "authorized_keys", string(ssh.MarshalAuthorizedKey(public.PublicKey())))
	os.Chmod(auth, 0o644)
	r := rsaKey()
	e, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, _ := ed25519.GenerateKey(rand.Reader)
	for i, k := range []crypto.Signer{r, e, d} {
		_, pub := s.writeKey(t, fmt.Sprintf("host_%d", i), k)
		s.keys = append(s.keys, pub)
	}
}

// rsaKey is made once: it takes a tenth of a second.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func (s *server) writeKey(t testing.TB, name string, k crypto.Signer) (string, ssh.PublicKey) {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(k, "")
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s.file(t, name, string(pem.EncodeToMemory(block))), pub
}

// addUser returns the commands that add a user, in the mount namespace only.
func (s *server) addUser(t testing.TB, name string) string {
	if name == "" {
		return ""
	}
	for _, f := range []struct{ name, line string }{
		{"passwd", name + ":x:54321:54321::" + s.dir + "/user:/bin/sh"},
		{"shadow", name + ":*:19000:0:99999:7:::"},
		{"group", name + ":x:54321:"},
	} {
		b, err := os.ReadFile("/etc/" + f.name)
		if err != nil {
			t.Fatal(err)
		}
		s.file(t, f.name, strings.TrimSpace(string(b))+"\n"+f.line+"\n")
	}
	return fmt.Sprintf(`
cd %s
chmod 644 passwd group
for f in passwd shadow group; do mount --bind $f /etc/$f; done
mkdir -p user; chown 54321:54321 user
`, s.dir)
}

// sudoers returns the commands that have sudo obey this line, and no other, in
// the mount namespace only.
func sudoers(line string) string {
	return "echo 'Defaults !fqdn' >sudoers; echo '" + line + "' >>sudoers; chmod 440 sudoers; mount --bind sudoers /etc/sudoers\n"
}

// dial connects in the network namespace of the server.
func (s *server) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.ns == "" {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	// The thread goes back where it was: it may be the parent of a process
	// that dies with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := netns.GetFromName(s.ns)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	defer netns.Set(here)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: s.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func freePort(t testing.TB, ns string) int {
	t.Helper()
	if ns != "" {
		return 2222
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// target is the server as root, with all that is needed to get in.
func (s *server) target(t testing.TB) Target {
	return Target{
		Name: "web-1", Host: "127.0.0.1", Port: s.port, User: "root", ConfigFile: "none",
		IdentityFiles: []string{s.userKey}, KnownHosts: []string{s.knownHosts},
		DialContext: s.dial, Agents: builtAgent(t),
	}
}

var built struct {
	once  sync.Once
	agent Agent
	err   error
}

// builtAgent is the agent of this machine's platform, built once.
func builtAgent(t testing.TB) func(string) (Agent, error) {
	t.Helper()
	built.once.Do(func() { built.agent, built.err = buildAgent() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return func(platform string) (Agent, error) {
		if platform != "linux/"+runtime.GOARCH {
			return Agent{}, fmt.Errorf("no agent for %s", platform)
		}
		return built.agent, nil
	}
}

func buildAgent() (Agent, error) {
	dir, err := os.MkdirTemp("", "runbook-agent")
	if err != nil {
		return Agent{}, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "runbook/cmd/runbook-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Agent{}, fmt.Errorf("build the agent: %s", out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return Agent{}, err
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(b)
	w.Close()
	sum := sha256.Sum256(b)
	return Agent{func() ([]byte, error) { return gz.Bytes(), nil }, hex.EncodeToString(sum[:])}, nil
}

// agents returns the processes of the agent that run on the server.
func (s *server) agents(t testing.TB) []int {
	t.Helper()
	ours, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	list, _ := filepath.Glob("/proc/[0-9]*/exe")
	var out []int
	for _, exe := range list {
		dir := filepath.Dir(exe)
		to, _ := os.Readlink(exe)
		if ns, _ := os.Readlink(dir + "/ns/mnt"); ns == ours && strings.HasPrefix(filepath.Base(to), "agent-") {
			var pid int
			fmt.Sscanf(dir, "/proc/%d", &pid)
			out = append(out, pid)
		}
	}
	return out
}
