//go:build linux

package script

import (
	"fmt"
	"syscall"
	"testing"

	"runbook/engine"
)

// TestMemoryBound checks how much memory an evaluator gets at most, whatever
// the sizes it asks for.
func TestMemoryBound(t *testing.T) {
	for _, mb := range []int{200, 400, 500, 600, 900, 1023} {
		text := fmt.Sprintf("runbook()\ndef run(node, p):\n    s = 'x' * (%d << 20)\n    l = []\n    for i in range(1000):\n        l.append('y' * (1 << 20))\n", mb)
		p, err := start(t, Config{Limits: quarterGB, Command: released(t)}, source(text))
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, p.Run(t.Context(), web1, &host{}), engine.LimitHit)
		p.Close()
		rss := p.proc.cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10
		t.Logf("a string of %d MB: %d MB at most", mb, rss)
		if rss > 3*256 {
			t.Errorf("a string of %d MB: %d MB", mb, rss)
		}
	}
}
