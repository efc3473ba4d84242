package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestRestore restores a database of which participants have heard a successor.
func TestRestore(t *testing.T) {
	url := newSchema(t, postgrestest.Database(t))
	one := openShard(t, url, 0)
	two, err := one.Shard(t.Context(), takeShard(t, one.Database, one.owned.Member, 1))
	if err != nil {
		t.Fatal(err)
	}
	heard := two.Epoch() + 1<<30
	if err := two.MarkReplaced(t.Context(), "another store took over", heard); err != nil {
		t.Fatal(err)
	}
	lease := func(until string) {
		execute(t, one.Database, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO members (member, address, joined, lease_end, lease_ms)
				VALUES ($1, 'host:1', now(), now() + $2::interval, 1)
				ON CONFLICT (member) DO UPDATE SET lease_end = excluded.lease_end`, one.owned.Member, until)
			return err
		})
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	fails := func(what string, params journal.RestoreParams, want error) {
		t.Helper()
		if _, err := Restore(t.Context(), url, params); !errors.Is(err, want) {
			t.Errorf("%s: got the error %v, want %v", what, err, want)
		}
	}
	lease("1 hour")
	fails("while an instance runs", journal.RestoreParams{Since: since}, journal.ErrLocked)
	lease("-1 hour")
	fails("without a time", journal.RestoreParams{}, journal.ErrInvalid)
	fails("from the future", journal.RestoreParams{Since: time.Now().Add(time.Hour)}, journal.ErrInvalid)
	fails("another name", journal.RestoreParams{Name: "two", Since: since}, journal.ErrName)
	fails("an epoch that is believed", journal.RestoreParams{Since: since, EpochFromClock: true}, journal.ErrInvalid)

	restored, err := Restore(t.Context(), url, journal.RestoreParams{Since: since, Trusted: []string{"b", "a"}})
	if err != nil || !restored.BackupTime.Equal(since) {
		t.Fatalf("restored: %+v, %v", restored, err)
	}
	if err := one.Append(t.Context(), []*journal.Entry{startOf("a")}); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("an instance of before: got the error %v, want ErrFenced", err)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	for shard, least := range []uint64{one.Epoch(), heard} {
		s := openShard(t, url, shard)
		identity := s.Identity()
		if identity.Restored == nil || !identity.Restored.BackupTime.Equal(since) ||
			len(identity.Restored.Trusted) != 2 || identity.Replaced != "" || identity.Epoch <= least {
			t.Errorf("shard %d is %+v, want it restored, with an epoch above %d", shard, identity, least)
		}
		if err := s.EndRestore(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	// The other shard was compared, too, so the time must be told again.
	fails("again, without a time", journal.RestoreParams{}, journal.ErrInvalid)
}

// TestRestoreMarked restores a copy that says of which time it is.
func TestRestoreMarked(t *testing.T) {
	url := newSchema(t, postgrestest.Database(t))
	s := openShard(t, url, 0)
	taken := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	execute(t, s.Database, func(ctx context.Context, tx pgx.Tx) error {
		return writeText(ctx, tx, backupTimeRow, timeText(taken))
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Connect(t.Context(), url, journal.Opening{}); !errors.Is(err, journal.ErrBackup) {
		t.Errorf("a copy was opened: %v", err)
	}
	restored, err := Restore(t.Context(), url, journal.RestoreParams{})
	if err != nil || !restored.BackupTime.Equal(taken) {
		t.Errorf("restored: %+v, %v", restored, err)
	}
	if err := openShard(t, url, 0).Close(); err != nil {
		t.Error(err)
	}
}
