package journal

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"runbook/engine"
)

// again starts the test binary in another role on the journal in dir.
func again(role, dir string, env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), append(env, "JOURNAL_ROLE="+role, "JOURNAL_DIR="+dir)...)
	c.Stderr = os.Stderr
	return c
}

// TestKilledProcessLosesNothing kills a process that appends, again and again
// on one journal: every entry that it acknowledged must be there, in the order
// of its goroutine, and none twice.
func TestKilledProcessLosesNothing(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	acknowledged := 0
	for round := range rounds {
		c := again("appender", dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill := func() { _ = c.Process.Kill() }
		last := 1 + rand.N(1500) // however slow the machine is
		if round%4 == 3 {
			time.AfterFunc(rand.N(50*time.Millisecond), kill) // while it opens the journal, maybe
		}
		var run string
		var want []string
		lines(bufio.NewScanner(out), func(l string) {
			if id, ok := strings.CutPrefix(l, "begun "); ok {
				run = id
				return
			}
			if want = append(want, l); len(want) == last {
				time.AfterFunc(rand.N(3*time.Millisecond), kill)
			}
		})
		_ = c.Wait() // it was killed
		if run == "" {
			continue
		}
		j := open(t, dir)
		record, entries, err := j.Run(t.Context(), run)
		if err != nil || record.Outcome != nil {
			t.Fatalf("%v %+v", err, record)
		}
		got := map[string]bool{}
		for i, e := range entries {
			if got[e.Text] || e.Seq != int64(i+1) || e.Edit == nil {
				t.Errorf("entry %d: %+v", i, e)
			}
			got[e.Text] = true
		}
		for _, w := range want {
			if !got[w] {
				t.Errorf("run %s: %s was acknowledged and is lost", run, w)
			}
		}
		acknowledged += len(want)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acknowledged == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Logf("%d kills, %d acknowledged entries, none lost", rounds, acknowledged)
}

// TestProcessesThatAppendAtOnce has processes make one journal at the same
// moment and append to one run, whose numbers must stay without gaps.
func TestProcessesThatAppendAtOnce(t *testing.T) {
	dir := t.TempDir()
	for range 5 { // all make the journal
		var cs []*exec.Cmd
		fresh := t.TempDir()
		for range 4 {
			c := again("counter", fresh, "JOURNAL_COUNT=0")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			cs = append(cs, c)
		}
		for _, c := range cs {
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
		}
		if runs, err := open(t, fresh).Runs(t.Context()); len(runs) != 4 || err != nil {
			t.Errorf("%d runs: %v", len(runs), err)
		}
	}

	j := open(t, dir)
	shared := begin(t, j, record)
	const processes, count = 3, 300
	var cs []*exec.Cmd
	outs := make([]bytes.Buffer, processes)
	start := time.Now()
	for i := range processes {
		c := again("counter", dir, "JOURNAL_COUNT=300", "JOURNAL_RUN="+shared)
		c.Stdout = &outs[i]
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	for _, c := range cs {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d processes appended %d entries in %v", processes, processes*count*2, time.Since(start))
	want := map[string]int{shared: processes * count}
	for i := range outs {
		want[strings.TrimSpace(outs[i].String())] = count
	}
	for run, n := range want {
		_, entries, err := j.Run(t.Context(), run)
		if err != nil || len(entries) != n {
			t.Fatalf("run %s: %d entries, want %d (%v)", run, len(entries), n, err)
		}
		if i := slices.IndexFunc(entries, func(e engine.Entry) bool { return e.Seq < 1 || e.Seq > int64(n) }); i >= 0 {
			t.Errorf("run %s: entry %d has number %d", run, i, entries[i].Seq)
		}
	}
}
