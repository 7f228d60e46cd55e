package forecast

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

var server = netip.MustParseAddrPort("10.98.0.20:5432")

func client(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 98, 0, byte(n)}) }

// down is the plan of node n, which takes eth1 down with so many sessions to the server, and up again or not.
func down(n, sessions int, up bool) *engine.NodePlan {
	before, after := resource.Link{Name: "eth1", Up: true}, resource.Link{Name: "eth1"}
	change := func(from, to resource.Link, cuts ...engine.Cut) engine.PlannedChange {
		return engine.PlannedChange{Edit: engine.Edit{Before: resource.Of(from), After: resource.Of(to), Want: resource.Of(to), Cuts: cuts}}
	}
	session := func(peer netip.AddrPort, count int, stalls bool) engine.Cut {
		return engine.Cut{Sessions: resource.Sessions{Local: client(n), Peer: peer, Dev: "eth1", Count: count}, Stalls: stalls}
	}
	p := &engine.NodePlan{Node: fmt.Sprint("web-", n), Steps: []engine.PlannedChange{change(before, after,
		session(server, sessions, false), session(server, 7, true), session(netip.MustParseAddrPort("10.98.0.20:6379"), 5, false))}}
	if up {
		p.Steps = append(p.Steps, change(after, before))
	}
	return p
}

func fleet(waves []int, sessions int, up bool) (out []Wave, clients map[netip.Addr]int) {
	clients = map[netip.Addr]int{}
	n := 0
	for _, size := range waves {
		var w Wave
		for range size {
			n++
			w = append(w, down(n, sessions, up))
			clients[client(n)] = sessions
		}
		out = append(out, w)
	}
	return out, clients
}

func TestForecast(t *testing.T) {
	tests := []struct {
		name     string
		waves    []int
		sessions int
		up       bool
		bake     time.Duration
		capacity int
		used     int
		life     Life
		want     []int // connections in each wave
		refused  string
		hint     string
	}{
		{"all at once", []int{5}, 10, true, 0, 197, 50, Life{Gone: 11 * time.Second, Idle: 5 * time.Second}, []int{100}, "", ""},
		{"they add up", []int{1, 2, 3}, 10, true, 0, 197, 60, Life{Gone: time.Hour, Idle: time.Hour}, []int{70, 90, 120}, "", ""},
		{"those of early waves are gone", []int{1, 2, 3}, 10, true, 5 * time.Second, 197, 60, Life{Gone: 11 * time.Second, Idle: 5 * time.Second}, []int{70, 80, 90}, "", ""},
		{"an address that does not come back", []int{1, 2, 3}, 10, false, 5 * time.Second, 197, 60, Life{Gone: 11 * time.Second, Idle: 5 * time.Second}, []int{70, 90, 120}, "", ""},
		{"a longer wait", []int{2, 2, 2}, 10, true, time.Second, 100, 60, Life{Gone: 11 * time.Second, Idle: 5 * time.Second, Why: "so it is"}, []int{80, 100, 120},
			"wave 3 would leave main at 120 of 100 connections: 60 are used, and a backend whose session is cut lives on for 5s (so it is)", `bake = "3s" lets the dead ones go first`},
		{"smaller waves", []int{6}, 10, true, 0, 100, 60, Life{Gone: 11 * time.Second, Idle: 5 * time.Second}, []int{120},
			"wave 1 would leave main at 120 of 100 connections", `waves of at most 4 of these nodes, with bake = "11s"`},
		{"one node is too much", []int{1}, 50, true, 0, 100, 60, Life{Gone: 2 * time.Hour, Idle: 2 * time.Hour, Advice: "tune it"}, []int{110},
			"wave 1 would leave main at 110 of 100", "one node alone has 50 sessions there, and 40 connections are free; tune it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			waves, clients := fleet(tt.waves, tt.sessions, tt.up)
			f := Of(waves, Pace{Bake: tt.bake}, []Server{{Name: "main", Ports: []uint16{5432}, Capacity: tt.capacity, Used: tt.used, Clients: clients, Dead: tt.life}})[0]
			var got []int
			for _, p := range f.Peaks {
				got = append(got, p.Total)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("peaks %v, want %v", got, tt.want)
			}
			switch e := f.Refusal(); {
			case tt.refused == "" && e != nil:
				t.Errorf("refused: %v", e)
			case tt.refused != "" && (e == nil || e.Code != engine.GateFailed || !strings.HasPrefix(e.Cause, tt.refused) || e.Hint != tt.hint):
				t.Errorf("refused: %v\nwant %s\nand %s", e, tt.refused, tt.hint)
			}
			if tt.refused != "" && strings.HasPrefix(tt.hint, "bake") { // what it advises is enough
				if e := Of(waves, Pace{Bake: 3 * time.Second}, []Server{f.Server})[0].Refusal(); e != nil {
					t.Errorf("with the bake that it advises: %v", e)
				}
			}
		})
	}
}

