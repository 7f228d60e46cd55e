package journal

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"runbook/engine"
)

// reserve begins a run and reserves what it is about to do.
func reserve(t *testing.T, j *Journal, r engine.Reservation) (string, engine.Used, error) {
	t.Helper()
	id, err := j.Begin(t.Context(), engine.RunRecord{Verb: "run"})
	if err != nil {
		t.Fatal(err)
	}
	r.Run = id
	used, err := j.Reserve(t.Context(), r)
	return id, used, err
}

func bounds(name engine.Limit, n int64) engine.Limits {
	return engine.Limits{name: {N: n, Source: "--limit"}}
}

func TestTheLastHourIsCounted(t *testing.T) {
	j := open(t, t.TempDir())
	book := engine.Reservation{Path: "/books/a.star", Hash: "aa", Inventory: "/inv", Nodes: []string{"a", "b", "c"}, Changes: 4, Limits: bounds(engine.LimitChangesPerHour, 9)}
	_, used, err := reserve(t, j, book)
	if err != nil || used[engine.LimitNodesPerHour] != 3 || used[engine.LimitChangesPerHour] != 4 {
		t.Fatalf("used %v: %v", used, err)
	}
	for what, other := range map[string]func(r *engine.Reservation){
		"another runbook":   func(r *engine.Reservation) { r.Path, r.Hash = "/books/b.star", "bb" },
		"another inventory": func(r *engine.Reservation) { r.Inventory = "/other" },
	} {
		r := book
		other(&r)
		if _, used, err := reserve(t, j, r); err != nil || used[engine.LimitChangesPerHour] != 4 {
			t.Errorf("%s is counted: %v %v", what, used, err)
		}
	}
	edited, moved := book, book
	edited.Hash, moved.Path = "changed", "/elsewhere.star"
	if _, used, err = reserve(t, j, edited); err != nil || used[engine.LimitChangesPerHour] != 8 {
		t.Errorf("the same file with another text: %v %v", used, err)
	}
	if _, used, err = reserve(t, j, moved); err != nil || used[engine.LimitChangesPerHour] != 8 {
		t.Errorf("the same text elsewhere: %v %v", used, err)
	}
	_, _, err = reserve(t, j, moved)
	var e *engine.Error
	want := "8 changes were made by this runbook on this inventory within the last hour, and this run would add 4, but limit changes_per_hour = 9 (--limit)"
	if !errors.As(err, &e) || e.Code != engine.LimitHit || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// A charge counts for an hour, and no longer: also one of a clock that was ahead,
// for otherwise nothing would run until the clock is there again.
func TestAChargeCountsForAnHour(t *testing.T) {
	for _, tt := range []struct {
		name     string
		age      time.Duration
		counted  int64 // what was used, with the run that reserves
		remained time.Duration
	}{
		{"just within", 59 * time.Minute, 8, 59 * time.Minute},
		{"over", 61 * time.Minute, 4, -1},
		{"of a clock that was ahead", -1000 * time.Hour, 8, 0},
	} {
		j := open(t, t.TempDir())
		book := engine.Reservation{Path: "/books/a.star", Hash: "aa", Inventory: "/inv", Nodes: []string{"a"}, Changes: 4}
		first, _, err := reserve(t, j, book)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.db.Exec(`UPDATE charges SET at = ?`, time.Now().Add(-tt.age).UTC().Format(timeForm)); err != nil {
			t.Fatal(err)
		}
		if _, used, err := reserve(t, j, book); err != nil || used[engine.LimitChangesPerHour] != tt.counted {
			t.Errorf("%s: used %v, %v", tt.name, used, err)
		}
		var at string
		err = j.db.QueryRow(`SELECT at FROM charges WHERE run = ?`, first).Scan(&at)
		if gone := errors.Is(err, sql.ErrNoRows); gone != (tt.remained < 0) || err != nil && !gone {
			t.Errorf("%s: the charge is gone: %v, %v", tt.name, gone, err)
		} else if when, err := time.Parse(timeForm, at); !gone && (err != nil || (time.Since(when)-tt.remained).Abs() > time.Minute) {
			t.Errorf("%s: it is of %s", tt.name, at)
		}
	}
}

// A run that ends is charged for what it did, one that was killed for all that it was about to do.
func TestAnEndedRunIsChargedForWhatItDid(t *testing.T) {
	j := open(t, t.TempDir())
	book := engine.Reservation{Path: "/a", Hash: "a", Inventory: "/inv", Nodes: []string{"a", "b", "c", "d", "e"}, Changes: 10, Limits: bounds(engine.LimitFailuresPerHour, 1)}
	id, _, err := reserve(t, j, book)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := j.Append(t.Context(), engine.Entry{Run: id, Node: fmt.Sprintf("node-%d", i%2), Kind: "intent", Nth: i}); err != nil {
			t.Fatal(err)
		}
	}
	failed := map[string]string{"node-0": string(engine.NodeFailed), "node-1": string(engine.NodeInDoubt), "node-2": string(engine.NodeUntried)}
	if err := j.End(t.Context(), id, engine.Outcome{Exit: 6, Nodes: failed}); err != nil {
		t.Fatal(err)
	}
	_, _, err = reserve(t, j, book)
	if err == nil || !strings.Contains(err.Error(), "2 nodes failed by this runbook") {
		t.Fatalf("two failures where one is allowed: %v", err)
	}
	book.Limits = nil
	_, used, err := reserve(t, j, book)
	if err != nil || used[engine.LimitNodesPerHour] != 2+5 || used[engine.LimitChangesPerHour] != 3+10 {
		t.Errorf("used %v: %v", used, err)
	}
}

