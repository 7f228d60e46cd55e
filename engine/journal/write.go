package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"runbook/engine"
)

// This file is all that writes. Whoever wants something written makes a
// request and waits; one goroutine, [Journal.write], does requests together.

// timeForm has one width, so that times sort as text.
const timeForm = "2006-01-02T15:04:05.000000000Z"

// groupMax bounds how much one transaction holds, and so how long it keeps
// other processes out.
const groupMax = 1024

// request is something to be written. It is waiting, or with the writer, or withdrawn.
type request struct {
	do   func(ctx context.Context) error // inside a transaction; an [*engine.Error] refuses this request only
	err  error
	done chan struct{} // closed when err is final
}

// Begin opens the record of a run and returns its id. What r holds of an id, an
// end and an outcome is not used. Without Started the run starts now.
func (j *Journal) Begin(ctx context.Context, r engine.RunRecord) (string, error) {
	if r.Started.IsZero() {
		r.Started = time.Now()
	}
	params, err1 := json.Marshal(r.Params)
	nodes, err2 := json.Marshal(r.Nodes)
	limits, err3 := []byte("null"), error(nil)
	if r.Limits != nil {
		limits, err3 = json.Marshal(r.Limits)
	}
	files, err4 := json.Marshal(r.Source.Files)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return "", failure(j.path, err)
	}
	var id string
	err := j.submit(ctx, func(ctx context.Context) error {
		if len(r.Source.Files) > 0 {
			if _, err := j.tx.ExecContext(ctx, insertSourceSQL, r.Hash, r.Source.Main, string(files)); err != nil {
				return err
			}
		}
		var before string
		if err := j.tx.QueryRowContext(ctx, lastRunSQL).Scan(&before); err != nil {
			return err
		}
		for range 100 { // there are 21,952 names for each second
			id = newID(r.Started)
			fields := [13]string{id, r.Verb, r.Runbook, r.Hash, string(params), r.Inventory, r.Selection, r.User,
				r.Started.UTC().Format(timeForm), r.Reason, r.Undoes, string(nodes), string(limits)}
			args := []any{}
			for _, f := range fields {
				args = append(args, f)
			}
			n, err := rows(j.insertRun.ExecContext(ctx, append(args, linkRun(before, fields))...))
			if n == 1 || err != nil {
				return err
			}
		}
		return engine.Internal.Errorf("too many runs in one second")
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// Append adds entries to the one run that they name. When it returns nil, they survive a power
// cut; when it does not, none of them is there.
//
// The journal sets Seq, and Time where it is zero. Where ctx ends while they
// wait for their turn, they are not written and the error is ctx's; once they are being
// written, Append waits to see what becomes of them.
func (j *Journal) Append(ctx context.Context, entries ...engine.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	edits := make([]sql.NullString, len(entries))
	for i, e := range entries {
		if e.Run != entries[0].Run { // or a run that is not there could refuse the second of two
			return engine.Internal.Errorf("entries of two runs, %q and %q, in one append", entries[0].Run, e.Run)
		}
		if e.Edit == nil {
			continue
		}
		b, err := json.Marshal(e.Edit)
		if err != nil {
			return failure(j.path, err)
		}
		edits[i] = sql.NullString{String: string(b), Valid: true}
	}
	now := time.Now()
	return j.submit(ctx, func(ctx context.Context) error { return j.insert(ctx, now, entries, edits) })
}

// insert writes entries of one run, each linked to the one before. Their edits are JSON already.
func (j *Journal) insert(ctx context.Context, now time.Time, entries []engine.Entry, edits []sql.NullString) error {
	run := entries[0].Run
	seq, before, err := j.last(ctx, run)
	if err != nil {
		return err
	}
	for i, e := range entries {
		seq++
		at := e.Time
		if at.IsZero() {
			at = now
		}
		stamp, data := at.UTC().Format(timeForm), sql.NullString{String: string(e.Data), Valid: e.Data != nil}
		before = linkEntry(before, seq, stamp, e.Node, e.Kind, e.Nth, e.Op, e.Pos, edits[i], data, e.Diff, e.Text)
		if _, err := j.insertEntry.ExecContext(ctx, run, seq, stamp, e.Node, e.Kind, e.Nth,
			e.Op, e.Pos, edits[i], data, e.Diff, e.Text, before); err != nil {
			return err
		}
	}
	return nil
}

// last is the number and the link of a run's last entry, or 0 and that of the run.
func (j *Journal) last(ctx context.Context, run string) (seq int64, chain string, err error) {
	err = j.lastEntry.QueryRowContext(ctx, run).Scan(&seq, &chain)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", engine.Internal.Errorf("there is no run %q to write to", run)
	}
	return seq, chain, err
}

// reopen takes the record of a run up again, with the entry e: how it ended is forgotten. Where more
// is recorded of it than e.Seq, somebody else has taken it up since the caller looked.
func (j *Journal) reopen(ctx context.Context, e engine.Entry) error {
	return j.submit(ctx, func(ctx context.Context) error {
		seq, _, err := j.last(ctx, e.Run)
		if err != nil {
			return err
		}
		if seq != e.Seq {
			return &engine.Error{
				Code: engine.Invalid, Cause: fmt.Sprintf("run %s has gone on meanwhile, in another process", e.Run),
				Hint: "runbook show " + e.Run + " says what has become of it",
			}
		}
		if _, err := j.tx.ExecContext(ctx, reopenRunSQL, e.Run); err != nil {
			return err
		}
		return j.insert(ctx, time.Now(), []engine.Entry{e}, make([]sql.NullString, 1))
	})
}

// End closes the record of a run, now. A run that went on after that, because
// it was taken up again, ends again: the last end counts.
func (j *Journal) End(ctx context.Context, id string, outcome engine.Outcome) error {
	b, err := json.Marshal(outcome)
	if err != nil {
		return failure(j.path, err)
	}
	ended := time.Now().UTC().Format(timeForm)
	return j.submit(ctx, func(ctx context.Context) error {
		_, chain, err := j.last(ctx, id)
		if err != nil {
			return err
		}
		if _, err := j.endRun.ExecContext(ctx, ended, string(b), link(chain, ended, string(b)), id); err != nil {
			return err
		}
		return j.settle(ctx, id, outcome)
	})
}

func rows(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// newID makes a name for a run that started at t: its second, and three
// characters by chance, without vowels (no words) or look-alikes.
func newID(t time.Time) string {
	const chars = "23456789bcdfghjkmnpqrstvwxyz"
	suffix := make([]byte, 3)
	for i := range suffix {
		suffix[i] = chars[rand.IntN(len(chars))]
	}
	return t.UTC().Format("20060102-150405-") + string(suffix)
}

// submit hands do to the writer and waits until it is durable, failed, or
// withdrawn because ctx ended.
func (j *Journal) submit(ctx context.Context, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{do: do, done: make(chan struct{})}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return failure(j.path, errors.New("it is closed"))
	}
	j.waiting = append(j.waiting, r)
	select {
	case j.wake <- struct{}{}:
	default: // the writer knows already
	}
	j.mu.Unlock()

	select {
	case <-r.done:
	case <-ctx.Done():
		if j.withdraw(r) {
			return ctx.Err()
		}
		<-r.done
	}
	if r.err != nil {
		return failure(j.path, r.err)
	}
	return nil
}

// withdraw takes r back, if the writer does not have it yet.
func (j *Journal) withdraw(r *request) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.Index(j.waiting, r)
	if i < 0 {
		return false
	}
	j.waiting = slices.Delete(j.waiting, i, i+1)
	return true
}

