-- What package journal stores. See docs/postgres.md.
--
-- Times are microseconds since 1970, in UTC; NULL is none. States are the numbers of treaty.v1.SagaState, suspensions
-- those of treaty.v1.SuspensionReason. Texts are compared byte by byte. A text has no zero byte: bytes 0 and 1 are
-- stored as 1 1 and 1 2, which keeps the order.
--
-- A transaction locks rows in this order: fences, shards, event_buckets, event_counter, and then the rows of sagas, in
-- the order of their keys.

-- names gives each definition of a saga and each type of an event a number.
CREATE TABLE names (
    key  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- saga_keys hands out keys in blocks. It has one row.
CREATE TABLE saga_keys (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    next bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO saga_keys (next) VALUES (1);

-- sagas holds what never changes. A row is written once, with the saga's first turn, and deleted by the purge.
--
-- The column created is the position of the newest event when the first turn was written. The column undoer says who
-- may compensate the saga after it has succeeded: the id of a saga in this database, an empty text for one of another
-- orchestrator, or NULL for nobody. Labels are JSON; they are for reading, and the table labels is for searching.
CREATE TABLE sagas (
    key          bigint PRIMARY KEY,
    create_time  bigint NOT NULL,
    created      bigint NOT NULL,
    parent_start bigint,
    shard        integer NOT NULL,
    definition   integer NOT NULL,
    id           text COLLATE "C" NOT NULL UNIQUE,
    request_id   text COLLATE "C",
    parent_scope text COLLATE "C",
    parent       text COLLATE "C",
    undoer       text COLLATE "C",
    labels       text COLLATE "C"
);
CREATE INDEX sagas_by_create_time ON sagas (create_time);
CREATE INDEX sagas_by_parent ON sagas (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX sagas_by_parent_start ON sagas (parent_scope, parent_start) WHERE parent IS NOT NULL;
CREATE INDEX sagas_by_undoer ON sagas (undoer) WHERE undoer > '';

-- open_sagas holds what changes, of sagas that haven't ended. When a saga ends, its row moves to ended_sagas, so the
-- rows that are updated stay few, however many sagas have ended. The column apart is 0 if nobody may compensate the
-- saga after it has succeeded, 1 if a saga of another orchestrator may, and 2 if one of this database may. The column
-- first_turn is the number of the first turn in the journal, and await_turn that of the turn whose awaits the saga has,
-- or 0. An event wakes the saga only if it still has the awaits that the publisher has seen.
CREATE TABLE open_sagas (
    key         bigint PRIMARY KEY,
    create_time bigint NOT NULL,
    update_time bigint NOT NULL,
    revision    bigint NOT NULL,
    end_time    bigint,
    due         bigint,
    shard       integer NOT NULL,
    definition  integer NOT NULL,
    first_turn  integer NOT NULL,
    await_turn  integer NOT NULL,
    state       smallint NOT NULL CHECK (state < 4),
    suspension  smallint NOT NULL,
    apart       smallint NOT NULL,
    waiting     boolean NOT NULL,
    id          text COLLATE "C" NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 5000);
CREATE UNIQUE INDEX open_sagas_by_id ON open_sagas (shard, id);
CREATE INDEX open_sagas_due ON open_sagas (shard, due, id) WHERE due IS NOT NULL;

-- ended_sagas has the columns of open_sagas, of sagas that have ended. A row is written once, and deleted by the purge.
CREATE TABLE ended_sagas (
    key         bigint PRIMARY KEY,
    update_time bigint NOT NULL,
    revision    bigint NOT NULL,
    end_time    bigint,
    due         bigint,
    shard       integer NOT NULL,
    definition  integer NOT NULL,
    first_turn  integer NOT NULL,
    state       smallint NOT NULL CHECK (state >= 4),
    apart       smallint NOT NULL,
    waiting     boolean NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX ended_sagas_by_update_time ON ended_sagas (update_time);
CREATE INDEX ended_sagas_by_end ON ended_sagas (definition, end_time) WHERE apart = 0;
CREATE INDEX ended_sagas_by_end_apart ON ended_sagas (definition, end_time) WHERE apart = 1;
CREATE INDEX ended_sagas_compensated ON ended_sagas (key) WHERE state = 5;

-- turns holds journals. A position is the saga's key, followed by 24 bits with the turn's number. The checksum is the
-- CRC-32C of the data and the position. Data isn't compressed: it is small, or sealed.
CREATE TABLE turns (
    position bigint PRIMARY KEY,
    time     bigint,
    checksum integer NOT NULL,
    data     bytea NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER TABLE turns ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE labels (
    saga  bigint NOT NULL,
    label text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (label, value, saga)
);

-- event_counter has one row, with the position of the newest event. A transaction that publishes locks it before it
-- reads it and until its end, so positions have the order of the commits, and a reader that has seen one has seen all
-- before it.
CREATE TABLE event_counter (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    newest bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO event_counter (newest) VALUES (0);

-- event_buckets has a row for each value of a hash of an event's type and subject. A transaction that awaits or
-- publishes events locks the rows of their buckets, in order, so an await and its event never miss each other.
CREATE TABLE event_buckets (
    bucket integer PRIMARY KEY
) WITH (fillfactor = 50);
INSERT INTO event_buckets SELECT generate_series(0, 4095);

CREATE TABLE events (
    position   bigint PRIMARY KEY,
    time       bigint NOT NULL,
    store_time bigint NOT NULL,
    type       integer NOT NULL,
    source     text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    publisher  text COLLATE "C",
    data       bytea NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER TABLE events ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX events_by_id ON events (source, id);
CREATE INDEX events_by_key ON events (subject, type, position);
CREATE INDEX events_by_type ON events (type, position);

-- past_events holds the ids of events that were purged, with the SHA-256 of their type, subject and data.
CREATE TABLE past_events (
    position   bigint PRIMARY KEY,
    store_time bigint NOT NULL,
    source     text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    publisher  text COLLATE "C",
    digest     bytea NOT NULL
);
CREATE UNIQUE INDEX past_events_by_id ON past_events (source, id);

-- awaits holds the events that open sagas wait for.
CREATE TABLE awaits (
    saga    bigint NOT NULL,
    after   bigint NOT NULL,
    number  integer NOT NULL,
    type    integer NOT NULL,
    subject text COLLATE "C" NOT NULL,
    PRIMARY KEY (saga, number)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX awaits_by_key ON awaits (subject, type);

-- wakes holds the sagas that became due because of another shard's event, until their owner has heard of it.
CREATE TABLE wakes (
    shard integer NOT NULL,
    id    text COLLATE "C" NOT NULL,
    PRIMARY KEY (shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE consumers (
    name     text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    filter   text COLLATE "C" NOT NULL,
    owner    text COLLATE "C" NOT NULL
) WITH (fillfactor = 50);

-- purged holds the ids of purged sagas that no other saga may have. It is kept forever if end_time is NULL.
CREATE TABLE purged (
    id       text COLLATE "C" PRIMARY KEY,
    end_time bigint
);
CREATE INDEX purged_by_end ON purged (end_time) WHERE end_time IS NOT NULL;

CREATE TABLE participants (
    service text COLLATE "C" PRIMARY KEY,
    proven  boolean NOT NULL,
    horizon bigint
) WITH (fillfactor = 50);

-- lost holds the sagas that participants know and a restored store doesn't, as JSON.
CREATE TABLE lost (
    id           text COLLATE "C" PRIMARY KEY,
    events_after bigint NOT NULL,
    data         text COLLATE "C" NOT NULL
);

-- scopes holds what was heard of orchestrators that start children here.
CREATE TABLE scopes (
    scope    text COLLATE "C" PRIMARY KEY,
    epoch    bigint NOT NULL,
    position bigint NOT NULL,
    horizon  bigint,
    store_id text COLLATE "C" NOT NULL
) WITH (fillfactor = 50);

-- identity holds what the store says about itself, by name, and shard_identity what is said of a shard.
CREATE TABLE identity (
    name  text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);
CREATE TABLE shard_identity (
    shard integer NOT NULL,
    name  text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (shard, name)
) WITH (fillfactor = 50);
