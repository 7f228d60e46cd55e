//go:build linux

package linux_test

import (
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"runbook/engine"
	"runbook/node/nodetest"
)

// pinger asks over one session, one question after the other, until the session ends.
type pinger struct {
	answers atomic.Int64
	longest atomic.Int64 // that an answer took, in nanoseconds
	ended   chan error
}

func ping(c net.Conn) *pinger {
	p := &pinger{ended: make(chan error, 1)}
	go func() {
		b := make([]byte, 1)
		for {
			asked := time.Now()
			if _, err := c.Write(b); err != nil {
				p.ended <- err
				return
			}
			if _, err := io.ReadFull(c, b); err != nil {
				p.ended <- err
				return
			}
			p.longest.Store(max(p.longest.Load(), int64(time.Since(asked)))) // nobody else raises it
			p.answers.Add(1)
			time.Sleep(100 * time.Microsecond)
		}
	}()
	return p
}

// goesOn waits until an answer came to a question that was asked after this call.
func (p *pinger) goesOn(t *testing.T) {
	t.Helper()
	before := p.answers.Load()
	for end := time.Now().Add(15 * time.Second); p.answers.Load() < before+2; time.Sleep(time.Millisecond) {
		select {
		case err := <-p.ended:
			t.Fatalf("the session was cut: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("the session does not go on")
		}
	}
}

// TestRestartStallsSessions restarts the link under established TCP sessions, which
// go on; it prints for how long they stood still.
func TestRestartStallsSessions(t *testing.T) {
	const restarts = 10
	n, ns, peer := peered(t)
	nodetest.Echo(t, peer, "[::]:5432")
	for name, to := range map[string]string{"IPv4": "10.98.0.1:5432", "IPv6": "[fd00:98::1]:5432"} {
		t.Run(name, func(t *testing.T) {
			p := ping(nodetest.DialTCP(t, ns, "", to))
			p.goesOn(t)
			var stalls []time.Duration
			for range restarts {
				p.longest.Store(0)
				made(t, n, engine.Edit{Restart: "eth1"})
				p.goesOn(t)
				stalls = append(stalls, time.Duration(p.longest.Load()).Round(time.Millisecond))
			}
			slices.Sort(stalls)
			median := stalls[restarts/2]
			t.Logf("%d restarts stalled a session for %v at least, %v in the median, %v at most", restarts, stalls[0], median, stalls[restarts-1])
			if median > time.Second {
				t.Errorf("more than 1 s: %v", stalls)
			}
		})
	}
}
