// Package tui is what people see: plans and runs as text, Markdown and JSON,
// and the question before a node is changed.
//
// It shows engine plans and events and returns decisions; it knows nothing of
// nodes, scripts or the journal.
package tui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"runbook/engine"
	"runbook/engine/resource"
)

// Plan writes p in a format: text, markdown or json.
func Plan(w io.Writer, p *engine.Plan, format string, s Style) error {
	var b bytes.Buffer
	switch format {
	case "text":
		planText(&b, p, s)
	case "markdown":
		planMarkdown(&b, p)
	case "json":
		if err := planJSON(&b, p); err != nil {
			return err
		}
	default:
		return engine.Invalid.Errorf("--format %s: want text, markdown or json", format)
	}
	if _, err := w.Write(b.Bytes()); err != nil && !errors.Is(err, syscall.EPIPE) { // who has read enough may go
		return engine.Internal.Errorf("the plan cannot be written: %w", err)
	}
	return nil
}

// group is the nodes that a plan does the same to.
type group struct {
	nodes []string
	plans []*engine.NodePlan // of these
	lines []string
}

// groups puts nodes that get the same changes together, in the order of the
// rollout. The sessions that these cut are different on each, and part none. A server is no node among others.
func groups(p *engine.Plan) []*group {
	byText := map[string]*group{}
	var out []*group
	for _, np := range p.Nodes {
		text := strings.Join(planLines(np, nil), "\n")
		if engine.IsTarget(np.Node) {
			text = np.Node + "\n" + text
		}
		g := byText[text]
		if g == nil {
			g = &group{}
			byText[text] = g
			out = append(out, g)
		}
		g.nodes = append(g.nodes, np.Node)
		g.plans = append(g.plans, np)
	}
	for _, g := range out {
		g.lines = nodeLines(g.plans...)
	}
	return out
}

// Changes is what plans change, as a dry run shows it, and how many changes that
// is. Nodes with the same changes stand together, under their names where they are not all alike.
func Changes(plans []*engine.NodePlan) (diff string, changes int) {
	p := &engine.Plan{}
	for _, np := range plans {
		changes += np.Count()
		p.Nodes = append(p.Nodes, &engine.NodePlan{Node: np.Node, Steps: np.Changes()})
	}
	var b strings.Builder
	all := groups(p)
	for _, g := range all {
		if len(g.plans[0].Steps) == 0 {
			continue
		}
		if len(all) > 1 {
			fmt.Fprintf(&b, "%s\n", names(g.nodes))
		}
		for _, l := range g.lines {
			fmt.Fprintf(&b, "%s\n", l)
		}
	}
	return b.String(), changes
}

// nodeLines is what plans that make the same changes do to their nodes, a line
// each, the sign first.
func nodeLines(plans ...*engine.NodePlan) []string { return planLines(plans[0], plans) }

// planLines is what np does, and what that cuts on the nodes of all.
func planLines(np *engine.NodePlan, all []*engine.NodePlan) []string {
	var out []string
	for i, c := range np.Steps {
		out = append(out, changeLines(c)...)
		out = append(out, cutLines(all, i)...)
	}
	for _, l := range np.Prints {
		out = append(out, "| "+l)
	}
	if np.Err != nil {
		e := *np.Err
		e.Node = "" // said by the group
		out = append(out, prefixed("! ", e.Error())...)
	}
	if len(out) == 0 {
		out = append(out, "= nothing to do")
	}
	for i, l := range out {
		out[i] = under(np.Node, l)
	}
	return out
}

// under is text that stands under the name of a node or target: of a target it need not say which server it is about.
func under(node, text string) string {
	t, is := engine.ParseTarget(node)
	if !is {
		return text
	}
	text = strings.ReplaceAll(text, " on "+t.Server, "")
	return strings.ReplaceAll(text, " "+t.Server, "")
}

func changeLines(c engine.PlannedChange) []string {
	if c.Refused != nil {
		return []string{fmt.Sprintf("! %s %s: the kernel will refuse it: %s", c.Op, c.Object, c.Refused.Words)}
	}
	var out []string
	for _, ch := range c.Edit.Diff() {
		out = append(out, ch.Lines()...)
	}
	if c.Edit.Restart != "" {
		out = append(out, fmt.Sprintf("~ %-5s %s restart", resource.KindLink, c.Edit.Restart))
		out = append(out, lostLines(c.Edit)...)
	}
	if g := c.Edit.Guard; g != nil {
		out = append(out, "    ! "+g.String())
	}
	if len(out) > 0 {
		return out
	}
	for _, k := range c.Edit.Want.Keys() {
		if r := c.Edit.Want[k]; r != nil {
			out = append(out, fmt.Sprintf("= %-5s %s    already there", k.Kind(), r))
		}
	}
	if len(out) == 0 {
		out = append(out, fmt.Sprintf("= %s %s    nothing to do", c.Op, c.Object))
	}
	return out
}

