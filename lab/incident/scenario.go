package incident

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// This file measures what disruptions come to on the server, in many scenarios at
// the same time, so that what is predicted of them can be held against it.

// Scenario is services, and what is done to their nodes one after another.
type Scenario struct {
	Nodes       int // with a service each
	Habits      Habits
	Disruptions int           // of node 1, 2, …, and of 1 again after the last
	Down        time.Duration // how long a link is down; zero: it stays up, and its address is replaced by another one
	Bake        time.Duration // from the end of a disruption to the next
}

// Outcome is what came of a scenario.
type Outcome struct {
	Scenario Scenario
	Act      Act
}

// Peak is the most connections that the server had for the scenario's services.
func (o Outcome) Peak() int { return o.Act.Most(Second.backends) }

// RandomScenario is small enough for dozens to be measured at the same time. It takes 40 s at the most.
func RandomScenario(r *rand.Rand) Scenario {
	between := func(low, high int) int { return low + r.IntN(high-low+1) }
	nodes := between(2, 5)
	s := Scenario{
		Nodes:       nodes,
		Disruptions: between(1, nodes), // no node is disrupted again within seconds: it would refuse that
		Down:        time.Duration(between(2, 4)) * time.Second,
		Bake:        time.Duration(between(0, 4)) * time.Second,
		Habits:      Habits{Pool: between(4, 8), Every: 500 * time.Millisecond, Timeout: time.Second, Retry: 500 * time.Millisecond, Settings: map[string]string{}},
	}
	set := func(name string, low, high int) {
		if r.IntN(3) > 0 { // else it is as the operating system has it
			s.Habits.Settings[name] = strconv.Itoa(between(low, high))
		}
	}
	set("tcp_keepalives_idle", 1, 6)
	set("tcp_keepalives_interval", 1, 3)
	set("tcp_keepalives_count", 1, 4)
	set("tcp_user_timeout", 2000, 9000)
	set("client_connection_check_interval", 500, 3000)
	if r.IntN(3) == 0 {
		s.Down = 0
	}
	return s
}

// Measure plays the scenarios, all at the same time: in one lab and on one
// server, which has room for them. Each has nodes of its own.
func Measure(ctx context.Context, scenarios []Scenario) (out []Outcome, err error) {
	all, most := 0, 20
	for _, s := range scenarios {
		all += s.Nodes
		most += (s.Nodes + s.Disruptions) * s.Habits.Pool
	}
	st, err := openStage(ctx, all, most)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := st.close(); err == nil {
			err = e
		}
	}()
	plays, connections, err := st.cast(scenarios)
	if err != nil {
		return nil, err
	}
	if err := st.filled(ctx, connections); err != nil {
		return nil, err
	}
	st.observe(func(found []backend) {
		for _, p := range plays {
			p.count(st, found)
		}
	})
	var together errgroup.Group
	for _, p := range plays {
		together.Go(func() error { return p.run(ctx, st) })
	}
	if err := together.Wait(); err != nil {
		return nil, err
	}
	for _, p := range plays {
		out = append(out, Outcome{p.Scenario, p.record.end()})
	}
	return out, nil
}

// play is a scenario on a stage.
type play struct {
	Scenario
	application string // what the server knows its connections by
	nodes       []string
	record      *record
}

// cast puts the services of each scenario on nodes of its own.
func (st *stage) cast(scenarios []Scenario) (plays []*play, connections int, err error) {
	free := st.status.Nodes
	for i, s := range scenarios {
		p := &play{Scenario: s, application: fmt.Sprint("scenario ", i)}
		for _, n := range free[:s.Nodes] {
			p.nodes = append(p.nodes, n.Name)
		}
		free = free[s.Nodes:]
		h := s.Habits
		h.Settings = maps.Clone(h.Settings)
		if h.Settings == nil {
			h.Settings = map[string]string{}
		}
		h.Settings["application_name"] = p.application
		p.record = newRecord(p.nodes)
		if err := st.serve(p.nodes, h, p.record); err != nil {
			return nil, 0, err
		}
		plays, connections = append(plays, p), connections+s.Nodes*h.Pool
	}
	return plays, connections, nil
}

// count takes down how many of the server's connections are the scenario's.
func (p *play) count(st *stage, found []backend) {
	var mine []backend
	for _, b := range found {
		if b.application == p.application {
			mine = append(mine, b)
		}
	}
	p.record.backends(len(mine), st.sockets.dead(mine))
}

// run disrupts the nodes, and watches a while longer: the last dead connections are replaced after a moment only.
func (p *play) run(ctx context.Context, st *stage) error {
	p.record.begin()
	if err := st.pause(ctx, calm); err != nil {
		return err
	}
	for i := range p.Disruptions {
		if err := p.disrupt(ctx, st, i); err != nil {
			return err
		}
		if err := st.pause(ctx, p.Bake); err != nil {
			return err
		}
	}
	return st.pause(ctx, p.Habits.Timeout+p.Habits.Retry+2*time.Second)
}

// disrupt disrupts a node for the nth time of the scenario.
func (p *play) disrupt(ctx context.Context, st *stage, nth int) error {
	node := p.nodes[nth%len(p.nodes)]
	ip := func(args ...string) error {
		_, err := output(ctx, st.lab, node, append([]string{"ip"}, args...)...)
		return err
	}
	if p.Down == 0 {
		p.record.point(p.record.now(), "renumbered")
		return st.renumber(node, nth, ip)
	}
	if err := ip("link", "set", "eth1", "down"); err != nil {
		return err
	}
	if err := st.pause(ctx, p.Down); err != nil {
		return err
	}
	return ip("link", "set", "eth1", "up")
}

// renumber gives eth1 of a node another address in place of the one that it has.
func (st *stage) renumber(node string, nth int, ip func(...string) error) error {
	if err := ip("-4", "address", "flush", "dev", "eth1"); err != nil {
		return err
	}
	var number int
	if _, err := fmt.Sscanf(node, "node-%d", &number); err != nil {
		return err
	}
	return ip("address", "add", fmt.Sprintf("10.98.%d.%d/16", 128+nth, number), "dev", "eth1")
}
