package builtins

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["pg.settings"] = PgSettings{}
	Operations["pg.setting"] = PgSetting{}
	Operations["pg.set"] = PgSet{}
}

// setting is a setting as scripts see it.
func setting(c resource.Setting) map[string]any {
	out := map[string]any{
		"name": c.Name, "value": typed(c), "unit": c.Unit, "shown": c.Shown(), "source": c.Source, "context": c.Context,
		"auto": nil, "actual": nil, "restart": c.Context == atStart, "pending_restart": c.Pending,
	}
	if c.Auto != nil {
		out["auto"] = *c.Auto
	}
	if c.Actual != "" {
		c.Value = c.Actual
		out["actual"] = typed(c)
	}
	return out
}

// typed is the value of c as a number or a bool, where it is one.
func typed(c resource.Setting) any {
	switch c.Type {
	case "bool":
		return c.Value == "on"
	case "integer":
		if n, err := strconv.ParseInt(c.Value, 10, 64); err == nil {
			return n
		}
	case "real":
		if f, err := strconv.ParseFloat(c.Value, 64); err == nil {
			return f
		}
	}
	return c.Value
}

// PgSettings returns all settings of a Postgres server, each as pg.setting does, by name.
//
//	[s.name for s in node.pg("service=main").settings() if s.pending_restart]
type PgSettings struct {
	Server string `json:"server"` // its DSN, without a password
}

func (o PgSettings) String() string { return o.Server }

// Validate checks the arguments.
func (o PgSettings) Validate() error { return resource.CheckServer(o.Server) }

// Look implements [engine.Probe].
func (o PgSettings) Look(ctx context.Context, n engine.Reader) (any, error) {
	found, err := list[resource.Setting](ctx, n, resource.Selector{Kind: resource.KindSetting, Name: o.Server})
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, c := range found {
		out = append(out, setting(c))
	}
	return out, nil
}

// PgSetting returns a setting of a Postgres server, as a new session of the role that asks has it: name, value (a number
// in unit, a bool, or text), unit ("" for none), shown (with its unit, as people write it), source (such as "default" or
// "configuration file"), actual (of the TCP settings, of which 0 means what the system has: what that is, or None where the
// connection of runbook is no TCP one), context (such as "sighup"), auto (what ALTER SYSTEM has written, or None), restart (it changes at a
// restart only), pending_restart (it has been changed, and will change then). Where value or auto say a password, it is not in them.
//
//	idle = node.pg("service=main").setting("tcp_keepalives_idle").value
type PgSetting struct {
	Server string `json:"server"` // its DSN, without a password
	Name   string `json:"name"`
}

func (o PgSetting) String() string { return o.Name }

// Validate checks the arguments.
func (o PgSetting) Validate() error { return checkSetting(o.Server, o.Name) }

// checkSetting is an error where name can be that of no setting.
func checkSetting(server, name string) error {
	if name == "" || strings.ContainsAny(name, " ,;'\"\n") {
		return fmt.Errorf("name is %q: want that of a setting, such as tcp_keepalives_idle", name)
	}
	return resource.CheckServer(server)
}

// Look implements [engine.Probe].
func (o PgSetting) Look(ctx context.Context, n engine.Reader) (any, error) {
	c, err := oneSetting(ctx, n, o.Server, o.Name)
	if err != nil {
		return nil, err
	}
	return setting(c), nil
}

func oneSetting(ctx context.Context, n engine.Reader, server, name string) (resource.Setting, error) {
	k := resource.SettingKey(server, name)
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindSetting, Name: server, Key: k}})
	if err != nil {
		return resource.Setting{}, err
	}
	c, ok := resource.Get[resource.Setting](s, k)
	if !ok {
		return c, &engine.Error{
			Code: engine.Invalid, Cause: fmt.Sprintf("Postgres %s has no setting %s", engine.ShortServer(server), name),
			Hint: "versions have different ones, and those of extensions are there when they are loaded",
		}
	}
	return c, nil
}

// PgSet sets a setting of a Postgres server for all its sessions, by ALTER SYSTEM and a reload.
//
// If it is so already, it changes nothing. Where a setting changes at a restart of the server only, it is written
// down for that, and says so: runbook does not restart a Postgres. An undo puts back what ALTER SYSTEM
// had written before, or takes it out.
//
// It returns changed (a bool), setting (see pg.setting), and restart: the server must be restarted for it.
//
//	node.pg("service=main").set("tcp_keepalives_idle", "60s")
//	node.pg("service=main").set("log_connections", True)
type PgSet struct {
	Server string `json:"server"` // its DSN, without a password
	Name   string `json:"name"`
	Value  any    `json:"value"` // text, a number or a bool; a number is in the unit of the setting
}

func (o PgSet) String() string {
	if resource.HasPassword(o.text()) {
		return o.Name
	}
	return fmt.Sprintf("%s = %s", o.Name, o.text())
}

// Validate checks what no server needs to be asked for.
func (o PgSet) Validate() error {
	switch o.Value.(type) {
	case string, bool, json.Number, float64, int, int64:
	default:
		return fmt.Errorf("value: want text, a number or a bool")
	}
	if strings.ContainsAny(o.text(), "\n\r\x00") {
		return fmt.Errorf("value has a line break in it, which postgresql.auto.conf cannot have")
	}
	if resource.HasPassword(o.text()) {
		return fmt.Errorf("value has a password in it, which plans and journals would keep")
	}
	return checkSetting(o.Server, o.Name)
}

