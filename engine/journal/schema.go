package journal

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"runbook/engine"
)

// applicationID marks a SQLite database as a journal of runbook.
const applicationID = 0x72756e62 // "runb"

// migrations brings a database from version i to i+1. What has been released
// here is never edited: a change of the schema is a new entry, and a line in
// the package comment.
var migrations = []string{
	`CREATE TABLE runs (
		id        TEXT PRIMARY KEY,
		verb      TEXT NOT NULL,
		runbook   TEXT NOT NULL,
		hash      TEXT NOT NULL,
		params    TEXT NOT NULL,
		inventory TEXT NOT NULL,
		selection TEXT NOT NULL,
		user      TEXT NOT NULL,
		started   TEXT NOT NULL,
		ended     TEXT,
		outcome   TEXT
	) STRICT;
	CREATE INDEX runs_started ON runs (started);
	CREATE TABLE entries (
		run  TEXT NOT NULL REFERENCES runs (id),
		seq  INTEGER NOT NULL,
		time TEXT NOT NULL,
		node TEXT NOT NULL,
		kind TEXT NOT NULL,
		nth  INTEGER NOT NULL,
		op   TEXT NOT NULL,
		pos  TEXT NOT NULL,
		edit TEXT,
		diff TEXT NOT NULL,
		text TEXT NOT NULL,
		PRIMARY KEY (run, seq)
	) STRICT;`,

	`ALTER TABLE runs ADD COLUMN reason TEXT NOT NULL DEFAULT '';
	ALTER TABLE runs ADD COLUMN undoes TEXT NOT NULL DEFAULT '';
	CREATE TABLE charges (
		run       TEXT PRIMARY KEY REFERENCES runs (id),
		at        TEXT NOT NULL,
		inventory TEXT NOT NULL,
		path      TEXT NOT NULL,
		hash      TEXT NOT NULL,
		nodes     TEXT NOT NULL,
		changes   INTEGER NOT NULL,
		failures  INTEGER NOT NULL
	) STRICT;
	CREATE INDEX charges_at ON charges (at);`,

	`ALTER TABLE runs ADD COLUMN nodes TEXT NOT NULL DEFAULT 'null';
	ALTER TABLE runs ADD COLUMN limits TEXT NOT NULL DEFAULT 'null';
	ALTER TABLE runs ADD COLUMN chain TEXT;
	ALTER TABLE runs ADD COLUMN seal TEXT;
	ALTER TABLE entries ADD COLUMN data TEXT;
	ALTER TABLE entries ADD COLUMN chain TEXT;
	CREATE TABLE sources (
		hash TEXT PRIMARY KEY,
		main TEXT NOT NULL,
		files TEXT NOT NULL
	) STRICT;`,
}

// The statements of the writer. An entry's number is the next one of its run
// whichever process asks, for only the holder of the write lock can ask.
const (
	insertRunSQL = `INSERT INTO runs (id, verb, runbook, hash, params, inventory, selection, user, started, reason, undoes, nodes, limits, chain)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`
	insertSourceSQL = `INSERT INTO sources (hash, main, files) VALUES (?, ?, ?) ON CONFLICT (hash) DO NOTHING`
	insertEntrySQL  = `INSERT INTO entries (run, seq, time, node, kind, nth, op, pos, edit, data, diff, text, chain)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	endRunSQL    = `UPDATE runs SET ended = ?, outcome = ?, seal = ? WHERE id = ?`
	reopenRunSQL = `UPDATE runs SET ended = NULL, outcome = NULL, seal = NULL WHERE id = ?`
	// The last links: of the entries of a run, or else of the run itself; and of all runs.
	lastEntrySQL = `SELECT coalesce(e.seq, 0), coalesce(e.chain, r.chain, '') FROM runs r
		LEFT JOIN entries e ON e.run = r.id AND e.seq = (SELECT max(seq) FROM entries WHERE run = r.id) WHERE r.id = ?`
	lastRunSQL = `SELECT coalesce((SELECT chain FROM runs ORDER BY rowid DESC LIMIT 1), '')`
)

// migrate makes c's database a journal of this version, or says why it is none.
func migrate(ctx context.Context, c *sql.Conn) error {
	if err := useWAL(ctx, c); err != nil {
		return err
	}
	version, err := check(ctx, c)
	if err != nil || version == len(migrations) {
		return err
	}
	// Another process may be at it too: ask again with the write lock held.
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if version, err = check(ctx, c); err == nil {
		for _, m := range migrations[version:] {
			if _, err = c.ExecContext(ctx, m); err != nil {
				break
			}
		}
	}
	if err == nil {
		_, err = c.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", applicationID, len(migrations)))
	}
	if err != nil {
		_, _ = c.ExecContext(ctx, "ROLLBACK") // the first error is the one to report
	}
	return err
}

// check returns the version of the schema, 0 for an empty database.
func check(ctx context.Context, c *sql.Conn) (version int, err error) {
	var app, tables int
	row := c.QueryRowContext(ctx, `SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id, pragma_user_version`)
	if err := row.Scan(&app, &version, &tables); err != nil {
		return 0, err
	}
	switch {
	case app != applicationID && tables+app+version > 0:
		return 0, &engine.Error{
			Code: engine.Internal, Cause: "it is a database of another program",
			Hint: "move it away, or set XDG_STATE_HOME to another folder",
		}
	case version > len(migrations):
		return 0, &engine.Error{
			Code:  engine.Internal,
			Cause: fmt.Sprintf("it was written by a newer runbook (schema %d, this one knows %d)", version, len(migrations)),
			Hint:  "use that runbook, or set XDG_STATE_HOME to another folder",
		}
	}
	return version, nil
}

// useWAL turns WAL mode on; it is kept in the file. SQLite does not wait for
// the lock that this needs once, so processes that make the journal at the same
// time would refuse each other.
func useWAL(ctx context.Context, c *sql.Conn) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		var mode string
		err := c.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		switch {
		case busy(err) && time.Now().Before(deadline):
			continue
		case err != nil:
			return err
		case mode != "wal":
			return fmt.Errorf("the database stays in journal_mode %s, want wal", mode)
		}
		return nil
	}
}
