package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/tui"
)

// What people, scripts and nodes have said is shown as text: it moves no cursor
// and makes no line that looks like one of the record.
func TestRecordsAreShownAsText(t *testing.T) {
	const odd = "x\x1b[2J\r\nx"
	r := engine.RunRecord{
		ID: "20261128-000000-abc", Verb: "run", Runbook: odd, Params: map[string]string{"dev": odd}, User: odd, Selection: odd, Inventory: odd, Reason: odd,
		Started: time.Now(), Outcome: &engine.Outcome{Exit: 6, Error: odd},
	}
	entries := []engine.Entry{{Node: odd, Kind: "failed", Op: odd, Diff: odd, Text: odd}}
	var b bytes.Buffer
	if err := tui.History(&b, tui.Record{Run: r, Entries: entries, TakenBackBy: odd}, tui.Style{}); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.ContainsAny(text, "\x1b\r") || strings.Contains(text, "\nx\n") || strings.Count(text, `x\x1b[2J\x0d`) < 9 {
		t.Errorf("it is shown as %q", text)
	}
}
