//go:build linux

package guard

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/nodetest"
)

// manager answers as systemd's does to what a guardian asks of it, on a bus of
// the test's own: it starts what a unit says, in the namespace of a machine.
type manager struct {
	conn *dbus.Conn
	ns   string

	mu      sync.Mutex
	started map[string]map[string]any // unit to its properties
	pids    []int
}

type property struct {
	Name  string
	Value dbus.Variant
}

type auxiliary struct {
	Name       string
	Properties []property
}

func (m *manager) Subscribe() *dbus.Error { return nil }

func (m *manager) StartTransientUnit(name, mode string, ps []property, _ []auxiliary) (dbus.ObjectPath, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	props := map[string]any{"mode": mode}
	for _, p := range ps {
		props[p.Name] = p.Value.Value()
	}
	m.started[name] = props
	job := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", len(m.started)))
	var execs []struct {
		Path   string
		Args   []string
		Ignore bool
	}
	for _, p := range ps {
		if p.Name == "ExecStart" {
			if err := dbus.Store([]any{p.Value.Value()}, &execs); err != nil {
				return "", dbus.MakeFailedError(err)
			}
		}
	}
	args := append([]string{"netns", "exec", m.ns, execs[0].Path}, execs[0].Args[1:]...)
	service := exec.Command("ip", args...)
	service.Env = props["Environment"].([]string)
	service.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := service.Start(); err != nil {
		return "", dbus.MakeFailedError(err)
	}
	go service.Wait()
	m.pids = append(m.pids, service.Process.Pid)
	go m.conn.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", uint32(1), job, name, "done")
	return job, nil
}

// startManager puts a manager on a bus that takes the place of the system's.
func startManager(t *testing.T, ns string) *manager {
	t.Helper()
	integration.Need(t, "dbus-daemon")
	bus := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address")
	out, err := bus.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Process.Kill(); bus.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", strings.TrimSpace(address))
	conn, err := dbus.Connect(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &manager{conn: conn, ns: ns, started: map[string]map[string]any{}}
	if err := conn.Export(m, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return m
}

// A guardian that was relieved by a service leaves, and the service puts back.
func TestServiceRelievesTheGuardian(t *testing.T) {
	m := newMachine(t)
	systemd := startManager(t, m.ns)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	if _, err := a.Apply(t.Context(), guarded(edit(t, a, "r1", route(1)), "x", 2*time.Second)); err != nil {
		t.Fatal(err)
	}
	first := m.folder().holder(watchName)
	if err := relieve(t.Context(), m.dir); err != nil {
		t.Fatal(err)
	}
	systemd.mu.Lock() // it is not asked again
	defer systemd.mu.Unlock()
	if len(systemd.started) != 1 {
		t.Fatalf("started: %v", systemd.started)
	}
	for name, props := range systemd.started {
		if !strings.HasPrefix(name, "runbook-guardian-") || props["Type"] != "exec" || props["Restart"] != "on-failure" || props["mode"] != "fail" {
			t.Errorf("%s is %v", name, props)
		}
	}
	syscall.Kill(first, syscall.SIGKILL) // the session ends, and all that is left of it
	for end := time.Now().Add(time.Second); m.folder().holder(watchName) != systemd.pids[0]; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the guardian is %d, want the service, %d", m.folder().holder(watchName), systemd.pids[0])
		}
	}
	if d := resource.Compare(before, a.read(t, nodetest.Everything)); len(d) != 1 {
		t.Errorf("before the deadline the changes are\n%s", d)
	}
	eventually(t, a, before, settled)
	m.idle(t)
}

func TestUnitForTheNextBoot(t *testing.T) {
	old := units
	units = t.TempDir()
	defer func() { units = old }()
	for range 2 { // each guardian writes it
		if err := atBoot("/var/lib/100% $HOME"); err != nil {
			t.Fatal(err)
		}
	}
	self, _ := os.Executable()
	file := filepath.Join(units, "multi-user.target.wants/runbook-guardian.service")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{ // systemd takes % for a specifier, and $ in a command for a variable
		fmt.Sprintf("RequiresMountsFor=%q \"/var/lib/100%%%% $HOME\"\n", self),
		fmt.Sprintf("ExecStart=%q guard \"/var/lib/100%%%% $$HOME\"\n", self),
		"Type=oneshot\nEnvironment=RUNBOOK_GUARDIAN_RELIEVE=1\n", // it is a service, and asks for none
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("it has not the line %s\n%s", line, text)
		}
	}
	if i, err := os.Stat(file); err != nil || i.Mode() != 0o644 { // systemd warns of others
		t.Errorf("%v, %v", i.Mode(), err)
	}
	notAtBoot()
	notAtBoot()
	if left, _ := filepath.Glob(units + "/*"); len(left) != 1 { // the folder of what is wanted
		t.Errorf("left: %v", left)
	}
}