// Sessions of addresses that the server does not see, such as those behind NAT, and those that were counted twice, are not counted.
func TestOnlyWhatTheServerSees(t *testing.T) {
	waves, clients := fleet([]int{2}, 10, true)
	delete(clients, client(2))
	clients[client(1)] = 4
	f := Of(waves, Pace{}, []Server{{Name: "main", Ports: []uint16{5432}, Capacity: 100, Used: 4, Clients: clients, Dead: Life{Gone: time.Hour, Idle: time.Hour}}})[0]
	if worst := f.Worst(); worst.Total != 8 || worst.Cut != 4 {
		t.Errorf("%+v", worst)
	}
	again := down(1, 3, true)
	again.Steps = append(again.Steps, again.Steps...)
	f = Of([]Wave{{again}}, Pace{}, []Server{{Name: "main", Ports: []uint16{5432}, Capacity: 100, Used: 4, Clients: clients, Dead: Life{Gone: time.Hour, Idle: time.Hour}}})[0]
	if worst := f.Worst(); worst.Cut != 3 {
		t.Errorf("cut twice: %+v", worst)
	}
}

// Sessions that come by another port than the server's own are its too, and those of which a node with very many
// tells no peers may be; of those from addresses that it does not see it says that they are not counted.
func TestWhatMayLeadThere(t *testing.T) {
	clients := map[netip.Addr]int{client(1): 10}
	server := Server{Name: "main", Ports: []uint16{5432, 6543}, Capacity: 100, Used: 10, Clients: clients, Dead: Life{Gone: time.Hour, Idle: time.Hour}}
	plan := func(local int, peer string, port uint16) *engine.NodePlan {
		k := engine.Cut{Sessions: resource.Sessions{Local: client(local), Dev: "eth1", Port: port, Count: 40}}
		if peer != "" {
			k.Peer = netip.MustParseAddrPort(peer)
		}
		before, after := resource.Link{Name: "eth1", Up: true}, resource.Link{Name: "eth1"}
		return &engine.NodePlan{Node: "web", Steps: []engine.PlannedChange{{Edit: engine.Edit{Before: resource.Of(before), After: resource.Of(after), Want: resource.Of(after), Cuts: []engine.Cut{k}}}}}
	}
	for name, c := range map[string]struct {
		plan *engine.NodePlan
		cut  int
		says string
	}{
		"its own port":                 {plan(1, "10.98.0.20:5432", 0), 10, "at most 20 in wave 1"},
		"the port of the DSN":          {plan(1, "10.98.0.20:6543", 0), 10, "at most 20 in wave 1"},
		"another port":                 {plan(1, "10.98.0.20:80", 0), 0, "no session there is cut"},
		"no peers are told":            {plan(1, "", 0), 10, "at most 20 in wave 1"},
		"the node is a server":         {plan(1, "10.98.0.20:0", 5432), 0, "no session there is cut"},
		"perhaps this one":             {plan(20, "10.98.0.1:0", 5432), 0, "not counted are 40 that are cut"},
		"an address behind NAT":        {plan(2, "10.98.0.20:5432", 0), 0, "not counted are 40 that are cut"},
		"no peers, and no such client": {plan(2, "", 0), 0, "no session there is cut"},
	} {
		f := Of([]Wave{{c.plan}}, Pace{}, []Server{server})[0]
		if said := f.String(); f.Worst().Cut != c.cut || !strings.Contains(said, c.says) || strings.Contains(said, "not counted") != strings.Contains(c.says, "not counted") {
			t.Errorf("%s: %d cut, want %d: %s", name, f.Worst().Cut, c.cut, said)
		}
	}
}

