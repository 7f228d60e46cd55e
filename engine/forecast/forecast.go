// Package forecast says what a rollout does to the Postgres servers that its nodes are clients of.
//
// A session that a change cuts leaves a backend behind: its client has gone, and the server
// does not know. It holds its connection until a keepalive or a timeout finds it
// dead, while the client has long come back with another. So a rollout that cuts
// sessions faster than the dead ones go fills the server, and then it lets nobody in.
//
// What is forecast are the sessions that the plan says are cut, at their client's end or the server's: all of a wave at once, each wave as soon as
// the one before it has baked. Where nothing else is known, every client is back at once, which
// is the worst. Sessions that a change only stalls go on after it, and are none of it.
package forecast

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// Server is what a Postgres server has to give when the plan is made.
type Server struct {
	Name     string             // as the runbook calls it
	Ports    []uint16           // that it listens on, and under which it is reached
	Capacity int                // connections that are not reserved
	Used     int                // of these
	Clients  map[netip.Addr]int // its sessions, by the address that they come from
	Node     string             // that it runs on; "" where that is not known
	Addr     netip.Addr         // at which it is reached; the zero Addr where that is not known
	Dead     Life               // of a backend whose client is gone

	// A session takes up what the server is configured to with its next query: one that has said nothing since lives on as before.
	Old    map[netip.Addr]int // of Clients: those that have said nothing since what Dead rests on was written
	Unsure int                // of Used, where it is not known when that was: those that have said nothing since the configuration was read
}

// Wave is the plans of the nodes that are changed in one wave. Nobody waits before one without any.
type Wave = []*engine.NodePlan

// Peak is how many connections a server is to have at its worst in one wave.
type Peak struct {
	Wave  int // from 1
	Cut   int // sessions that this wave cuts
	Total int // connections: what was used, and all that are dead by then and not yet gone
}

// Forecast is what a rollout does to one server.
type Forecast struct {
	Server
	Peaks []Peak // of waves that cut any
	pace  Pace
	cuts  []cut // by wave, of those in which there is something to do
	most  cut   // of one node
	other int   // sessions that are cut, have one of its ports, and are not seen to be its
}

// Pace is how things follow each other.
type Pace struct {
	Bake   time.Duration // from the end of a wave to the next
	Outage time.Duration // how long a node is cut off whose address comes back
	Return time.Duration // how long clients take at the least until they are back, with other sessions
	Limit  time.Duration // how long the whole may take; 0: not known
}

// cut is how many sessions are cut: of nodes whose addresses are gone after that, of nodes to which they come back, and
// of either those that do not know of the server's settings.
type cut struct{ gone, back, old int }

func (c cut) total() int { return c.gone + c.back + c.old }

func (c cut) plus(o cut) cut { return cut{c.gone + o.gone, c.back + o.back, c.old + o.old} }

// aged is c with as many as n of them old.
func (c cut) aged(n int) cut {
	gone := min(n, c.gone)
	back := min(n-gone, c.back)
	return cut{c.gone - gone, c.back - back, c.old + gone + back}
}

// Of is what is ahead of each server, in order, where waves are gone through at a pace.
func Of(waves []Wave, pace Pace, servers []Server) []Forecast {
	out := make([]Forecast, len(servers))
	for i, s := range servers {
		f := Forecast{Server: s, pace: pace}
		for w, nodes := range waves {
			if len(nodes) == 0 {
				continue
			}
			var all cut
			for _, n := range nodes {
				c, other := s.cutBy(n)
				all = all.plus(c)
				f.other += other
				if c.total() > f.most.total() {
					f.most = c
				}
			}
			f.cuts = append(f.cuts, all)
			if all.total() > 0 {
				f.Peaks = append(f.Peaks, Peak{Wave: w + 1, Cut: all.total(), Total: f.at(len(f.cuts)-1, pace.Bake)})
			}
		}
		out[i] = f
	}
	return out
}

// leadsTo reports whether a session may be one to s. Of those of a node that has very many, some are
// told by its own address alone.
func (s Server) leadsTo(k engine.Cut) bool {
	return !k.Stalls && k.Port == 0 && (slices.Contains(s.Ports, k.Peer.Port()) || !k.Peer.IsValid() && k.Local.IsValid())
}

// runsOn reports whether s is known to run on the node of p.
func (s Server) runsOn(p *engine.NodePlan) bool {
	has := func(k engine.Cut) bool { return k.Local.Unmap() == s.Addr }
	return s.Node != "" && s.Node == p.Node || s.Addr.IsValid() && slices.ContainsFunc(p.Changes(), func(c engine.PlannedChange) bool {
		return slices.ContainsFunc(c.Edit.Cuts, has)
	})
}

