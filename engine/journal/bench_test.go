package journal

import (
	"sync"
	"testing"
	"time"

	"runbook/engine"
)

// BenchmarkAppend compares one node that appends with fifty at the same time.
// Each entry is durable when Append returns, so the second is fast only as far
// as entries share a commit. It prints how many times as many it gets done.
func BenchmarkAppend(b *testing.B) {
	var single float64
	for _, bb := range []struct {
		name  string
		nodes int
	}{{"single", 1}, {"concurrent=50", 50}} {
		b.Run(bb.name, func(b *testing.B) {
			j := open(b, b.TempDir())
			e := engine.Entry{Run: begin(b, j, record), Node: "web-1", Kind: "intent", Edit: edit}
			b.ResetTimer()
			start := time.Now()
			todo := make(chan struct{})
			var wg sync.WaitGroup
			for range bb.nodes {
				wg.Go(func() {
					for range todo {
						if err := j.Append(b.Context(), e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for range b.N {
				todo <- struct{}{}
			}
			close(todo)
			wg.Wait()
			rate := float64(b.N) / time.Since(start).Seconds()
			b.ReportMetric(rate, "entries/s")
			if bb.nodes == 1 {
				single = rate
			} else if single > 0 {
				b.ReportMetric(rate/single, "×single")
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	open(b, dir)
	for range b.N {
		j, err := Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