// Advice that the run's own limit does not allow says so.
func TestAdviceWithinTheLimit(t *testing.T) {
	waves, clients := fleet([]int{1, 1}, 10, true)
	s := Server{Name: "main", Ports: []uint16{5432}, Capacity: 35, Used: 20, Clients: clients, Dead: Life{Gone: time.Hour, Idle: time.Hour}}
	for limit, want := range map[time.Duration]string{
		30 * time.Minute: `bake = "1h0m0s" lets the dead ones go first, and takes longer than the limit duration = 30m0s: 1h0m0s in all for 2 waves`,
		3 * time.Hour:    `bake = "1h0m0s" lets the dead ones go first`,
	} {
		if e := Of(waves, Pace{Limit: limit}, []Server{s})[0].Refusal(); e == nil || e.Hint != want {
			t.Errorf("limit %s: %v, want %s", limit, e, want)
		}
	}
}

// A probe that is sent while a node is cut off finds nobody; the first one after that does.
func TestLifeAfterAnOutage(t *testing.T) {
	l := Life{Gone: 11 * time.Second, Idle: 5 * time.Second, Interval: 2 * time.Second}
	for outage, want := range map[time.Duration]time.Duration{0: 5, 4 * time.Second: 5, 5 * time.Second: 7, 8 * time.Second: 9, time.Minute: 11} {
		if got := l.Back(outage); got != want*time.Second {
			t.Errorf("after %s it lives for %s, want %ds", outage, got, want)
		}
	}
}

// Clients of nodes that are cut off for a while are not back before: by then the dead may be gone.
func TestPace(t *testing.T) {
	waves, clients := fleet([]int{1, 1}, 10, true)
	s := Server{Name: "main", Ports: []uint16{5432}, Capacity: 100, Used: 20, Clients: clients, Dead: Life{Gone: 11 * time.Second, Idle: 5 * time.Second, Interval: 2 * time.Second}}
	for pace, want := range map[Pace]int{
		{}:                        40, // both are dead when both are back
		{Outage: 2 * time.Second}: 40, // the first one's for 4 s
		{Outage: 3 * time.Second}: 30, // the first one's are gone when the others come back
		{Outage: 6 * time.Second, Bake: time.Second}:  30,
		{Outage: 12 * time.Second, Bake: time.Second}: 20, // as long as a backend lives at the most
	} {
		if got := Of(waves, pace, []Server{s})[0].Worst().Total; got != want {
			t.Errorf("%+v: %d, want %d", pace, got, want)
		}
	}
}

func TestLife(t *testing.T) {
	tests := []struct {
		settings   string
		gone, back time.Duration
		why        string
	}{
		{"", 7875 * time.Second, 2 * time.Hour, "the system's"},
		{"tcp_keepalives_idle=5 tcp_keepalives_interval=2 tcp_keepalives_count=3", 11 * time.Second, 5 * time.Second, "5s + 3 x 2s"},
		{"tcp_keepalives_idle=5 tcp_keepalives_interval=2 tcp_keepalives_count=3 tcp_user_timeout=7000", 7 * time.Second, 5 * time.Second, "tcp_user_timeout 7s"},
		{"idle_session_timeout=6000", 6 * time.Second, 6 * time.Second, "idle_session_timeout 6s"},
		{"tcp_user_timeout=7000", 7275 * time.Second, 2 * time.Hour, "tcp_user_timeout"},
		{"tcp_keepalives_idle=2 tcp_keepalives_interval=1 tcp_keepalives_count=1 tcp_user_timeout=8500", 9 * time.Second, 2 * time.Second, "tcp_user_timeout 8.5s"}, // the number of probes does not count then
	}
	for _, tt := range tests {
		l := LifeOf(func(name string) string {
			for _, f := range strings.Fields(tt.settings) {
				if n, v, _ := strings.Cut(f, "="); n == name {
					return v
				}
			}
			return "0"
		})
		if l.Gone != tt.gone || l.Back(0) != tt.back || !strings.Contains(l.Why, tt.why) || (l.Advice == "") != (l.Gone <= long) {
			t.Errorf("%q: %+v, want %s and %s", tt.settings, l, tt.gone, tt.back)
		}
	}
}

