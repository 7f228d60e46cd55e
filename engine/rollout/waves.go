package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"runbook/engine"
)

// Waves splits n nodes: wave i is the nodes from the end of wave i-1 up to
// ends[i]. A count says how many nodes have been tried at the end of its wave,
// a percentage how many of all, rounded up. The last wave reaches every node.
func Waves(waves []string, n int) (ends []int, err error) {
	last := 0
	for _, w := range waves {
		count, err := waveEnd(w, n)
		if err != nil {
			return nil, err
		}
		if count = min(count, n); count > last {
			ends = append(ends, count)
			last = count
		}
	}
	if last < n {
		ends = append(ends, n)
	}
	return ends, nil
}

// Spread orders nodes so that those that have the same value of a variable are as
// far apart as can be: of each value the first, then of each the second. Those of one value keep their
// order; the values come in that of their text, and nodes without the variable are of one more.
func Spread(nodes []engine.NodeInfo, variable string) []engine.NodeInfo {
	if variable == "" {
		return nodes
	}
	by := map[string][]engine.NodeInfo{}
	for _, n := range nodes {
		value := ""
		if v, ok := n.Vars[variable]; ok {
			value = fmt.Sprint(v)
		}
		by[value] = append(by[value], n)
	}
	values := slices.Sorted(maps.Keys(by))
	out := make([]engine.NodeInfo, 0, len(nodes))
	for round := 0; len(out) < len(nodes); round++ {
		for _, v := range values {
			if round < len(by[v]) {
				out = append(out, by[v][round])
			}
		}
	}
	return out
}

func waveEnd(w string, n int) (int, error) {
	text, percent := strings.CutSuffix(w, "%")
	v, err := strconv.Atoi(text)
	if err != nil || v < 1 || percent && v > 100 {
		return 0, fmt.Errorf("wave %q: want a number of nodes such as \"1\", or a percentage such as \"10%%\"", w)
	}
	if percent {
		return (n*v + 99) / 100, nil
	}
	return v, nil
}
