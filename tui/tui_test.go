package tui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/engine/script/lint"
	"runbook/tui"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", name, got)
	}
}

func route(via string) resource.Route {
	return resource.Route{
		Dst: netip.MustParsePrefix("10.20.0.0/16"), Table: resource.TableMain, Type: resource.Unicast, Proto: resource.ProtoStatic,
		Hops: []resource.Hop{{Via: netip.MustParseAddr(via), Dev: "eth1"}},
	}
}

func step(before, after resource.State) engine.PlannedChange {
	return engine.PlannedChange{
		Op: "route.add", Object: "10.20.0.0/16", Pos: "add_route.star:14:19", Args: json.RawMessage(`{"dst":"10.20.0.0/16"}`),
		Edit: engine.Edit{Want: after, Before: before, After: after},
	}
}

// plan has a node of every kind.
func plan() *engine.Plan {
	have, want := resource.Of(route("10.98.0.9")), resource.Of(route("10.98.0.1"))
	refused := step(nil, nil)
	refused.Refused = &engine.NodeError{Errno: "ENETUNREACH", Words: "Nexthop has invalid gateway"}
	node := func(name string, steps ...engine.PlannedChange) *engine.NodePlan {
		return &engine.NodePlan{Node: name, Steps: steps}
	}
	printing := node("web-5")
	printing.Prints = []string{"10.98.0.0/16 on-link"}
	dead := node("web-6")
	dead.Err = &engine.Error{Code: engine.Unreachable, Node: "web-6", Cause: "192.0.2.6:22: connection refused", Left: engine.NothingChanged, Hint: "is it up?"}
	return &engine.Plan{
		Source: engine.Source{Main: "runbooks/add_route.star", Files: map[string]string{"add_route.star": ""}},
		Params: map[string]string{"dst": "10.20.0.0/16"},
		Used:   engine.Used{engine.LimitNodes: 6, engine.LimitChanges: 4, engine.LimitOutput: 23},
		Header: engine.Header{Params: []engine.Param{{Name: "dst"}, {Name: "dev", Default: "eth1"}, {Name: "note", Default: ""}}},
		Nodes: []*engine.NodePlan{
			node("web-1", step(resource.State{}, want)), node("web-2", step(resource.State{}, want)),
			node("web-3", step(want, want)), node("web-4", step(have, want), refused), printing, dead,
		},
	}
}

func TestPlan(t *testing.T) {
	for _, format := range []string{"text", "markdown", "json"} {
		var b bytes.Buffer
		if err := tui.Plan(&b, plan(), format, tui.Style{}); err != nil {
			t.Fatal(err)
		}
		golden(t, "plan."+format, b.String())
	}
	if err := tui.Plan(&bytes.Buffer{}, plan(), "yaml", tui.Style{}); err == nil {
		t.Error("an unknown format is accepted")
	}
}

// Nodes with the same changes stand together, whatever sessions these cut.
func TestPlanWithSessions(t *testing.T) {
	want := resource.Of(route("10.98.0.1"))
	to := func(peer string, n int) resource.Sessions {
		return resource.Sessions{Local: netip.MustParseAddr("10.98.0.2"), Peer: netip.MustParseAddrPort(peer), Dev: "eth1", Count: n}
	}
	own := to("192.0.2.1:0", 1)
	own.Own, own.Port = true, 22
	clients := to("[2001:db8:1234:5678::9abc]:0", 40)
	clients.Port = 443
	node := func(name string, cuts ...engine.Cut) *engine.NodePlan {
		s := step(resource.State{}, want)
		s.Edit.Cuts = cuts
		return &engine.NodePlan{Node: name, Steps: []engine.PlannedChange{s}}
	}
	stall := func(s resource.Sessions) engine.Cut { return engine.Cut{Sessions: s, Stalls: true} }
	other := node("db-1",
		engine.Cut{Sessions: to("10.20.0.1:5432", 62), Stalls: true, To: "via 10.98.0.9 dev eth1"},
		engine.Cut{Sessions: to("[2001:db8:1234:5678::9abc]:5432", 3)},
		engine.Cut{Sessions: resource.Sessions{Dev: "eth1", Count: 9000}, Perhaps: true, Stalls: true},
		engine.Cut{Sessions: own, Perhaps: true}, engine.Cut{Sessions: clients, Perhaps: true},
		engine.Cut{Sessions: resource.HiddenOwn, Perhaps: true})
	other.Prints = []string{"so that it stands alone"}
	p := &engine.Plan{
		Source: engine.Source{Main: "add_route.star"},
		Used:   engine.Used{engine.LimitNodes: 4},
		Nodes: []*engine.NodePlan{
			node("web-1", stall(to("10.98.0.20:5432", 62)), stall(clients), stall(to("10.98.0.21:80", 20)), stall(to("10.98.0.21:81", 1)), stall(to("10.98.0.22:80", 1)), stall(own)),
			node("web-2", stall(to("10.98.0.20:5432", 60))),
			node("web-3"), other,
		},
	}
	single := *p
	single.Nodes = p.Nodes[:1]
	for name, p := range map[string]*engine.Plan{"sessions": p, "sessions-one": &single} {
		for _, format := range []string{"text", "markdown", "json"} {
			var b bytes.Buffer
			if err := tui.Plan(&b, p, format, tui.Style{}); err != nil {
				t.Fatal(err)
			}
			golden(t, name+"."+format, b.String())
			for line := range strings.Lines(b.String()) {
				if len(line) > 81 && format == "text" {
					t.Errorf("%d columns: %s", len(line)-1, line)
				}
			}
		}
	}
}