// text is the value as ALTER SYSTEM is given it.
func (o PgSet) text() string {
	switch v := o.Value.(type) {
	case bool:
		if v {
			return "on"
		}
		return "off"
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// Who can change a setting when: pg_settings.context.
const (
	never    = "internal"
	atStart  = "postmaster"
	fromFile = "configuration file"
)

// notByAlter are settings that ALTER SYSTEM does not take, or that mean something else in a file.
var notByAlter = []string{
	"config_file", "data_directory", "hba_file", "ident_file", "role", "seed", "session_authorization",
	"transaction_deferrable", "transaction_isolation", "transaction_read_only",
}

// Plan implements [engine.Change].
func (o PgSet) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	have, err := oneSetting(ctx, n, o.Server, o.Name)
	if err != nil {
		return nil, err
	}
	value, err := settingValue(have, o.text())
	if err != nil {
		return nil, &engine.Error{Code: engine.Invalid, Cause: err.Error()}
	}
	if value, err = inWordsOfServer(ctx, n, have, value); err != nil {
		return nil, err
	}
	written := "" // what ALTER SYSTEM has written, as it would be read
	if have.Auto != nil {
		written, _ = settingValue(have, *have.Auto) // the server has taken it
	}
	now, err := settingValue(have, have.Value) // a list can be written in many ways
	if err != nil {
		now = have.Value
	}
	override := !ofFile(have) || have.Value == disabled // what this session shows is not what others have, or not what is written
	switch {
	case !have.Pending && !override && now == value, (have.Pending || override || have.EachSession()) && have.Auto != nil && written == value:
		return resource.Of(have), nil
	}
	if err := mayAlter(have); err != nil {
		return nil, err
	}
	if o.text() == "" && strings.HasSuffix(strings.ToLower(have.Name), "_preload_libraries") {
		return nil, &engine.Error{
			Code: engine.Invalid, Cause: fmt.Sprintf("%s is to be empty, and ALTER SYSTEM would write a library without a name, with which no server starts and no session begins", have.Name),
			Hint: "take the line out of the file that has it; pg.reset takes out what ALTER SYSTEM has written",
		}
	}
	want := have
	text := resource.SettingText(have.Name, o.text())
	want.Auto = &text
	switch {
	case have.Context == atStart:
		want.Pending = value != now
	case have.Value == disabled:
		want.Source = fromFile
	case !override && !have.EachSession():
		want.Value, want.Source = value, fromFile
	}
	return resource.Of(want), nil
}

// inWordsOfServer is value as the server shows it where c is a text that it reads as something, such as a time zone. One that
// it does not take is an error. Of what no session can set, value is all that is known.
func inWordsOfServer(ctx context.Context, n engine.Reader, c resource.Setting, value string) (string, error) {
	name := c.Name
	if strings.EqualFold(name, "log_timezone") { // which no session can set, and is read as this one is
		name = "TimeZone"
	}
	if c.Type != "string" || value == c.Value || resource.IsSettingList(name) || slices.Contains(notByAlter, strings.ToLower(name)) {
		return value, nil
	}
	found, err := list[resource.Rows](ctx, n, resource.Selector{Kind: resource.KindRows, Name: c.Server, Ask: resource.AskValue(name, value)})
	if err != nil {
		return "", err
	}
	for _, r := range found {
		for _, row := range r.Records() {
			if text, is := row["value"].(string); is {
				return text, nil
			}
		}
	}
	return value, nil
}

// disabled is what archive_command shows, whatever it is, where archive_mode is off.
const disabled = "(disabled)"

// ofFile reports whether what files say is what a session has: nothing that comes after them says otherwise.
func ofFile(c resource.Setting) bool {
	return slices.Contains([]string{"default", "environment variable", fromFile}, c.Source)
}

// mayAlter is an error where c cannot be changed by the role that asks, or not taken back.
func mayAlter(c resource.Setting) error {
	e := &engine.Error{Code: engine.Unreachable}
	switch {
	case c.Context == never || slices.Contains(notByAlter, strings.ToLower(c.Name)):
		e.Code, e.Cause = engine.Invalid, fmt.Sprintf("%s cannot be changed by ALTER SYSTEM", c.Name)
	case !c.Alter:
		e.Cause = fmt.Sprintf("the role may not change %s at Postgres %s", c.Name, engine.ShortServer(c.Server))
		e.Hint = "a superuser may; from version 15 on also who has GRANT ALTER SYSTEM ON PARAMETER " + c.Name + ", and GRANT EXECUTE ON FUNCTION pg_reload_conf()"
	case c.Hidden:
		e.Cause = fmt.Sprintf("the role may not see what ALTER SYSTEM has written at Postgres %s, so that nothing could be put back", engine.ShortServer(c.Server))
		e.Hint = "GRANT SELECT ON pg_file_settings and GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() let it"
	case resource.HasPassword(c.Value) || c.Auto != nil && resource.HasPassword(*c.Auto):
		e.Cause = fmt.Sprintf("%s has a password in it at Postgres %s, which plans and journals would keep so that it could be put back", c.Name, engine.ShortServer(c.Server))
		e.Hint = "change it by hand; a password file (passfile=…) keeps what is secret out of it"
	default:
		return nil
	}
	return e
}

// Result implements [engine.Change].
func (o PgSet) Result(changed bool, s resource.State) any {
	return settingChanged(changed, s, o.Server, o.Name)
}

// settingChanged is the result of a change of the setting name.
func settingChanged(changed bool, s resource.State, server, name string) any {
	c, _ := resource.Get[resource.Setting](s, resource.SettingKey(server, name))
	return map[string]any{"changed": changed, "setting": setting(c), "restart": c.Pending}
}
