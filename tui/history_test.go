package tui_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/tui"
)

// diary makes the record of a run, one second an entry.
type diary struct {
	r  tui.Record
	at time.Time
}

func (d *diary) add(node, kind string, nth int, more ...func(*engine.Entry)) {
	d.at = d.at.Add(time.Second)
	e := engine.Entry{Run: d.r.Run.ID, Seq: int64(len(d.r.Entries) + 1), Time: d.at, Node: node, Kind: kind, Nth: nth}
	for _, m := range more {
		m(&e)
	}
	d.r.Entries = append(d.r.Entries, e)
}

func text(t string) func(*engine.Entry) { return func(e *engine.Entry) { e.Text = t } }

func data(v any) func(*engine.Entry) {
	return func(e *engine.Entry) {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		e.Data = b
	}
}

// adds is the intent of adding a route.
func adds(e *engine.Entry) {
	s := step(resource.State{}, resource.Of(route("10.98.0.1")))
	e.Op, e.Pos, e.Edit, e.Diff = s.Title(), s.Pos, &s.Edit, s.Edit.Diff().String()
}

// restarts is the intent of a restart, which is no difference.
func restarts(e *engine.Entry) {
	e.Op, e.Pos, e.Edit = "link.restart eth1", "add_route.star:16:9", &engine.Edit{Restart: "eth1"}
}

// record is of a run with a node of every end.
func record() tui.Record {
	d := &diary{at: start}
	d.r.Run = engine.RunRecord{
		ID: "20261123-204455-k3f", Verb: "run", Runbook: "add_route.star", Hash: "0123abcd", User: "ops", Reason: "ticket 7", Started: start, Ended: start.Add(75 * time.Second),
		Params: map[string]string{"dst": "10.20.0.0/16"}, Inventory: "inventory.yaml", Selection: "web",
		Nodes:  []string{"web-10", "web-2", "web-3", "web-4", "web-5", "web-6", "web-7"},
		Limits: engine.Limits{engine.LimitNodes: {N: 7, Source: "add_route.star:12:5"}},
		Source: engine.Source{Main: "add_route.star", Files: map[string]string{"add_route.star": "\"\"\"A route.\"\"\"\n\ndef run(node, p):\n\tif 1 < 2 and True: print(\"<b>\")\n"}},
		Outcome: &engine.Outcome{Exit: 5, Error: "the node answered otherwise than predicted", Nodes: map[string]string{
			"web-10": "done", "web-2": "failed", "web-3": "in doubt", "web-4": "failed", "web-5": "unchanged", "web-6": "not tried", "web-7": "not tried"}},
	}
	d.add("web-10", engine.EntryPlan, 0, data(engine.NodePlan{Node: "web-10", Prints: []string{"10.98.0.0/16 on-link"}}))
	d.add("web-10", engine.EntryIntent, 0, adds)
	d.add("web-10", engine.EntryIntent, 1, restarts)
	d.add("web-10", engine.EntryDone, 0)
	d.add("web-10", engine.EntryDone, 1)
	d.add("web-10", engine.EntryEnd, 0, text("done"))

	d.add("web-2", engine.EntryPlan, 0, data(engine.NodePlan{Node: "web-2"}))
	d.add("web-2", engine.EntryLook, 0)
	d.add("web-2", engine.EntryIntent, 0, adds)
	d.add("web-2", engine.EntryIntent, 1, restarts)
	d.add("web-2", engine.EntryDone, 0)
	d.add("web-2", engine.EntryFailed, 1, text("link.restart eth1 on web-2: refused"))
	d.add("web-2", engine.EntryUndone, 1)
	d.add("web-2", engine.EntryUndo, 0, adds)
	d.add("web-2", engine.EntryUndone, 0)
	d.add("web-2", engine.EntryEnd, 0, text("failed"), data(engine.Error{
		Code: engine.Differs, Node: "web-2", Op: "link.restart eth1", Cause: "refused", Left: "changes put back: 1", Hint: "is it up?", Kernel: "No such device"}))

	d.add("web-3", engine.EntryPlan, 0, data(engine.NodePlan{Node: "web-3"}))
	d.add("web-3", engine.EntryIntent, 0, adds)
	d.add("", engine.EntryResumed, 0, text("root"), data("ticket 8"))
	d.add("web-3", engine.EntryFailed, 0, text("no answer within 30s"))
	d.add("web-4", engine.EntryEnd, 0, text("failed"), data(engine.Error{Node: "web-4", Cause: "192.0.2.4:22: connection refused", Left: engine.NothingChanged}))

	d.add("web-7", engine.EntryPlan, 0, data(engine.NodePlan{Node: "web-7"}))
	d.add("web-7", engine.EntryIntent, 0, adds)
	d.add("web-7", engine.EntryDone, 0)
	d.add("web-7", engine.EntryUndo, 0, adds)
	d.add("web-7", engine.EntryUndone, 0)
	d.add("web-7", engine.EntryEnd, 0, text("not tried"), data(engine.Error{Code: engine.Interrupted, Node: "web-7", Cause: "interrupted", Left: "changes put back: 1"}))
	d.add("web-5", engine.EntryEnd, 0, text("not tried"), data(engine.Error{Node: "web-5", Cause: "no answer within 20s"})) // and later it answered
	d.r.Verified, d.r.Intact = "verified: 3 entries", true
	return d.r
}