func TestColour(t *testing.T) {
	var b bytes.Buffer
	if err := tui.Plan(&b, plan(), "text", tui.Style{Colour: true}); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.colour", b.String())
}

func TestEvents(t *testing.T) {
	d := resource.Compare(resource.State{}, resource.Of(route("10.98.0.1")))
	var b bytes.Buffer
	tell := tui.Lines(&b, tui.Style{})
	for _, e := range []engine.Event{
		{Kind: engine.EventRun, Run: "r"},
		{Kind: engine.EventWave, Text: "wave 1 of 2: web-1"},
		{Kind: engine.EventNode, Node: "web-1", State: engine.NodeApplying},
		{Kind: engine.EventChange, Node: "web-1", Op: "route.add 10.20.0.0/16", Diff: d},
		{Kind: engine.EventUnchanged, Node: "web-1", Op: "route.add 10.21.0.0/16"},
		{Kind: engine.EventPrint, Node: "web-1", Text: "hello"},
		{Kind: engine.EventPutBack, Node: "web-1", Op: "route.add 10.20.0.0/16", Diff: d},
		{Kind: engine.EventNode, Node: "web-1", State: engine.NodeFailed, Err: &engine.Error{Node: "web-1", Cause: "no", Hint: "try"}},
		{Kind: engine.EventBake, Text: "1m0s"},
		{Kind: engine.EventPace, Node: "web-2", Text: "41s"},
		{Kind: engine.EventStopping, Text: "web-1, web-2"},
		{Kind: engine.EventNode, Node: "web-2", State: engine.NodeInDoubt, Err: &engine.Error{
			Node: "web-2", Op: "link.restart eth1", Cause: "no answer within 30s", Left: "changes that it may still hold: link.restart eth1, because …"}},
		{Kind: engine.EventConfirmed, Node: "web-3"},
		{Kind: engine.EventEnd, Run: "r", Text: "r: 1 failed", Used: engine.Used{engine.LimitNodes: 2, engine.LimitDuration: 1234567890}, States: map[engine.NodeState][]string{
			engine.NodeDone: {"web-3"}, engine.NodeSame: strings.Split("a,b,c,d,e,f,g,h,i,j", ","), engine.NodeUntried: strings.Split("a,b,c,d,e,f,g,h,i,j,k", ","),
			engine.NodeFailed: {"web-0", "web-1"}, engine.NodeInDoubt: {"web-2"}, engine.NodeSkipped: {"web-4"},
		}, Next: []engine.Next{{What: "go on with the nodes that are left", Command: "runbook resume r"}}},
	} {
		tell(e)
	}
	golden(t, "events.text", b.String())
}

