package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"runbook/engine"
)

// This file counts what a runbook did to an inventory within the last hour,
// over all runs. A run reserves what it is about to do before it does any of it, so
// that runs at the same time count each other; its end puts what it did in
// the place of that. One that was killed is counted as if it had done all.

// hour is the time over which runs are counted together.
const hour = time.Hour

const (
	// The same runbook is the same file, whatever is in it, or the same text, wherever it lies.
	sumHourSQL = `SELECT coalesce(sum(json_array_length(nodes)), 0), coalesce(sum(changes), 0), coalesce(sum(failures), 0) FROM charges
		WHERE at > ? AND inventory = ? AND (path = ? OR hash = ?) AND run != ?`
	reserveSQL = `INSERT INTO charges (run, at, inventory, path, hash, nodes, changes, failures) VALUES (?, ?, ?, ?, ?, ?, ?, 0)
		ON CONFLICT (run) DO UPDATE SET at = excluded.at, nodes = excluded.nodes, changes = excluded.changes`
	settleSQL = `UPDATE charges SET failures = ?2,
		nodes   = (SELECT json_group_array(DISTINCT node) FROM entries WHERE run = ?1 AND kind = 'intent'),
		changes = (SELECT count(DISTINCT node || '/' || nth) FROM entries WHERE run = ?1 AND kind = 'intent') WHERE run = ?1`
	touchedSQL = `SELECT DISTINCT value FROM charges, json_each(charges.nodes) WHERE at > ? AND inventory = ? AND run != ?`
	forgetSQL  = `DELETE FROM charges WHERE at <= ?`
	// A clock that went ahead and was set back has left charges in what is now the
	// future. They are of the past, whatever it said, and count for an hour from now.
	pastSQL = `UPDATE charges SET at = ?1 WHERE at > ?1`
)

// Reserve implements [engine.Journal].
func (j *Journal) Reserve(ctx context.Context, r engine.Reservation) (engine.Used, error) {
	now := time.Now().UTC()
	since := now.Add(-hour).Format(timeForm)
	names, err := json.Marshal(r.Nodes)
	if err != nil {
		return nil, failure(j.path, err)
	}
	used := engine.Used{}
	err = j.submit(ctx, func(ctx context.Context) error {
		if _, err := j.tx.ExecContext(ctx, pastSQL, now.Format(timeForm)); err != nil {
			return err
		}
		var nodes, changes, failures int64
		row := j.tx.QueryRowContext(ctx, sumHourSQL, since, r.Inventory, r.Path, r.Hash, r.Run)
		if err := row.Scan(&nodes, &changes, &failures); err != nil {
			return err
		}
		for _, c := range []struct {
			limit     engine.Limit
			was, more int64
			what      string
		}{
			{engine.LimitNodesPerHour, nodes, int64(len(r.Nodes)), "nodes were changed"},
			{engine.LimitChangesPerHour, changes, int64(r.Changes), "changes were made"},
			{engine.LimitFailuresPerHour, failures, 0, "nodes failed"},
		} {
			used[c.limit] = c.was + c.more
			if c.was+c.more > r.Limits.Of(c.limit).N {
				asked := fmt.Sprintf("%d %s by this runbook on this inventory within the last hour", c.was, c.what)
				if c.more > 0 {
					asked += fmt.Sprintf(", and this run would add %d", c.more)
				}
				return r.Limits.Exceeded(c.limit, asked)
			}
		}
		if err := j.untouched(ctx, r, since); err != nil {
			return err
		}
		if _, err := j.tx.ExecContext(ctx, forgetSQL, since); err != nil {
			return err
		}
		_, err := j.tx.ExecContext(ctx, reserveSQL, r.Run, now.Format(timeForm), r.Inventory, r.Path, r.Hash, string(names), r.Changes)
		return err
	})
	return used, err
}

// untouched is an error where r would leave too few nodes of a group as they
// were an hour ago, whichever runbooks changed the others.
func (j *Journal) untouched(ctx context.Context, r engine.Reservation, since string) error {
	if len(r.Quotas) == 0 {
		return nil
	}
	rows, err := j.tx.QueryContext(ctx, touchedSQL, since, r.Inventory, r.Run)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	touched := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		touched[name] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, n := range r.Nodes {
		touched[n] = true
	}
	for _, q := range r.Quotas {
		left := 0
		for _, n := range q.Nodes {
			if !touched[n] {
				left++
			}
		}
		if left < q.AtLeast && slices.ContainsFunc(r.Nodes, func(n string) bool { return slices.Contains(q.Nodes, n) }) {
			return &engine.Error{
				Code: engine.LimitHit,
				Cause: fmt.Sprintf("%d of the %d nodes of group %s would be left untouched within an hour, and %d must be (%s)",
					left, len(q.Nodes), q.Group, q.AtLeast, q.Source),
				Hint: "select fewer of them, or wait",
			}
		}
	}
	return nil
}

// settle makes a run's charge what it did.
func (j *Journal) settle(ctx context.Context, run string, o engine.Outcome) error {
	failures := 0
	for _, state := range o.Nodes {
		if s := engine.NodeState(state); s == engine.NodeFailed || s == engine.NodeInDoubt {
			failures++
		}
	}
	_, err := j.tx.ExecContext(ctx, settleSQL, run, failures)
	return err
}
