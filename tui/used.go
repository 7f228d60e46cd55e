package tui

import (
	"fmt"
	"strings"
	"time"

	"runbook/engine"
)

// Used is one line that says what was used of each limit: "used: nodes 3/100, …".
func Used(l engine.Limits, used engine.Used) string {
	var parts []string
	for _, info := range engine.LimitTable {
		n, counted := used[info.Name]
		if !counted {
			continue
		}
		if info.Unit == engine.Time {
			n = int64(time.Duration(n).Round(10 * time.Millisecond))
		}
		if mb := int64(1 << 20); info.Unit == engine.Size && n > 10*mb {
			n = (n + mb - 1) / mb * mb
		}
		parts = append(parts, fmt.Sprintf("%s %s/%s", info.Name, info.Show(n), info.Show(l.Of(info.Name).N)))
	}
	return "used: " + strings.Join(parts, ", ")
}

// limitDoc is the published form of a limit and its use.
type limitDoc struct {
	Used   *int64 `json:"used,omitempty"` // nanoseconds, bytes or a number; missing where it was not counted
	Limit  int64  `json:"limit"`
	Source string `json:"source"` // who said it
}

func limitDocs(l engine.Limits, used engine.Used) map[engine.Limit]limitDoc {
	out := map[engine.Limit]limitDoc{}
	for _, info := range engine.LimitTable {
		b := l.Of(info.Name)
		d := limitDoc{Limit: b.N, Source: b.Source}
		if b.Source == "" {
			d.Source = "default"
		}
		if n, counted := used[info.Name]; counted {
			d.Used = &n
		}
		out[info.Name] = d
	}
	return out
}
