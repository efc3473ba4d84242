package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
)

const (
	// connections is the number of connections of a directory: one for what a member does in turn, and the others for
	// its renewals, of which several may be under way.
	connections = 4

	// connectTimeout is how long connecting to one server may take, so that the next one is tried within a lease.
	connectTimeout = time.Second
)

// Directory is a cluster's directory in PostgreSQL. All methods may be called concurrently.
type Directory struct {
	pool *pgxpool.Pool
}

var _ cluster.Directory = (*Directory)(nil)

// Open returns the directory in the database that a URL names. It doesn't connect. Call Close at the end. An error
// never shows the password.
func Open(url string) (*Directory, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database's URL: %w", err)
	}
	config.MaxConns = connections
	config.ConnConfig.ConnectTimeout = min(config.ConnConfig.ConnectTimeout, connectTimeout)
	if config.ConnConfig.ConnectTimeout <= 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	// Nothing is prepared: these calls are few, and poolers may give each transaction another connection.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnConfig.StatementCacheCapacity, config.ConnConfig.DescriptionCacheCapacity = 0, 0
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's directory: %w", err)
	}
	return &Directory{pool: pool}, nil
}

// Close closes the directory's connections.
func (d *Directory) Close() { d.pool.Close() }

// Join implements cluster.Directory.
func (d *Directory) Join(ctx context.Context, joining cluster.Joining) (shards int, err error) {
	t := newTransaction()
	t.queue(createCluster, joining.Shards)
	t.queue(createShards)
	t.queue(forgetFences)
	t.queue(join, joining.Member, joining.Address, milliseconds(joining.Lease))
	t.queue(addFences, joining.Member, joining.Lanes)
	t.queue(countShards).QueryRow(func(row pgx.Row) error { return row.Scan(&shards) })
	if err := t.commit(ctx, d.pool); err != nil {
		return 0, fmt.Errorf("adding member %s to the cluster: %w", joining.Member, err)
	}
	return shards, nil
}

// Renew implements cluster.Directory.
func (d *Directory) Renew(ctx context.Context, member string) error {
	return d.changeMember(ctx, "renewing the lease of", renew, member)
}

// Retire implements cluster.Directory.
func (d *Directory) Retire(ctx context.Context, member string) error {
	return d.changeMember(ctx, "retiring", retire, member)
}

func (d *Directory) changeMember(ctx context.Context, doing, statement, member string) error {
	var changed int64
	t := newTransaction()
	t.queue(statement, member).Exec(count(&changed))
	err := t.commit(ctx, d.pool)
	if err == nil && changed == 0 {
		err = cluster.ErrFenced
	}
	if err != nil {
		return fmt.Errorf("%s member %s: %w", doing, member, err)
	}
	return nil
}

// List implements cluster.Directory. It reads the shards first: the owner of one may leave before the members are read,
// but who is missing there was a member before. It is called often, so it has no statements but those that read.
func (d *Directory) List(ctx context.Context) (cluster.View, error) {
	var view cluster.View
	var reading pgx.Batch
	reading.Queue(listShards).Query(func(rows pgx.Rows) (err error) {
		view.Shards, err = pgx.CollectRows(rows, scanShard)
		return err
	})
	reading.Queue(listMembers).Query(func(rows pgx.Rows) (err error) {
		view.Members, err = pgx.CollectRows(rows, scanMember)
		return err
	})
	reading.Queue(readClock).QueryRow(func(row pgx.Row) error { return row.Scan(&view.Time) })
	if err := d.pool.SendBatch(ctx, &reading).Close(); err != nil {
		return cluster.View{}, fmt.Errorf("reading the cluster's members and shards: %w", err)
	}
	return view, nil
}

// Fence implements cluster.Directory. It ends the sessions of commits that stay open for too long.
func (d *Directory) Fence(ctx context.Context, suspect cluster.Suspect) (fenced bool, err error) {
	var removed int64
	r := removal{removeSuspect, suspect.Member, []any{suspect.Member, suspect.Renewals, suspect.Silent}}
	t := newTransaction()
	t.queue(r.statement, r.arguments...).Exec(count(&removed))
	t.queue(fenceRemoved, r.member)
	err = t.commit(ctx, d.pool)
	if isLockTimeout(err) {
		removed, err = r.force(ctx, d.pool)
	}
	if err != nil {
		return false, fmt.Errorf("fencing member %s, which has not renewed its lease: %w", suspect.Member, err)
	}
	return removed > 0, nil
}

// Claim implements cluster.Directory.
func (d *Directory) Claim(ctx context.Context, member string, limit int) (claims []cluster.Claim, err error) {
	var members int
	t := newTransaction()
	t.queue(lockClaims)
	t.queue(countMember, member).QueryRow(func(row pgx.Row) error { return row.Scan(&members) })
	t.queue(claim, member, limit).Query(func(rows pgx.Rows) (err error) {
		claims, err = pgx.CollectRows(rows, scanClaim)
		return err
	})
	err = t.commit(ctx, d.pool)
	if err == nil && members == 0 {
		err = cluster.ErrFenced
	}
	if err != nil {
		return nil, fmt.Errorf("claiming shards for member %s: %w", member, err)
	}
	return claims, nil
}

// GiveUp implements cluster.Directory.
func (d *Directory) GiveUp(ctx context.Context, member string, shards []cluster.ShardEpoch) error {
	numbers, epochs := make([]int32, 0, len(shards)), make([]int64, 0, len(shards))
	for _, shard := range shards {
		numbers, epochs = append(numbers, int32(shard.Shard)), append(epochs, int64(shard.Epoch))
	}
	t := newTransaction()
	t.queue(awaitCommits, member)
	t.queue(giveUp, member, numbers, epochs)
	if err := t.commit(ctx, d.pool); err != nil {
		return fmt.Errorf("giving up %d shards of member %s: %w", len(shards), member, err)
	}
	return nil
}

// Leave implements cluster.Directory. It ends the sessions of commits that stay open for too long.
func (d *Directory) Leave(ctx context.Context, member string) error {
	err := d.leave(ctx, member)
	if isLockTimeout(err) {
		if _, err = (removal{remove, member, []any{member}}).force(ctx, d.pool); err == nil {
			err = d.leave(ctx, member)
		}
	}
	if err != nil {
		return fmt.Errorf("removing member %s from the cluster: %w", member, err)
	}
	return nil
}

func (d *Directory) leave(ctx context.Context, member string) error {
	t := newTransaction()
	t.queue(remove, member)
	t.queue(fenceRemoved, member)
	t.queue(giveUpAll, member)
	return t.commit(ctx, d.pool)
}

// transaction is one transaction that is sent as a whole, in one round trip.
type transaction struct {
	batch pgx.Batch
}

func newTransaction() *transaction {
	t := &transaction{}
	t.batch.Queue(begin)
	t.batch.Queue(limitLocks)
	return t
}

func (t *transaction) queue(statement string, arguments ...any) *pgx.QueuedQuery {
	return t.batch.Queue(statement, arguments...)
}

// commit executes the transaction. After an error it is unknown whether it was committed. A connection that is left in
// the middle of a transaction is closed by the pool.
func (t *transaction) commit(ctx context.Context, pool *pgxpool.Pool) error {
	t.batch.Queue("COMMIT")
	connection, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer connection.Release()
	return connection.SendBatch(ctx, &t.batch).Close()
}