func TestHistory(t *testing.T) {
	was := time.Local
	time.Local = time.UTC
	defer func() { time.Local = was }()
	var b bytes.Buffer
	if err := tui.History(&b, record(), tui.Style{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "history.text", b.String())
	killed := record()
	killed.Run.Outcome, killed.Run.Ended, killed.TakenBackBy = nil, time.Time{}, "20261124-000000-abc"
	b.Reset()
	if err := tui.History(&b, killed, tui.Style{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "history.killed", b.String())
}

// page parses a report as a browser does. Every element and attribute must be one that
// the page has on purpose: none loads anything, or does anything.
func page(t *testing.T, b []byte) (words string, elements map[string]int) {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	attributes := map[string][]string{
		"html": {"lang"}, "meta": {"charset", "http-equiv", "content", "name"}, "a": {"href"}, "details": {"open"},
		"p": {"class"}, "span": {"class"}, "pre": {"class"}, "div": {"class"}, "td": {"class"}, "dd": {"class"}, "h2": {"id", "class"}, "strong": {"class"},
		"head": nil, "title": nil, "style": nil, "body": nil, "h1": nil, "code": nil, "dl": nil, "dt": nil, "table": nil, "tbody": nil, "tr": nil, "th": nil, "section": nil, "summary": nil,
	}
	elements = map[string]int{}
	var text strings.Builder
	for n := range doc.Descendants() {
		switch n.Type {
		case html.TextNode:
			text.WriteString(n.Data)
		case html.CommentNode:
			t.Errorf("a comment: %q", n.Data)
		case html.ElementNode:
			elements[n.Data]++
			allowed, known := attributes[n.Data]
			if !known {
				t.Errorf("the page has an element %s", n.Data)
			}
			for _, a := range n.Attr {
				if !slices.Contains(allowed, a.Key) || a.Key == "href" && !strings.HasPrefix(a.Val, "#nodes-") {
					t.Errorf("the page has an attribute %s=%q of %s", a.Key, a.Val, n.Data)
				}
			}
		}
	}
	return text.String(), elements
}

func TestReport(t *testing.T) {
	var b bytes.Buffer
	if err := tui.Report(&b, record()); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.html", b.String())
	words, elements := page(t, b.Bytes())
	if elements["section"] != 5 || elements["details"] != 6 { // five states; five nodes that something was done on, and a file
		t.Errorf("elements %v", elements)
	}
	for _, want := range []string{
		"web-10", "ops", "ticket 7", "dst=10.20.0.0/16", "exit 5: the node answered otherwise than predicted", "0123abcd", "add_route.star:12:5", "verified: 3 entries",
		"+ route 10.20.0.0/16 via 10.98.0.1 dev eth1", "~ link  eth1 restart", "put back", "not made", "10.98.0.0/16 on-link", "if 1 < 2 and True: print(\"<b>\")",
		"nothing was done on: web-6", "2026-11-23 20:44:55 UTC", "after 1m15s", "kernel: No such device", "taken up again",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// Nothing that a node, a script or a person has written becomes a part of the page, or is hidden in it.
func TestReportOfHostileNames(t *testing.T) {
	for _, evil := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</style></title></pre><svg/onload=alert(1)>`, `<!--`, `]]>`, `javascript:alert(1)`,
		`{{.Run}}`, "a\x00b\x1b[2J", "\u202egnp.exe", `' onmouseover='alert(1)`, `&lt;script&gt;`, "\xff\xfe",
	} {
		r := record()
		d := &diary{r: r, at: start}
		r.Run.ID, r.Run.User, r.Run.Reason, r.Run.Runbook, r.Run.Hash, r.Run.Selection, r.Run.Inventory, r.Verified, r.TakenBackBy = evil, evil, evil, evil, evil, evil, evil, evil, evil
		r.Run.Params = map[string]string{evil: evil}
		r.Run.Nodes = []string{evil, evil + "2"}
		r.Run.Outcome = &engine.Outcome{Exit: 6, Error: evil, Nodes: map[string]string{evil: "failed", evil + "2": "not tried", evil + "3": evil}}
		r.Run.Limits = engine.Limits{engine.LimitNodes: {N: 7, Source: evil}}
		r.Run.Source = engine.Source{Main: evil, Files: map[string]string{evil: evil + "\n" + evil}}
		d.r.Entries = nil
		d.add("", engine.EntryResumed, 0, text(evil), data(evil))
		d.add(evil, engine.EntryPlan, 0, data(engine.NodePlan{Prints: []string{evil}}))
		d.add(evil, engine.EntryIntent, 0, func(e *engine.Entry) { e.Op, e.Pos, e.Edit = evil, evil, &engine.Edit{Restart: evil} })
		d.add(evil, engine.EntryIntent, 1, func(e *engine.Entry) { e.Op, e.Pos, e.Diff = evil, evil, "+ "+evil })
		d.add(evil, engine.EntryFailed, 0, text(evil))
		d.add(evil, engine.EntryEnd, 0, text("failed"), data(engine.Error{Cause: evil, Hint: evil, Left: evil, Kernel: evil}))
		r.Entries = d.r.Entries
		var b bytes.Buffer
		if err := tui.Report(&b, r); err != nil {
			t.Fatal(err)
		}
		words, elements := page(t, b.Bytes())
		if elements["section"] != 3 || elements["details"] != 2 {
			t.Errorf("%q: elements %v", evil, elements)
		}
		if strings.ContainsAny(words, "\x00\x1b\u202e") {
			t.Errorf("%q is hidden", evil)
		}
		if n := strings.Count(words, strings.Trim(tui.Line(evil), " ")); n < 25 {
			t.Errorf("%q is on the page %d times", evil, n)
		}
		b.Reset()
		if err := tui.History(&b, r, tui.Style{}); err != nil || strings.ContainsAny(b.String(), "\x00\x1b\u202e") {
			t.Errorf("%q as text: %v\n%s", evil, err, b.String())
		}
	}
}

// fleetRecord is of a run that made three changes on each of n nodes.
func fleetRecord(n int) tui.Record {
	d := &diary{at: start, r: record()}
	d.r.Run.Nodes, d.r.Entries, d.r.Run.Outcome = nil, nil, &engine.Outcome{Nodes: map[string]string{}}
	for i := range n {
		node := fmt.Sprintf("web-%d", i)
		d.r.Run.Nodes = append(d.r.Run.Nodes, node)
		d.r.Run.Outcome.Nodes[node] = "done"
		d.add(node, engine.EntryPlan, 0, data(engine.NodePlan{Node: node}))
		for k := range 3 {
			d.add(node, engine.EntryIntent, k, adds)
			d.add(node, engine.EntryDone, k)
		}
		d.add(node, engine.EntryEnd, 0, text("done"))
	}
	return d.r
}

func TestReportOfAFleet(t *testing.T) {
	var b bytes.Buffer
	if err := tui.Report(&b, fleetRecord(10_000)); err != nil {
		t.Fatal(err)
	}
	if mb := b.Len() >> 20; mb > 20 {
		t.Errorf("10,000 nodes with three changes each make a page of %d MB", mb)
	}
	if n := strings.Count(b.String(), "<details>"); n != 10_000 {
		t.Errorf("%d nodes have a place of their own", n)
	}
}

func BenchmarkReport(b *testing.B) {
	r := fleetRecord(10_000)
	for b.Loop() {
		var page bytes.Buffer
		if err := tui.Report(&page, r); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(page.Len()), "bytes")
	}
}