// A client is back, for the probes of the server, when all that its session rested on is there again.
func TestWhatComesBack(t *testing.T) {
	local, peer := netip.MustParseAddr("fd00:98::7"), netip.MustParseAddrPort("[fd00:20::9]:5432")
	up, down, small := resource.Link{Name: "eth1", Up: true, MTU: 1500}, resource.Link{Name: "eth1", MTU: 1500}, resource.Link{Name: "eth1", Up: true, MTU: 1400}
	addr := resource.Addr{Prefix: netip.PrefixFrom(local, 64), Dev: "eth1", Permanent: true}
	way := resource.Route{Dst: netip.MustParsePrefix("fd00:20::/64"), Hops: []resource.Hop{{Dev: "eth1", Via: netip.MustParseAddr("fd00:98::1")}}}
	other := resource.Route{Dst: netip.MustParsePrefix("fd00:30::/64"), Hops: way.Hops}
	change := func(before, after resource.State) engine.PlannedChange {
		return engine.PlannedChange{Edit: engine.Edit{Before: before, After: after, Want: after}}
	}
	nothing := resource.State{}
	for name, c := range map[string]struct {
		steps []engine.PlannedChange
		back  bool
	}{
		"down and up":                          {[]engine.PlannedChange{change(resource.Of(up), resource.Of(down)), change(resource.Of(down), resource.Of(up))}, true},
		"down":                                 {[]engine.PlannedChange{change(resource.Of(up), resource.Of(down))}, false},
		"down and up, without its address":     {[]engine.PlannedChange{change(resource.Of(up, addr), resource.Of(down)), change(resource.Of(down), resource.Of(up))}, false},
		"down and up, and its address":         {[]engine.PlannedChange{change(resource.Of(up, addr), resource.Of(down)), change(resource.Of(down), resource.Of(up)), change(nothing, resource.Of(addr))}, true},
		"down and up, without its way":         {[]engine.PlannedChange{change(resource.Of(up, way), resource.Of(down)), change(resource.Of(down), resource.Of(up))}, false},
		"down and up, without another route":   {[]engine.PlannedChange{change(resource.Of(up, other), resource.Of(down)), change(resource.Of(down), resource.Of(up))}, true},
		"its address, and the link is changed": {[]engine.PlannedChange{change(resource.Of(addr), nothing), change(resource.Of(up), resource.Of(small))}, false},
		"its address, and it comes again":      {[]engine.PlannedChange{change(resource.Of(addr), nothing), change(nothing, resource.Of(addr))}, true},
		"its way":                              {[]engine.PlannedChange{change(resource.Of(way), nothing)}, false},
		"what it does not rest on":             {[]engine.PlannedChange{change(nothing, resource.Of(other))}, false},
		"a restart":                            {[]engine.PlannedChange{{Edit: engine.Edit{Before: resource.Of(up, addr), After: resource.Of(up, addr), Restart: "eth1"}}}, true},
	} {
		c.steps[0].Edit.Cuts = []engine.Cut{{Sessions: resource.Sessions{Local: local, Peer: peer, Dev: "eth1", Route: way.Key(), Count: 4}}}
		f := Of([]Wave{{{Steps: c.steps}}}, Pace{}, []Server{{Name: "main", Ports: []uint16{5432}, Capacity: 100, Used: 4, Clients: map[netip.Addr]int{local: 4}, Dead: Life{Gone: time.Hour, Idle: time.Minute}}})[0]
		if want := map[bool]string{true: "lives on for 1m0s", false: "lives on for 1h0m0s"}[c.back]; f.Worst().Cut != 4 || !strings.Contains(f.String(), want) {
			t.Errorf("%s: it is to say that a backend %s: %s", name, want, f)
		}
	}
}