func TestPrompt(t *testing.T) {
	for in, want := range map[string]rollout.Answer{
		"y\n": rollout.Yes, "Y\n": rollout.Yes, "s\n": rollout.Skip, "a\n": rollout.All, "q\n": rollout.Quit,
		"\nmaybe\ns\n": rollout.Skip, "yes": rollout.Yes,
	} {
		var out bytes.Buffer
		got, err := tui.Prompt(strings.NewReader(in), &out, tui.Style{})(t.Context(), rollout.Question{Plan: plan().Nodes[0], Wave: 1, Waves: 2, Nth: 1, Of: 1})
		if err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
		if text := out.String(); !strings.Contains(text, "+ route 10.20.0.0/16") || !strings.Contains(text, "wave 1 of 2, node 1 of 1") {
			t.Errorf("%q: the question does not show what it is about:\n%s", in, text)
		}
		if asked := strings.Count(out.String(), "apply to web-1?"); asked != strings.Count(strings.TrimSuffix(in, "\n"), "\n")+1 {
			t.Errorf("%q: asked %d times", in, asked)
		}
	}
	for in, want := range map[string]rollout.Answer{
		"a\n3\n": rollout.All, "a\n\ny\n": rollout.Yes, "a\ny\ns\n": rollout.Skip, "a\n4\ny\n": rollout.Yes, "a\n4\na\n3\n": rollout.All, "a\na\nq\n": rollout.Quit,
	} {
		var out bytes.Buffer
		got, err := tui.Prompt(strings.NewReader(in), &out, tui.Style{})(t.Context(), rollout.Question{Plan: plan().Nodes[0], Wave: 1, Waves: 2, Nth: 2, Of: 6, Alike: 3})
		if err != nil || got != want {
			t.Errorf("of three alike, %q: %v, %v, want %v", in, got, err, want)
		}
		for _, text := range []string{"! of the 5 nodes left of this wave, 3 get this diff", "a(ll 3 alike of this wave)", "apply it to all of them? [type their number, 3]"} {
			if !strings.Contains(out.String(), text) {
				t.Errorf("of three alike, %q: %q is not asked:\n%s", in, text, out.String())
			}
		}
	}
	var out bytes.Buffer
	server := &engine.NodePlan{Node: "pg service=main"}
	if got, err := tui.Prompt(strings.NewReader("q\n"), &out, tui.Style{})(t.Context(), rollout.Question{Plan: server, Hook: "before", Waves: 2, Nth: 1, Of: 1, Alike: 1}); err != nil || got != rollout.Quit ||
		!strings.Contains(out.String(), "pg service=main   a server that the nodes share, in before\n") || !strings.Contains(out.String(), "apply to pg service=main? [y, q]") {
		t.Errorf("%v, %v\n%s", got, err, out.String())
	}
	for _, in := range []string{"", "\n\n"} {
		got, err := tui.Prompt(strings.NewReader(in), &bytes.Buffer{}, tui.Style{})(t.Context(), rollout.Question{Plan: plan().Nodes[0]})
		if err == nil || got != rollout.Quit {
			t.Errorf("the end of the input is %v, %v", got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if got, err := tui.Prompt(r, &bytes.Buffer{}, tui.Style{})(ctx, rollout.Question{Plan: plan().Nodes[0]}); err == nil || got != rollout.Quit {
		t.Errorf("an interrupt is %v, %v", got, err)
	}
}

// What GitHub's code scanning wants of SARIF: a rule with its texts for each result, a
// path from the root of the repository, and positions that count from 1.
func TestSARIF(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	var found []lint.Finding
	for rule := range lint.Rules {
		found = append(found, lint.Finding{File: "books/a b%ü.star", Line: 3, Col: 1, Rule: rule, Text: "text", Hint: "hint"})
	}
	outside := filepath.Join(filepath.Dir(dir), "other.star")
	for _, file := range []string{filepath.Join(dir, "x.star"), "./x.star", "books/../x.star", "../other.star", outside, "a:b.star"} {
		found = append(found, lint.Finding{File: file, Line: 1, Col: 7, Rule: "syntax", Text: "text"})
	}
	var b bytes.Buffer
	if err := tui.Findings(&b, found, "sarif", tui.Style{}); err != nil {
		t.Fatal(err)
	}
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct {
						ID                                      string
						ShortDescription, FullDescription, Help struct{ Text string }
						DefaultConfiguration                    struct{ Level string }
					}
				}
			}
			ColumnKind string
			Results    []struct {
				RuleID, Level string
				RuleIndex     *int
				Message       struct{ Text string }
				Locations     []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI, URIBaseID string }
						Region           struct{ StartLine, StartColumn int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || !strings.Contains(log.Schema, "sarif-2.1.0") || len(log.Runs) != 1 || log.Runs[0].ColumnKind != "unicodeCodePoints" {
		t.Fatalf("%+v", log)
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name == "" || len(run.Tool.Driver.Rules) != len(lint.Rules) || len(run.Results) != len(found) {
		t.Fatalf("%+v", run)
	}
	for _, r := range run.Tool.Driver.Rules {
		if r.ID == "" || r.ShortDescription.Text == "" || r.FullDescription.Text == "" || r.Help.Text == "" || r.DefaultConfiguration.Level != string(lint.Rules[r.ID].Level) {
			t.Errorf("the rule %+v", r)
		}
	}
	var uris []string
	for i, r := range run.Results {
		if r.RuleIndex == nil || run.Tool.Driver.Rules[*r.RuleIndex].ID != r.RuleID || r.RuleID != found[i].Rule || r.Level != "error" && r.Level != "warning" || r.Message.Text == "" || len(r.Locations) != 1 {
			t.Errorf("the result %+v", r)
			continue
		}
		at := r.Locations[0].PhysicalLocation
		if at.Region.StartLine != found[i].Line || at.Region.StartColumn != found[i].Col {
			t.Errorf("%+v", at)
		}
		if u, err := url.Parse(at.ArtifactLocation.URI); err != nil || u.IsAbs() == (at.ArtifactLocation.URIBaseID == "%SRCROOT%") {
			t.Errorf("the address %+v: %v", at.ArtifactLocation, err)
		}
		uris = append(uris, at.ArtifactLocation.URI)
	}
	other := (&url.URL{Scheme: "file", Path: outside}).String()
	if got, want := uris[len(lint.Rules)-1:], []string{"books/a%20b%25%C3%BC.star", "x.star", "x.star", "x.star", other, other, "./a:b.star"}; !slices.Equal(got, want) {
		t.Errorf("addresses %q, want %q", got, want)
	}
	// Where nothing is found there is a list all the same.
	b.Reset()
	if err := tui.Findings(&b, nil, "sarif", tui.Style{}); err != nil || !strings.Contains(b.String(), `"results": []`) {
		t.Errorf("%v %s", err, b.String())
	}
}
