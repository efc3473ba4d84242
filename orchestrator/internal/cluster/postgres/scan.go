package postgres

import (
	"cmp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
)

func scanShard(row pgx.CollectableRow) (cluster.ShardInfo, error) {
	var shard cluster.ShardInfo
	var epoch int64
	err := row.Scan(&shard.Shard, &epoch, &shard.Owner)
	shard.Epoch = uint64(epoch)
	return shard, err
}

func scanMember(row pgx.CollectableRow) (cluster.MemberInfo, error) {
	var member cluster.MemberInfo
	var lease int64
	err := row.Scan(&member.ID, &member.Address, &lease, &member.Renewals, &member.Expired, &member.Leaving)
	member.Lease = time.Duration(lease) * time.Millisecond
	return member, err
}

func scanClaim(row pgx.CollectableRow) (cluster.Claim, error) {
	var claim cluster.Claim
	var epoch, previous int64
	err := row.Scan(&claim.Shard, &epoch, &previous, &claim.EpochAhead)
	claim.Epoch, claim.PreviousEpoch = uint64(epoch), uint64(previous)
	return claim, err
}

// count stores the number of rows that a statement has changed.
func count(rows *int64) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		*rows = tag.RowsAffected()
		return nil
	}
}

// milliseconds rounds up, so that a lease in the database doesn't end before its owner's.
func milliseconds(d time.Duration) int64 {
	return cmp.Or(int64((d+time.Millisecond-1)/time.Millisecond), 1)
}
