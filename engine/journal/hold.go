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
	f, err := flocked(path)
	for range 10 { // somebody may be asking just now whether it is held
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		f, err = flocked(path)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, StillGoing(id)
	}
	if err != nil {
		return nil, failure(j.path, err)
	}
	return func() {
		os.Remove(path) //nolint:errcheck // a file that is left is held by nobody
		f.Close()       //nolint:errcheck // nothing was written
	}, nil
}

// flocked opens the file at path and takes the lock on it. A file that its last holder has taken away
// between the two is not that any more: whoever comes next would make, and lock, another one.
func flocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		var own, there os.FileInfo
		if own, err = f.Stat(); err == nil {
			there, err = os.Stat(path)
		}
		if err == nil && os.SameFile(own, there) {
			return f, nil
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = syscall.EWOULDBLOCK
		}
	}
	f.Close() //nolint:errcheck // it was only opened
	return nil, err
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

// Resume takes the record of the run e.Run up again, with the entry e, where e.Seq is the last entry of it that the
// caller knows of. Until release is called, no other process can.
func (j *Journal) Resume(ctx context.Context, e engine.Entry) (release func(), err error) {
	release, err = j.Hold(e.Run)
	if err != nil {
		return nil, err
	}
	if err := j.reopen(ctx, e); err != nil {
		release()
		return nil, err
	}
	return release, nil
}
