package main

import (
	"context"
	"math"
	"net/netip"
	"strconv"
	"time"

	"runbook/engine"
	"runbook/engine/forecast"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/node/pg"
)

// foretell adds to the plan what it does to the Postgres servers that the runbook's hooks look
// at, and returns why it must not start because of that, or nil. Nobody is asked where nothing is cut.
func (s *session) foretell(ctx context.Context, p *engine.Plan) *engine.Error {
	if !cuts(p) {
		return nil
	}
	var servers []forecast.Server
	own := map[string]bool{} // by their names
	for _, a := range s.run.Asked() {
		if a.Domain != "pg" {
			continue
		}
		server, why, err := s.server(ctx, a)
		own[server.Name] = a.Own
		switch {
		case err != nil:
			e := *engine.AsError(err)
			e.Left = engine.NothingChanged
			return &e
		case why != "":
			p.Forecast = append(p.Forecast, server.Name+": not known, for "+why)
		default:
			servers = append(servers, server)
		}
	}
	var refused *engine.Error
	for _, f := range forecast.Of(s.run.ByWave(p.Nodes), forecast.Pace{Bake: time.Duration(p.Header.Rollout.Bake), Limit: s.run.Limits().Duration()}, servers) {
		if f.Concerned() || !own[f.Name] { // each node may have one
			p.Forecast = append(p.Forecast, f.String())
		}
		if refused == nil {
			refused = f.Refusal()
		}
	}
	return refused
}

// cuts reports whether p cuts any session.
func cuts(p *engine.Plan) bool {
	for _, np := range p.Nodes {
		for _, c := range np.Changes() {
			for _, cut := range c.Edit.Cuts {
				if !cut.Stalls {
					return true
				}
			}
		}
	}
	return false
}

// configured asks a server how long ago it has read its configuration, in seconds.
var configured, _ = resource.AskSQL(resource.SQL{Query: "select extract(epoch from clock_timestamp() - pg_conf_load_time())::float8 as ago"})

// sinceConfigured is what it has answered.
func sinceConfigured(s resource.State) time.Duration {
	for _, r := range resource.All[resource.Rows](s) {
		for _, row := range r.Records() {
			if ago, is := row["ago"].(float64); is {
				return time.Duration(ago * float64(time.Second))
			}
		}
	}
	return math.MaxInt64 // not known: nothing is said of it
}

// server is what the server a, a Postgres, has to give, or why that cannot be said.
func (s *session) server(ctx context.Context, a rollout.Asked) (out forecast.Server, why string, err error) {
	server := a.Target.Server
	if out.Name = server; a.Own {
		out.Name += " of " + a.Via
	}
	n, err := s.run.Server(ctx, a)
	if err != nil {
		return out, "", err
	}
	state, err := n.Read(ctx, resource.Query{
		{Kind: resource.KindPostgres, Name: server}, {Kind: resource.KindSetting, Name: server}, {Kind: resource.KindBackend, Name: server},
		{Kind: resource.KindRows, Name: server, Ask: "address"}, {Kind: resource.KindRows, Name: server, Ask: configured},
	})
	if err != nil {
		return out, "", err
	}
	is, ok := resource.Get[resource.Postgres](state, resource.PostgresKey(server))
	switch {
	case !ok || is.Pooler:
		return out, "a pooler stands between, and which of its clients has which session is not to be seen", nil
	case !is.SeesAll:
		return out, is.Role + " does not see the sessions of others: grant it pg_read_all_stats", nil
	}
	setting := func(name string) string {
		v, _ := resource.Get[resource.Setting](state, resource.SettingKey(server, name))
		if v.Actual != "" { // what the server's system makes of it
			return v.Actual
		}
		return v.Value
	}
	ports, err := pg.Ports(server)
	if err != nil {
		return out, "", err
	}
	if own, err := strconv.ParseUint(setting("port"), 10, 16); err == nil {
		ports = append(ports, uint16(own))
	}
	out = forecast.Server{Name: out.Name, Ports: ports, Capacity: is.Max - is.Reserved, Clients: map[netip.Addr]int{}, Dead: forecast.LifeOf(setting)}
	if out.Addr = addressOf(state); !out.Addr.IsValid() { // it is reached from the same machine
		out.Node = a.Via
	}
	countSessions(&out, state)
	return out, "", nil
}

// countSessions counts what state has of sessions at s: all, those that have not taken up its configuration, and each client's.
func countSessions(s *forecast.Server, state resource.State) {
	read := sinceConfigured(state)
	for _, b := range resource.All[resource.Backend](state) {
		if b.Type != resource.ClientBackend {
			continue
		}
		s.Used++
		if time.Duration(min(b.StateFor, b.Age)) > read {
			s.Old++
		}
		if b.Client.IsValid() {
			s.Clients[b.Client.Addr().Unmap()]++
		}
	}
}

// addressOf is the address of the server at which the connection ends that has found state; the zero Addr where that is one
// of the machine to itself.
func addressOf(state resource.State) netip.Addr {
	for _, rows := range resource.All[resource.Rows](state) {
		for _, r := range rows.Records() {
			text, _ := r["address"].(string)
			if a, err := netip.ParseAddr(text); err == nil && !a.IsLoopback() {
				return a.Unmap()
			}
		}
	}
	return netip.Addr{}
}