// serves reports whether a session of the node on which s runs may be one of its clients.
func (s Server) serves(k engine.Cut) bool {
	return !k.Stalls && (slices.Contains(s.Ports, k.Port) || !k.Peer.IsValid() && k.Local.IsValid())
}

// sessions is how many it has from an address; from the zero Addr: at all.
func (s Server) sessions(from netip.Addr) int { return sum(s.Clients, from) }

// old is how many of them live on as before; none where that is no longer.
func (s Server) old(from netip.Addr) int {
	if s.Dead.Gone >= systemGone {
		return 0
	}
	return sum(s.Old, from)
}

func sum(counts map[netip.Addr]int, of netip.Addr) (n int) {
	if of.IsValid() {
		return counts[of]
	}
	for _, c := range counts {
		n += c
	}
	return n
}

// cutBy is how many sessions to s a plan cuts, at either end. One that is cut by two changes is cut once. other are those
// that have such a port, and are not seen to be its.
func (s Server) cutBy(p *engine.NodePlan) (out cut, other int) {
	lost := map[netip.Addr]cut{} // by the address of the client
	changes, here := p.Changes(), s.runsOn(p)
	for i, c := range changes {
		at := map[netip.Addr]cut{}
		unseen := 0
		for _, k := range c.Edit.Cuts {
			client := k.Local.Unmap()
			its := s.leadsTo(k)
			if here && s.serves(k) {
				client, its = k.Peer.Addr().Unmap(), true
			}
			switch {
			case its && s.sessions(client) > 0 && comesBack(k, changes[i:]):
				at[client] = at[client].plus(cut{back: k.Count})
			case its && s.sessions(client) > 0:
				at[client] = at[client].plus(cut{gone: k.Count})
			case its && k.Peer.IsValid(), !k.Stalls && slices.Contains(s.Ports, k.Port) && s.Clients[k.Peer.Addr().Unmap()] > 0:
				unseen += k.Count
			}
		}
		other = max(other, unseen)
		for client, c := range at {
			if c.total() > lost[client].total() {
				lost[client] = c
			}
		}
	}
	for client, c := range lost { // the server knows better how many there are
		over := max(c.total()-s.sessions(client), 0)
		c.back -= min(over, c.back)
		c.gone = min(c.gone, s.sessions(client))
		out = out.plus(c.aged(s.old(client)))
	}
	return out, other
}

// comesBack reports whether the client's end of k is there again, and has its way to the server, when changes are
// through, the first of which cuts it. It is not where nothing that k rests on is seen to go and to come again.
func comesBack(k engine.Cut, changes []engine.PlannedChange) bool {
	there := map[resource.Key]bool{} // of what k rests on, and a change changes
	for _, c := range changes {
		for _, d := range c.Edit.Diff() {
			if restsOn(k, d) {
				l, isLink := d.After.(resource.Link)
				there[d.Key] = d.After != nil && (!isLink || l.Up)
			}
		}
	}
	for _, is := range there {
		if !is {
			return false
		}
	}
	return len(there) > 0 || changes[0].Edit.Restart != ""
}

// restsOn reports whether d is about what k needs: its address, its link, the route that its packets take.
func restsOn(k engine.Cut, d resource.Change) bool {
	r := d.Before
	if r == nil {
		r = d.After
	}
	switch r := r.(type) {
	case resource.Addr:
		return r.Prefix.Addr() == k.Local
	case resource.Link:
		return r.Name == k.Dev
	}
	return d.Key == k.Route
}

// at is how many connections the server has in wave w, from 0, of those in which there is something to do, where they are so long apart.
func (f Forecast) at(w int, bake time.Duration) int {
	most := 0
	for _, back := range []time.Duration{f.pace.Return, max(f.pace.Return, f.pace.Outage)} { // clients whose nodes are cut off for a while come back later
		n := f.Used
		for i := range w + 1 {
			age := time.Duration(w-i)*(bake+f.pace.Outage) + back
			if age < f.Dead.Gone {
				n += f.cuts[i].gone
			}
			if age < f.Dead.Back(f.pace.Outage) {
				n += f.cuts[i].back
			}
			if age < systemGone {
				n += f.cuts[i].old
			}
		}
		if back < f.pace.Outage {
			n -= f.cuts[w].back
		}
		most = max(most, n)
	}
	return most
}

// Worst is the highest peak; the zero Peak where nothing is cut.
func (f Forecast) Worst() Peak {
	var worst Peak
	for _, p := range f.Peaks {
		if p.Total > worst.Total {
			worst = p
		}
	}
	return worst
}

// Concerned reports whether any session there is cut, or may be.
func (f Forecast) Concerned() bool { return len(f.Peaks) > 0 || f.other > 0 }