// lostLines is what a restart loses and puts back.
func lostLines(e engine.Edit) []string {
	why := fmt.Sprintf("    lost when %s goes down; put back", e.Restart)
	const rest = " with what is left of its lifetime"
	var out []string
	lost, addrs, routes := e.LostApart()
	for _, r := range lost {
		line := fmt.Sprintf("    - %-5s %s%s", r.Key().Kind(), r, why)
		switch r := r.(type) {
		case resource.Addr:
			line += rest
		case resource.Route:
			if r.Expires {
				line += rest
			}
		}
		out = append(out, line)
	}
	var own []string
	if addrs > 0 {
		own = append(own, count(addrs, "address")+" of its own")
	}
	if routes > 0 {
		own = append(own, count(routes, "route")+" to addresses")
	}
	if own != nil {
		out = append(out, "    - "+strings.Join(own, ", ")+why)
	}
	return out
}

// prefixed puts p before the first line of text and indents the others alike.
func prefixed(p, text string) []string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if i == 0 {
			lines[i] = p + l
		} else {
			lines[i] = strings.Repeat(" ", len(p)) + l
		}
	}
	return lines
}

// title is the runbook with its arguments, defaults included: they are what it ran with.
func title(p *engine.Plan) string {
	parts := []string{filepath.Base(p.Source.Main)}
	for _, param := range p.Header.Params {
		v, given := p.Params[param.Name]
		if !given {
			v = fmt.Sprint(param.Default)
		}
		parts = append(parts, argument(param.Name, v))
	}
	return strings.Join(parts, " ")
}

// argument is an argument of a runbook as it can be told from the next.
func argument(name, value string) string {
	if strings.ContainsAny(value, " \t\n\"") || value == "" {
		value = strconv.Quote(value)
	}
	return name + "=" + value
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "s") {
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// counted is how many of these are nodes, and how many servers.
func counted(names []string) string {
	servers := 0
	for _, n := range names {
		if engine.IsTarget(n) {
			servers++
		}
	}
	s := count(len(names)-servers, "node")
	if servers > 0 {
		s += ", " + count(servers, "server")
	}
	return s
}

func summary(p *engine.Plan) string {
	failed := 0
	var all []string
	for _, np := range p.Nodes {
		all = append(all, np.Node)
		if np.Err != nil {
			failed++
		}
	}
	s := counted(all) + ", " + count(p.Changes(), "change")
	if failed > 0 {
		s += fmt.Sprintf(", %d could not be predicted", failed)
	}
	return s
}

func planText(w io.Writer, p *engine.Plan, s Style) {
	fmt.Fprintf(w, "%s      %s\n", s.bold(title(p)), summary(p))
	for _, g := range groups(p) {
		fmt.Fprintf(w, "\n%s\n", s.bold(names(g.nodes)))
		for _, l := range g.lines {
			fmt.Fprintf(w, "  %s\n", s.line(l))
		}
	}
	for i, l := range hookLines(p) {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, shown(l))
	}
	fmt.Fprintf(w, "\n%s\n", s.wrap(dim, Used(p.Header.Limits, p.Used)))
}

// hookLines is what the hooks of the runbook have said, when they look at the fleet, and what is ahead of the servers that they look at.
func hookLines(p *engine.Plan) []string {
	r := p.Header.Rollout
	while := ""
	if r.Bake > 0 {
		every := r.GateEvery
		if every == 0 {
			every = engine.Duration(engine.DefaultGateEvery)
		}
		while = fmt.Sprintf(", every %s while one bakes", every)
	}
	out := slices.Clone(p.Said)
	for _, h := range []struct{ name, when string }{
		{engine.HookBefore, "now, and again before the first wave"},
		{engine.HookGate, "now, before the first wave" + while + ", and after each"},
		{engine.HookAfter, "when all waves are through, and shows then what it would change of a server"},
	} {
		if pos := p.Header.Hooks[h.name]; pos != "" {
			out = append(out, fmt.Sprintf("%s looks at the fleet %s (%s)", h.name, h.when, pos))
		}
	}
	for _, l := range p.Forecast {
		out = append(out, "forecast: "+l)
	}
	return out
}

