//go:build linux

package guard

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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
		return Watch(ctx, n, dir)
	}
	guarded := Over(n, dir)
	if err := guarded.Recover(ctx); err != nil {
		return err
	}
	return agent.Serve(ctx, os.Stdin, os.Stdout, guarded)
}

// machine is a namespace with a folder.
type machine struct {
	ns, dir string
	before  string // shell that is run before each agent, in its own mount namespace
}

func newMachine(t testing.TB) *machine {
	m := &machine{ns: nodetest.Usual.Namespace(t), dir: filepath.Join(t.TempDir(), "state")}
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
	e := engine.Edit{Restart: "eth1", Run: id, By: "ann@ops", ID: id, Settle: engine.Duration(5 * time.Second)}
	if err := sim.Over(n).Predict(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	return e
}