// Refusal is why the rollout must not start, or nil.
func (f Forecast) Refusal() *engine.Error {
	for _, p := range f.Peaks {
		if p.Total > f.Capacity {
			return &engine.Error{
				Code: engine.GateFailed, Left: engine.NothingChanged,
				Cause: fmt.Sprintf("wave %d would leave %s at %d of %d connections: %d are used, and a backend whose session is cut lives on for %s",
					p.Wave, f.Name, p.Total, f.Capacity, f.Used, f.life()),
				Hint: f.advice(),
			}
		}
	}
	return nil
}

// life is how long the backends of the sessions that are cut live on.
func (f Forecast) life() string {
	back, gone := false, false
	for _, c := range f.cuts {
		back, gone = back || c.back > 0, gone || c.gone > 0
	}
	d := f.Dead.Gone
	if back && !gone {
		d = f.Dead.Back(f.pace.Outage)
	}
	text := fmt.Sprintf("%s (%s)", d.Round(time.Second), f.Dead.Why)
	if old := f.oldCut(); old > 0 {
		text += fmt.Sprintf(", and %d of them for %s or as long as before, for they have said nothing since that was set", old, systemGone)
	}
	return text
}

// oldCut is how many of those that are cut live on as before.
func (f Forecast) oldCut() (n int) {
	for _, c := range f.cuts {
		n += c.old
	}
	return n
}

// advice is how the rollout could go on: how long it is to bake, or into how small waves it is to be split.
func (f Forecast) advice() string {
	var out []string
	most, free := 0, f.Capacity-f.Used
	for _, c := range f.cuts {
		most = max(most, c.total())
	}
	switch bake, fits := f.leastBake(); {
	case fits:
		advice := fmt.Sprintf("bake = %q lets the dead ones go first", round(bake))
		if whole := bake * time.Duration(len(f.cuts)-1); f.pace.Limit > 0 && whole > f.pace.Limit {
			advice += fmt.Sprintf(", and takes longer than the limit duration = %s: %s in all for %d waves", f.pace.Limit, round(whole), len(f.cuts))
		}
		out = append(out, advice)
	case f.most.total() > free:
		out = append(out, fmt.Sprintf("one node alone has %d sessions there, and %d connections are free", f.most.total(), max(free, 0)))
	case most > free:
		bake := f.Dead.Gone
		if f.oldCut() > 0 {
			bake = systemGone
		}
		out = append(out, fmt.Sprintf("waves of at most %d of these nodes, with bake = %q", free/f.most.total(), round(bake)))
	}
	if f.oldCut() > 0 {
		out = append(out, "a session takes up the server's settings with its next query, so that a query over each of the idle ones, or their end, helps")
	}
	if f.Dead.Advice != "" {
		out = append(out, f.Dead.Advice)
	}
	return strings.Join(out, "; ")
}

// leastBake is the shortest wait between waves with which the server never has more than its capacity.
func (f Forecast) leastBake() (time.Duration, bool) {
	var waits []time.Duration
	for n := 1; n <= len(f.cuts); n++ { // with which the dead of n waves are there at the same time
		for _, life := range []time.Duration{f.Dead.Gone, f.Dead.Back(f.pace.Outage), systemGone} {
			waits = append(waits, (life+time.Duration(n)-1)/time.Duration(n))
		}
	}
	slices.Sort(waits)
	for _, bake := range waits {
		fits := bake > f.pace.Bake
		for w := range f.cuts {
			fits = fits && f.at(w, bake) <= f.Capacity
		}
		if fits {
			return bake, true
		}
	}
	return 0, false
}

// round is d as a header can have it, not less.
func round(d time.Duration) string {
	return (time.Duration(math.Ceil(d.Seconds())) * time.Second).String()
}

// String is the forecast in one line.
func (f Forecast) String() string {
	out := fmt.Sprintf("%s: %d of %d connections used; no session there is cut", f.Name, f.Used, f.Capacity)
	if worst := f.Worst(); worst.Wave > 0 {
		out = fmt.Sprintf("%s: %d of %d connections used; at most %d in wave %d, for a backend whose session is cut lives on for %s", f.Name, f.Used, f.Capacity, worst.Total, worst.Wave, f.life())
	}
	if f.Unsure > 0 && f.Dead.Gone < systemGone && f.Worst().Wave > 0 {
		out += fmt.Sprintf("; %d of the sessions have said nothing since the server has read its configuration, and may live on for as long as it had them live before", f.Unsure)
	}
	if f.other > 0 {
		out += fmt.Sprintf("; not counted are %d that are cut and have such a port, but are not seen to be its: another server's, or by a NAT or a pooler", f.other)
	}
	return out
}
