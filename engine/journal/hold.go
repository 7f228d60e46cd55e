package journal

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"runbook/engine"
)

// This file tells a run that is going on from one that was killed: who drives a
// run holds a lock on a file of its own for as long as that process lives.

// holdDir is the folder of these files, beside the journal.
const holdDir = "running"

// Hold says that this process drives the run id, until release is called or the
// process ends. Where another one does, the error says so.
func (j *Journal) Hold(id string) (release func(), err error) {
	path := j.holdPath(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, failure(j.path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, failure(j.path, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	for range 10 { // somebody may be asking just now whether it is held
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		f.Close() //nolint:errcheck // it was only opened
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, StillGoing(id)
		}
		return nil, failure(path, err)
	}
	return func() {
		os.Remove(path) //nolint:errcheck // a file that is left is held by nobody
		f.Close()       //nolint:errcheck // nothing was written
	}, nil
}

// StillGoing is the error of what cannot be done to a run that another process drives.
func StillGoing(id string) *engine.Error {
	return &engine.Error{Code: engine.Invalid, Cause: "run " + id + " is still going, in another process", Hint: "runbook stop " + id + " ends it"}
}

// Held reports whether a process drives the run id.
func (j *Journal) Held(id string) bool {
	f, err := os.Open(j.holdPath(id))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close() //nolint:errcheck // it was only opened
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

func (j *Journal) holdPath(id string) string { return filepath.Join(filepath.Dir(j.path), holdDir, id) }

// Resume takes the record of the run id up again, for by. Until release is called, no other process can.
func (j *Journal) Resume(ctx context.Context, id, by string) (release func(), err error) {
	release, err = j.Hold(id)
	if err != nil {
		return nil, err
	}
	if err := j.Reopen(ctx, engine.Entry{Run: id, Kind: engine.EntryResumed, Text: by}); err != nil {
		release()
		return nil, err
	}
	return release, nil
}