// Nobody waits before a wave in which there is nothing to do, and the advice counts only the others.
func TestWavesWithNothingToDo(t *testing.T) {
	waves, clients := fleet([]int{1, 0, 0, 1}, 10, true)
	s := Server{Name: "main", Ports: []uint16{5432}, Capacity: 35, Used: 20, Clients: clients, Dead: Life{Gone: time.Hour, Idle: time.Hour}}
	f := Of(waves, Pace{Bake: 30 * time.Minute, Limit: time.Hour}, []Server{s})[0]
	if e := f.Refusal(); e == nil || !strings.HasPrefix(e.Cause, "wave 4 would leave main at 40 of 35") || e.Hint != `bake = "1h0m0s" lets the dead ones go first` {
		t.Errorf("%v", e)
	}
}

// What cuts a server off cuts its clients off, whichever of the two is changed.
func TestCutAtTheServersEnd(t *testing.T) {
	clients := map[netip.Addr]int{client(1): 10, client(2): 5}
	known := Server{Name: "main", Ports: []uint16{5432}, Capacity: 25, Used: 15, Clients: clients, Dead: Life{Gone: time.Hour, Idle: time.Hour}}
	byAddr, byNode := known, known
	byAddr.Addr, byNode.Node = server.Addr(), "db-1"
	cuts := func(k ...resource.Sessions) *engine.NodePlan {
		before, after := resource.Link{Name: "eth1", Up: true}, resource.Link{Name: "eth1"}
		e := engine.Edit{Before: resource.Of(before), After: resource.Of(after), Want: resource.Of(after)}
		for _, s := range k {
			if s.Dev = "eth1"; !s.Local.IsValid() {
				s.Local = server.Addr()
			}
			e.Cuts = append(e.Cuts, engine.Cut{Sessions: s})
		}
		return &engine.NodePlan{Node: "db-1", Steps: []engine.PlannedChange{{Edit: e}}}
	}
	one, two := resource.Sessions{Peer: netip.AddrPortFrom(client(1), 0), Port: 5432, Count: 10}, resource.Sessions{Peer: netip.AddrPortFrom(client(2), 0), Port: 5432, Count: 9}
	for name, c := range map[string]struct {
		server Server
		plan   *engine.NodePlan
		cut    int
	}{
		"by its address":      {byAddr, cuts(one, two), 15}, // and no more of each than it sees
		"by another of its":   {byAddr, cuts(one, resource.Sessions{Local: netip.MustParseAddr("fd00::20"), Peer: two.Peer, Port: 5432, Count: 5}), 15},
		"by its node":         {byNode, cuts(one), 10},
		"another node":        {known, cuts(one), 0},
		"another port of it":  {byNode, cuts(resource.Sessions{Peer: one.Peer, Port: 22, Count: 10}), 0},
		"no client of it":     {byNode, cuts(resource.Sessions{Peer: netip.AddrPortFrom(client(3), 0), Port: 5432, Count: 10}), 0},
		"no peers are told":   {byAddr, cuts(resource.Sessions{Count: 2000}), 15},
		"it is a client, too": {byAddr, cuts(resource.Sessions{Peer: netip.MustParseAddrPort("10.98.0.30:5432"), Count: 7}), 0},
	} {
		f := Of([]Wave{{c.plan}}, Pace{}, []Server{c.server})[0]
		if got := f.Worst().Cut; got != c.cut || (f.Refusal() != nil) != (c.cut > 10) {
			t.Errorf("%s: %d cut, want %d: %s, %v", name, got, c.cut, f, f.Refusal())
		}
	}
}

