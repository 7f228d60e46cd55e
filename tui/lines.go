package tui

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"runbook/engine"
	"runbook/engine/rollout"
)

// Lines returns a sink for the events of a run that writes a line or two for each to w.
func Lines(w io.Writer, s Style) func(engine.Event) {
	var mu sync.Mutex
	why := causes{}
	return func(e engine.Event) {
		mu.Lock()
		defer mu.Unlock()
		why.note(e)
		for _, l := range eventLines(e, why, s) {
			fmt.Fprintln(w, l)
		}
	}
}

// eventLines is what is said of e, in lines. why is what the nodes that failed so far have failed of.
func eventLines(e engine.Event, why causes, s Style) []string {
	switch e.Kind {
	case engine.EventRun:
		return []string{shown("run " + e.Run)}
	case engine.EventWave:
		return []string{s.bold(e.Text)}
	case engine.EventBake:
		return []string{shown("waiting " + e.Text + " before the next wave")}
	case engine.EventGate:
		if e.Err != nil {
			return append([]string{s.wrap(red, e.Op+": not passed")}, prefixed("  ", shownLines(e.Err.Error()))...)
		}
		return []string{e.Op + ": passed"}
	case engine.EventReplacing:
		return []string{shown(e.Node + ": ending the agent that this run left there: " + e.Text)}
	case engine.EventPaused:
		return []string{s.bold("paused: no other node starts")}
	case engine.EventUnpaused:
		return []string{s.bold("going on")}
	case engine.EventStopping:
		return []string{shown("stopping: no other node starts; finishing " + e.Text + ", which another interrupt would put back")}
	case engine.EventConfirmed:
		return []string{shown(e.Node) + ": reached over a new connection: the change stays"}
	case engine.EventPace:
		return []string{shown(fmt.Sprintf("%s: waiting %s, for limit changes_per_minute", e.Node, e.Text))}
	case engine.EventPrint, engine.EventValue:
		return []string{shown(Said(e))}
	case engine.EventUnchanged:
		return []string{s.line(fmt.Sprintf("= %s: %s: already so", e.Node, under(e.Node, e.Op)))}
	case engine.EventChange, engine.EventPutBack:
		verb := "done"
		if e.Kind == engine.EventPutBack {
			verb = "put back"
		}
		out := []string{shown(fmt.Sprintf("%s: %s: %s", e.Node, under(e.Node, e.Op), verb))}
		for _, c := range e.Diff {
			for _, l := range c.Lines() {
				out = append(out, "  "+s.line(under(e.Node, l)))
			}
		}
		return out
	case engine.EventNode:
		line := fmt.Sprintf("%s: %s", e.Node, e.State)
		if e.Err != nil {
			return append([]string{s.wrap(red, line)}, prefixed("  ", shownLines(e.Err.Error()))...)
		}
		return []string{shown(line)}
	case engine.EventEnd:
		return endLines(e, why, s)
	}
	return nil
}

// Said is what a script has printed, or a hook observed, in a line.
func Said(e engine.Event) string {
	if e.Kind == engine.EventValue {
		return fmt.Sprintf("%s: %s = %s", e.Op, e.Text, number(*e.Value))
	}
	return e.Node + e.Op + " | " + e.Text // a node's, or a hook's
}

// number is a value as people read it.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// JSONLines returns a sink that writes each event as one line of JSON to w.
func JSONLines(w io.Writer) func(engine.Event) {
	var mu sync.Mutex
	enc := json.NewEncoder(w)
	return func(e engine.Event) {
		mu.Lock()
		defer mu.Unlock()
		enc.Encode(e) //nolint:errcheck // a reader that has gone away does not stop a run
	}
}

// Prompt returns a question for each node, asked on out and answered by a line
// of in: y, s(kip), a(ll alike of this wave), q. Nothing is ever taken for a yes: an
// empty line and anything else ask again, and the end of in quits. For more than one node their number is to be typed.
func Prompt(in io.Reader, out io.Writer, s Style) func(context.Context, rollout.Question) (rollout.Answer, error) {
	r := bufio.NewReader(in)
	return func(ctx context.Context, q rollout.Question) (rollout.Answer, error) {
		place := fmt.Sprintf("wave %d of %d, node %d of %d", q.Wave, q.Waves, q.Nth, q.Of)
		if q.Hook != "" {
			place = "a server that the nodes share, in " + q.Hook
		}
		fmt.Fprintf(out, "\n%s\n", s.bold(fmt.Sprintf("%s   %s", q.Plan.Node, place)))
		for _, l := range nodeLines(q.Plan) {
			fmt.Fprintf(out, "  %s\n", s.line(l))
		}
		if left := q.Of - q.Nth + 1; q.Alike > 0 && left > q.Alike { // the others have to be looked at by themselves
			fmt.Fprintf(out, "  %s\n", s.line(fmt.Sprintf("! of the %d nodes left of this wave, %d get this diff", left, q.Alike)))
		}
		choice := "y, s(kip), q"
		switch {
		case q.Hook != "": // it cannot do without
			choice = "y, q"
		case q.Alike > 1:
			choice = fmt.Sprintf("y, s(kip), a(ll %d alike of this wave), q", q.Alike)
		}
		for {
			line, err := asked(ctx, r, out, fmt.Sprintf("apply to %s? [%s] ", shown(q.Plan.Node), choice))
			if err != nil {
				return rollout.Quit, err
			}
			a, ok := answers[strings.ToLower(line)]
			if a == rollout.All && ok && q.Alike > 1 {
				if line, err = asked(ctx, r, out, fmt.Sprintf("apply it to all of them? [type their number, %d] ", q.Alike)); err != nil {
					return rollout.Quit, err
				}
				ok = line == strconv.Itoa(q.Alike)
			}
			if ok {
				return a, nil
			}
		}
	}
}

// asked is the line that answers a question, without the space around it.
func asked(ctx context.Context, r *bufio.Reader, out io.Writer, question string) (string, error) {
	fmt.Fprint(out, question)
	line, err := readLine(ctx, r)
	if err != nil {
		fmt.Fprintln(out)
	}
	return strings.TrimSpace(line), err
}

var answers = map[string]rollout.Answer{
	"y": rollout.Yes, "yes": rollout.Yes,
	"s": rollout.Skip, "skip": rollout.Skip,
	"a": rollout.All, "all": rollout.All,
	"q": rollout.Quit, "quit": rollout.Quit,
}

// readLine waits for a line or the end of ctx. In the second case the read
// stays behind: the run is over then, and so is the process.
func readLine(ctx context.Context, r *bufio.Reader) (string, error) {
	got := make(chan string, 1)
	go func() {
		line, err := r.ReadString('\n')
		if err != nil && line == "" {
			close(got)
			return
		}
		got <- line
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case line, ok := <-got:
		if !ok {
			return "", &engine.Error{Code: engine.Interrupted, Cause: "the input ended before an answer", Hint: "--yes asks nothing"}
		}
		return line, nil
	}
}
