package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Restore makes a database that was restored from a backup, or that was replaced, one that may be opened again. The
// instances that open it next compare each shard with its participants before they continue. The backup itself, and its
// restoration up to a point in time, are PostgreSQL's.
//
// It returns ErrLocked while an instance uses the database, ErrNotFound if there is no store, ErrInvalid if the
// parameters don't fit, and otherwise the errors of Connect.
func Restore(ctx context.Context, url string, params journal.RestoreParams) (restored journal.Restored, err error) {
	config, err := parseURL(url)
	if err != nil {
		return restored, err
	}
	name := nameOf(config.ConnConfig)
	if config.ConnConfig.ValidateConnect == nil {
		config.ConnConfig.ValidateConnect = refuseReadOnly
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return restored, explain("connect to", name, err)
	}
	err = checkServer(conn.PgConn().ParameterStatus)
	if err == nil {
		err = checkSchema(ctx, conn)
	}
	if err == nil {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			restored, err = restore(ctx, tx, params)
			return err
		})
	}
	return restored, explain("restore the store", name, errors.Join(err, conn.Close(ctx)))
}

func restore(ctx context.Context, tx pgx.Tx, params journal.RestoreParams) (restored journal.Restored, err error) {
	if _, err := schemaVersion(ctx, tx, " FOR UPDATE"); err != nil { // no instance starts meanwhile
		return restored, err
	}
	var member string
	switch err := tx.QueryRow(ctx, `SELECT member FROM members WHERE lease_end > now() LIMIT 1`).Scan(&member); {
	case err == nil:
		return restored, fmt.Errorf("%w: the instance %s uses it; stop all orchestrators first", journal.ErrLocked,
			member)
	case !errors.Is(err, pgx.ErrNoRows):
		return restored, err
	}
	identity, err := readIdentity(ctx, tx)
	if err != nil {
		return restored, err
	}
	if identity.StoreID != "" && identity.Name != params.Name {
		return restored, fmt.Errorf("%w: it belongs to the one named %q, and this one is named %q", journal.ErrName,
			identity.Name, params.Name)
	}
	now := time.Now()
	if params.Now != nil {
		now = params.Now()
	}
	if restored, err = restoredSince(ctx, tx, params, now); err != nil {
		return restored, err
	}
	if err := moveEpochs(ctx, tx, identity.Epoch, params, now); err != nil {
		return restored, err
	}
	text, err := json.Marshal(restored)
	if err != nil {
		return restored, err
	}
	for _, one := range []struct {
		sql  string
		args []any
	}{
		{`DELETE FROM shard_identity WHERE name IN ($1, $2, $3)`, []any{replacedRow, heardEpochRow, restoredRow}},
		{`INSERT INTO shard_identity (shard, name, value) SELECT shard, $1, $2 FROM shards`,
			[]any{restoredRow, encoded(string(text))}},
		{`DELETE FROM identity WHERE name = $1`, []any{backupTimeRow}},
		// Members of the time of the backup must not write, if they still run.
		{`UPDATE fences SET fenced = true`, nil},
		{`DELETE FROM members`, nil},
	} {
		if _, err := tx.Exec(ctx, one.sql, one.args...); err != nil {
			return restored, err
		}
	}
	return restored, nil
}

// moveEpochs sets the epochs back to the clock, or each above that of another store that participants have heard.
func moveEpochs(ctx context.Context, tx pgx.Tx, highest uint64, params journal.RestoreParams, now time.Time) error {
	if params.EpochFromClock {
		if highest <= journal.ClockEpoch(now.Add(journal.MaxEpochAhead)) {
			return fmt.Errorf("%w: its epochs aren't more than a day ahead of this machine's clock, so participants "+
				"believe them: restore the store without setting them back", journal.ErrInvalid)
		}
		_, err := tx.Exec(ctx, `UPDATE shards SET epoch = $1, owner = NULL`, signed(journal.ClockEpoch(now)))
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE shards s SET owner = NULL, epoch = greatest(s.epoch, coalesce((SELECT i.value::bigint
		FROM shard_identity i WHERE i.shard = s.shard AND i.name = $1), 0))`, heardEpochRow)
	return err
}

// restoredSince returns since when the store doesn't know what happened.
func restoredSince(
	ctx context.Context, tx pgx.Tx, params journal.RestoreParams, now time.Time,
) (restored journal.Restored, err error) {
	restored = journal.Restored{
		RestoreTime: now.UTC().Truncate(time.Microsecond), Trusted: slices.Sorted(slices.Values(params.Trusted)),
	}
	if params.Since.After(now) {
		return restored, fmt.Errorf("%w: it can't lack what happened since %s, which is in the future",
			journal.ErrInvalid, params.Since.UTC().Format(time.RFC3339))
	}
	taken, err := readTime(ctx, tx, backupTimeRow)
	if err != nil {
		return restored, fmt.Errorf("when it was backed up: %w", err)
	}
	times := []time.Time{params.Since, taken}
	rows, err := tx.Query(ctx, `SELECT value FROM shard_identity WHERE name = $1`, restoredRow)
	if err != nil {
		return restored, err
	}
	before, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return restored, err
	}
	for _, text := range before { // it was restored before, and a shard not compared since
		var one journal.Restored
		if err := json.Unmarshal([]byte(decoded(text)), &one); err != nil {
			return restored, fmt.Errorf("%w: how it was restored: %w", journal.ErrCorrupt, err)
		}
		times = append(times, one.BackupTime)
	}
	for _, t := range times {
		if !t.IsZero() && (restored.BackupTime.IsZero() || t.Before(restored.BackupTime)) {
			restored.BackupTime = t.UTC()
		}
	}
	if !restored.BackupTime.IsZero() {
		return restored, nil
	}
	var newest int64
	if err := tx.QueryRow(ctx, `SELECT greatest((SELECT max(update_time) FROM open_sagas),
		(SELECT max(update_time) FROM ended_sagas), 0)`).Scan(&newest); err != nil {
		return restored, err
	}
	return restored, fmt.Errorf("%w: it has no mark of a backup; say since when it may lack what happened, such as "+
		"--since %s, when its newest saga last changed", journal.ErrInvalid,
		time.UnixMicro(newest).UTC().Format(time.RFC3339))
}
