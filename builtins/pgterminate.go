package builtins

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() { Operations["pg.terminate"] = PgTerminate{} }

// PgTerminate ends the sessions of clients at a Postgres server that its arguments select: all
// that are given must be true of one, and none can be empty. Each is a change of its own to the limits.
//
// A session is ended only if it is the one that was seen, and still what was selected, when its
// turn comes: one that works again by then is left alone, and said to be. None of them can be put back. Those
// of the run itself are never selected.
//
// It returns changed (a bool) and terminated, a list of pid, user, db, application, client, state, wait, and
// age, state_for, xact_for and query_for in seconds.
//
//	node.pg("service=main").terminate(state = "idle in transaction", idle_for = "10m", application = "billing")
type PgTerminate struct {
	Server      string           `json:"server"`                // its DSN, without a password
	State       *string          `json:"state,omitempty"`       // such as "idle", "idle in transaction", "active"
	IdleFor     *engine.Duration `json:"idle_for,omitempty"`    // idle, in a transaction or not, for so long or longer
	OlderThan   *engine.Duration `json:"older_than,omitempty"`  // begun so long ago or longer
	User        *string          `json:"user,omitempty"`        // the role that it is of
	Application *string          `json:"application,omitempty"` // as its client calls itself
	Client      *string          `json:"client,omitempty"`      // the address that it came from, or a network: "10.0.0.5", "10.0.0.0/24"
	DB          *string          `json:"db,omitempty"`          // the database that it is in
}

// Disrupts implements [engine.Disruptor].
func (PgTerminate) Disrupts() {}

// String is what is selected: "state=idle application=billing".
func (o PgTerminate) String() string {
	var out []string
	for _, a := range o.texts() {
		if a.value != nil {
			v := *a.value
			if strings.Contains(v, " ") {
				v = strconv.Quote(v)
			}
			out = append(out, a.name+"="+v)
		}
	}
	for _, a := range o.times() {
		if a.value != nil {
			out = append(out, a.name+"="+a.value.String())
		}
	}
	return strings.Join(out, " ")
}

// argument is one by which sessions are selected; value is nil where it is not given.
type argument[T any] struct {
	name  string
	value *T
}

func (o PgTerminate) texts() []argument[string] {
	return []argument[string]{{"state", o.State}, {"user", o.User}, {"application", o.Application}, {"client", o.Client}, {"db", o.DB}}
}

func (o PgTerminate) times() []argument[engine.Duration] {
	return []argument[engine.Duration]{{"idle_for", o.IdleFor}, {"older_than", o.OlderThan}}
}

// Validate checks what no server needs to be asked for.
func (o PgTerminate) Validate() error {
	for _, a := range o.texts() {
		if a.value != nil && *a.value == "" {
			return fmt.Errorf("%s is empty, which would select sessions whatever theirs is: leave it out, if that is meant", a.name)
		}
	}
	for _, a := range o.times() {
		if a.value != nil && *a.value <= 0 {
			return fmt.Errorf("%s is %s: want more than 0s", a.name, a.value)
		}
	}
	w, err := o.where()
	switch {
	case err != nil:
		return err
	case w == resource.Where{}:
		return fmt.Errorf("selects every session: give one of state, idle_for, older_than, user, application, client and db at least")
	case w.State != "" && !slices.Contains(states, w.State):
		return fmt.Errorf("state is %q: want one of %s", w.State, strings.Join(states, ", "))
	case w.IdleFor > 0 && w.State != "" && !strings.HasPrefix(w.State, resource.Idle):
		return fmt.Errorf("state is %q, and idle_for selects idle sessions only", w.State)
	}
	return resource.CheckServer(o.Server)
}

// states are those that Postgres tells of sessions; the last one from version 18 on.
var states = []string{"active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled", "starting"}

// where is what the arguments select.
func (o PgTerminate) where() (resource.Where, error) {
	w := resource.Where{State: given(o.State), IdleFor: given(o.IdleFor), OlderThan: given(o.OlderThan), User: given(o.User), Application: given(o.Application), DB: given(o.DB)}
	client := given(o.Client)
	if client == "" {
		return w, nil
	}
	if a, err := netip.ParseAddr(client); err == nil {
		w.Client = netip.PrefixFrom(a, a.BitLen())
		return w, nil
	}
	p, err := netip.ParsePrefix(client)
	if err != nil || p != p.Masked() {
		return w, fmt.Errorf("client is %q: want an address such as 10.0.0.5, or a network such as 10.0.0.0/24", client)
	}
	w.Client = p
	return w, nil
}

// given is what v points to, or nothing.
func given[T any](v *T) (out T) {
	if v != nil {
		out = *v
	}
	return out
}

// Plan implements [engine.Change].
func (o PgTerminate) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	w, err := o.where()
	if err != nil {
		return nil, err
	}
	p, s, err := askServer(ctx, n, o.Server, resource.Selector{Kind: resource.KindBackend, Name: o.Server, Where: &w})
	if err == nil {
		err = needsSight(p)
	}
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	var protected []resource.Backend
	for _, b := range resource.All[resource.Backend](s) {
		want[b.Key()] = nil
		if b.Protected {
			protected = append(protected, b)
		}
	}
	return want, mayEnd(p, len(want), protected)
}

// mayEnd is an error where some of the sessions that are to end are protected.
func mayEnd(p resource.Postgres, all int, protected []resource.Backend) error {
	if len(protected) == 0 {
		return nil
	}
	e := &engine.Error{
		Code: engine.Unreachable, Cause: fmt.Sprintf("role %s may not end %d of the %d sessions that are selected, such as %s", p.Role, len(protected), all, protected[0]),
		Hint: fmt.Sprintf("GRANT pg_signal_backend TO %s", p.Role),
	}
	if p.Signals {
		e.Hint = "sessions of superusers are ended by superusers only; select those of a user"
	}
	return e
}

// Shape implements [engine.Shaper]: the change is about these sessions, and no others that come or go.
func (o PgTerminate) Shape(e *engine.Edit) {
	w, _ := o.where() // it was checked
	about(e, func(s *resource.Selector) { s.Where = &w })
}

// about makes e one that is about what it wants, and nothing else that was looked at.
func about(e *engine.Edit, each func(*resource.Selector)) {
	e.Query = nil
	before := resource.State{}
	for _, k := range e.Want.Keys() {
		s := resource.Selector{Kind: k.Kind(), Name: k.Server(), Key: k}
		if each != nil && k.Kind() == resource.KindBackend {
			each(&s)
		}
		e.Query = append(e.Query, s)
		if r := e.Before[k]; r != nil {
			before[k] = r
		}
	}
	e.Before, e.After = before, before
}

// Result implements [engine.Change].
func (o PgTerminate) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// Tell implements [engine.Teller].
func (o PgTerminate) Tell(e engine.Edit) any { return terminated(e) }

// terminated is the result of a change that ends sessions.
func terminated(e engine.Edit) any {
	ended := []any{}
	for _, c := range e.Diff() {
		if b, ok := c.Before.(resource.Backend); ok {
			ended = append(ended, session(b))
		}
	}
	return map[string]any{"changed": len(ended) > 0, "terminated": ended}
}
