package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"runbook/engine"
)

// This file is how it shows that a record was changed afterwards: each row holds
// a hash of itself and of the row before it. A run's is linked to the run before,
// its first entry's to the run, each other's to the entry before, and its seal to its last entry.
// It is no secret: it finds the hand that mends one row, not one that writes all of them anew.

// link is the hash of a row that follows the one with the hash before.
func link(before string, fields ...any) string {
	b, err := json.Marshal(append([]any{before}, fields...))
	if err != nil {
		panic(err) // they are texts and numbers
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// linkEntry is the hash of an entry's row, as it is stored.
func linkEntry(before string, seq int64, time, node, kind string, nth int, op, pos string, edit, data sql.NullString, diff, text string) string {
	return link(before, seq, time, node, kind, nth, op, pos, edit.String, data.String, diff, text)
}

// Broken is a place at which a record is not as it was written.
type Broken struct {
	Run  string `json:"run"`
	What string `json:"what"` // "entry 7 of node web-1", "the run itself"
}

// Verification is what [Journal.Verify] found.
type Verification struct {
	Runs    int      `json:"runs"`
	Entries int      `json:"entries"`
	Older   int      `json:"older,omitempty"` // runs that were written before there were hashes, of which nothing is known
	Broken  []Broken `json:"broken,omitempty"`
}

// Verify reads the whole journal and compares every row with its hash.
func (j *Journal) Verify(ctx context.Context) (Verification, error) { return j.verify(ctx, "") }

// VerifyRun is Verify of one run: its record, with those of the runs before it, its entries and its runbook.
func (j *Journal) VerifyRun(ctx context.Context, id string) (Verification, error) {
	return j.verify(ctx, id)
}

// verify compares the rows of one run, or of all where only is "".
func (j *Journal) verify(ctx context.Context, only string) (v Verification, err error) {
	tx, err := j.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one moment of it, whoever writes meanwhile
	if err != nil {
		return v, j.readError(ctx, err)
	}
	defer tx.Rollback() //nolint:errcheck // it was only read
	rows, err := tx.QueryContext(ctx, `SELECT id, verb, runbook, hash, params, inventory, selection, user, started, reason, undoes, nodes, limits,
		chain, seal, coalesce(ended, ''), coalesce(outcome, '') FROM runs ORDER BY rowid`)
	if err != nil {
		return v, j.readError(ctx, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	before := ""
	for rows.Next() {
		var r [13]string
		var chain, seal sql.NullString
		var ended, outcome string
		to := []any{}
		for i := range r {
			to = append(to, &r[i])
		}
		if err := rows.Scan(append(to, &chain, &seal, &ended, &outcome)...); err != nil {
			return v, j.readError(ctx, err)
		}
		other := only != "" && r[0] != only
		if !other {
			v.Runs++
		}
		switch {
		case !chain.Valid && before == "":
			if !other {
				v.Older++
			}
			continue
		case !chain.Valid: // those before it have one
			if !other {
				v.Broken = append(v.Broken, Broken{r[0], "the record of the run, whose hash is gone"})
			}
			continue
		case other:
			before = chain.String
			continue
		}
		if chain.String != linkRun(before, r) {
			v.Broken = append(v.Broken, Broken{r[0], "the record of the run, or of the one before it"})
		}
		before = chain.String
		last, err := j.verifyEntries(ctx, tx, r[0], chain.String, &v)
		if err != nil {
			return v, j.readError(ctx, err)
		}
		if (seal.Valid || ended != "") && seal.String != link(last, ended, outcome) {
			v.Broken = append(v.Broken, Broken{r[0], "how it ended, or its last entries"})
		}
	}
	if err := rows.Err(); err != nil {
		return v, j.readError(ctx, err)
	}
	if err := j.verifySources(ctx, tx, only, &v); err != nil {
		return v, err
	}
	return v, j.verifyWhole(ctx, tx, only, &v)
}

func linkRun(before string, fields [13]string) string {
	out := make([]any, len(fields))
	for i, f := range fields {
		out[i] = f
	}
	return link(before, out...)
}

// verifyEntries returns the last link of a run's entries.
func (j *Journal) verifyEntries(ctx context.Context, tx *sql.Tx, run, before string, v *Verification) (last string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT seq, time, node, kind, nth, op, pos, edit, data, diff, text, coalesce(chain, '') FROM entries WHERE run = ? ORDER BY seq`, run)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for next := int64(1); rows.Next(); next++ {
		var seq int64
		var at, node, kind, op, pos, diff, text, chain string
		var nth int
		var edit, data sql.NullString
		if err := rows.Scan(&seq, &at, &node, &kind, &nth, &op, &pos, &edit, &data, &diff, &text, &chain); err != nil {
			return "", err
		}
		v.Entries++
		if seq != next || chain != linkEntry(before, seq, at, node, kind, nth, op, pos, edit, data, diff, text) {
			v.Broken = append(v.Broken, Broken{run, fmt.Sprintf("entry %d (%s on %s), or the one before it", seq, kind, node)})
		}
		before, next = chain, seq
	}
	return before, rows.Err()
}

// verifySources compares the texts of runbooks with their hashes.
func (j *Journal) verifySources(ctx context.Context, tx *sql.Tx, only string, v *Verification) (err error) {
	rows, err := tx.QueryContext(ctx, `SELECT r.id, s.hash, s.main, s.files FROM sources s JOIN runs r ON r.hash = s.hash WHERE ?1 IN ('', r.id) GROUP BY s.hash`, only)
	if err != nil {
		return j.readError(ctx, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var run, hash string
		var s engine.Source
		var files string
		if err := rows.Scan(&run, &hash, &s.Main, &files); err != nil {
			return j.readError(ctx, err)
		}
		if json.Unmarshal([]byte(files), &s.Files) != nil || s.Hash() != hash {
			v.Broken = append(v.Broken, Broken{run, "the text of its runbook"})
		}
	}
	return rows.Err()
}

// missing are what other rows say has been there: a run of which there are only entries, and the text of
// a run that has a record. What takes a run back has no text.
const missing = `SELECT DISTINCT run, 'the record of the run, which is gone' FROM entries WHERE run NOT IN (SELECT id FROM runs) AND ?1 IN ('', run)
	UNION ALL
	SELECT id, 'the text of its runbook, which is gone' FROM runs WHERE chain IS NOT NULL AND undoes = '' AND hash NOT IN (SELECT hash FROM sources) AND ?1 IN ('', id)`

// verifyWhole finds what was taken away whole.
func (j *Journal) verifyWhole(ctx context.Context, tx *sql.Tx, only string, v *Verification) (err error) {
	rows, err := tx.QueryContext(ctx, missing, only)
	if err != nil {
		return j.readError(ctx, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var b Broken
		if err := rows.Scan(&b.Run, &b.What); err != nil {
			return j.readError(ctx, err)
		}
		v.Broken = append(v.Broken, b)
	}
	return rows.Err()
}
