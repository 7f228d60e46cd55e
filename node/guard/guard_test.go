//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/nodetest"
)

// route leads to the n-th network over the gateway of eth1.
func route(n int) resource.Route {
	return resource.Route{
		Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(n), 0}), 24), Table: resource.TableMain,
		Type: resource.Unicast, Scope: resource.ScopeGlobal, Proto: resource.ProtoStatic,
		Hops: []resource.Hop{{Via: netip.MustParseAddr("10.98.0.1"), Dev: "eth1"}},
	}
}

// eventually waits until the node holds want again, and returns how long that took.
func eventually(t testing.TB, n engine.Reader, want resource.State, within time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		s, err := n.Read(t.Context(), nodetest.Everything)
		if err != nil {
			t.Fatal(err)
		}
		d := resource.Compare(want, s)
		if len(d) == 0 {
			return time.Since(start)
		}
		if time.Since(start) > within {
			t.Fatalf("the node is not as before after %s:\n%s", within, d)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// idle waits until no guardian is there.
func (m *machine) idle(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(settled); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m.folder().holder(watchName) == 0 {
			return
		}
	}
	t.Error("the guardian does not leave")
}

// empty waits until no process is left in the namespace.
func (m *machine) empty(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(settled); ; time.Sleep(5 * time.Millisecond) {
		left := nodetest.IP(t, "netns", "pids", m.ns)
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left: %s", left)
		}
	}
}

// A guardian whose folder is taken away leaves.
func TestGuardianWithoutFolder(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	if _, err := a.Apply(t.Context(), guarded(edit(t, a, "r1", route(1)), "x", time.Second)); err != nil {
		t.Fatal(err)
	}
	for os.RemoveAll(m.dir) != nil { // the guardian may write there meanwhile
		if t.Context().Err() != nil {
			t.Fatal("its folder cannot be taken away")
		}
	}
	a.end()
	m.empty(t)
}

const settled = 10 * time.Second // more than anything here takes

func TestUnconfirmedChangeIsPutBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	e := guarded(edit(t, a, "r1", route(1)), "secret", time.Second)
	start := time.Now()
	if _, err := a.Apply(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if ms := a.memory(t); len(ms) != 1 || !ms[0].Pending || ms[0].Run != "r1" {
		t.Errorf("the node says %v", ms)
	}
	if s := a.read(t, nodetest.Everything); s[route(1).Key()] == nil {
		t.Error("the change was not made")
	}
	eventually(t, a, before, settled)
	if took := time.Since(start); took < time.Second {
		t.Errorf("put back after %s, before the deadline", took)
	} else {
		t.Logf("put back %s after it was armed for 1s", took.Round(time.Millisecond))
	}
	m.idle(t)
	err := m.agent(t).Confirm(t.Context(), "secret")
	if err == nil || !strings.Contains(err.Error(), "not confirmed within 1s, so the node put itself back at ") || !strings.Contains(err.Error(), "changes put back: 1") {
		t.Errorf("a late confirmation gets: %v", err)
	}
	if ms := a.memory(t); len(ms) != 1 || ms[0].Pending || !strings.Contains(ms[0].Outcome, "put itself back") {
		t.Errorf("the node says %v", ms)
	}
	checkNoToken(t, m, "secret")
}

func checkNoToken(t *testing.T, m *machine, token string) {
	t.Helper()
	if out, err := exec.Command("grep", "-r", token, m.dir).CombinedOutput(); err == nil {
		t.Errorf("the token can be read: %s", out)
	}
}

