package builtins

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() { Operations["pg.reset"] = PgReset{} }

// PgReset takes out what ALTER SYSTEM has written of a setting of a Postgres server, and reloads it: the setting
// is then what the other files say, or the server's default.
//
// Where ALTER SYSTEM has written nothing of it, it changes nothing. What changes at a restart of the server only says
// so. An undo writes again what was there.
//
// It returns changed (a bool), setting (see pg.setting), and restart: the server must be restarted for it.
//
//	node.pg("service=main").reset("tcp_keepalives_idle")
type PgReset struct {
	Server string `json:"server"` // its DSN, without a password
	Name   string `json:"name"`
}

func (o PgReset) String() string { return o.Name }

// Validate checks what no server needs to be asked for.
func (o PgReset) Validate() error { return checkSetting(o.Server, o.Name) }

// byItself are settings of which a server works out the default when it starts, or when files have nothing of them.
var byItself = []string{"client_encoding", "max_stack_depth"}

// Plan implements [engine.Change].
func (o PgReset) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	have, err := oneSetting(ctx, n, o.Server, o.Name)
	if err != nil {
		return nil, err
	}
	if have.Auto == nil && !have.Hidden {
		return resource.Of(have), nil
	}
	if err := mayAlter(have); err != nil {
		return nil, err
	}
	ofServer := have.Base == nil || have.Base.Source != fromFile
	if have.Base == nil || ofServer && slices.Contains(byItself, strings.ToLower(have.Name)) {
		return nil, &engine.Error{
			Code: engine.Invalid, Cause: fmt.Sprintf("what %s comes to without ALTER SYSTEM cannot be told before", have.Name),
			Hint: "pg.set gives it a value",
		}
	}
	value, err := settingValue(have, have.Base.Value)
	if err != nil { // the server has not taken it either
		return nil, &engine.Error{Code: engine.Invalid, Cause: "without ALTER SYSTEM " + err.Error()}
	}
	want := have
	want.Auto = nil
	switch {
	case have.Context == atStart && ofServer:
		want.Pending = have.Source == fromFile // whatever its default is: Postgres does not look
	case have.Context == atStart:
		want.Pending = value != have.Value
	case have.Value == disabled:
		want.Source = have.Base.Source
	case ofFile(have) && !have.EachSession():
		want.Value, want.Source = value, have.Base.Source
	}
	return resource.Of(want), nil
}

// Result implements [engine.Change].
func (o PgReset) Result(changed bool, s resource.State) any {
	return settingChanged(changed, s, o.Server, o.Name)
}
