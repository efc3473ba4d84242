package postgres

// The statements of the write path. Rows of a group are arrays, one for each column. A statement that checks something
// divides by zero if it isn't so, which rolls the transaction back without another round trip.
var (
	// fenceStatement locks the row of a member and a lane, so that the member isn't fenced before the transaction ends.
	fenceStatement = statement{"treaty_fence", `SELECT 1 / count(*) FROM
		(SELECT 1 FROM fences WHERE member = $1 AND lane = $2 AND NOT fenced FOR SHARE) AS fence`,
		[]uint32{textType, int4Type}}

	// ownedStatement checks that a member owns shards under epochs. Its snapshot is taken after the lock was granted.
	ownedStatement = statement{"treaty_owned", `SELECT 1 / (CASE WHEN count(*) = cardinality($1) THEN 1 ELSE 0 END)
		FROM unnest($1, $2) AS u (shard, epoch)
		JOIN shards s ON s.shard = u.shard AND s.epoch = u.epoch AND s.owner = $3`,
		[]uint32{int4ArrayType, int8ArrayType, textType}}

	// heldStatement returns which of some shards a member still owns, under the same epochs.
	heldStatement = statement{"treaty_held", `SELECT s.shard, s.epoch FROM unnest($1, $2) AS u (shard, epoch)
		JOIN shards s ON s.shard = u.shard AND s.epoch = u.epoch AND s.owner = $3
		WHERE EXISTS (SELECT 1 FROM fences WHERE member = $3 AND NOT fenced)`,
		[]uint32{int4ArrayType, int8ArrayType, textType}}

	// keysStatement takes a block of keys for new sagas.
	keysStatement = statement{"treaty_keys", `UPDATE saga_keys SET next = next + $1 RETURNING next - $1`,
		[]uint32{int8Type}}

	// findStatement finds the positions of sagas.
	findStatement = statement{"treaty_find", `SELECT s.id, s.key, s.created, s.shard,
			coalesce((SELECT t.position & 16777215 FROM turns t
				WHERE t.position BETWEEN s.key << 24 AND s.key << 24 | 16777215 ORDER BY t.position DESC LIMIT 1), 0),
			coalesce(o.state, e.state, 0::smallint), coalesce(o.waiting, e.waiting, false),
			EXISTS (SELECT 1 FROM awaits a WHERE a.saga = s.key)
		FROM sagas s LEFT JOIN open_sagas o ON o.key = s.key LEFT JOIN ended_sagas e ON e.key = s.key
		WHERE s.id = ANY ($1)`, []uint32{textArrayType}}

	// holdStatement keeps sagas that have ended from being purged before the transaction ends.
	holdStatement = statement{"treaty_hold", `SELECT 1 / (CASE WHEN count(*) = cardinality($1) THEN 1 ELSE 0 END)
		FROM (SELECT 1 FROM sagas WHERE key = ANY ($1) ORDER BY key FOR KEY SHARE) AS held`,
		[]uint32{int8ArrayType}}

	// createStatement creates sagas that don't exist, with their first turns. It returns those that were created, and a
	// row with the key 0. It fails if they are fewer than the last parameter.
	createStatement = statement{"treaty_create", `WITH u AS (
			SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
				$20, $21, $22, $23, $24) AS u (key, create_time, update_time, created, parent_start, end_time, due,
				revision, time, shard, definition, state, suspension, apart, checksum, waiting, id, request_id,
				parent_scope, parent, undoer, labels, data, await_turn)
		), c AS (
			INSERT INTO sagas (key, create_time, created, parent_start, shard, definition, id, request_id,
				parent_scope, parent, undoer, labels)
			SELECT u.key, u.create_time, coalesce(l.events_after, u.created, n.newest), u.parent_start, u.shard,
				u.definition, u.id, u.request_id, u.parent_scope, u.parent, u.undoer, u.labels
			FROM u CROSS JOIN event_counter n LEFT JOIN lost l ON l.id = u.id ORDER BY u.id
			ON CONFLICT (id) DO NOTHING RETURNING key, created
		), t AS (
			INSERT INTO turns (position, time, checksum, data)
			SELECT u.key << 24 | 1, u.time, u.checksum, u.data FROM u JOIN c ON c.key = u.key
		), o AS (
			INSERT INTO open_sagas (key, create_time, update_time, revision, end_time, due, shard, definition,
				first_turn, await_turn, state, suspension, apart, waiting, id)
			SELECT u.key, u.create_time, u.update_time, u.revision, u.end_time, u.due, u.shard, u.definition, 1,
				u.await_turn, u.state, u.suspension, u.apart, u.waiting, u.id FROM u JOIN c ON c.key = u.key
		) SELECT key, created FROM c
		UNION ALL SELECT 0, 1 / (CASE WHEN (SELECT count(*) FROM c) >= $25 THEN 1 ELSE 0 END)`,
		[]uint32{int8ArrayType, int8ArrayType, int8ArrayType, int8ArrayType, int8ArrayType, int8ArrayType,
			int8ArrayType, int8ArrayType, int8ArrayType, int4ArrayType, int4ArrayType, int4ArrayType, int4ArrayType,
			int4ArrayType, int4ArrayType, boolArrayType, textArrayType, textArrayType, textArrayType, textArrayType,
			textArrayType, textArrayType, byteaArray, int4ArrayType, int8Type}}

	// freshStatement checks that no saga with one of some ids was purged. It follows createStatement, so it sees a
	// purge that has made room for a new saga. It removes the sagas from those that are lost.
	freshStatement = statement{"treaty_fresh", `WITH gone AS (DELETE FROM lost WHERE id = ANY ($1))
		SELECT 1 / (CASE WHEN count(*) = 0 THEN 1 ELSE 0 END) FROM purged WHERE id = ANY ($1)`,
		[]uint32{textArrayType}}

	purgedStatement = statement{"treaty_purged", `SELECT id FROM purged WHERE id = ANY ($1)`, []uint32{textArrayType}}

	labelStatement = statement{"treaty_label", `INSERT INTO labels (saga, label, value)
		SELECT u.saga, u.label, u.value FROM unnest($1, $2, $3) AS u (saga, label, value)
		WHERE EXISTS (SELECT 1 FROM sagas s WHERE s.key = u.saga)`,
		[]uint32{int8ArrayType, textArrayType, textArrayType}}

	turnStatement = statement{"treaty_turn", `INSERT INTO turns (position, time, checksum, data)
		SELECT * FROM unnest($1, $2, $3, $4)`, []uint32{int8ArrayType, int8ArrayType, int4ArrayType, byteaArray}}

	// reviveStatement makes sagas open that have ended.
	reviveStatement = statement{"treaty_revive", `WITH g AS (
			DELETE FROM ended_sagas WHERE key = ANY ($1)
			RETURNING key, update_time, revision, end_time, due, shard, definition, first_turn, apart, waiting
		) INSERT INTO open_sagas (key, create_time, update_time, revision, end_time, due, shard, definition,
			first_turn, await_turn, state, suspension, apart, waiting, id)
		SELECT g.key, s.create_time, g.update_time, g.revision, g.end_time, g.due, g.shard, g.definition, g.first_turn,
			0, 1, 0, g.apart, g.waiting, s.id FROM g JOIN sagas s ON s.key = g.key`, []uint32{int8ArrayType}}

	updateStatement = statement{"treaty_update", `UPDATE open_sagas o SET update_time = u.update_time,
			revision = u.revision, end_time = u.end_time, due = u.due, state = u.state, suspension = u.suspension,
			waiting = u.waiting, await_turn = u.await_turn
		FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS u (key, update_time, revision, end_time, due, state,
			suspension, waiting, await_turn) WHERE o.key = u.key`,
		[]uint32{int8ArrayType, int8ArrayType, int8ArrayType, int8ArrayType, int8ArrayType, int4ArrayType,
			int4ArrayType, boolArrayType, int4ArrayType}}

	// roundStatement makes turns the first ones of their sagas' journals.
	roundStatement = statement{"treaty_round", `WITH u AS (SELECT * FROM unnest($1, $2) AS u (key, turn)
		), o AS (
			UPDATE open_sagas o SET first_turn = u.turn FROM u WHERE o.key = u.key
		) DELETE FROM turns t USING u WHERE t.position BETWEEN u.key << 24 AND (u.key << 24) + u.turn - 1`,
		[]uint32{int8ArrayType, int4ArrayType}}

	// endStatement moves open sagas to those that have ended.
	endStatement = statement{"treaty_end", `WITH u AS (
			SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)
				AS u (key, update_time, revision, end_time, due, state, waiting)
		), g AS (
			DELETE FROM open_sagas o USING u WHERE o.key = u.key
			RETURNING o.key, o.shard, o.definition, o.first_turn, o.apart
		) INSERT INTO ended_sagas (key, update_time, revision, end_time, due, shard, definition, first_turn, state,
			apart, waiting)
		SELECT g.key, u.update_time, u.revision, u.end_time, u.due, g.shard, g.definition, g.first_turn, u.state,
			g.apart, u.waiting FROM g JOIN u ON u.key = g.key`,
		[]uint32{int8ArrayType, int8ArrayType, int8ArrayType, int8ArrayType, int8ArrayType, int4ArrayType,
			boolArrayType}}

	dropAwaitsStatement = statement{"treaty_drop_awaits", `DELETE FROM awaits WHERE saga = ANY ($1)`,
		[]uint32{int8ArrayType}}

	awaitStatement = statement{"treaty_await", `INSERT INTO awaits (saga, after, number, type, subject)
		SELECT * FROM unnest($1, $2, $3, $4, $5)`,
		[]uint32{int8ArrayType, int8ArrayType, int4ArrayType, int4ArrayType, textArrayType}}

	// bucketsStatement locks the buckets of events, in order.
	bucketsStatement = statement{"treaty_buckets", `SELECT count(*) FROM (SELECT 1 FROM event_buckets
		WHERE bucket = ANY ($1) ORDER BY bucket FOR UPDATE) AS locked`, []uint32{int4ArrayType}}

	// counterStatement locks the counter of positions.
	counterStatement = statement{"treaty_counter", `SELECT newest FROM event_counter FOR UPDATE`, nil}
	newestStatement  = statement{"treaty_newest", `SELECT newest FROM event_counter`, nil}

	storedStatement = statement{"treaty_stored", `SELECT e.source, e.id, e.position, e.type, e.subject,
			coalesce(e.publisher, ''), e.data
		FROM unnest($1, $2) AS u (source, id) JOIN events e ON e.source = u.source AND e.id = u.id`,
		[]uint32{textArrayType, textArrayType}}

	pastStatement = statement{"treaty_past", `SELECT e.source, e.id, e.position, coalesce(e.publisher, ''), e.digest
		FROM unnest($1, $2) AS u (source, id) JOIN past_events e ON e.source = u.source AND e.id = u.id`,
		[]uint32{textArrayType, textArrayType}}

	// awaitedStatement finds the awaits of types and subjects.
	awaitedStatement = statement{"treaty_awaited", `SELECT a.type, a.subject, a.after, s.key, s.id, s.created, o.shard,
			o.state, o.await_turn
		FROM unnest($1, $2) AS u (type, subject)
		JOIN awaits a ON a.subject = u.subject AND a.type = u.type
		JOIN sagas s ON s.key = a.saga JOIN open_sagas o ON o.key = a.saga`,
		[]uint32{int4ArrayType, textArrayType}}

	// lastStatement finds the newest events of types and subjects.
	lastStatement = statement{"treaty_last", `SELECT u.type, u.subject, l.position
		FROM unnest($1, $2) AS u (type, subject) CROSS JOIN LATERAL (SELECT e.position FROM events e
			WHERE e.subject = u.subject AND e.type = u.type ORDER BY e.position DESC LIMIT 1) AS l`,
		[]uint32{int4ArrayType, textArrayType}}

	existStatement = statement{"treaty_exist", `SELECT id FROM sagas WHERE id = ANY ($1)`, []uint32{textArrayType}}
	lostStatement  = statement{"treaty_lost", `SELECT id, events_after FROM lost WHERE id = ANY ($1)`,
		[]uint32{textArrayType}}

	eventStatement = statement{"treaty_event", `INSERT INTO events (position, time, store_time, type, source, id,
			subject, publisher, data) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		[]uint32{int8ArrayType, int8ArrayType, int8ArrayType, int4ArrayType, textArrayType, textArrayType,
			textArrayType, textArrayType, byteaArray}}

	positionStatement = statement{"treaty_position", `UPDATE event_counter SET newest = $1`, []uint32{int8Type}}

	// wakeStatement makes sagas due, unless their owners have changed them meanwhile: a row that was changed while this
	// waited for it is compared again.
	wakeStatement = statement{"treaty_wake", `UPDATE open_sagas o SET due = least(coalesce(o.due, u.due), u.due)
		FROM (SELECT * FROM unnest($1, $2, $3) AS u (key, due, await_turn) ORDER BY key) AS u
		WHERE o.key = u.key AND o.state = 1 AND o.await_turn = u.await_turn`,
		[]uint32{int8ArrayType, int8ArrayType, int4ArrayType}}

	// tellStatement notes sagas of other shards that are due.
	tellStatement = statement{"treaty_tell", `INSERT INTO wakes (shard, id)
		SELECT * FROM unnest($1, $2) ORDER BY 1, 2 ON CONFLICT DO NOTHING`, []uint32{int4ArrayType, textArrayType}}
)
