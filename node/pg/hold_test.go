//go:build linux

package pg

import (
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// One run at a time changes a server: another is told so and changes nothing, whoever only looks is not kept off,
// and a run that reaches it twice does not stand in its own way.
func TestHold(t *testing.T) {
	p := shared(t)
	admin := client(t, p.DSN(""))
	defer do(t, admin, "alter system reset all")
	first, second := open(t, p.DSN("")), open(t, p.DSN(""))
	change := func(s *Server, run, value string) error {
		e := setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to(value+"kB"), "configuration file", value })
		e.Run = run
		_, err := s.Apply(t.Context(), e)
		return err
	}
	if err := change(first, "one", "1001"); err != nil {
		t.Fatal(err)
	}
	if err := change(first, "one", "1002"); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := change(second, "one", "1003"); err != nil {
		t.Errorf("the same run by another connection: %v", err)
	}
	judge(t, change(second, "two", "1004"), engine.Unreachable, `another run works on Postgres .*, as postgres, by session \d+, which began at`)
	if c := one[resource.Setting](t, read(t, second, resource.Selector{Kind: resource.KindSetting, Key: resource.SettingKey(second.name, "work_mem")})); c.Value != "1003" {
		t.Errorf("work_mem is %s", c.Value)
	}
	first.release()
	if err := change(second, "two", "1005"); err != nil {
		t.Errorf("let go, %v", err)
	}
	second.Close() // as the end of a run does, however it ends
	if err := change(first, "three", "1006"); err != nil {
		t.Errorf("after its end: %v", err)
	}
}
