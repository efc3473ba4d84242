-- Which instance drives which sagas. See docs/cluster.md.
--
-- A transaction that needs several of these rows locks them in this order: cluster, members, fences, shards. Rows of
-- one table are locked in the order of their keys.

-- cluster has one row. Claims of shards lock it, so that two instances never claim the same shard.
CREATE TABLE cluster (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    shards integer NOT NULL CHECK (shards > 0)
);

-- members are the instances that may own shards. Each start of a process, and each return after a lost lease, is a
-- member of its own with a random id. Whoever deletes a row fences the member in the same transaction.
CREATE TABLE members (
    member    text PRIMARY KEY,
    address   text NOT NULL,
    joined    timestamptz NOT NULL,
    -- The lease ends then, on this database's clock.
    lease_end timestamptz NOT NULL,
    lease_ms  bigint NOT NULL CHECK (lease_ms > 0),
    -- Each renewal of the lease adds 1.
    renewals  bigint NOT NULL DEFAULT 0,
    -- A member that is leaving gives up its shards and claims none.
    leaving   boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- fences exclude the commits of a member and the loss of its shards. A commit locks one row of its member FOR SHARE and
-- holds it until its end. A takeover, or a hand-over, updates all rows of the member before it changes shards, and so
-- waits for the commits in flight.
--
-- A commit uses the row of its lane, which is its connection's number modulo the number of the member's lanes. With one
-- row for all connections, their share locks would overlap without a gap, and an update would have to wait for seconds.
CREATE TABLE fences (
    member    text NOT NULL,
    lane      integer NOT NULL,
    fenced    boolean NOT NULL DEFAULT false,
    handovers bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (member, lane)
) WITH (fillfactor = 50);

-- shards say who drives the sagas of a shard, under which epoch. A shard is free if it has no owner, or one that isn't
-- a member. Each owner has a higher epoch than the one before.
CREATE TABLE shards (
    shard          integer PRIMARY KEY,
    owner          text,
    epoch          bigint NOT NULL DEFAULT 0,
    previous_epoch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
