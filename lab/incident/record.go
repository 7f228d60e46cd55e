package incident

import (
	"slices"
	"sync"
	"time"
)

// Second is what happened within one second of an act.
type Second struct {
	Backends int `json:"backends"` // on the server: the most that were seen
	Dead     int `json:"dead"`     // of those, then: whose client has closed its socket
	Served   int `json:"served"`   // requests that were answered
	Failed   int `json:"failed"`   // requests that were not
	Refused  int `json:"refused"`  // of those: because the server had too many connections
}

// What [Act.Most] and [Act.Sum] may read of a second.
func (s Second) backends() int { return s.Backends }
func (s Second) dead() int     { return s.Dead }
func (s Second) failed() int   { return s.Failed }
func (s Second) refused() int  { return s.Refused }

// NodeFigures is how the service on one node has fared.
type NodeFigures struct {
	Node     string  `json:"node"`
	Restarts int     `json:"restarts"` // how often the kernel took eth1 down
	Served   int     `json:"served"`
	Failed   int     `json:"failed"`
	Refused  int     `json:"refused"`
	Stalled  int     `json:"stalled_seconds"` // the seconds in which no request was served
	Longest  float64 `json:"longest_stall"`   // from one served request to the next, in seconds
}

// Mark is a moment of an act that a picture points out.
type Mark struct {
	At    float64 `json:"at"` // seconds from the beginning
	Label string  `json:"label"`
}

// Act is what was seen while something was done to the nodes.
type Act struct {
	Seconds  []Second      `json:"seconds"`
	Nodes    []NodeFigures `json:"nodes"`
	Restarts []float64     `json:"restarts"` // when an eth1 went down, in seconds from the beginning
	Marks    []Mark        `json:"marks"`
}

// Most is, of what f reads of a second, the most of all seconds.
func (a Act) Most(f func(Second) int) (most int) {
	for _, s := range a.Seconds {
		most = max(most, f(s))
	}
	return most
}

// Sum is what f reads of a second, of all seconds.
func (a Act) Sum(f func(Second) int) (sum int) {
	for _, s := range a.Seconds {
		sum += f(s)
	}
	return sum
}

// record takes down what happens in an act. It is safe for concurrent use.
type record struct {
	mu    sync.Mutex
	began time.Time // zero: nothing is taken down yet
	nodes []*nodeRecord
	act   Act
	full  chan struct{} // closed with the first connection that is refused
}

// nodeRecord is the service on one node: its figures, and when it was served.
type nodeRecord struct {
	NodeFigures
	served map[int]bool // by second
	last   time.Time    // no request was served later
}

func newRecord(nodes []string) *record {
	r := &record{full: make(chan struct{})}
	for _, n := range nodes {
		r.nodes = append(r.nodes, &nodeRecord{NodeFigures: NodeFigures{Node: n}, served: map[int]bool{}})
	}
	return r
}

// begin makes what follows count.
func (r *record) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = time.Now()
	for _, n := range r.nodes {
		n.last = r.began
	}
}

// second is the current one; nil: nothing counts yet. The caller holds mu.
func (r *record) second() (*Second, int) {
	if r.began.IsZero() {
		return nil, 0
	}
	i := int(time.Since(r.began) / time.Second)
	for len(r.act.Seconds) <= i {
		r.act.Seconds = append(r.act.Seconds, Second{})
	}
	return &r.act.Seconds[i], i
}

func (r *record) node(name string) *nodeRecord {
	i := slices.IndexFunc(r.nodes, func(n *nodeRecord) bool { return n.Node == name })
	return r.nodes[i]
}

// request takes down how a request ended.
func (r *record) request(node string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, i := r.second()
	if s == nil {
		return
	}
	n := r.node(node)
	if err == nil {
		s.Served++
		n.Served++
		n.served[i] = true
		n.stall(time.Now())
		return
	}
	s.Failed++
	n.Failed++
	if isFull(err) {
		s.Refused++
		n.Refused++
		if r.act.Sum(Second.refused) == 1 {
			close(r.full)
		}
	}
}

// stall takes down that nothing was served between the last time and now.
func (n *nodeRecord) stall(now time.Time) {
	n.Longest = max(n.Longest, now.Sub(n.last).Seconds())
	n.last = now
}

// backends takes down how many there are, and how many of them are dead.
func (r *record) backends(all, dead int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, _ := r.second(); s != nil && (all > s.Backends || all == s.Backends && dead > s.Dead) {
		s.Backends, s.Dead = all, dead
	}
}

// restarted takes down that the kernel has taken eth1 of a node down.
func (r *record) restarted(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, _ := r.second(); s != nil {
		r.node(node).Restarts++
		r.act.Restarts = append(r.act.Restarts, time.Since(r.began).Seconds())
	}
}

// restarts is how many there were.
func (r *record) restarts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.act.Restarts)
}

// now is how many seconds of the act have passed.
func (r *record) now() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.began).Seconds()
}

// point has the picture point out a moment.
func (r *record) point(at float64, label string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.act.Marks = append(r.act.Marks, Mark{at, label})
}

// end is all that was taken down, of whole seconds.
func (r *record) end() Act {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.second()
	whole := len(r.act.Seconds) - 1 // the last has not passed
	a := r.act
	a.Seconds = slices.Clone(a.Seconds[:whole])
	a.Restarts, a.Marks = slices.Clone(a.Restarts), slices.Clone(a.Marks)
	now := time.Now()
	for _, n := range r.nodes {
		n.stall(now)
		f := n.NodeFigures
		for i := range whole {
			if !n.served[i] {
				f.Stalled++
			}
		}
		a.Nodes = append(a.Nodes, f)
	}
	r.began = time.Time{} // nothing that follows counts
	return a
}
