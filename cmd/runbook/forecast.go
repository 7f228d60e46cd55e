package main

import (
	"context"
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

// How long ago, in seconds: a server has read its configuration, and, for who may look at files, what decides how long the dead
// live there was written; that is null where no file has anything of it.
var (
	configured, _ = resource.AskSQL(resource.SQL{Query: `select extract(epoch from clock_timestamp() - pg_conf_load_time())::float8 as ago,
		has_function_privilege('pg_stat_file(text, boolean)', 'execute') and pg_has_role('pg_read_all_settings', 'usage') as files`})
	lastWritten, _ = resource.AskSQL(resource.SQL{Query: `select min(extract(epoch from clock_timestamp() - (pg_stat_file(file, true)).modification))::float8 as ago
		from (select distinct sourcefile as file from pg_settings where sourcefile is not null
		  and name in ('tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout', 'idle_session_timeout')) f`})
)

// answered is the row that a server has answered to a query, if state has it.
func answered(state resource.State, server, ask string) map[string]any {
	r, _ := resource.Get[resource.Rows](state, resource.Rows{Server: server, Ask: ask}.Key())
	if rows := r.Records(); len(rows) > 0 {
		return rows[0]
	}
	return nil
}

// ago is how long ago that was of which row tells; known: it does.
func ago(row map[string]any) (d time.Duration, known bool) {
	seconds, known := row["ago"].(float64)
	return time.Duration(seconds * float64(time.Second)), known
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
	out = forecast.Server{Name: out.Name, Ports: ports, Capacity: is.Max - is.Reserved, Dead: forecast.LifeOf(setting)}
	text, _ := answered(state, server, "address")["address"].(string)
	if addr, err := netip.ParseAddr(text); err == nil && !addr.IsLoopback() { // at which the connection ends that asks
		out.Addr = addr.Unmap()
	} else { // it is reached from the same machine
		out.Node = a.Via
	}
	return out, "", countSessions(ctx, n, &out, server, state)
}

// countSessions counts what state has of sessions at s, which n is, and calls server: all, each client's, and those that
// do not know of its settings.
func countSessions(ctx context.Context, n engine.Reader, s *forecast.Server, server string, state resource.State) error {
	s.Clients, s.Old = map[netip.Addr]int{}, map[netip.Addr]int{}
	how := answered(state, server, configured)
	read, isRead := ago(how)
	var silent []resource.Backend // since the configuration was read
	for _, b := range resource.All[resource.Backend](state) {
		if b.Type != resource.ClientBackend {
			continue
		}
		s.Used++
		if b.Client.IsValid() {
			s.Clients[b.Client.Addr().Unmap()]++
		}
		if isRead && silence(b) > read {
			silent = append(silent, b)
		}
	}
	if may, _ := how["files"].(bool); !may || len(silent) == 0 {
		s.Unsure = len(silent)
		return nil
	}
	more, err := n.Read(ctx, resource.Query{{Kind: resource.KindRows, Name: server, Ask: lastWritten}})
	if err != nil {
		return err
	}
	written, is := ago(answered(more, server, lastWritten))
	for _, b := range silent {
		if is && b.Client.IsValid() && silence(b) > written-time.Second { // for Postgres tells of the second in which it was
			s.Old[b.Client.Addr().Unmap()]++
		}
	}
	return nil
}

// silence is for how long a session has said nothing.
func silence(b resource.Backend) time.Duration { return time.Duration(min(b.StateFor, b.Age)) }
