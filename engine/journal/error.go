package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"runbook/engine"
)

// failure says in one [engine.Error] that the journal at path cannot be used,
// why, and what to do.
func failure(path string, err error) *engine.Error {
	e := &engine.Error{Code: engine.Internal, Err: err}
	var ours *engine.Error
	if errors.As(err, &ours) && ours.Code == engine.LimitHit { // it is not about the journal
		return ours
	} else if ours != nil {
		e.Code, e.Cause, e.Hint = ours.Code, ours.Cause, ours.Hint
	} else {
		e.Cause, e.Hint = explain(path, err)
	}
	e.Cause = fmt.Sprintf("journal %s: %s", path, e.Cause)
	return e
}

func explain(path string, err error) (cause, hint string) {
	dir := filepath.Dir(path)
	full := "make room for it: nothing is changed on a node that could not be recorded"
	denied := "make " + dir + " writable for this user, or set XDG_STATE_HOME to another folder"
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		var at *os.PathError
		if errors.As(err, &at) && at.Path == path { // which is said already
			err = at.Err
		}
		switch {
		case errors.Is(err, syscall.ENOSPC):
			return "the disk is full", full
		case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
			return err.Error(), denied
		}
		return err.Error(), ""
	}
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Sprintf("it is damaged (%s)", lite),
			"keep a copy for a repair with sqlite3's .recover, then move it away: a new one is made, which knows none of its runs"
	case sqlite3.SQLITE_FULL:
		return "the disk is full", full
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return fmt.Sprintf("it cannot be written (%s)", lite), denied
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return fmt.Sprintf("another process has kept it locked for %s", lockWait),
			"see which with: fuser " + path
	case sqlite3.SQLITE_IOERR:
		return fmt.Sprintf("the disk does not answer as it should (%s)", lite),
			"look at the kernel's log; is " + dir + " on a local disk with room left?"
	}
	return lite.Error(), ""
}

// unreleased is err, unless it says that the tables are not what the version of the schema says that
// they are: while a version was made, builds of runbook had other ones under its number.
func unreleased(err error) error {
	var lite *sqlite.Error
	if !errors.As(err, &lite) || lite.Code()&0xff != sqlite3.SQLITE_ERROR {
		return err
	}
	return &engine.Error{
		Code: engine.Internal, Err: err,
		Cause: fmt.Sprintf("it was written by a build of runbook that was never released, whose tables are others (%s)", lite),
		Hint:  "use that build for its runs, and move it away: a new one is made, which knows none of them",
	}
}

func busy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// untrustworthy reports whether err leaves in doubt what the disk holds.
func untrustworthy(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	c := e.Code() & 0xff
	return c == sqlite3.SQLITE_IOERR || c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB
}
