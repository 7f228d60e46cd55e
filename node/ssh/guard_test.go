//go:build linux

package ssh

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/internal/integration"
	"runbook/node/nodetest"
	"runbook/node/sim"
)

// A guardian outlives the session that it was started in, however that ends.
func TestGuardianOutlivesTheSession(t *testing.T) {
	for _, c := range []struct {
		name string
		set  setup
		to   func(to *Target)
		end  func(t *testing.T, s *server, n engine.Node)
	}{
		{"closed", setup{}, func(*Target) {}, closed},
		{"hung up", setup{}, func(*Target) {}, hungUp},
		{"sudo, closed", asUser(), bySudo, closed},
		{"sudo, hung up", asUser(), bySudo, hungUp},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			integration.Need(t, "sudo")
			c.set.ns = nodetest.Usual.Namespace(t)
			s := startServer(t, c.set)
			to := s.target(t)
			c.to(&to)
			n, err := Dial(t.Context(), to)
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			before := whole(t, n)
			e := engine.Edit{Want: resource.Of(resource.Route{
				Dst: netip.MustParsePrefix("10.20.0.0/16"), Table: resource.TableMain, Type: resource.Unicast, Proto: resource.ProtoStatic,
				Hops: []resource.Hop{{Via: netip.MustParseAddr("10.98.0.1"), Dev: "eth1"}},
			}), Run: "r1", Guard: &engine.Guard{Token: "x", Within: engine.Duration(2 * time.Second)}}
			if err := sim.Over(n).Predict(t.Context(), &e); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Apply(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			armed := time.Now()
			c.end(t, s, n)
			if again, err := Dial(t.Context(), to); err != nil {
				t.Fatal(err)
			} else if d := resource.Compare(before, whole(t, again)); len(d) != 1 {
				t.Errorf("before the deadline there are %d changes:\n%s", len(d), d)
			} else {
				again.Close()
			}
			for len(s.agents(t)) > 0 { // the guardian is one of them
				if time.Since(armed) > 15*time.Second {
					t.Fatal("the guardian does not end")
				}
				time.Sleep(20 * time.Millisecond)
			}
			n, err = Dial(t.Context(), to)
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			if d := resource.Compare(before, whole(t, n)); len(d) > 0 {
				t.Errorf("it was not put back:\n%s", d)
			}
			err = n.(engine.Confirmer).Confirm(t.Context(), "x")
			if err == nil || !strings.Contains(err.Error(), "not confirmed within 2s, so the node put itself back") {
				t.Errorf("a late confirmation gets: %v", err)
			}
		})
	}
}

func asUser() setup {
	return setup{user: "rbtest", script: sudoers("rbtest ALL=(root) NOPASSWD: ALL")}
}

func bySudo(to *Target) { to.User, to.Become = "rbtest", "sudo" }

func whole(t *testing.T, n engine.Node) resource.State {
	t.Helper()
	s, err := n.Read(t.Context(), nodetest.Everything)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closed ends the session as a controller does.
func closed(t *testing.T, s *server, n engine.Node) {
	n.Close()
	s.onlyGuardians(t)
}

// hungUp ends it as an sshd does that is stopped: all of the session is told to
// hang up, and what stays is killed, but for what has left the session.
func hungUp(t *testing.T, s *server, n engine.Node) {
	for _, pid := range s.agents(t) {
		syscall.Kill(pid, syscall.SIGHUP)
	}
	for _, pid := range s.agents(t) {
		if !guards(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	s.onlyGuardians(t)
}

func guards(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Contains(string(b), "\x00guard\x00")
}

// onlyGuardians waits until no other agent is left.
func (s *server) onlyGuardians(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		others, guardians := 0, 0
		for _, pid := range s.agents(t) {
			if guards(pid) {
				guardians++
			} else {
				others++
			}
		}
		if others == 0 {
			if guardians != 1 {
				t.Errorf("there are %d guardians", guardians)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d agents are left", others)
		}
	}
}
