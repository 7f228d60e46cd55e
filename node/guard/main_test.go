//go:build linux

package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/agent"
	"runbook/node/linux"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

// The test binary is the agent and the guardian of the namespaces that the tests make.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && (os.Args[1] == "guard" || os.Args[1] == "agent") {
		if err := child(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(what, dir string) error {
	n, err := linux.Open()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if what == "guard" {
		return Watch(ctx, kernel{n}, dir)
	}
	guarded := Over(kernel{n}, dir)
	if err := guarded.Recover(ctx); err != nil {
		return err
	}
	return agent.Serve(ctx, os.Stdin, os.Stdout, guarded)
}

// kernel is the kernel, with restarts of links that have static IPv4 routes.
type kernel struct{ *linux.Node }

func (k kernel) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	if edits[0].Restart == "" {
		return k.Node.ApplyAll(ctx, edits)
	}
	capture, err := k.Capture(ctx, edits[0].Restart)
	if err != nil {
		return nil, err
	}
	if err := set(edits[0].Restart, netlink.LinkSetDown); err != nil {
		return nil, err
	}
	time.Sleep(20 * time.Millisecond) // so that many a kill comes just here
	if err := k.Restore(ctx, capture); err != nil {
		return nil, err
	}
	return k.Node.ApplyAll(ctx, []engine.Edit{{Query: edits[0].Query}})
}

func (k kernel) Capture(ctx context.Context, link string) ([]byte, error) {
	s, err := k.Read(ctx, resource.Query{{Kind: resource.KindRoute, Name: link, Family: 4, Table: resource.TableMain}, {Kind: resource.KindAddr, Name: link, Family: 6}})
	if err != nil {
		return nil, err
	}
	c := captured{Link: link, Routes: resource.State{}}
	for k, r := range s {
		switch r := r.(type) {
		case resource.Addr:
			c.Addrs = append(c.Addrs, r.Prefix)
		case resource.Route:
			c.Routes[k] = r
		}
	}
	return json.Marshal(c)
}

type captured struct {
	Link   string
	Routes resource.State
	Addrs  []netip.Prefix // IPv6
}

func (k kernel) Restore(ctx context.Context, b []byte) error {
	var c captured
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	if err := set(c.Link, netlink.LinkSetUp); err != nil {
		return err
	}
	for _, p := range c.Addrs {
		addr := netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)}, Flags: unix.IFA_F_NODAD}
		err := set(c.Link, func(l netlink.Link) error { return netlink.AddrReplace(l, &addr) })
		if err != nil {
			return err
		}
	}
	_, err := k.Node.Apply(ctx, engine.Edit{Want: c.Routes})
	return err
}

func set(link string, do func(netlink.Link) error) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	return do(l)
}

// machine is a namespace with a folder.
type machine struct {
	ns, dir string
	before  string // shell that is run before each agent, in its own mount namespace
}

func newMachine(t testing.TB) *machine {
	m := &machine{ns: nodetest.Usual.Namespace(t), dir: filepath.Join(t.TempDir(), "state")}
	nodetest.IP(t, "netns", "exec", m.ns, "sysctl", "-q", "-w", "net.ipv6.conf.eth1.keep_addr_on_down=1")
	t.Cleanup(func() { m.folder().kill(watchName) })
	return m
}

func (m *machine) folder() folder { return folder{m.dir, now} }

// process is an agent and the connection to it.
type process struct {
	*agent.Client
	cmd *exec.Cmd
}

type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { p.WriteCloser.Close(); return p.ReadCloser.Close() }

// agent starts an agent on m, in a session of its own.
func (m *machine) agent(t testing.TB) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", m.ns, "sh", "-c", m.before+` exec "$@"`, "sh", self, "agent", m.dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{agent.NewClient(pipes{out, in}, agent.Peer{Name: "web-1", Addr: m.ns}), cmd}
	t.Cleanup(p.end)
	p.read(t, resource.Query{{Kind: resource.KindMemory}}) // it is there
	return p
}

func (p *process) end() {
	p.Client.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// kill kills the agent as the machine's OOM killer would.
func (p *process) kill(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.cmd.Wait()
}

func (p *process) read(t testing.TB, q resource.Query) resource.State {
	t.Helper()
	s, err := p.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *process) memory(t testing.TB) []resource.Memory {
	t.Helper()
	return resource.All[resource.Memory](p.read(t, resource.Query{{Kind: resource.KindMemory}}))
}

// edit is want as it is predicted on n, for a run.
func edit(t testing.TB, n engine.Reader, run string, want ...resource.Resource) engine.Edit {
	t.Helper()
	e := engine.Edit{Want: resource.Of(want...), Settle: engine.Duration(time.Second), Run: run, By: "ann@ops", ID: run + "/0"}
	if err := sim.Over(n).Predict(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// guarded is e, to be confirmed with token within d.
func guarded(e engine.Edit, token string, d time.Duration) engine.Edit {
	e.Guard = &engine.Guard{Token: token, Within: engine.Duration(d)}
	return e
}

// restart is the restart of eth1.
func restart(t testing.TB, n engine.Reader, id string) engine.Edit {
	t.Helper()
	q := resource.Query{{Kind: resource.KindLink, Name: "eth1"}, {Kind: resource.KindRoute, Name: "eth1", Family: 4}}
	s, err := n.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Edit{
		Restart: "eth1", Disrupts: "link eth1", Verb: "restart", Query: q, Before: s, After: s, Want: resource.State{},
		ID: id, Run: id, By: "ann@ops", Settle: engine.Duration(time.Second),
	}
}
