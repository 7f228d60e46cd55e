package tui

import (
	"bufio"
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"runbook/engine"
)

// This file shows a run's record as one page of HTML that needs nothing else: no
// script, no other file, nothing from the network, which the page itself forbids. html/template
// escapes all that comes from nodes, scripts and people; shown makes visible what would not be seen.

//go:embed report.html
var reportHTML string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"shown": shown, "shownLines": shownLines, "shortly": shortly, "clock": clock, "class": class,
}).Parse(reportHTML))

// reportDoc is what the page is made of.
type reportDoc struct {
	Title    string
	Subject  string
	Run      engine.RunRecord
	Ending   string
	OK       bool
	Facts    []fact
	Groups   []reportGroup
	Limits   []reportLimit
	Files    []reportFile
	Verified string
	Intact   bool
}

type (
	fact        struct{ Name, Text string }
	reportGroup struct {
		State string
		Bad   bool // somebody has to look
		Nodes []*pastNode
		Idle  string // names of nodes on which nothing was done
		Count int
	}
	reportLimit struct{ Name, Value, Source, Doc string }
	reportFile  struct{ Name, Text string }
)

// Report writes what is known of a run as a page of HTML.
func Report(w io.Writer, r Record) error {
	doc := reportDoc{
		Title: r.Run.ID, Subject: r.Run.Verb + " " + Subject(r.Run), Run: r.Run, Ending: r.ending(), OK: r.Run.Outcome != nil && r.Run.Outcome.Exit == 0,
		Facts: r.facts(), Groups: reportGroups(r.pastNodes()), Verified: r.Verified, Intact: r.Intact,
	}
	for _, info := range engine.LimitTable {
		bound := r.Run.Limits.Of(info.Name)
		source := bound.Source
		if source == "" {
			source = "default"
		}
		doc.Limits = append(doc.Limits, reportLimit{string(info.Name), info.Show(bound.N), source, info.Doc})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Run.Source.Files)) {
		doc.Files = append(doc.Files, reportFile{name, r.Run.Source.Files[name]})
	}
	b := bufio.NewWriterSize(w, 1<<16)
	if err := reportPage.Execute(b, doc); err != nil {
		return err
	}
	return b.Flush()
}

// facts are who, what, when and why.
func (r *Record) facts() (out []fact) {
	add := func(name, text string) {
		if text != "" {
			out = append(out, fact{name, text})
		}
	}
	run := r.Run
	add("who", run.User)
	add("reason", run.Reason)
	add("started", clock(run.Started))
	if !run.Ended.IsZero() {
		add("ended", fmt.Sprintf("%s, after %s", clock(run.Ended), shortly(run.Ended.Sub(run.Started))))
	}
	for _, e := range r.Entries {
		if e.Kind == engine.EntryResumed {
			add("taken up again", fmt.Sprintf("%s, by %s", clock(e.Time), e.Text)+because(e))
		}
	}
	add("nodes", fmt.Sprintf("%s: %s of %s", counted(r.nodes()), run.Selection, run.Inventory))
	var params []string
	for _, k := range slices.Sorted(maps.Keys(run.Params)) {
		params = append(params, argument(k, run.Params[k]))
	}
	add("parameters", strings.Join(params, " "))
	add("takes back", run.Undoes)
	add("taken back by", r.TakenBackBy)
	return out
}

// reportGroups puts nodes of one state together: first those that somebody has to look at.
func reportGroups(all []*pastNode) (out []reportGroup) {
	by := map[string]*reportGroup{}
	idle := map[string][]string{}
	order := []string{}
	for _, state := range slices.Backward(endOrder) {
		order = append(order, string(state))
	}
	for _, s := range all {
		g := by[s.State]
		if g == nil {
			g = &reportGroup{State: s.State, Bad: s.State == string(engine.NodeFailed) || s.State == string(engine.NodeInDoubt)}
			by[s.State] = g
			if !slices.Contains(order, s.State) {
				order = append(order, s.State)
			}
		}
		if g.Count++; len(s.Changes) == 0 && s.Why == "" {
			idle[s.State] = append(idle[s.State], s.Node)
		} else {
			g.Nodes = append(g.Nodes, s)
		}
	}
	for _, state := range order {
		if g := by[state]; g != nil {
			g.Idle = strings.Join(idle[state], ", ")
			out = append(out, *g)
		}
	}
	return out
}

// clock is a time with its zone: a page is read elsewhere than it was made.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// class is the look of a line of a diff, by its sign.
func class(line string) string {
	switch {
	case strings.HasPrefix(strings.TrimLeft(line, " "), "! "):
		return "warn"
	case strings.HasPrefix(line, "+"):
		return "add"
	case strings.HasPrefix(line, "-"):
		return "del"
	default:
		return "same"
	}
}
