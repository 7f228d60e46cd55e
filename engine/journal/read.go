package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"runbook/engine"
)

const runColumns = `id, verb, runbook, hash, params, inventory, selection, user, started, ended, outcome, reason, undoes, nodes, limits`

// Runs returns the record of every run, newest first.
func (j *Journal) Runs(ctx context.Context) ([]engine.RunRecord, error) {
	runs, err := j.runs(ctx, `ORDER BY started DESC, rowid DESC`)
	if err != nil {
		return nil, j.readError(ctx, err)
	}
	return runs, nil
}

// Record returns the record of a run, by its id as [Journal.Run] takes it.
func (j *Journal) Record(ctx context.Context, id string) (engine.RunRecord, error) {
	run, err := j.find(ctx, id)
	if err != nil {
		return engine.RunRecord{}, j.readError(ctx, err)
	}
	return run, nil
}

// Run returns the record of a run and its entries in their order. The beginning
// of an id will do where no other run begins so.
func (j *Journal) Run(ctx context.Context, id string) (engine.RunRecord, []engine.Entry, error) {
	run, err := j.find(ctx, id)
	if err != nil {
		return engine.RunRecord{}, nil, j.readError(ctx, err)
	}
	entries, err := j.entries(ctx, run.ID)
	if err == nil {
		run.Source, err = j.source(ctx, run.Hash)
	}
	if err != nil {
		return engine.RunRecord{}, nil, j.readError(ctx, err)
	}
	return run, entries, nil
}

// readError is err as people meet it: the caller's own mistake and the end of
// ctx as they are, anything else as a fault of the journal.
func (j *Journal) readError(ctx context.Context, err error) error {
	var e *engine.Error
	switch {
	case errors.As(err, &e) && e.Code == engine.Invalid:
		return e
	case ctx.Err() != nil:
		return ctx.Err()
	case j.isClosed():
		return failure(j.path, errors.New("it is closed"))
	}
	return failure(j.path, err)
}

func (j *Journal) isClosed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// find returns the run with this id, or the only one whose id begins with it.
func (j *Journal) find(ctx context.Context, id string) (engine.RunRecord, error) {
	if id == "" {
		return engine.RunRecord{}, &engine.Error{Code: engine.Invalid, Cause: "no run is named", Hint: "runbook runs lists them"}
	}
	found, err := j.runs(ctx, `WHERE id >= ? AND id < ? || char(0x10ffff) ORDER BY id = ? DESC, started DESC, rowid DESC LIMIT 6`, id, id, id)
	switch {
	case err != nil:
		return engine.RunRecord{}, err
	case len(found) == 1, len(found) > 1 && found[0].ID == id:
		return found[0], nil
	case len(found) == 0:
		return engine.RunRecord{}, j.unknown(ctx, id)
	}
	var names []string
	for _, r := range found {
		names = append(names, r.ID)
	}
	if len(names) == 6 {
		names[5] = "…"
	}
	return engine.RunRecord{}, &engine.Error{
		Code: engine.Invalid, Cause: fmt.Sprintf("more than one run begins with %q", id), Hint: "give more of it: " + strings.Join(names, ", "),
	}
}

// unknown is the error for an id that no run has. It suggests the one run that
// ends so, or the one run that begins most alike.
func (j *Journal) unknown(ctx context.Context, id string) error {
	e := &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("there is no run %q", id), Hint: "runbook runs lists them"}
	const day = len("20061123")
	for n := len(id); n > 0; n-- {
		like, err := j.runs(ctx, `WHERE (length(?1) >= 3 AND substr(id, -length(?1)) = ?1) OR (?2 >= ?3 AND substr(id, 1, ?2) = substr(?1, 1, ?2)) LIMIT 2`, id, n, day)
		if err != nil {
			return err
		}
		if len(like) == 1 {
			e.Hint = "did you mean " + like[0].ID + "? " + e.Hint
		}
		if len(like) > 0 || n <= day {
			break
		}
	}
	return e
}