// take gives the requests that wait to the writer, oldest first.
func (j *Journal) take() []*request {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := min(len(j.waiting), groupMax)
	group := slices.Clone(j.waiting[:n])
	j.waiting = slices.Delete(j.waiting, 0, n)
	return group
}

func (j *Journal) pending() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting) > 0
}

// write is the writer: it ends when the journal is closed and nothing waits.
func (j *Journal) write() {
	defer close(j.stopped)
	for open := true; open; {
		_, open = <-j.wake
		for j.pending() {
			j.commit()
		}
	}
}

// commit writes one group of requests, durably, and answers them.
//
// After an error that leaves in doubt what the disk holds, nothing is written
// any more: a disk that failed to sync once may say yes the next time and
// still not have it.
func (j *Journal) commit() {
	// Not the callers' contexts: a group has many, and must not be cut short by one.
	ctx := context.Background()
	err := j.broken
	if err == nil {
		_, err = j.tx.ExecContext(ctx, "BEGIN IMMEDIATE")
	}
	// Taken only now: while another process had the lock, more have gathered,
	// and all could still be withdrawn.
	group := j.take()
	if err == nil {
		if err = j.fill(ctx, group); err != nil {
			_, _ = j.tx.ExecContext(ctx, "ROLLBACK") // SQLite may have done so itself
		}
	}
	if untrustworthy(err) && j.broken == nil {
		j.broken = err
	}
	for _, r := range group {
		if r.err == nil {
			r.err = err
		}
		close(r.done)
	}
}

// fill does the requests in the open transaction and commits it. One that is
// refused does not keep the others from being written.
func (j *Journal) fill(ctx context.Context, group []*request) error {
	for _, r := range group {
		err := r.do(ctx)
		var refused *engine.Error
		switch {
		case errors.As(err, &refused):
			r.err = err
		case err != nil:
			return err
		}
	}
	if _, err := j.tx.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
