// Package journal is the durable record of runs: what was about to be done to
// which node, what became of it, and how to take it back. It is what resume,
// undo and audit rest on, so nothing is done to a node before its intent is here.
//
// The record is one SQLite database, journal.db, in WAL mode with
// synchronous=FULL: what was appended survives a kill and a power cut. Several
// runbook processes of one user may have it open at once. It must be on a local
// disk: WAL needs memory that its users share.
//
// # Group commit
//
// A commit waits for the disk, so fifty nodes that append at the same time must
// share commits. Each process has one writer: it takes the write lock, then all
// entries that wait, and commits them together. While that goes on the next
// ones gather. A lone entry waits for nobody.
//
// # Schema
//
// PRAGMA application_id is 0x72756e62 ("runb"), PRAGMA user_version the version
// of the schema: the number of entries in [migrations]. A database of a newer
// version is refused, one of an older is brought up in one transaction.
//
//	runs        one row for each run
//	  id        TEXT, the key: 20261123-204455-k3f, UTC
//	  verb, runbook, hash, inventory, selection, user, reason, undoes   TEXT
//	  params    TEXT, JSON object
//	  started   TEXT, UTC, 2006-01-02T15:04:05.000000000Z
//	  ended     TEXT, as started; NULL: it is still going, or was killed
//	  outcome   TEXT, engine.Outcome as JSON; NULL as ended
//	  nodes     TEXT, JSON list: their names, in the order of the rollout
//	  limits    TEXT, engine.Limits as JSON: those that held
//	  chain     TEXT, hash of the row but for how it ended, and of the run before: see chain.go
//	  seal      TEXT, hash of the last entry and of how it ended; NULL as ended
//
//	entries     one row for each engine.Entry; the key is (run, seq)
//	  run       TEXT, runs.id
//	  seq       INTEGER, from 1, without gaps in a run
//	  time      TEXT, as runs.started
//	  node, kind, op, pos, diff, text   TEXT
//	  nth       INTEGER
//	  edit      TEXT, engine.Edit as JSON; NULL: none, or, of an intent, that of the step
//	            that it numbers in its node's last entry of kind plan
//	  data      TEXT, JSON; of a plan engine.NodePlan, of a look engine.Look, of an end the engine.Error
//	            that the node failed of, of resumed the reason that was given; NULL: none
//	  chain     TEXT, hash of the row and of the entry before, or of the run
//
//	sources     one row for each text that was run
//	  hash      TEXT, the key, runs.hash
//	  main      TEXT, its path as it was given
//	  files     TEXT, JSON object: path to text
//
//	charges     one row for each run that changes something, for an hour; see hour.go
//	  run       TEXT, the key, runs.id
//	  at        TEXT, when it was made, as runs.started
//	  inventory, path, hash   TEXT: what is counted together
//	  nodes     TEXT, JSON list: those that the run changes
//	  changes, failures   INTEGER
//
// Secrets never come here: an engine.Entry holds none by contract.
package journal

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "modernc.org/sqlite" // registers the driver

	"runbook/engine"
)

// FileName is the journal's database in its folder. SQLite keeps two more files
// beside it while it is open, with -wal and -shm added to the name.
const FileName = "journal.db"

// lockWait is how long to wait for another process that writes. A commit takes
// milliseconds, so this is long past any honest one.
const lockWait = 10 * time.Second

// Journal is an open journal. It implements [engine.Journal].
type Journal struct {
	path string
	db   *sql.DB   // readers, which never wait for the writer
	tx   *sql.Conn // the writer's own connection

	insertRun, insertEntry, lastEntry, endRun *sql.Stmt // on tx

	mu      sync.Mutex
	waiting []*request
	closed  bool
	broken  error         // see [Journal.commit]
	wake    chan struct{} // holds one token while something waits; closed with the journal
	stopped chan struct{} // closed when the writer has ended
}

var _ engine.Journal = (*Journal)(nil)

// DefaultDir is where the journal of this user lies: $XDG_STATE_HOME/runbook,
// else ~/.local/state/runbook. It is "" where there is neither, and [Open]
// says so.
func DefaultDir() string {
	// The specification of XDG tells programs to ignore a relative path.
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "runbook")
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".local", "state", "runbook")
}

// Open opens the journal in dir, and makes both where they are missing: the
// folder for this user only, and so the file.
func Open(dir string) (*Journal, error) {
	if dir == "" {
		return nil, &engine.Error{
			Code: engine.Internal, Cause: "there is no place for the journal",
			Hint: "set HOME, or XDG_STATE_HOME to an absolute path",
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, failure(dir, err)
	}
	path := filepath.Join(dir, FileName)
	if err := makeFile(path); err != nil {
		return nil, failure(path, err)
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return nil, failure(path, err)
	}
	j := &Journal{path: path, db: db, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	if err := j.prepare(); err != nil {
		return nil, failure(path, errors.Join(unreleased(err), j.release()))
	}
	go j.write()
	return j, nil
}

// Close writes what still waits and closes the journal. It may be called twice.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		<-j.stopped
		return nil
	}
	j.closed = true
	close(j.wake)
	j.mu.Unlock()
	<-j.stopped
	if err := j.release(); err != nil {
		return failure(j.path, err)
	}
	return nil
}

// release closes what prepare opened. SQLite keeps a connection, and leaves the
// -wal file as it is, as long as one of its statements is open.
func (j *Journal) release() error {
	var errs []error
	for _, s := range []*sql.Stmt{j.insertRun, j.insertEntry, j.lastEntry, j.endRun} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	if j.tx != nil {
		errs = append(errs, j.tx.Close())
	}
	return errors.Join(append(errs, j.db.Close())...)
}

// makeFile makes path, empty and for this user only. SQLite gives the files
// that it makes beside it the same mode.
func makeFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if info.Size() > 0 {
		return nil
	}
	// A power cut must not take away the file's name with its contents kept.
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrPermission) { // a parent that is not ours was there before us
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dsn names path and the settings of every connection to it.
func dsn(path string) string {
	q := url.Values{"_pragma": {
		"busy_timeout(" + strconv.FormatInt(lockWait.Milliseconds(), 10) + ")",
		"synchronous(FULL)",
		"fullfsync(1)", // macOS: fsync alone does not reach the disk
		"checkpoint_fullfsync(1)",
		"foreign_keys(1)",
	}}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// prepare brings the database to this version's schema and takes the writer's
// connection.
func (j *Journal) prepare() (err error) {
	ctx := context.Background()
	if j.tx, err = j.db.Conn(ctx); err != nil {
		return err
	}
	if err := migrate(ctx, j.tx); err != nil {
		return err
	}
	if j.insertRun, err = j.tx.PrepareContext(ctx, insertRunSQL); err != nil {
		return err
	}
	if j.insertEntry, err = j.tx.PrepareContext(ctx, insertEntrySQL); err != nil {
		return err
	}
	if j.lastEntry, err = j.tx.PrepareContext(ctx, lastEntrySQL); err != nil {
		return err
	}
	if j.endRun, err = j.tx.PrepareContext(ctx, endRunSQL); err != nil {
		return err
	}
	for _, q := range []string{insertSourceSQL, reserveSQL} { // the tables that the others leave out: a run must not find that out in its middle
		s, err := j.tx.PrepareContext(ctx, q)
		if err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}
