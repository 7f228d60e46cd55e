//go:build linux

package guard

import (
	"fmt"
	"testing"
	"time"

	"runbook/engine"
	"runbook/node/nodetest"
)

// What guarding costs: arming is part of the change's own request, and putting
// back 50 objects is told by what the guardian did, from its lock to its record.
//
//	go test ./node/guard -run '^$' -bench .
func BenchmarkArmed(b *testing.B) {
	m := newMachine(b)
	a := m.agent(b)
	e := edit(b, a, "r1", route(1))
	time1 := func(e engine.Edit) time.Duration {
		start := time.Now()
		if _, err := a.Apply(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var plain, with time.Duration
	for i := 0; b.Loop(); i++ {
		plain += time1(e)
		a.Apply(b.Context(), e.Reverse())
		token := fmt.Sprint("t", i)
		with += time1(guarded(e, token, time.Minute))
		if err := a.Confirm(b.Context(), token); err != nil {
			b.Fatal(err)
		}
		a.Apply(b.Context(), e.Reverse())
		m.idle(b) // so that the next one starts a guardian again
	}
	n := float64(b.N)
	b.ReportMetric(plain.Seconds()*1000/n, "ms/plain")
	b.ReportMetric((with-plain).Seconds()*1000/n, "ms/arming")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkPutBack50(b *testing.B) {
	for _, c := range []struct {
		name  string
		edits int // which share the 50 objects
	}{{"in one change", 1}, {"in 50 changes", 50}} {
		b.Run(c.name, func(b *testing.B) {
			m := newMachine(b)
			a := m.agent(b)
			before := a.read(b, nodetest.Everything)
			var took time.Duration
			for i := 0; b.Loop(); i++ {
				var edits []engine.Edit
				for j := range c.edits {
					e := engine.Edit{Run: "r1", ID: fmt.Sprint("r1/", j)}
					for k := j; k < 50; k += c.edits {
						one := edit(b, a, "r1", route(k))
						e.Query = append(e.Query, one.Query...)
						if e.Want == nil {
							e.Want, e.Before, e.After = one.Want, one.Before, one.After
						}
						for key, r := range one.Want {
							e.Want[key], e.After[key] = r, r
						}
					}
					edits = append(edits, e)
				}
				edits[0] = guarded(edits[0], fmt.Sprint("t", i), 300*time.Millisecond)
				if _, err := a.ApplyAll(b.Context(), edits); err != nil {
					b.Fatal(err)
				}
				r, err := m.folder().pending()
				if err != nil || r == nil {
					b.Fatal(r, err)
				}
				m.idle(b)
				if err := m.folder().load(r.name(), r); err != nil || r.Ended.PutBack != c.edits {
					b.Fatal(r.Ended, err)
				}
				took += r.Ended.At.Since - r.Ended.Began.Since
				eventually(b, a, before, 0)
			}
			b.ReportMetric(took.Seconds()*1000/float64(b.N), "ms/put-back")
			b.ReportMetric(0, "ns/op")
		})
	}
}
