package journal

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runbook/engine"
)

// spoiled returns a folder whose journal, with one run of 200 entries, has been through f.
func spoiled(t *testing.T, f func(t *testing.T, path string)) (dir, run string) {
	t.Helper()
	dir = t.TempDir()
	j := open(t, dir)
	run = begin(t, j, record)
	for range 200 {
		if err := j.Append(t.Context(), engine.Entry{Run: run, Text: strings.Repeat("x", 500)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	f(t, filepath.Join(dir, FileName))
	return dir, run
}

func overwrite(offset int64, text string) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // a test
		if _, err := f.WriteAt([]byte(text), offset); err != nil {
			t.Fatal(err)
		}
	}
}

func statement(s string) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close() //nolint:errcheck // a test
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJournalThatCannotBeUsed(t *testing.T) {
	for _, tt := range []struct {
		name        string
		spoil       func(t *testing.T, path string)
		cause, hint string
	}{
		{"newer", statement("PRAGMA user_version = 99"), fmt.Sprintf("newer runbook (schema 99, this one knows %d)", len(migrations)), "use that runbook"},
		{"another program's", statement("PRAGMA application_id = 7"), "database of another program", "move it away"},
		{"no id", statement("PRAGMA application_id = 0"), "database of another program", "move it away"},
		{"a column missing", statement("ALTER TABLE runs DROP COLUMN undoes"), "build of runbook that was never released, whose tables are others", "move it away"},
		{"a table missing", statement("DROP TABLE charges"), "build of runbook that was never released", "move it away"},
		{"a column too early", statement("PRAGMA user_version = 2"), "build of runbook that was never released", "move it away"},
		{"no database", overwrite(0, strings.Repeat("# a text\n", 100)), "it is damaged", "move it away"},
		{"damaged root", overwrite(4096, strings.Repeat("\xff", 4096)), "it is damaged", "move it away"},
		{"damaged inside", overwrite(8*4096, strings.Repeat("\xff", 10*4096)), "it is damaged", "move it away"},
		{"cut off", func(t *testing.T, path string) {
			if err := os.Truncate(path, 3*4096); err != nil {
				t.Fatal(err)
			}
		}, "it is damaged", "move it away"},
		{"folder in its place", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a directory", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, run := spoiled(t, tt.spoil)
			j, err := Open(dir)
			if err == nil {
				defer j.Close() //nolint:errcheck // it is broken
				_, _, err = j.Run(t.Context(), run)
			}
			e := wantError(t, err, engine.Internal, tt.cause)
			if !strings.Contains(e.Hint, tt.hint) || !strings.Contains(e.Cause, dir) {
				t.Errorf("cause %q, hint %q, want %q", e.Cause, e.Hint, tt.hint)
			}
			t.Log(err)
		})
	}
}

func TestFolderThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(filepath.Join(dir, "file", "state"))
	wantError(t, err, engine.Internal, "not a directory")
}

// TestFullDatabase needs no disk of its own: SQLite is told to have no page left.
func TestFullDatabase(t *testing.T) {
	j := open(t, t.TempDir())
	run := begin(t, j, record)
	if _, err := j.tx.ExecContext(t.Context(), "PRAGMA max_page_count = 12"); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; err == nil; n++ {
		err = j.Append(t.Context(), engine.Entry{Run: run, Text: strings.Repeat("x", 1000)})
	}
	e := wantError(t, err, engine.Internal, "the disk is full")
	if !strings.Contains(e.Hint, "make room") {
		t.Error(e.Hint)
	}
	_, entries, err := j.Run(t.Context(), run)
	if err != nil || len(entries) != n-1 {
		t.Errorf("%d entries, want %d (%v)", len(entries), n-1, err)
	}
	if _, err := j.tx.ExecContext(t.Context(), "PRAGMA max_page_count = 100"); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(t.Context(), engine.Entry{Run: run}); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestLockedForTooLong(t *testing.T) {
	j := open(t, t.TempDir())
	run := begin(t, j, record)
	if _, err := j.tx.ExecContext(t.Context(), "PRAGMA busy_timeout = 50"); err != nil {
		t.Fatal(err)
	}
	unlock := lock(t, j)
	err := j.Append(t.Context(), engine.Entry{Run: run})
	wantError(t, err, engine.Internal, "another process has kept it locked")
	unlock()
	if err := j.Append(t.Context(), engine.Entry{Run: run}); err != nil {
		t.Error(err)
	}
}

// TestNothingIsWrittenAfterTheDiskFailed: a disk that failed to sync once is
// not believed the next time.
func TestNothingIsWrittenAfterTheDiskFailed(t *testing.T) {
	dir, _ := spoiled(t, overwrite(8*4096, strings.Repeat("\xff", 10*4096)))
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close() //nolint:errcheck // it is broken
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = j.submit(ctx, func(ctx context.Context) error {
		_, err := j.tx.ExecContext(ctx, "UPDATE entries SET text = 'y'")
		return err
	})
	wantError(t, err, engine.Internal, "it is damaged")
	_, err = j.Begin(ctx, record)
	wantError(t, err, engine.Internal, "it is damaged")
}
