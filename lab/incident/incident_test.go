package incident

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"runbook/engine"
	"runbook/lab"
)

func TestMain(m *testing.M) {
	if lab.IsChild() {
		lab.ChildMain()
	}
	os.Exit(m.Run())
}

var update = flag.Bool("update", false, "draw the picture of the documentation anew, of the same report")

// measured is the report of a replay, as the command printed it.
func measured(t *testing.T) *Report {
	t.Helper()
	b, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// inShort is the figures of a replay in the sentence that begins the documentation.
func inShort(r *Report) string {
	return fmt.Sprintf("%d connections are refused, %d requests fail, and one service gets no answer for %.1f seconds", r.Script.Sum(Second.refused), r.Script.Sum(Second.failed), r.Script.longest())
}

// TestDocumentation holds what the documentation shows to what was measured.
func TestDocumentation(t *testing.T) {
	r := measured(t)
	const picture, text = "../../docs/incident.svg", "../../docs/incident.md"
	if *update {
		if err := os.WriteFile(picture, []byte(r.SVG()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string][]string{
		picture: {r.SVG()},
		text:    {r.Chart(), r.Table(), inShort(r), string(script), string(looping), string(correct)},
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(b), w) {
				first, _, _ := strings.Cut(w, "\n")
				t.Errorf("%s is not of testdata/report.json and the files here: it lacks what begins with %q\n\tafter a change: go test ./lab/incident -args -update, and edit the text", file, first)
			}
		}
	}
}

// TestDrawings draws replays of every length: they keep to 80 columns, and can be read as XML.
func TestDrawings(t *testing.T) {
	for _, seconds := range []int{0, 1, 33, 34, 35, 100, 1000} {
		r := &Report{Capacity: 97}
		for i := range seconds {
			r.Script.Seconds = append(r.Script.Seconds, Second{Backends: 100, Dead: i % 100, Failed: i, Refused: i / 2})
			r.Script.Restarts = append(r.Script.Restarts, float64(i)+0.5)
		}
		r.Script.Nodes, r.Runbook.Nodes = make([]NodeFigures, 1), make([]NodeFigures, 1)
		r.Script.Marks = []Mark{{0.5, "<&>"}}
		for l := range strings.Lines(r.Chart() + r.Table()) {
			if n := utf8.RuneCountInString(l) - 1; n > 80 {
				t.Errorf("%d seconds: a line of %d columns: %s", seconds, n, l)
			}
		}
		for d := xml.NewDecoder(strings.NewReader(r.SVG())); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%d seconds: %v", seconds, err)
			}
		}
	}
}

// TestRecord has a service served, stalled and refused by a clock that is the test's own.
func TestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecord([]string{"node-1", "node-2"})
		r.request("node-1", nil) // before it begins
		r.backends(50, 50)
		r.begin()
		for range 10 { // 2.5 s
			r.request("node-1", nil)
			time.Sleep(250 * time.Millisecond)
		}
		r.backends(20, 1)
		r.backends(30, 2)
		r.backends(25, 9)
		r.restarted("node-1")
		time.Sleep(2 * time.Second)
		r.request("node-1", errors.New("no answer"))
		time.Sleep(time.Second)
		r.request("node-1", &pgconn.PgError{Code: "53300"})
		time.Sleep(500 * time.Millisecond)
		r.request("node-1", nil) // after 6 s
		r.request("node-2", nil)
		time.Sleep(time.Second)
		a := r.end()
		r.request("node-1", nil) // after its end

		want := []Second{{Served: 4}, {Served: 4}, {Served: 2, Backends: 30, Dead: 2}, {}, {Failed: 1}, {Failed: 1, Refused: 1}, {Served: 2}}
		if len(a.Seconds) != len(want) {
			t.Fatalf("%d seconds, want %d", len(a.Seconds), len(want))
		}
		for i, s := range a.Seconds {
			if s != want[i] {
				t.Errorf("second %d is %+v, want %+v", i, s, want[i])
			}
		}
		first := NodeFigures{Node: "node-1", Restarts: 1, Served: 11, Failed: 2, Refused: 1, Stalled: 3, Longest: 3.75}
		second := NodeFigures{Node: "node-2", Served: 1, Stalled: 6, Longest: 6}
		if a.Nodes[0] != first || a.Nodes[1] != second {
			t.Errorf("nodes are %+v, want %+v and %+v", a.Nodes, first, second)
		}
		if a.Restarts[0] != 2.5 || a.Most(Second.backends) != 30 || a.Sum(Second.failed) != 2 {
			t.Errorf("restarts %v, at most %d connections, %d failed", a.Restarts, a.Most(Second.backends), a.Sum(Second.failed))
		}
		select {
		case <-r.full:
		default:
			t.Error("nobody is told that the server is full")
		}
	})
}

func TestPostgresDir(t *testing.T) {
	there, none := t.TempDir(), t.TempDir()
	for _, version := range []string{"9", "15", "16", "old"} {
		program := filepath.Join(there, version, "bin", "postgres")
		if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", none)
	if dir, err := postgresDir(there); err != nil || dir != filepath.Join(there, "16", "bin") {
		t.Errorf("the newest is %s, %v", dir, err)
	}
	if _, err := postgresDir(none); engine.AsError(err).Code != engine.Invalid || !strings.Contains(err.Error(), "there is no Postgres server") {
		t.Errorf("where there is none: %v", err)
	}
	if err := os.Symlink(filepath.Join(there, "9", "bin", "postgres"), filepath.Join(none, "postgres")); err != nil {
		t.Fatal(err)
	}
	if dir, err := postgresDir(there); err != nil || dir != filepath.Join(there, "9", "bin") {
		t.Errorf("the one in PATH is %s, %v", dir, err)
	}
}
