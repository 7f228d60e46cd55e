package journal

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"runbook/engine"
)

// Whatever is changed in a row, added between two, or taken away, is found.
func TestVerifyFindsWhatWasChanged(t *testing.T) {
	write := func(t *testing.T) (dir string) {
		dir = t.TempDir()
		j := open(t, dir)
		for i := range 3 {
			r := record
			r.Source = engine.Source{Main: "book.star", Files: map[string]string{"book.star": fmt.Sprint("text ", i)}}
			r.Hash, r.Nodes = r.Source.Hash(), []string{"web-1"}
			id := begin(t, j, r)
			for nth := range 3 {
				e := engine.Entry{Run: id, Node: "web-1", Kind: engine.EntryIntent, Nth: nth, Op: "o", Pos: "p", Edit: edit, Data: []byte("{}"), Diff: "d", Text: "t"}
				if err := j.Append(t.Context(), e, engine.Entry{Run: id, Node: "web-1", Kind: engine.EntryDone, Nth: nth}); err != nil {
					t.Fatal(err)
				}
			}
			if i > 0 {
				if err := j.End(t.Context(), id, engine.Outcome{Nodes: map[string]string{"web-1": "done"}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if v, err := j.Verify(t.Context()); err != nil || len(v.Broken) > 0 || v.Runs != 3 || v.Entries != 18 || v.Older != 0 {
			t.Fatalf("as it was written: %+v, %v", v, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	second := `(SELECT id FROM runs ORDER BY rowid LIMIT 1 OFFSET 1)`
	const lastGone = `PRAGMA foreign_keys = OFF; DELETE FROM runs WHERE rowid = 3` // and not its entries
	attempts := []string{
		`DELETE FROM entries WHERE run = ` + second + ` AND seq = 3`,
		`DELETE FROM entries WHERE run = ` + second + ` AND seq = 6`, // the last one
		`DELETE FROM entries WHERE run = ` + second,
		`UPDATE entries SET seq = 7 WHERE run = ` + second + ` AND seq = 6`,
		`UPDATE runs SET ended = NULL, outcome = NULL WHERE id = ` + second,
		`UPDATE runs SET outcome = '{"exit":0}' WHERE id = ` + second,
		`UPDATE runs SET ended = '2026-11-23T20:44:55.000000000Z' WHERE id = ` + second,
		`INSERT INTO entries (run, seq, time, node, kind, nth, op, pos, diff, text) SELECT run, 7, time, node, kind, nth, op, pos, diff, text FROM entries WHERE run = ` + second + ` AND seq = 6`,
		`PRAGMA foreign_keys = OFF; DELETE FROM charges; DELETE FROM entries WHERE run = ` + second + `; DELETE FROM runs WHERE id = ` + second,
		lastGone,
		`UPDATE runs SET chain = NULL, user = 'nobody' WHERE rowid = 3`,
		`DELETE FROM sources WHERE hash = (SELECT hash FROM runs WHERE id = ` + second + `)`,
		`UPDATE sources SET files = '{"book.star":"rm -rf"}' WHERE hash = (SELECT hash FROM runs WHERE id = ` + second + `)`,
	}
	for _, column := range []string{"verb", "runbook", "hash", "params", "inventory", "selection", "user", "started", "reason", "undoes", "nodes", "limits", "chain", "seal"} {
		attempts = append(attempts, fmt.Sprintf(`UPDATE runs SET %[1]s = %[1]s || ' ' WHERE id = %s`, column, second))
	}
	for _, column := range []string{"time", "node", "kind", "op", "pos", "edit", "data", "diff", "text", "chain"} {
		attempts = append(attempts, fmt.Sprintf(`UPDATE entries SET %[1]s = %[1]s || 'x' WHERE run = %s AND seq = 3`, column, second))
	}
	attempts = append(attempts, `UPDATE entries SET nth = nth + 1 WHERE run = `+second+` AND seq = 3`)
	for _, sqlText := range attempts {
		t.Run(strings.ReplaceAll(sqlText, second, "second"), func(t *testing.T) {
			dir := write(t)
			db, err := sql.Open("sqlite", dsn(dir+"/"+FileName))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(sqlText); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			j := open(t, dir)
			if v, err := j.Verify(t.Context()); err != nil || len(v.Broken) == 0 {
				t.Errorf("%+v, %v", v, err)
			}
			if sqlText != lastGone { // no other run knows of it
				verifyEach(t, j)
			}
		})
	}
}

// A run that is taken up again and ends again is as it was written.
func TestVerifyAfterResume(t *testing.T) {
	j := open(t, t.TempDir())
	r := record
	r.Source = engine.Source{Main: "book.star", Files: map[string]string{"book.star": "text"}}
	r.Hash = r.Source.Hash()
	id := begin(t, j, r)
	if err := j.End(t.Context(), id, engine.Outcome{Exit: 130}); err != nil {
		t.Fatal(err)
	}
	release, err := j.Resume(t.Context(), engine.Entry{Run: id, Kind: engine.EntryResumed, Text: "ops"})
	if err != nil {
		t.Fatal(err)
	}
	if !j.Held(id) {
		t.Error("it is not held")
	}
	_, err = j.Resume(t.Context(), engine.Entry{Run: id, Seq: 1, Kind: engine.EntryResumed})
	wantError(t, err, engine.Invalid, "is still going, in another process")
	stale := engine.Entry{Run: id, Kind: engine.EntryResumed} // of who looked before it was taken up
	if run, _, err := j.Run(t.Context(), id); err != nil || run.Outcome != nil {
		t.Errorf("%v: while it goes on it has ended: %v", err, run.Outcome)
	}
	if err := j.End(t.Context(), id, engine.Outcome{}); err != nil {
		t.Fatal(err)
	}
	release()
	if j.Held(id) {
		t.Error("it is held still")
	}
	_, err = j.Resume(t.Context(), stale)
	wantError(t, err, engine.Invalid, "has gone on meanwhile, in another process")
	if j.Held(id) {
		t.Error("it is held by who was refused")
	}
	if v, err := j.Verify(t.Context()); err != nil || len(v.Broken) > 0 || v.Entries != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

// verifyEach wants the first run of a journal to be as it was written, and one of those after it not to be.
func verifyEach(t *testing.T, j *Journal) {
	t.Helper()
	rows, err := j.db.Query(`SELECT id FROM runs ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	broken := 0
	for i, id := range ids {
		v, err := j.VerifyRun(t.Context(), id)
		if err != nil || v.Runs != 1 || i == 0 && (len(v.Broken) > 0 || v.Entries != 6) {
			t.Errorf("run %d alone: %+v, %v", i, v, err)
		}
		broken += len(v.Broken)
	}
	if broken == 0 {
		t.Error("no run alone is found to be changed")
	}
}
