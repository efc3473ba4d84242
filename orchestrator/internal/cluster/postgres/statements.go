package postgres

import (
	"math"
	"strconv"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// A transaction sees what was committed before each of its statements, not before its first one: a statement that
// follows a lock must see what changed until the lock was granted.
//
// There is no statement_timeout: it would end a COMMIT that waits for a synchronous standby, as if that had succeeded.
const (
	begin      = `BEGIN ISOLATION LEVEL READ COMMITTED`
	limitLocks = `SET LOCAL lock_timeout = '500ms'`
)

const (
	createCluster = `INSERT INTO cluster (shards) VALUES ($1) ON CONFLICT DO NOTHING`

	createShards = `INSERT INTO shards (shard) SELECT generate_series(0, c.shards - 1) FROM cluster c
		WHERE NOT EXISTS (SELECT FROM shards) ON CONFLICT DO NOTHING`

	countShards = `SELECT shards FROM cluster`

	join = `INSERT INTO members (member, address, joined, lease_end, lease_ms)
		VALUES ($1, $2, clock_timestamp(), clock_timestamp() + $3::bigint * interval '1 millisecond', $3)`

	addFences = `INSERT INTO fences (member, lane) SELECT $1, generate_series(0, $2::integer - 1)`

	// forgetFences deletes the rows of members that were fenced. A commit that finds no row is refused, too. Rows that
	// somebody else has locked are left to the next one.
	forgetFences = `DELETE FROM fences WHERE (member, lane) IN (
		SELECT member, lane FROM fences WHERE fenced ORDER BY member, lane FOR UPDATE SKIP LOCKED)`

	renew = `UPDATE members SET renewals = renewals + 1,
		lease_end = clock_timestamp() + lease_ms * interval '1 millisecond' WHERE member = $1`

	retire = `UPDATE members SET leaving = true WHERE member = $1`

	listShards = `SELECT shard, epoch, coalesce(owner, '') FROM shards ORDER BY shard`

	listMembers = `SELECT member, address, lease_ms, renewals, lease_end <= clock_timestamp(), leaving FROM members
		ORDER BY member`

	readClock = `SELECT clock_timestamp()`

	removeSuspect = `DELETE FROM members WHERE member = $1 AND renewals = $2
		AND ($3::boolean OR lease_end <= clock_timestamp())`

	remove = `DELETE FROM members WHERE member = $1`

	// fenceRemoved waits for the commits in flight of a member that this transaction has removed.
	fenceRemoved = `UPDATE fences SET fenced = true
		WHERE member = $1 AND NOT EXISTS (SELECT FROM members WHERE member = $1)`

	readSession = `SELECT pg_backend_pid()`

	// endBlockers ends the sessions for which another one waits. The role needs no right for sessions of its own.
	endBlockers = `SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1::integer)) AS pid`

	lockClaims = `SELECT FROM cluster FOR UPDATE`

	countMember = `SELECT count(*) FROM members WHERE member = $1`

	// awaitCommits waits for the commits in flight of a member that goes on.
	awaitCommits = `UPDATE fences SET handovers = handovers + 1 WHERE member = $1`

	giveUp = `UPDATE shards s SET owner = NULL FROM (
			SELECT shard, epoch FROM shards
			JOIN unnest($2::integer[], $3::bigint[]) AS given (shard, epoch) USING (shard, epoch)
			WHERE owner = $1 ORDER BY shard FOR UPDATE
		) AS mine WHERE s.shard = mine.shard`

	giveUpAll = `UPDATE shards s SET owner = NULL FROM (
			SELECT shard FROM shards WHERE owner = $1 ORDER BY shard FOR UPDATE
		) AS mine WHERE s.shard = mine.shard`
)

// What journal.Opening.NextEpoch computes, with the database's clock.
var (
	randomEpochs = strconv.FormatUint(journal.RandomEpochs, 10)
	aheadEpochs  = strconv.FormatUint(uint64(journal.MaxEpochAhead.Milliseconds())*journal.RandomEpochs, 10)
	highest      = strconv.Itoa(math.MaxInt64 - journal.RandomEpochs)

	claim = `WITH clock AS (
			SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint * ` + randomEpochs + ` AS epoch
		), free AS (
			SELECT shard FROM shards s WHERE EXISTS (SELECT FROM members WHERE member = $1)
			AND (owner IS NULL OR NOT EXISTS (SELECT FROM members m WHERE m.member = s.owner))
			ORDER BY shard LIMIT $2 FOR UPDATE
		)
		UPDATE shards s SET owner = $1, previous_epoch = s.epoch,
			epoch = greatest(s.epoch, greatest(least(s.epoch, ` + highest + `) + 1, clock.epoch)
				+ floor(random() * ` + randomEpochs + `)::bigint)
		FROM free, clock WHERE s.shard = free.shard
		RETURNING s.shard, s.epoch, s.previous_epoch, s.epoch > clock.epoch + ` + aheadEpochs
)
