package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

var (
	record = engine.RunRecord{
		Verb: "run", Runbook: "add_route.star", Hash: "abc", Params: map[string]string{"dst": "10.20.0.0/16"},
		Inventory: "inventory.yaml", Selection: "web and not web-3", User: "ops", Started: started,
	}
	route = resource.Route{Dst: netip.MustParsePrefix("10.20.0.0/16")}
	edit  = &engine.Edit{Want: resource.Of(route), Before: resource.State{route.Key(): nil}, After: resource.Of(route), Settle: engine.Duration(3 * time.Second)}
)

func open(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func begin(t testing.TB, j *Journal, r engine.RunRecord) string {
	t.Helper()
	id, err := j.Begin(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	j := open(t, dir)
	id := begin(t, j, record)
	if !regexp.MustCompile(`^20261123-204455-[2-9b-z]{3}$`).MatchString(id) {
		t.Errorf("id is %q", id)
	}
	entries := []engine.Entry{
		{Run: id, Time: started, Node: "web-1", Kind: "intent", Nth: 2, Op: "route.add 10.20.0.0/16", Pos: "add_route.star:14:5", Edit: edit, Diff: "+ route"},
		{Run: id, Time: started.Add(time.Second), Node: "web-1", Kind: "failed", Nth: 2, Text: "línea\nwith\x00zero and 'quotes'"},
	}
	for i, e := range entries {
		if err := j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		entries[i].Seq = int64(i + 1)
	}
	want := record
	want.ID = id
	run, got, err := j.Run(t.Context(), id)
	if err != nil || !reflect.DeepEqual(run, want) || !reflect.DeepEqual(got, entries) {
		t.Fatalf("%v\n got %+v %+v\nwant %+v %+v", err, run, got, want, entries)
	}

	outcome := engine.Outcome{Exit: 6, Error: "refused", Nodes: map[string]string{"web-1": "failed"}}
	if err := j.End(t.Context(), id, outcome); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	run, got, err = open(t, dir).Run(t.Context(), id)
	if err != nil || !reflect.DeepEqual(run.Outcome, &outcome) || time.Since(run.Ended) > time.Minute || len(got) != 2 {
		t.Errorf("after reopening: %v %+v %+v", err, run, got)
	}
}

func TestOnlyThisUserCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j := open(t, dir)
	begin(t, j, record)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range append(files, nil) {
		path, want := dir, os.FileMode(0o700)
		if f != nil {
			path, want = filepath.Join(dir, f.Name()), 0o600
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
}

// TestEveryConnectionIsDurable holds the settings on which the promise of Append rests.
func TestEveryConnectionIsDurable(t *testing.T) {
	j := open(t, t.TempDir())
	other, err := j.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // a test
	for _, c := range []*sql.Conn{j.tx, other} {
		var mode string
		var sync, wait int
		err := errors.Join(
			c.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode),
			c.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&sync),
			c.QueryRowContext(t.Context(), "PRAGMA busy_timeout").Scan(&wait))
		if err != nil || mode != "wal" || sync != 2 || wait != 10000 {
			t.Errorf("journal_mode %s, synchronous %d, busy_timeout %d: %v", mode, sync, wait, err)
		}
	}
}

func TestRunsAreNewestFirst(t *testing.T) {
	j := open(t, t.TempDir())
	var want []string
	for _, d := range []time.Duration{0, time.Hour, time.Hour, -time.Hour} {
		r := record
		r.Started = started.Add(d)
		want = append(want, begin(t, j, r))
	}
	slices.Reverse(want)
	want = append(want[1:], want[0])
	runs, err := j.Runs(t.Context())
	var got []string
	for _, r := range runs {
		got = append(got, r.ID)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, want %v (%v)", got, want, err)
	}
}

func TestARunIsFoundByItsBeginning(t *testing.T) {
	j := open(t, t.TempDir())
	r := record
	first := begin(t, j, r)
	r.Started = started.Add(time.Second)
	second := begin(t, j, r)
	r.Started = started.Add(48 * time.Hour)
	third := begin(t, j, r)

	for _, tt := range []struct{ id, want, err, hint string }{
		{id: first, want: first},
		{id: "20261123-204455", want: first},
		{id: "20261125", want: third},
		{id: "20261123", err: `more than one run begins with "20261123"`, hint: "give more of it: " + second + ", " + first},
		{id: "", err: "no run is named", hint: "runbook runs lists them"},
		{id: "20270101-000000-bcd", err: `there is no run "20270101-000000-bcd"`, hint: "runbook runs lists them"},
		{id: "20261125-000000-bcd", err: `there is no run "20261125-000000-bcd"`, hint: "did you mean " + third + "? runbook runs lists them"},
		{id: first + "x", err: `there is no run "` + first + `x"`, hint: "did you mean " + first + "? runbook runs lists them"},
		{id: "04456-" + second[16:], err: `there is no run "04456-`, hint: "did you mean " + second + "?"},
		{id: "%", err: `there is no run "%"`, hint: "runbook runs lists them"},
	} {
		run, _, err := j.Run(t.Context(), tt.id)
		if tt.err == "" {
			if err != nil || run.ID != tt.want {
				t.Errorf("%q: got %s, want %s (%v)", tt.id, run.ID, tt.want, err)
			}
			continue
		}
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.Invalid || !strings.HasPrefix(e.Cause, tt.err) || !strings.HasPrefix(e.Hint, tt.hint) {
			t.Errorf("%q: got %v\nwant %s\n  hint: %s", tt.id, err, tt.err, tt.hint)
		}
	}
}

func TestNodesThatAppendTogether(t *testing.T) {
	j := open(t, t.TempDir())
	a, b := begin(t, j, record), begin(t, j, record)
	const nodes, each = 50, 20
	var wg sync.WaitGroup
	for n := range nodes {
		wg.Go(func() {
			for i := range each {
				run := a
				if n%2 == 0 {
					run = b
				}
				if err := j.Append(t.Context(), engine.Entry{Run: run, Node: fmt.Sprint(n), Nth: i}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, run := range []string{a, b} {
		_, entries, err := j.Run(t.Context(), run)
		if err != nil || len(entries) != nodes/2*each {
			t.Fatalf("%d entries: %v", len(entries), err)
		}
		next := map[string]int{}
		for i, e := range entries {
			if e.Seq != int64(i+1) {
				t.Fatalf("entry %d has number %d", i, e.Seq)
			}
			if e.Nth != next[e.Node] {
				t.Fatalf("node %s: entry %d, want %d", e.Node, e.Nth, next[e.Node])
			}
			next[e.Node]++
		}
	}
}

// TestOneRefusedEntryDoesNotTakeOthersAlong appends to a run that does not
// exist, in one group with entries that are fine.
func TestOneRefusedEntryDoesNotTakeOthersAlong(t *testing.T) {
	j := open(t, t.TempDir())
	run := begin(t, j, record)
	unlock := lock(t, j)
	results := make(chan error, 20)
	for i := range 20 {
		go func() {
			e := engine.Entry{Run: run}
			if i%2 == 1 {
				e.Run = "nowhere"
			}
			results <- j.Append(t.Context(), e)
		}()
	}
	until(t, func() bool { return waiting(j) == 20 })
	unlock()
	refused := 0
	for range 20 {
		if err := <-results; err != nil {
			refused++
			wantError(t, err, engine.Internal, `there is no run "nowhere"`)
		}
	}
	_, entries, err := j.Run(t.Context(), run)
	if refused != 10 || len(entries) != 10 || err != nil {
		t.Errorf("%d refused, %d written (%v)", refused, len(entries), err)
	}
	wantError(t, j.End(t.Context(), "nowhere", engine.Outcome{}), engine.Internal, `there is no run "nowhere"`)
}

func TestAppendThatIsCanceledWritesNothing(t *testing.T) {
	j := open(t, t.TempDir())
	run := begin(t, j, record)
	unlock := lock(t, j)
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	go func() { results <- j.Append(ctx, engine.Entry{Run: run, Text: "canceled"}) }()
	go func() { results <- j.Append(t.Context(), engine.Entry{Run: run, Text: "stays"}) }()
	until(t, func() bool { return waiting(j) == 2 })
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) || engine.AsError(err).Code != engine.Interrupted {
		t.Errorf("got %v", err)
	}
	unlock()
	if err := <-results; err != nil {
		t.Error(err)
	}
	if err := j.Append(ctx, engine.Entry{Run: run}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	_, entries, err := j.Run(t.Context(), run)
	if err != nil || len(entries) != 1 || entries[0].Text != "stays" {
		t.Errorf("%+v %v", entries, err)
	}
	if _, err := j.Runs(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("reading: %v", err)
	}
}

// TestCancelNeverLies cancels at random moments: what says that it was written
// is there, and what says that it was not is not.
func TestCancelNeverLies(t *testing.T) {
	j := open(t, t.TempDir())
	run := begin(t, j, record)
	var mu sync.Mutex
	var want []string
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			for i := range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((n*31+i*17)%40)*50*time.Microsecond)
				text := fmt.Sprint(n, i)
				if j.Append(ctx, engine.Entry{Run: run, Text: text}) == nil {
					mu.Lock()
					want = append(want, text)
					mu.Unlock()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	_, entries, err := j.Run(t.Context(), run)
	var got []string
	for _, e := range entries {
		got = append(got, e.Text)
	}
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d said that they were written, %d were (%v)", len(want), len(got), err)
	}
	t.Logf("%d of 400 written", len(got))
}

func TestCloseWritesWhatWaits(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	run := begin(t, j, record)
	unlock := lock(t, j)
	result := make(chan error)
	go func() { result <- j.Append(t.Context(), engine.Entry{Run: run}) }()
	until(t, func() bool { return waiting(j) == 1 })
	closed := make(chan error)
	go func() { closed <- j.Close() }()
	unlock()
	if err := errors.Join(<-result, <-closed, j.Close()); err != nil {
		t.Error(err)
	}
	wantError(t, j.Append(t.Context(), engine.Entry{Run: run}), engine.Internal, "it is closed")
	_, err := j.Runs(t.Context())
	wantError(t, err, engine.Internal, "it is closed")
	if _, entries, err := open(t, dir).Run(t.Context(), run); len(entries) != 1 || err != nil {
		t.Errorf("%v %v", entries, err)
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("HOME", "/home/ops")
	for _, tt := range []struct{ xdg, want string }{
		{"/var/state", "/var/state/runbook"},
		{"", "/home/ops/.local/state/runbook"},
		{"state", "/home/ops/.local/state/runbook"},
	} {
		t.Setenv("XDG_STATE_HOME", tt.xdg)
		if got := DefaultDir(); got != tt.want {
			t.Errorf("XDG_STATE_HOME=%s: got %s, want %s", tt.xdg, got, tt.want)
		}
	}
	t.Setenv("HOME", "")
	_, err := Open(DefaultDir())
	wantError(t, err, engine.Internal, "there is no place for the journal")
}

// lock takes the write lock, as another process would, until the function that
// it returns is called.
func lock(t testing.TB, j *Journal) (unlock func()) {
	t.Helper()
	c, err := j.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		_, err := c.ExecContext(t.Context(), "ROLLBACK")
		if err := errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func waiting(j *Journal) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting)
}

func until(t testing.TB, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it does not happen")
}

func wantError(t testing.TB, err error, code engine.Code, part string) *engine.Error {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), part) {
		t.Errorf("got %v, want %q", err, part)
		return &engine.Error{}
	}
	return e
}

// TestCloseLeavesOneFile: a connection that is not let go keeps its files.
func TestCloseLeavesOneFile(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	begin(t, j, record)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); len(files) != 1 || err != nil {
		t.Errorf("%v %v", files, err)
	}
}