// What is advised is enough, in random rollouts, and a second less of it is not.
func TestAdviceIsEnough(t *testing.T) {
	baked, split := regexp.MustCompile(`^bake = "([^"]+)" lets`), regexp.MustCompile(`^waves of at most (\d+) of these nodes, with bake = "([^"]+)"`)
	advised := map[string]int{}
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 0))
		var sizes []int
		for range 1 + random.IntN(5) {
			sizes = append(sizes, random.IntN(4))
		}
		waves, clients := fleet(sizes, 1+random.IntN(9), random.IntN(2) == 0)
		used := 0
		for _, n := range clients {
			used += n
		}
		s := Server{Name: "main", Ports: []uint16{5432}, Used: used, Capacity: used + random.IntN(40), Clients: clients}
		s.Dead.Idle, s.Dead.Interval = time.Duration(1+random.IntN(300))*time.Second, time.Duration(1+random.IntN(30))*time.Second
		s.Dead.Gone = s.Dead.Idle + time.Duration(random.IntN(5))*s.Dead.Interval
		refused := func(waves []Wave, bake time.Duration) *engine.Error {
			return Of(waves, Pace{Bake: bake}, []Server{s})[0].Refusal()
		}
		bake := time.Duration(random.IntN(60)) * time.Second
		e := refused(waves, bake)
		if e == nil {
			continue
		}
		if m := baked.FindStringSubmatch(e.Hint); m != nil {
			d, err := time.ParseDuration(m[1])
			if err != nil || refused(waves, d) != nil || refused(waves, d-time.Second) == nil {
				t.Errorf("seed %d: with bake = %s: %v, with a second less: %v", seed, d, refused(waves, d), refused(waves, d-time.Second))
			}
			advised["bake"]++
		} else if m := split.FindStringSubmatch(e.Hint); m != nil {
			n, _ := strconv.Atoi(m[1])
			d, err := time.ParseDuration(m[2])
			var small []Wave
			for c := range slices.Chunk(slices.Concat(waves...), max(n, 1)) {
				small = append(small, c)
			}
			if err != nil || n < 1 || refused(small, d) != nil {
				t.Errorf("seed %d: %s: %v", seed, e.Hint, refused(small, d))
			}
			advised["waves"]++
		} else if !strings.HasPrefix(e.Hint, "one node alone") {
			t.Errorf("seed %d: it advises %q", seed, e.Hint)
		}
	}
	if advised["bake"] < 100 || advised["waves"] < 100 {
		t.Errorf("it has advised %v", advised)
	}
}

// Sessions that have not taken up what the server's configuration has come to may live on for longer: where that matters, it is said.
func TestOldSessions(t *testing.T) {
	waves, clients := fleet([]int{1}, 10, true)
	for _, c := range []struct {
		gone  time.Duration
		waves []Wave
		says  bool
	}{{time.Minute, waves, true}, {systemGone, waves, false}, {time.Minute, nil, false}} {
		s := Server{Name: "main", Ports: []uint16{5432}, Capacity: 100, Used: 20, Unsure: 7, Clients: clients, Dead: Life{Gone: c.gone, Idle: c.gone}}
		if says := strings.Contains(Of(c.waves, Pace{}, []Server{s})[0].String(), "; 7 of the sessions have said nothing since"); says != c.says {
			t.Errorf("%s, %d waves: %v", c.gone, len(c.waves), says)
		}
	}
}

// Sessions of which it is known that they have not taken it up count with what the system has them live.
func TestSessionsThatLiveOn(t *testing.T) {
	waves, clients := fleet([]int{1, 1}, 10, true)
	s := Server{Name: "main", Ports: []uint16{5432}, Capacity: 35, Used: 20, Clients: clients, Dead: Life{Gone: time.Minute, Idle: time.Minute}}
	pace := Pace{Bake: 2 * time.Minute}
	if e := Of(waves, pace, []Server{s})[0].Refusal(); e != nil {
		t.Errorf("all know: %v", e)
	}
	s.Old = map[netip.Addr]int{client(1): 4}
	if e := Of(waves, pace, []Server{s})[0].Refusal(); e != nil {
		t.Errorf("four do not: %v", e)
	}
	s.Old = map[netip.Addr]int{client(1): 6}
	e := Of(waves, pace, []Server{s})[0].Refusal()
	if e == nil || !strings.HasPrefix(e.Cause, "wave 2 would leave main at 36 of 35") || !strings.Contains(e.Cause, "and 6 of them for 2h11m15s or as long as before") ||
		e.Hint != `bake = "2h11m15s" lets the dead ones go first; a session takes up the server's settings with its next query, so that a query over each of the idle ones, or their end, helps` {
		t.Errorf("six do not: %v\n%s", e, e.Hint)
	}
	s.Dead.Gone = systemGone // and was so before
	if f := Of(waves, pace, []Server{s})[0]; f.oldCut() != 0 {
		t.Errorf("%+v", f.cuts)
	}
}