// names is a list of nodes, with a count where there are many.
func names(nodes []string) string {
	s := strings.Join(nodes, ", ")
	if len(nodes) > 3 {
		s += fmt.Sprintf(" (%d nodes)", len(nodes))
	}
	return s
}

func planMarkdown(w io.Writer, p *engine.Plan) {
	fmt.Fprintf(w, "### runbook plan: `%s`\n\n%s\n", shown(title(p)), summary(p))
	for _, g := range groups(p) {
		fence, text := "```", shownLines(strings.Join(g.lines, "\n"))
		for strings.Contains(text, fence) {
			fence += "`"
		}
		fmt.Fprintf(w, "\n**%s**\n\n%sdiff\n%s\n%s\n", shown(names(g.nodes)), fence, text, fence)
	}
	for i, l := range hookLines(p) {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "* %s\n", shown(l))
	}
	if p.Refused != nil {
		fmt.Fprintf(w, "\n**refused, exit code %d**\n\n%s\n", p.Refused.Code, strings.Join(prefixed("    ", shownLines(p.Refused.Error())), "\n"))
	}
	fmt.Fprintf(w, "\n%s\n", Used(p.Header.Limits, p.Used))
}

// The published form of a plan. Fields are added, never renamed.
type (
	planDoc struct {
		Version int                       `json:"v"`
		Runbook string                    `json:"runbook"`
		Hash    string                    `json:"hash"`
		Params  map[string]string         `json:"params"`
		Changes int                       `json:"changes"`
		Nodes   []nodeDoc                 `json:"nodes"`
		Limits  map[engine.Limit]limitDoc `json:"limits"`
		Hooks   map[string]string         `json:"hooks,omitempty"` // before, gate, after: where they stand
		// Forecast is what is ahead of the servers that they look at.
		Forecast []string `json:"forecast,omitempty"`
		// Said is what hooks printed and observed while the plan was made.
		Said []string `json:"said,omitempty"`
		// Seen are the numbers among that, and Error why the plan is refused, where that is no node's.
		Seen  []engine.Observed `json:"seen,omitempty"`
		Error *engine.Error     `json:"error,omitempty"`
	}
	nodeDoc struct {
		Node   string        `json:"node"`
		Calls  []callDoc     `json:"calls"`
		Prints []string      `json:"prints,omitempty"`
		Error  *engine.Error `json:"error,omitempty"`
	}
	callDoc struct {
		Op      string          `json:"op"`
		Args    json.RawMessage `json:"args"`
		Object  string          `json:"object"`
		Pos     string          `json:"pos"`
		Diff    resource.Diff   `json:"diff"`
		Restart string          `json:"restart,omitempty"` // the link that is restarted,
		Lost    resource.State  `json:"lost,omitempty"`    // and what it loses, which is put back
		Guard   *guardDoc       `json:"guard,omitempty"`
		Refused string          `json:"refused,omitempty"`
		Cuts    []engine.Cut    `json:"cuts,omitempty"`
	}
)

// guardDoc says that a change is confirmed over a new connection, or put back.
type guardDoc struct {
	Within engine.Duration `json:"within"`
}

func planJSON(w io.Writer, p *engine.Plan) error {
	doc := planDoc{Version: 1, Runbook: p.Source.Main, Hash: p.Source.Hash(), Params: p.Params, Changes: p.Changes(), Nodes: []nodeDoc{}, Limits: limitDocs(p.Header.Limits, p.Used), Hooks: p.Header.Hooks, Forecast: p.Forecast, Said: p.Said, Seen: p.Seen, Error: p.Refused}
	for _, np := range p.Nodes {
		nd := nodeDoc{Node: np.Node, Calls: []callDoc{}, Prints: np.Prints, Error: np.Err}
		for _, c := range np.Steps {
			cd := callDoc{Op: c.Op, Args: c.Args, Object: c.Object, Pos: c.Pos, Diff: c.Edit.Diff(), Cuts: c.Edit.Cuts}
			if cd.Diff == nil {
				cd.Diff = resource.Diff{}
			}
			cd.Restart, cd.Lost = c.Edit.Restart, c.Edit.Lost
			if c.Edit.Guard != nil {
				cd.Guard = &guardDoc{c.Edit.Guard.Within}
			}
			if c.Refused != nil {
				cd.Refused = c.Refused.Words
			}
			nd.Calls = append(nd.Calls, cd)
		}
		doc.Nodes = append(doc.Nodes, nd)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}