// runs returns the runs that the end of a SELECT says.
func (j *Journal) runs(ctx context.Context, rest string, args ...any) (out []engine.RunRecord, err error) {
	rows, err := j.db.QueryContext(ctx, `SELECT `+runColumns+` FROM runs `+rest, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r engine.RunRecord
		var params, started, nodes, limits string
		var ended, outcome sql.NullString
		if err := rows.Scan(&r.ID, &r.Verb, &r.Runbook, &r.Hash, &params, &r.Inventory, &r.Selection, &r.User, &started, &ended, &outcome, &r.Reason, &r.Undoes, &nodes, &limits); err != nil {
			return nil, err
		}
		if err := errors.Join(parseTime(started, &r.Started), json.Unmarshal([]byte(params), &r.Params),
			json.Unmarshal([]byte(nodes), &r.Nodes)); err != nil {
			return nil, fmt.Errorf("run %s: %w", r.ID, err)
		}
		if limits != "null" {
			if err := json.Unmarshal([]byte(limits), &r.Limits); err != nil {
				return nil, fmt.Errorf("run %s: %w", r.ID, err)
			}
		}
		if ended.Valid && outcome.Valid {
			if err := errors.Join(parseTime(ended.String, &r.Ended), json.Unmarshal([]byte(outcome.String), &r.Outcome)); err != nil {
				return nil, fmt.Errorf("run %s: %w", r.ID, err)
			}
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// source is the text with this hash, if it was kept.
func (j *Journal) source(ctx context.Context, hash string) (s engine.Source, err error) {
	var files string
	err = j.db.QueryRowContext(ctx, `SELECT main, files FROM sources WHERE hash = ?`, hash).Scan(&s.Main, &files)
	if errors.Is(err, sql.ErrNoRows) {
		return engine.Source{}, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(files), &s.Files)
	}
	return s, err
}

func (j *Journal) entries(ctx context.Context, run string) (out []engine.Entry, err error) {
	rows, err := j.db.QueryContext(ctx, `SELECT seq, time, node, kind, nth, op, pos, edit, data, diff, text FROM entries WHERE run = ? ORDER BY seq`, run)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	plans := map[string]numbered{}
	for rows.Next() {
		e := engine.Entry{Run: run}
		var at string
		var edit, data sql.NullString
		if err := rows.Scan(&e.Seq, &at, &e.Node, &e.Kind, &e.Nth, &e.Op, &e.Pos, &edit, &data, &e.Diff, &e.Text); err != nil {
			return nil, err
		}
		err := parseTime(at, &e.Time)
		if edit.Valid && err == nil {
			err = json.Unmarshal([]byte(edit.String), &e.Edit)
		}
		if data.Valid {
			e.Data = json.RawMessage(data.String)
		}
		if err == nil {
			err = complete(&e, plans)
		}
		if err != nil {
			return nil, fmt.Errorf("run %s entry %d: %w", run, e.Seq, err)
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// numbered is a plan, and the number of its first change.
type numbered struct {
	*engine.NodePlan
	base int
}

// complete gives an intent what its node's plan says of it.
func complete(e *engine.Entry, plans map[string]numbered) error {
	switch {
	case e.Kind == engine.EntryPlan:
		p := numbered{&engine.NodePlan{}, e.Nth}
		plans[e.Node] = p
		return json.Unmarshal(e.Data, p.NodePlan)
	case e.Kind != engine.EntryIntent || e.Edit != nil:
		return nil
	}
	p, known := plans[e.Node]
	nth := e.Nth - p.base
	if !known || nth < 0 || nth >= len(p.Steps) {
		return nil // whoever wrote it knew no more
	}
	step := p.Steps[nth]
	e.Op, e.Pos, e.Edit, e.Diff = step.Title(), step.Pos, &step.Edit, step.Edit.Diff().String()
	return nil
}

func parseTime(s string, to *time.Time) (err error) {
	*to, err = time.Parse(timeForm, s)
	return err
}