func TestConfirmedChangeStays(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	e := guarded(edit(t, a, "r1", route(1)), "secret", time.Second)
	if _, err := a.Apply(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	checkNoToken(t, m, "secret")
	if err := a.Confirm(t.Context(), "guess"); err == nil || !strings.Contains(err.Error(), "no change") {
		t.Errorf("a wrong token gets: %v", err)
	}
	b := m.agent(t)
	for range 2 { // the answer to the first may be lost
		if err := b.Confirm(t.Context(), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	m.idle(t)
	time.Sleep(1200 * time.Millisecond)
	if s := b.read(t, nodetest.Everything); s[route(1).Key()] == nil {
		t.Error("a confirmed change is gone")
	}
	a.end()
	if ms := b.memory(t); len(ms) != 0 {
		t.Errorf("the node says %v", ms)
	}
}

// What follows a guarded change rests on it, and goes with it; what came before stays.
func TestGuardedInTheMiddle(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	var edits []engine.Edit
	for i := range 4 {
		e := edit(t, a, "r1", route(i))
		if i == 1 || i == 2 {
			e = guarded(e, fmt.Sprint("token", i), time.Second)
		}
		edits = append(edits, e)
	}
	found, err := a.ApplyAll(t.Context(), edits)
	if err != nil || len(found) != 4 {
		t.Fatalf("%d changes: %v", len(found), err)
	}
	if err := a.Confirm(t.Context(), "token1"); err != nil { // the other token does not come
		t.Fatal(err)
	}
	before[route(0).Key()] = route(0)
	eventually(t, a, before, settled)
	if err := a.Confirm(t.Context(), "token2"); err == nil || !strings.Contains(err.Error(), "put back: 3") {
		t.Errorf("a late confirmation gets: %v", err)
	}
}

// What somebody has changed since is left, and said; the rest is put back.
func TestOthersChangesAreLeft(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	edits := []engine.Edit{guarded(edit(t, a, "r1", route(1)), "x", time.Second), edit(t, a, "r1", route(2))}
	if _, err := a.ApplyAll(t.Context(), edits); err != nil {
		t.Fatal(err)
	}
	nodetest.IP(t, "-n", m.ns, "route", "replace", "10.20.2.0/24", "dev", "eth0")
	nodetest.IP(t, "-n", m.ns, "route", "add", "10.77.0.0/16", "dev", "eth0")
	m.idle(t)
	s := a.read(t, nodetest.Everything)
	if d := resource.Compare(before, s); len(d) != 2 || d[0].Key != route(2).Key() || d[0].After == nil {
		t.Errorf("differs from before by\n%s", d)
	}
	err := a.Confirm(t.Context(), "x")
	if err == nil || !strings.Contains(err.Error(), "left as somebody has changed it since: - route 10.20.2.0/24 via 10.98.0.1 dev eth1, + route 10.20.2.0/24 dev eth0") {
		t.Errorf("got %v", err)
	}
}

func TestChangesOfOthersWait(t *testing.T) {
	m := newMachine(t)
	a := m.agent(t)
	if _, err := a.Apply(t.Context(), guarded(edit(t, a, "r1", route(1)), "x", time.Minute)); err != nil {
		t.Fatal(err)
	}
	a.end() // the guardian keeps the node for its run
	b := m.agent(t)
	_, err := b.Apply(t.Context(), edit(t, b, "r2", route(2)))
	if e := engine.AsError(err); err == nil || e.Code != engine.Unreachable || !strings.Contains(e.Error(), "by run r1 of ann@ops to be confirmed, since") {
		t.Errorf("a change that rests on one that may vanish: %v", err)
	}
	if _, err := b.Apply(t.Context(), engine.Edit{Query: nodetest.Everything}); err != nil {
		t.Errorf("looking: %v", err)
	}
	if err := b.Confirm(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Apply(t.Context(), edit(t, b, "r2", route(2))); err != nil {
		t.Error(err)
	}
}

// A controller that takes its changes back leaves the guardian nothing to do.
func TestPutBackByTheController(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	e := edit(t, a, "r1", route(1))
	found, err := a.Apply(t.Context(), guarded(e, "x", time.Second))
	if err != nil {
		t.Fatal(err)
	}
	back, _ := e.TakeBack(found, found)
	if _, err := a.Apply(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	if d := resource.Compare(before, a.read(t, nodetest.Everything)); len(d) > 0 {
		t.Errorf("%s", d)
	}
	m.idle(t)
	if err := a.Confirm(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "put back: 0") {
		t.Errorf("got %v", err)
	}
}

// A change that drifted leaves nothing to guard.
func TestNothingIsGuardedThatWasNotDone(t *testing.T) {
	m := newMachine(t)
	a := m.agent(t)
	e := guarded(edit(t, a, "r1", route(1)), "x", time.Minute)
	nodetest.IP(t, "-n", m.ns, "route", "add", "10.20.1.0/24", "dev", "eth0")
	var drift *engine.DriftError
	if _, err := a.Apply(t.Context(), e); !errors.As(err, &drift) {
		t.Errorf("got %v, want drift", err)
	}
	if ms := a.memory(t); len(ms) != 0 {
		t.Errorf("the node says %v", ms)
	}
	m.idle(t)
}

func TestAgentIsKilled(t *testing.T) {
	for _, how := range []string{"killed", "hung up", "guardian terminated"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			a := m.agent(t)
			before := a.read(t, nodetest.Everything)
			if _, err := a.Apply(t.Context(), guarded(edit(t, a, "r1", route(1)), "x", time.Second)); err != nil {
				t.Fatal(err)
			}
			guardian := m.folder().holder(watchName)
			switch how {
			case "killed":
				a.kill(t)
			case "hung up":
				syscall.Kill(-a.cmd.Process.Pid, syscall.SIGHUP)
				syscall.Kill(guardian, syscall.SIGHUP)
				a.kill(t)
			case "guardian terminated":
				syscall.Kill(guardian, syscall.SIGTERM)
				syscall.Kill(guardian, syscall.SIGINT)
				syscall.Kill(guardian, syscall.SIGPIPE)
			}
			checkDetached(t, guardian, a.cmd.Process.Pid)
			eventually(t, m.agent(t), before, settled)
		})
	}
}

// An agent that is killed at any moment of a request leaves nothing of it.
func TestAgentIsKilledWhileItChanges(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	first := m.agent(t)
	before := first.read(t, nodetest.Everything)
	stood := 0
	for i := range 10 {
		a := m.agent(t)
		var edits []engine.Edit
		for j := range 60 {
			e := edit(t, first, fmt.Sprint("r", i), route(j))
			if j == 0 {
				e = guarded(e, fmt.Sprint("t", i), 300*time.Millisecond)
			}
			edits = append(edits, e)
		}
		var wait sync.WaitGroup
		wait.Go(func() { a.ApplyAll(context.Background(), edits) })
		time.Sleep(rand.N(80 * time.Millisecond))
		a.kill(t)
		stood += len(resource.Compare(before, first.read(t, nodetest.Everything)))
		eventually(t, first, before, settled)
		wait.Wait()
		m.idle(t)
		if d := resource.Compare(before, first.read(t, nodetest.Everything)); len(d) > 0 {
			t.Fatalf("not put back:\n%s", d)
		}
	}
	t.Logf("killed 10 times in 60 changes each; %d stood then, none at the end", stood)
}

// Two guardians may be started at the same time, one by an agent that was killed meanwhile: one of them watches, which is
// all that matters to the agent whose own one has left. Where none watches, it is an error.
func TestAnotherGuardianComesFirst(t *testing.T) {
	n := Over(nil, t.TempDir())
	var first *os.File
	n.start = func(string) (err error) {
		if first, err = n.folder.tryLock(watchName); err != nil || first == nil {
			t.Fatalf("it cannot come first: %v", err)
		}
		return errors.New("the guardian does not watch: EOF")
	}
	if err := n.watched(); err != nil {
		t.Error(err)
	}
	n.start = func(string) error { t.Error("another one is started"); return nil }
	if err := n.watched(); err != nil {
		t.Error(err)
	}
	first.Close() //nolint:errcheck // a lock
	looks, err := os.Open(n.folder.path(watchName))
	if err == nil {
		err = syscall.Flock(int(looks.Fd()), syscall.LOCK_SH)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer looks.Close() //nolint:errcheck // a lock
	n.start = func(string) error { return errors.New("it cannot be started") }
	if err := n.watched(); err == nil {
		t.Error("who only looks whether there is a guardian is taken for one")
	}
}

// A disk that is full by then keeps no guardian from putting back, and no confirmation from coming through.
func TestDiskFillsUp(t *testing.T) {
	for _, confirmed := range []bool{false, true} {
		t.Run(fmt.Sprint("confirmed ", confirmed), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			if err := os.MkdirAll(m.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			m.before = fmt.Sprintf(`mount -t tmpfs -o size=64k none %q &&`, m.dir)
			a := m.agent(t)
			before := a.read(t, nodetest.Everything)
			if _, err := a.Apply(t.Context(), guarded(edit(t, a, "r1", route(1)), "x", time.Second)); err != nil {
				t.Fatal(err)
			}
			dir := fmt.Sprintf("/proc/%d/root%s/", a.cmd.Process.Pid, m.dir)
			if err := os.WriteFile(dir+"fill", make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
			if confirmed {
				if err := a.Confirm(t.Context(), "x"); err != nil {
					t.Error(err)
				}
				before[route(1).Key()] = route(1)
				time.Sleep(1200 * time.Millisecond)
			}
			eventually(t, a, before, settled)
			for end := time.Now().Add(settled); len(a.memory(t)) > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the node says %v", a.memory(t))
				}
			}
			a.end() // and with it, and the guardian, the disk
			m.empty(t)
		})
	}
}

// checkDetached checks that nothing leads from a guardian to its agent's session.
func checkDetached(t *testing.T, guardian, session int) {
	t.Helper()
	if sid, err := getsid(guardian); err != nil || sid == session || sid != guardian {
		t.Errorf("its session is %d: %v", sid, err)
	}
	for fd, want := range map[string]string{"fd/0": "/dev/null", "fd/1": "/dev/null", "fd/2": "/dev/null", "cwd": "/"} {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/%s", guardian, fd)); to != want {
			t.Errorf("%s is %s", fd, to)
		}
	}
}

func getsid(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var ppid, pgrp, sid int
	_, err = fmt.Sscanf(string(b[strings.LastIndexByte(string(b), ')')+4:]), "%d %d %d", &ppid, &pgrp, &sid)
	return sid, err
}

// An agent that is killed at any moment of a restart leaves the node as it was,
// at once: the guardian does not wait for a deadline. There is much on the link,
// so that a restart takes a while.
func TestAgentIsKilledInARestart(t *testing.T) {
	m := newMachine(t)
	m.addRoutes(t, 1000)
	first := m.agent(t)
	before := first.read(t, nodetest.Everything)
	var middle, slowest = 0, time.Duration(0)
	tries := 0
	for i := 0; i < 20 || middle == 0 && i < 60; i++ { // a slow machine takes longer to come to the middle
		tries++
		a := m.agent(t)
		e := restart(t, a, fmt.Sprint("r", i))
		e.Repeat = true
		var wait sync.WaitGroup
		wait.Go(func() { a.Apply(context.Background(), e) })
		time.Sleep(rand.N(100 * time.Millisecond * time.Duration(1+i/10)))
		if i%4 == 3 {
			syscall.Kill(a.cmd.Process.Pid, syscall.SIGSTOP) // and is then killed, as who hangs is
			time.Sleep(10 * time.Millisecond)
		}
		syscall.Kill(a.cmd.Process.Pid, syscall.SIGKILL)
		slowest = max(slowest, eventually(t, first, before, settled))
		a.end()
		wait.Wait()
		m.idle(t)
		for _, m := range first.memory(t) {
			if m.Run == e.Run && strings.Contains(m.Outcome, "the agent was gone before the restart was over") {
				middle++
			}
		}
	}
	if middle == 0 {
		t.Error("no agent was killed in the middle")
	}
	t.Logf("killed %d times, %d of them in the middle; as before after %s at most", tries, middle, slowest.Round(time.Millisecond))
}

// addRoutes adds n routes over eth1.
func (m *machine) addRoutes(t testing.TB, n int) {
	t.Helper()
	var batch strings.Builder
	for i := range n {
		fmt.Fprintf(&batch, "route add 100.%d.%d.0/24 via 10.98.0.1 dev eth1 proto static\n", i>>8, i&255)
	}
	ip := exec.Command("ip", "-n", m.ns, "-batch", "-")
	ip.Stdin = strings.NewReader(batch.String())
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestRestartConfirmsItself(t *testing.T) {
	m := newMachine(t)
	nodetest.IP(t, "-n", m.ns, "route", "add", "10.20.1.0/24", "via", "10.98.0.1", "dev", "eth1", "proto", "static")
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	if _, err := a.Apply(t.Context(), restart(t, a, "r1")); err != nil {
		t.Fatal(err)
	}
	if d := resource.Compare(before, a.read(t, nodetest.Everything)); len(d) > 0 {
		t.Errorf("the restart changed\n%s", d)
	}
	m.idle(t)
	ms := a.memory(t)
	if len(ms) != 1 || ms[0].Pending || !ms[0].Ended || ms[0].Verb != "restart" || ms[0].By != "ann@ops" {
		t.Errorf("the node says %v", ms)
	}
	// guarded besides, it waits for the confirmation
	e := guarded(restart(t, a, "r2"), "x", time.Minute)
	e.Repeat = true
	if _, err := a.Apply(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if ms := a.memory(t); len(ms) != 1 || !ms[0].Pending || !ms[0].Ended || ms[0].Run != "r2" {
		t.Errorf("the node says %v", ms)
	}
	if err := a.Confirm(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

// An agent that hangs in the middle is not waited for.
func TestAgentThatHangsIsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes patience")
	}
	m := newMachine(t)
	first := m.agent(t)
	before := first.read(t, nodetest.Everything)
	a := m.agent(t)
	e := guarded(edit(t, a, "r1", route(1)), "x", time.Second)
	never := route(9) // is read back, so that the agent waits
	e.Query = append(e.Query, resource.Selector{Kind: resource.KindRoute, Dst: never.Dst})
	e.After[never.Key()] = never
	e.Settle = engine.Duration(time.Hour)
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { a.Apply(context.Background(), e) })
	for first.read(t, nodetest.Everything)[route(1).Key()] == nil {
		time.Sleep(time.Millisecond)
	}
	syscall.Kill(a.cmd.Process.Pid, syscall.SIGSTOP)
	took := eventually(t, first, before, time.Second+patience+settled)
	t.Logf("put back %s after it was armed for 1s", took.Round(time.Millisecond))
	a.end()
}

// After the machine has started again, nothing of the old guardian is there.
func TestReboot(t *testing.T) {
	m := newMachine(t)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	edits := []engine.Edit{guarded(edit(t, a, "r1", route(1)), "x", time.Minute), edit(t, a, "r1", route(2))}
	if _, err := a.ApplyAll(t.Context(), edits); err != nil {
		t.Fatal(err)
	}
	f := m.folder()
	f.kill(watchName)
	a.end()
	m.idle(t)
	nodetest.IP(t, "-n", m.ns, "route", "del", "10.20.1.0/24") // as a reboot does, but one was made lasting
	r, err := f.pending()
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	r.Armed.Boot = "00000000-0000-4000-8000-000000000000"
	if err := f.put(r); err != nil {
		t.Fatal(err)
	}
	b := m.agent(t)
	if d := resource.Compare(before, b.read(t, nodetest.Everything)); len(d) > 0 {
		t.Errorf("a change of another boot stands:\n%s", d)
	}
	if err := b.Confirm(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "started again") || !strings.Contains(err.Error(), "put back: 1") {
		t.Errorf("got %v", err)
	}
}

// A guardian that was killed is replaced by the next agent.
func TestGuardianIsKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	if _, err := a.Apply(t.Context(), guarded(edit(t, a, "r1", route(1)), "x", time.Second)); err != nil {
		t.Fatal(err)
	}
	m.folder().kill(watchName)
	a.end()
	m.agent(t).end()
	eventually(t, m.agent(t), before, settled)
}

// However many guardians there are, one puts back, once.
func TestTwoGuardians(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := m.agent(t)
	before := a.read(t, nodetest.Everything)
	if _, err := a.Apply(t.Context(), guarded(edit(t, a, "r1", route(1)), "x", time.Second)); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	for range 5 { // one that finds another leaves at once, and well
		if out, err := exec.Command("ip", "netns", "exec", m.ns, self, "guard", m.dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	// and those that look at the same time, agents that start among them, act once
	var wait sync.WaitGroup
	time.Sleep(time.Second)
	for range 4 {
		wait.Go(func() { m.agent(t) })
	}
	wait.Wait()
	eventually(t, a, before, settled)
	if err := a.Confirm(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "put back: 1") {
		t.Errorf("got %v", err)
	}
}

// What cannot be written down is not done.
func TestFolderThatCannotBeWritten(t *testing.T) {
	for name, before := range map[string]string{
		"read-only": `mount -t tmpfs -o ro none "%[1]s" &&`,
		"full":      `mount -t tmpfs -o size=16k none "%[1]s" && { head -c 20000 /dev/zero >"%[1]s/fill" 2>/dev/null; true; } &&`,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if err := os.MkdirAll(m.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			m.before = fmt.Sprintf(before, m.dir)
			a := m.agent(t)
			state := a.read(t, nodetest.Everything)
			for what, e := range map[string]engine.Edit{
				"guarded": guarded(edit(t, a, "r1", route(1)), "x", time.Second),
				"restart": restart(t, a, "r1"),
			} {
				_, err := a.Apply(t.Context(), e)
				if err == nil || engine.AsError(err).Code != engine.Unreachable || !strings.Contains(err.Error(), "could not remember") {
					t.Errorf("%s: got %v", what, err)
				}
			}
			if d := resource.Compare(state, a.read(t, nodetest.Everything)); len(d) > 0 {
				t.Errorf("something was changed:\n%s", d)
			}
			if _, err := a.Apply(t.Context(), edit(t, a, "r1", route(1))); err != nil {
				t.Errorf("a plain change: %v", err)
			}
			undo := engine.Edit{Undo: true, Disrupts: "link eth1", Verb: "down", Run: "r2", Want: resource.State{route(1).Key(): nil}}
			if _, err := a.Apply(t.Context(), undo); err != nil {
				t.Errorf("an undo: %v", err)
			}
		})
	}
}

// Of many controllers that disrupt the same link at the same time one is let.
func TestRepeatsAtOnce(t *testing.T) {
	m := newMachine(t)
	agents := make([]*process, 6)
	for i := range agents {
		agents[i] = m.agent(t)
	}
	edits, errs := make([]engine.Edit, len(agents)), make([]error, len(agents))
	for i, a := range agents { // all before the first takes the link down
		edits[i] = restart(t, a, fmt.Sprint("r", i))
	}
	var wait sync.WaitGroup
	for i, a := range agents {
		wait.Go(func() {
			for end := time.Now().Add(settled); ; time.Sleep(10 * time.Millisecond) { // one after another: the others keep it off
				_, errs[i] = a.Apply(t.Context(), edits[i])
				if errs[i] == nil || engine.AsError(errs[i]).Code != engine.Unreachable || time.Now().After(end) {
					a.Release()
					return
				}
			}
		})
	}
	wait.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else if e := engine.AsError(err); e.Code != engine.LimitHit || !strings.Contains(e.Cause, "by ann@ops") || !strings.Contains(e.Cause, "link eth1 had a restart") {
			t.Errorf("got %v", err)
		}
	}
	if done != 1 {
		t.Errorf("%d restarts were made, want one", done)
	}
}

// A link that was taken down comes up again with all that it had.
func TestLinkDownIsPutBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.addRoutes(t, 50)
	for i := range 20 {
		nodetest.IP(t, "-n", m.ns, "route", "add", fmt.Sprintf("fd00:20:%d::/48", i), "via", "fd00:98::1", "dev", "eth1", "proto", "static")
	}
	a := m.agent(t)
	before, dump := a.read(t, nodetest.Everything), m.dump(t)
	link, _ := resource.Get[resource.Link](before, resource.LinkKey("eth1"))
	link.Up, link.Carrier = false, false
	e := edit(t, a, "r1", link)
	if e.Disrupts != link.Key() || e.Verb != "down" {
		t.Errorf("it disrupts %q by %q", e.Disrupts, e.Verb)
	}
	if _, err := a.Apply(t.Context(), guarded(e, "x", time.Second)); err != nil {
		t.Fatal(err)
	}
	if s := a.read(t, nodetest.Everything); len(before)-len(s) < 70 {
		t.Errorf("%d of %d resources are still there", len(s), len(before))
	}
	a.kill(t)
	a = m.agent(t)
	eventually(t, a, before, settled)
	m.idle(t)
	if now := m.dump(t); now != dump {
		t.Errorf("before:\n%s\nafter:\n%s", dump, now)
	}
	ms := a.memory(t)
	if len(ms) != 1 || ms[0].Ended || !strings.Contains(ms[0].Outcome, "put back: 1") {
		t.Errorf("the node says %v", ms)
	}
	refused := edit(t, a, "r2", link)
	if _, err := a.Apply(t.Context(), refused); err == nil || engine.AsError(err).Code != engine.LimitHit {
		t.Errorf("taking it down again: %v", err)
	}
}

// dump is all that ip shows of m, sorted.
func (m *machine) dump(t *testing.T) string {
	t.Helper()
	var lines []string
	for _, what := range []string{"-4 addr", "-6 addr", "-4 route show table all", "-6 route show table all", "rule", "-d link"} {
		out := nodetest.IP(t, append([]string{"-n", m.ns, "-o"}, strings.Fields(what)...)...)
		lines = append(lines, strings.Split(out, "\n")...)
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { // ip says so of a namespace that another test removes just now
		return strings.HasPrefix(l, "Error: Peer netns reference")
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
