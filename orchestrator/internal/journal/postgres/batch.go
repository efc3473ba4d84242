package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// turnBits is the number of bits of a turn's number in a position.
const turnBits = 24

// item is an entry of a transaction.
type item struct {
	*journal.Entry

	shard *Shard
	at    *position // of the saga; nil if it doesn't exist, and for an entry that only publishes events

	refused error  // why the entry can't be written, as a try before has found out
	created *int64 // the position of the newest event when the saga was created, if the group has found that out
}

// starts returns whether the entry creates a saga.
func (i *item) starts() bool { return i.Saga != "" && i.Turn == 1 }

// batch is a transaction: the groups of some Appends.
type batch struct {
	w      *writer
	taken  []*appending
	items  []*item
	fenced map[Owned]bool // shards that are no longer owned
}

func newBatch(w *writer, taken []*appending) *batch {
	b := &batch{w: w, taken: taken}
	n := 0
	for _, a := range taken {
		n += len(a.group)
	}
	items := make([]item, n)
	for _, a := range taken {
		for _, entry := range a.group {
			one := &items[0]
			items = items[1:]
			one.Entry, one.shard = entry, a.shard
			b.items = append(b.items, one)
		}
	}
	return b
}

// commit writes the batch. It tries again as long as the server certainly rolls the transaction back for a reason that
// may pass, or that concerns only some of the entries.
func (b *batch) commit(ctx context.Context) error {
	for try := 1; ; try++ {
		if len(b.items) == 0 {
			return nil
		}
		err := b.try(ctx)
		if err == nil {
			return nil
		}
		for _, one := range b.items {
			one.shard.forget(one.Saga)
		}
		if err := b.rollback(ctx, err); err != nil {
			return err
		}
		again := try < maxTries
		switch {
		case failed(err, &fenceStatement), failed(err, &ownedStatement):
			var gone int
			if gone, err = b.dropFenced(ctx, err); err != nil {
				return err
			}
			again = again || gone > 0
		case failed(err, &freshStatement) && isCode(err, divisionByZero):
			err = errors.Join(err, b.refusePurged(ctx))
		case isRepeatable(err), isCode(err, uniqueViolation), isCode(err, divisionByZero):
			// Another transaction was faster. What is known of the sagas is read again.
		default:
			return err
		}
		if !again {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// rollback ends a transaction that has failed and that was begun explicitly. It returns an error if that fails, too.
func (b *batch) rollback(ctx context.Context, cause error) error {
	if !b.taken[0].eventful || !b.w.line.isOpen() {
		return nil
	}
	b.w.line.queued = b.w.line.queued[:0]
	b.w.line.queue(&rollbackStatement)
	if _, err := b.w.line.run(ctx); err != nil {
		_ = b.w.line.conn.Close(ctx)
		return errors.Join(cause, err)
	}
	return nil
}

// try tries the transaction once. The server has rolled it back if the error is a *statementError.
func (b *batch) try(ctx context.Context) error {
	if err := b.w.connect(ctx); err != nil {
		return err
	}
	b.w.line.queued = b.w.line.queued[:0]
	for _, one := range b.items {
		one.Err, one.Woken, one.created = one.refused, nil, nil
		for _, event := range one.Events {
			event.Position, event.Err = 0, nil
		}
	}
	if err := b.learnNames(ctx); err != nil {
		return err
	}
	if err := b.findPositions(ctx); err != nil {
		return err
	}
	if b.taken[0].eventful {
		return b.tryEventful(ctx)
	}
	b.begin()
	c := &changes{}
	for _, one := range b.items {
		if one.Err == nil {
			c.add(one)
		}
	}
	answers, err := b.write(ctx, c)
	if err != nil {
		return err
	}
	b.note(c, answers)
	return nil
}

// begin queues the statements with which each transaction begins.
func (b *batch) begin() {
	line, args := b.w.line, &b.w.args
	args.reset()
	if line.pooled {
		line.queue(&localStatement)
	}
	first := b.items[0].shard
	line.queue(&fenceStatement, []byte(first.owned.Member), int4Value(int32(b.w.lane%first.lanes)))
	b.queueOwned(&ownedStatement)
}

func (b *batch) queueOwned(stmt *statement) {
	shards, epochs := b.w.args.next(), b.w.args.next()
	seen := make(map[*Shard]bool, 1)
	for _, one := range b.items {
		if !seen[one.shard] {
			seen[one.shard] = true
			shards.int4(int32(one.shard.owned.Shard))
			epochs.int8(signed(one.shard.owned.Epoch))
		}
	}
	b.w.line.queue(stmt, shards.value(int4Type), epochs.value(int8Type), []byte(b.items[0].shard.owned.Member))
}

// dropFenced drops the entries of shards that the instance doesn't own any more. It returns how many entries these are.
func (b *batch) dropFenced(ctx context.Context, cause error) (gone int, err error) {
	b.w.args.reset()
	b.queueOwned(&heldStatement)
	results, err := b.w.line.run(ctx)
	if err != nil {
		return 0, errors.Join(cause, err)
	}
	held, member := make(map[Owned]bool), b.items[0].shard.owned.Member
	for _, row := range results[0].rows {
		held[Owned{int(number(row[0])), uint64(number(row[1])), member}] = true
	}
	if b.fenced == nil {
		b.fenced = make(map[Owned]bool)
	}
	before := len(b.items)
	b.items = slices.DeleteFunc(b.items, func(one *item) bool {
		if held[one.shard.owned] {
			return false
		}
		b.fenced[one.shard.owned] = true
		return true
	})
	return before - len(b.items), nil
}

// refusePurged refuses the starts of sagas that were purged.
func (b *batch) refusePurged(ctx context.Context) error {
	b.w.args.reset()
	purged, err := b.setOf(ctx, &purgedStatement)
	if err != nil {
		return err
	}
	for _, one := range b.items {
		if one.starts() && purged[one.Saga] {
			one.refused = fmt.Errorf("saga %s: %w", one.Saga, journal.ErrPurged)
		}
	}
	return nil
}

// setOf runs a statement that returns some of the ids of the sagas that the batch creates.
func (b *batch) setOf(ctx context.Context, stmt *statement) (map[string]bool, error) {
	b.w.line.queue(stmt, b.startIDs())
	results, err := b.w.line.run(ctx)
	if err != nil {
		return nil, err
	}
	return textSet(results[0]), nil
}

func textSet(r result) map[string]bool {
	set := make(map[string]bool, len(r.rows))
	for _, row := range r.rows {
		set[decoded(string(row[0]))] = true
	}
	return set
}

func (b *batch) startIDs() []byte {
	ids := b.w.args.next()
	for _, one := range b.items {
		if one.starts() {
			ids.text(one.Saga)
		}
	}
	return ids.value(textType)
}

// learnNames gives numbers to the definitions and types of events that have none.
func (b *batch) learnNames(ctx context.Context) error {
	var missing []string
	need := func(name string) {
		if _, known := b.w.c.d.names.known(name); !known && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	for _, one := range b.items {
		if one.starts() {
			need(one.Row.Definition)
		}
		for _, event := range one.Events {
			need(event.Type)
		}
		if one.Row != nil {
			for _, await := range one.Row.Awaits {
				need(await.Type)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return b.w.c.d.names.learn(ctx, b.w.c.d, missing)
}

func (b *batch) name(name string) int32 {
	key, _ := b.w.c.d.names.known(name)
	return key
}

// findPositions finds out where the entries are added, and refuses those that don't follow.
func (b *batch) findPositions(ctx context.Context) error {
	if err := b.readPositions(ctx); err != nil {
		return err
	}
	for _, one := range b.items {
		switch {
		case one.Saga == "" || one.Err != nil:
		case one.Turn == 1:
			key, err := b.w.c.key(ctx, b.w)
			if err != nil {
				return err
			}
			one.at = &position{key: key}
		case one.at == nil || one.at.last+1 != one.Turn:
			one.Err = fmt.Errorf("turn %d of saga %s: %w", one.Turn, one.Saga, journal.ErrConflict)
		}
	}
	return nil
}

// readPositions reads the positions of the sagas that aren't cached.
func (b *batch) readPositions(ctx context.Context) error {
	var unknown map[string]*item
	var ids *array
	b.w.args.reset()
	for _, one := range b.items {
		if one.at = nil; one.Saga == "" || one.Turn == 1 {
			continue
		}
		if one.at = one.shard.cached(one.Saga); one.at != nil {
			continue
		}
		if unknown == nil {
			unknown, ids = make(map[string]*item), b.w.args.next()
		}
		unknown[one.Saga] = one
		ids.text(one.Saga)
	}
	if unknown == nil {
		return nil
	}
	b.w.line.queue(&findStatement, ids.value(textType))
	results, err := b.w.line.run(ctx)
	if err != nil {
		return err
	}
	for _, row := range results[0].rows {
		one := unknown[decoded(string(row[0]))]
		if one == nil || int(number(row[3])) != one.shard.owned.Shard {
			continue // another shard's
		}
		one.at = &position{
			key: number(row[1]), created: number(row[2]), last: uint64(number(row[4])), state: int16(number(row[5])),
			waiting: row[6][0] != 0, awaits: row[7][0] != 0,
		}
	}
	return nil
}

// changes are the rows that a transaction writes.
type changes struct {
	starts, turns, updates, rounds, ends []*item
	held, revived, dropped               []int64 // keys

	strict bool // all starts must succeed

	awaits []await
	events []*journal.Event
	newest int64          // the position of the newest event, or 0 if no event is published
	wakes  map[int64]wake // by the saga's key
	tell   []told
}

// wake makes a saga due that has the awaits of a turn.
type wake struct {
	due  int64
	turn int32
}

// awaitTurn returns the number of the turn whose awaits the saga has after this one, which has a row.
func (i *item) awaitTurn() int32 {
	if len(i.Row.Awaits) == 0 {
		return 0
	}
	return int32(i.Turn)
}

// await is a row of the table awaits.
type await struct {
	saga, after  int64
	number, kind int32
	subject      string
}

// told is a row of the table wakes.
type told struct {
	shard int
	id    string
}

// final returns whether a state is one in which a saga has ended.
func final(state int16) bool { return state >= 4 }

// add adds the turn and the row of an entry.
func (c *changes) add(one *item) {
	if one.Turn == 1 {
		c.starts = append(c.starts, one)
		if journal.Final(one.Row.State) {
			c.ends = append(c.ends, one)
		}
		return
	}
	at := one.at
	c.turns = append(c.turns, one)
	if final(at.state) {
		c.held = append(c.held, at.key)
	}
	if one.Row == nil {
		return
	}
	if final(at.state) {
		c.revived = append(c.revived, at.key)
	}
	if one.NewRound {
		c.rounds = append(c.rounds, one)
	}
	if at.awaits {
		c.dropped = append(c.dropped, at.key)
	}
	if journal.Final(one.Row.State) {
		c.ends = append(c.ends, one)
	} else {
		c.updates = append(c.updates, one)
	}
}

// write queues the changes, and sends all that is queued. It returns the sagas that were created, by key, with their
// positions of the newest event.
func (b *batch) write(ctx context.Context, c *changes) (created map[int64]int64, err error) {
	byKey := func(x, y *item) int { return cmp.Compare(x.at.key, y.at.key) }
	slices.SortFunc(c.updates, byKey)
	slices.SortFunc(c.ends, byKey)
	line, args, createAt := b.w.line, &b.w.args, -1
	keys := func(stmt *statement, of []int64) {
		if len(of) == 0 {
			return
		}
		all := args.next()
		for _, key := range of {
			all.int8(key)
		}
		line.queue(stmt, all.value(int8Type))
	}
	if len(c.starts) > 0 {
		createAt = len(line.queued)
		if err := b.queueStarts(c); err != nil {
			return nil, err
		}
	}
	keys(&holdStatement, c.held)
	b.queueTurns(c.turns)
	keys(&reviveStatement, c.revived)
	b.queueUpdates(c.updates)
	b.queueRounds(c.rounds)
	keys(&dropAwaitsStatement, c.dropped)
	b.queueEvents(c)
	b.queueEnds(c.ends)
	if b.taken[0].eventful {
		line.queue(&commitStatement)
	}
	results, err := line.run(ctx)
	if err != nil || createAt < 0 {
		return nil, err
	}
	created = make(map[int64]int64, len(c.starts))
	for _, row := range results[createAt].rows {
		created[number(row[0])] = number(row[1])
	}
	return created, nil
}

// note notes what was written.
func (b *batch) note(c *changes, created map[int64]int64) {
	for _, one := range c.starts {
		at, is := created[one.at.key]
		if !is {
			one.Err = fmt.Errorf("saga %s: %w", one.Saga, journal.ErrExists)
			continue
		}
		one.at.created = at
	}
	for _, one := range b.items {
		if one.Saga == "" || one.Err != nil {
			continue
		}
		at := one.at
		at.last = one.Turn
		if one.Row != nil {
			at.state, at.waiting, at.awaits = int16(one.Row.State), one.Row.Waiting, len(one.Row.Awaits) > 0
		}
		if at.waiting || final(at.state) {
			one.shard.forget(one.Saga)
		} else {
			one.shard.cache(one.Saga, at)
		}
	}
}

func (b *batch) queueStarts(c *changes) error {
	a := b.w.args.many(24)
	for _, one := range c.starts {
		row := one.Row
		a[0].int8(one.at.key)
		a[1].int8(row.CreateTime.UnixMicro())
		a[2].int8(row.UpdateTime.UnixMicro())
		a[3].time(one.created)
		a[4].at(row.Parent.Start)
		a[5].at(row.EndTime)
		a[6].at(row.Due)
		a[7].int8(int64(row.Revision))
		a[8].at(one.Time)
		a[9].int4(int32(one.shard.owned.Shard))
		a[10].int4(b.name(row.Definition))
		state := row.State
		if journal.Final(state) {
			state = 1 // endStatement moves it
		}
		a[11].int4(int32(state))
		a[12].int4(int32(row.Suspension))
		switch {
		case row.Parent.Compensates:
			a[13].int4(1)
			a[20].text("")
		case row.LocalParent != "":
			a[13].int4(2)
			a[20].text(row.LocalParent)
		default:
			a[13].int4(0)
			a[20].addNull()
		}
		a[14].int4(checksum(one.at.key<<turnBits|1, one.Data))
		a[15].bool(row.Waiting)
		a[16].text(one.Saga)
		a[17].optional(row.RequestID)
		if row.Parent.Saga == "" {
			a[18].addNull()
			a[19].addNull()
		} else {
			a[18].text(row.Parent.Scope)
			a[19].text(row.Parent.Saga)
		}
		if len(row.Labels) == 0 {
			a[21].addNull()
		} else {
			labels, err := json.Marshal(row.Labels)
			if err != nil {
				return fmt.Errorf("serialize the labels of saga %s: %w", one.Saga, err)
			}
			a[21].bytes(labels)
		}
		a[22].bytes(one.Data)
		a[23].int4(one.awaitTurn())
	}
	least := int64(0)
	if c.strict {
		least = int64(len(c.starts))
	}
	values := values(a, createStatement.params)
	b.w.line.queue(&createStatement, append(values, int8Value(least))...)
	ids := b.w.args.next()
	for _, one := range c.starts {
		ids.text(one.Saga)
	}
	b.w.line.queue(&freshStatement, ids.value(textType))

	a = b.w.args.many(3)
	for _, one := range c.starts {
		for label, value := range one.Row.Labels {
			a[0].int8(one.at.key)
			a[1].text(label)
			a[2].text(value)
		}
	}
	b.queueRows(&labelStatement, a)
	return nil
}

func (b *batch) queueTurns(turns []*item) {
	a := b.w.args.many(4)
	for _, one := range turns {
		at := one.at.key<<turnBits | int64(one.Turn)
		a[0].int8(at)
		a[1].at(one.Time)
		a[2].int4(checksum(at, one.Data))
		a[3].bytes(one.Data)
	}
	b.queueRows(&turnStatement, a)
}

func (b *batch) queueUpdates(updates []*item) {
	a := b.w.args.many(9)
	for _, one := range updates {
		row := one.Row
		a[0].int8(one.at.key)
		a[1].int8(row.UpdateTime.UnixMicro())
		a[2].int8(int64(row.Revision))
		a[3].at(row.EndTime)
		a[4].at(row.Due)
		a[5].int4(int32(row.State))
		a[6].int4(int32(row.Suspension))
		a[7].bool(row.Waiting)
		a[8].int4(one.awaitTurn())
	}
	b.queueRows(&updateStatement, a)
}

func (b *batch) queueEnds(ends []*item) {
	a := b.w.args.many(7)
	for _, one := range ends {
		row := one.Row
		a[0].int8(one.at.key)
		a[1].int8(row.UpdateTime.UnixMicro())
		a[2].int8(int64(row.Revision))
		a[3].at(row.EndTime)
		a[4].at(row.Due)
		a[5].int4(int32(row.State))
		a[6].bool(row.Waiting)
	}
	b.queueRows(&endStatement, a)
}

func (b *batch) queueRounds(rounds []*item) {
	a := b.w.args.many(2)
	for _, one := range rounds {
		a[0].int8(one.at.key)
		a[1].int4(int32(one.Turn))
	}
	b.queueRows(&roundStatement, a)
}

// queueRows queues a statement whose parameters are arrays, unless they are empty.
func (b *batch) queueRows(stmt *statement, a []*array) {
	if a[0].n > 0 {
		b.w.line.queue(stmt, values(a, stmt.params)...)
	}
}

// values returns the values of arrays, given the types of the arrays.
func values(a []*array, types []uint32) [][]byte {
	values := make([][]byte, len(a), len(a)+1)
	for i := range a {
		values[i] = a[i].value(elements[types[i]])
	}
	return values
}

// elements are the types of the elements of arrays.
var elements = map[uint32]uint32{
	boolArrayType: boolType, byteaArray: byteaType, int4ArrayType: int4Type, int8ArrayType: int8Type,
	textArrayType: textType,
}

// arguments are the arrays of a transaction. They are used again.
type arguments struct {
	arrays []*array
	used   int
}

func (a *arguments) reset() { a.used = 0 }

// next returns an empty array.
func (a *arguments) next() *array {
	if a.used == len(a.arrays) {
		a.arrays = append(a.arrays, new(array))
	}
	a.used++
	next := a.arrays[a.used-1]
	next.reset()
	return next
}

func (a *arguments) many(n int) []*array {
	many := make([]*array, n)
	for i := range many {
		many[i] = a.next()
	}
	return many
}

// at adds a time, or NULL if it is zero.
func (a *array) at(t time.Time) {
	if t.IsZero() {
		a.addNull()
		return
	}
	a.int8(t.UnixMicro())
}

// castagnoli is the table of CRC-32C, which processors compute themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC-32C of a turn's data and position, so it finds data that was changed, and data of another
// turn.
func checksum(position int64, data []byte) int32 {
	crc := ^crc32.Checksum(data, castagnoli)
	for shift := 56; shift >= 0; shift -= 8 { // as crc32.Update, which needs the bytes on the heap
		crc = castagnoli[byte(crc)^byte(position>>shift)] ^ crc>>8
	}
	return int32(^crc)
}