// Runs at the same time, of several processes, count each other.
func TestReservationsDoNotRace(t *testing.T) {
	dir := t.TempDir()
	var granted atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		j := open(t, dir)
		for range 5 {
			wg.Go(func() {
				r := engine.Reservation{Path: "/a", Hash: "a", Inventory: "/inv", Nodes: []string{"a"}, Changes: 1, Limits: bounds(engine.LimitChangesPerHour, 7)}
				if _, _, err := reserve(t, j, r); err == nil {
					granted.Add(1)
				}
			})
		}
	}
	wg.Wait()
	if n := granted.Load(); n != 7 {
		t.Errorf("%d of 20 runs were let through, want 7", n)
	}
}

func TestDefaultOfTheHourFollowsTheRun(t *testing.T) {
	l := engine.Limits{engine.LimitNodes: {N: 5000}}
	if n := l.N(engine.LimitNodesPerHour); n != 10_000 {
		t.Errorf("nodes_per_hour = %d where a run may change 5000", n)
	}
	if n := (engine.Limits{}).N(engine.LimitNodesPerHour); n != 200 {
		t.Errorf("nodes_per_hour = %d by default", n)
	}
}

// A quota counts what all runbooks changed of the inventory, and the run itself.
func TestEnoughNodesStayUntouched(t *testing.T) {
	j := open(t, t.TempDir())
	r := engine.Reservation{Path: "/a", Hash: "a", Inventory: "/inv", Changes: 1, Quotas: []engine.Quota{
		{Group: "db", Nodes: []string{"db-1", "db-2", "db-3"}, AtLeast: 1, Source: "policy p.yaml:3:5"},
	}}
	for _, step := range []struct {
		nodes, path, inventory string
		want                   string
	}{
		{"db-1", "/a", "/inv", ""},
		{"db-1", "/b", "/inv", ""}, // again
		{"db-2", "/b", "/inv", ""},
		{"web-1", "/a", "/inv", ""}, // not of the group
		{"db-3", "/c", "/other", ""},
		{"db-3", "/c", "/inv", "0 of the 3 nodes of group db would be left untouched within an hour, and 1 must be (policy p.yaml:3:5)"},
		{"db-2", "/d", "/inv", ""},
	} {
		r.Nodes, r.Path, r.Hash, r.Inventory = []string{step.nodes}, step.path, step.path, step.inventory
		_, _, err := reserve(t, j, r)
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("%v: got %v, want %q", step, err, step.want)
		}
	}
}
