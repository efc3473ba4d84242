package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
)

// errNotOwner means that a commit was refused.
var errNotOwner = errors.New("the shard has another owner")

// commit is a transaction of a member, as the store makes it.
type commit struct {
	pgx.Tx
}

// newCommit begins a commit: it locks the member's fence, and then checks that it owns the shard under the epoch. It
// waits for a takeover that is under way.
func newCommit(ctx context.Context, connection *pgx.Conn, member string, lane int, under cluster.ShardEpoch,
) (*commit, error) {
	tx, err := connection.Begin(ctx)
	if err != nil {
		return nil, err
	}
	var rows int
	err = tx.QueryRow(ctx, `SELECT count(*) FROM (
			SELECT FROM fences WHERE member = $1 AND lane = $2 AND NOT fenced FOR SHARE
		) AS mine`, member, lane).Scan(&rows)
	if err == nil && rows == 1 {
		err = tx.QueryRow(ctx, `SELECT count(*) FROM shards WHERE shard = $1 AND epoch = $2 AND owner = $3`,
			under.Shard, int64(under.Epoch), member).Scan(&rows)
	}
	if err == nil && rows == 0 {
		err = errNotOwner
	}
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO turns VALUES ($1, $2)`, under.Shard, int64(under.Epoch))
	}
	if err != nil {
		return nil, errors.Join(err, tx.Rollback(ctx))
	}
	return &commit{tx}, nil
}

// takeovers are the ways in which a member loses its shards.
var takeovers = map[string]func(context.Context, cluster.Directory, []cluster.Claim) error{
	"fence": func(ctx context.Context, d cluster.Directory, _ []cluster.Claim) error {
		fenced, err := d.Fence(ctx, cluster.Suspect{Member: "a", Silent: true})
		if err == nil && !fenced {
			err = errors.New("the member wasn't fenced")
		}
		return err
	},
	"hand-over": func(ctx context.Context, d cluster.Directory, claims []cluster.Claim) error {
		return d.GiveUp(ctx, "a", []cluster.ShardEpoch{claims[0].ShardEpoch})
	},
	"leaving": func(ctx context.Context, d cluster.Directory, _ []cluster.Claim) error {
		return d.Leave(ctx, "a")
	},
}

// newOwner makes a database in which member a owns two shards, and member b nothing.
func newOwner(t *testing.T, url string) (*database, []cluster.Claim) {
	t.Helper()
	d := newDatabase(t, url)
	if _, err := d.connect().Exec(t.Context(), `CREATE TABLE turns (shard integer, epoch bigint)`); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"a", "b"} {
		_, err := d.directory.Join(t.Context(), cluster.Joining{Member: member, Lease: time.Hour, Shards: 2, Lanes: 2})
		if err != nil {
			t.Fatal(err)
		}
	}
	claims, err := d.directory.Claim(t.Context(), "a", 2)
	if err != nil {
		t.Fatal(err)
	}
	return d, claims
}

// A commit in flight and a takeover exclude each other, in both orders: the takeover waits for a commit that was
// first, and a commit that comes while the takeover waits is refused after it.
func TestCommitAndTakeover(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		url := postgrestest.DatabaseOn(t, major)
		for name, takeover := range takeovers {
			t.Run(name, func(t *testing.T) {
				d, claims := newOwner(t, url)
				earlier, err := newCommit(t.Context(), d.connect(), "a", 1, claims[0].ShardEpoch)
				if err != nil {
					t.Fatal(err)
				}
				taken := make(chan error, 1)
				go func() { taken <- takeover(t.Context(), d.directory, claims) }()
				d.awaitLockWaits(1)

				refused := make(chan error, 1)
				connection := d.connect()
				go func() {
					_, err := newCommit(t.Context(), connection, "a", 0, claims[0].ShardEpoch)
					refused <- err
				}()
				d.awaitLockWaits(2)

				if free, err := d.directory.Claim(t.Context(), "b", 2); err != nil || len(free) > 0 {
					t.Errorf("while a commit is in flight, another member gets %v, %v", free, err)
				}
				if err := earlier.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := <-taken; err != nil {
					t.Fatal(err)
				}
				if err := <-refused; !errors.Is(err, errNotOwner) {
					t.Errorf("a commit during the takeover: %v, want %v", err, errNotOwner)
				}
				_, err = newCommit(t.Context(), connection, "a", 1, claims[0].ShardEpoch)
				if !errors.Is(err, errNotOwner) {
					t.Errorf("a commit after the takeover: %v, want %v", err, errNotOwner)
				}
				next, err := d.directory.Claim(t.Context(), "b", 1)
				if err != nil || len(next) != 1 || next[0].PreviousEpoch != claims[0].Epoch {
					t.Fatalf("the next owner gets %+v, %v", next, err)
				}
				if got, want := d.turns(), []uint64{claims[0].Epoch}; !slices.Equal(got, want) {
					t.Errorf("commits under the epochs %v, want %v", got, want)
				}
			})
		}
	})
}

// A hand-over ends no commits of the shards that stay.
func TestHandOverOfOneShard(t *testing.T) {
	d, claims := newOwner(t, postgrestest.Database(t))
	if err := d.directory.GiveUp(t.Context(), "a", []cluster.ShardEpoch{claims[0].ShardEpoch}); err != nil {
		t.Fatal(err)
	}
	c, err := newCommit(t.Context(), d.connect(), "a", 0, claims[1].ShardEpoch)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A member that commits all the time on several connections can hand over: the waiting update isn't starved by share
// locks that overlap.
func TestHandOverUnderLoad(t *testing.T) {
	const lanes = 8
	d := newDatabase(t, postgrestest.Database(t))
	if _, err := d.connect().Exec(t.Context(), `CREATE TABLE turns (shard integer, epoch bigint)`); err != nil {
		t.Fatal(err)
	}
	_, err := d.directory.Join(t.Context(), cluster.Joining{Member: "a", Lease: time.Hour, Shards: 2, Lanes: lanes})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := d.directory.Claim(t.Context(), "a", 2)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, lanes)
	for lane := range lanes {
		connection := d.connect()
		go func() { ended <- commitAll(ctx, connection, lane, claims[1].ShardEpoch) }()
	}
	for range 10 {
		begin := time.Now()
		if err := d.directory.GiveUp(t.Context(), "a", []cluster.ShardEpoch{claims[0].ShardEpoch}); err != nil {
			t.Fatal(err)
		}
		t.Logf("handed over in %v", time.Since(begin))
	}
	stop()
	for range lanes {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// commitAll commits without a pause until the context ends.
func commitAll(ctx context.Context, connection *pgx.Conn, lane int, under cluster.ShardEpoch) error {
	for ctx.Err() == nil {
		c, err := newCommit(context.WithoutCancel(ctx), connection, "a", lane, under)
		if err != nil {
			return fmt.Errorf("lane %d: %w", lane, err)
		}
		<-time.After(2 * time.Millisecond)
		if err := c.Commit(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("lane %d: %w", lane, err)
		}
	}
	return nil
}

// awaitLockWaits waits until so many sessions wait for a row.
func (d *database) awaitLockWaits(count int) {
	d.t.Helper()
	connection := d.connect()
	for {
		var waiting int
		err := connection.QueryRow(d.t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil {
			d.t.Fatalf("waiting until %d sessions wait for a lock, of which %d do: %v", count, waiting, err)
		}
		if waiting == count {
			return
		}
	}
}

// turns returns the epochs under which commits have landed.
func (d *database) turns() []uint64 {
	d.t.Helper()
	rows, err := d.connect().Query(d.t.Context(), `SELECT epoch FROM turns ORDER BY epoch`)
	if err != nil {
		d.t.Fatal(err)
	}
	epochs, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		d.t.Fatal(err)
	}
	var turns []uint64
	for _, epoch := range epochs {
		turns = append(turns, uint64(epoch))
	}
	return turns
}
