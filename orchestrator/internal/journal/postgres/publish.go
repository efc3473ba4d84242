package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// buckets is the number of rows in the table event_buckets.
const buckets = 4096

// eventKey is what an await names of an event.
type eventKey struct {
	kind    int32
	subject string
}

// bucket returns the bucket of a key. It is stored nowhere, but all instances must agree on it.
func (k eventKey) bucket() int32 {
	hash := fnv.New32a()
	fmt.Fprintf(hash, "%d %s", k.kind, k.subject)
	return int32(hash.Sum32() % buckets)
}

// eventID identifies an event.
type eventID struct{ source, id string }

// storedEvent is an event that is stored, or that was and is past.
type storedEvent struct {
	position  uint64
	kind      int32
	subject   string
	publisher string
	data      []byte
	digest    []byte // of a past event, which has no kind, subject and data
}

// differs returns the error of an event that has the source and the id of a stored one.
func (s *storedEvent) differs(event *journal.Event, kind int32) error {
	switch {
	case journal.Foreign(s.publisher, event.Publisher):
		return fmt.Errorf("event %s of %s: %w: %w", event.ID, event.Source, journal.ErrForeign, journal.ErrExists)
	case s.digest != nil && bytes.Equal(s.digest, eventDigest(event.Type, event.Subject, event.Data)),
		s.digest == nil && s.kind == kind && s.subject == event.Subject && bytes.Equal(s.data, event.Data):
		return nil
	}
	return fmt.Errorf("event %s of %s, with another type, subject or data: %w", event.ID, event.Source,
		journal.ErrExists)
}

// eventDigest identifies the content of an event.
func eventDigest(kind, subject string, data []byte) []byte {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d %s %d %s ", len(kind), kind, len(subject), subject)
	hash.Write(data)
	return hash.Sum(nil)
}

// waiter is a saga that awaits events.
type waiter struct {
	key     int64
	id      string
	shard   int
	running bool
	created int64
	awaits  map[eventKey]int64 // the least position after which an event counts
	turn    int32              // the number of the turn whose awaits these are
}

// scene is what a transaction knows of events and awaits once it has the locks.
type scene struct {
	b *batch
	c *changes

	newest  int64
	stored  map[eventID]*storedEvent
	last    map[eventKey]int64             // the positions of the newest events
	waiters map[int64]*waiter              // by the saga's key
	byKey   map[eventKey]map[int64]*waiter // the sagas that await an event
	exist   map[string]bool                // the sagas that exist, of those that the batch creates
	lost    map[string]int64               // the positions after which they receive events
}

// tryEventful tries a transaction that publishes or awaits events. It takes two round trips: one to lock and read, and
// one to write and commit.
func (b *batch) tryEventful(ctx context.Context) error {
	b.w.line.queue(&beginStatement)
	b.begin()
	s, err := b.readScene(ctx)
	if err != nil {
		return err
	}
	b.w.c.mu.Lock()
	locked := b.w.c.locked
	b.w.c.mu.Unlock()
	if locked != nil {
		locked() // tests hold the transaction here
	}
	for _, one := range b.items {
		if one.Err != nil {
			continue
		}
		if one.starts() && s.exist[one.Saga] {
			one.Err = fmt.Errorf("saga %s: %w", one.Saga, journal.ErrExists)
			continue
		}
		if one.Saga != "" {
			s.addTurn(one)
		}
		s.publish(one)
	}
	b.w.args.reset()
	created, err := b.write(ctx, s.c)
	if err != nil {
		return err
	}
	b.note(s.c, created)
	b.w.c.d.hints.committed(s.c)
	return nil
}

// readScene locks the buckets, and the counter if there are events, and reads what the transaction needs to know.
func (b *batch) readScene(ctx context.Context) (*scene, error) {
	line, args := b.w.line, &b.w.args
	s := &scene{
		b: b, c: &changes{strict: true, wakes: make(map[int64]wake)}, stored: make(map[eventID]*storedEvent),
		last: make(map[eventKey]int64), waiters: make(map[int64]*waiter), byKey: make(map[eventKey]map[int64]*waiter),
		exist: make(map[string]bool), lost: make(map[string]int64),
	}
	published, awaited, publishes := b.eventKeys()
	locked := args.next()
	var numbers []int32
	for _, keys := range []map[eventKey]bool{published, awaited} {
		for key := range keys {
			numbers = append(numbers, key.bucket())
		}
	}
	slices.Sort(numbers)
	for _, one := range slices.Compact(numbers) {
		locked.int4(one)
	}
	line.queue(&bucketsStatement, locked.value(int4Type))
	counter := len(line.queued)
	if publishes {
		line.queue(&counterStatement)
	} else {
		line.queue(&newestStatement)
	}
	ids := args.many(2)
	for _, one := range b.items {
		for _, event := range one.Events {
			ids[0].text(event.Source)
			ids[1].text(event.ID)
		}
	}
	sources, names := ids[0].value(textType), ids[1].value(textType)
	line.queue(&storedStatement, sources, names) // before those that are past: a purge moves them there
	line.queue(&pastStatement, sources, names)
	b.queueKeys(&awaitedStatement, published)
	b.queueKeys(&lastStatement, awaited)
	starts := b.startIDs()
	line.queue(&existStatement, starts)
	line.queue(&lostStatement, starts)
	results, err := line.run(ctx)
	if err != nil {
		return nil, err
	}
	s.newest = number(results[counter].rows[0][0])
	s.read(results[counter+1:])
	return s, nil
}

// eventKeys returns the keys of the events that are published and awaited, and whether any event is published.
func (b *batch) eventKeys() (published, awaited map[eventKey]bool, publishes bool) {
	published, awaited = make(map[eventKey]bool), make(map[eventKey]bool)
	for _, one := range b.items {
		for _, event := range one.Events {
			publishes = true
			if event.Subject != "" {
				published[eventKey{b.name(event.Type), event.Subject}] = true
			}
		}
		if one.Row != nil {
			for _, await := range one.Row.Awaits {
				awaited[eventKey{b.name(await.Type), await.Subject}] = true
			}
		}
	}
	return published, awaited, publishes
}

func (b *batch) queueKeys(stmt *statement, keys map[eventKey]bool) {
	a := b.w.args.many(2)
	for key := range keys {
		a[0].int4(key.kind)
		a[1].text(key.subject)
	}
	b.w.line.queue(stmt, values(a, stmt.params)...)
}

// read reads the results of the statements after the one of the counter.
func (s *scene) read(results []result) {
	text := func(value []byte) string { return decoded(string(value)) }
	for _, row := range results[1].rows {
		s.stored[eventID{text(row[0]), text(row[1])}] = &storedEvent{
			position: uint64(number(row[2])), publisher: text(row[3]), digest: row[4],
		}
	}
	for _, row := range results[0].rows {
		s.stored[eventID{text(row[0]), text(row[1])}] = &storedEvent{
			position: uint64(number(row[2])), kind: int32(number(row[3])), subject: text(row[4]),
			publisher: text(row[5]), data: row[6],
		}
	}
	for _, row := range results[2].rows {
		key := eventKey{int32(number(row[0])), text(row[1])}
		of := s.waiters[number(row[3])]
		if of == nil {
			of = &waiter{
				key: number(row[3]), id: text(row[4]), created: number(row[5]), shard: int(number(row[6])),
				running: number(row[7]) == int64(treatyv1.SagaState_SAGA_STATE_RUNNING),
				awaits:  make(map[eventKey]int64), turn: int32(number(row[8])),
			}
			s.waiters[of.key] = of
		}
		s.await(of, key, number(row[2]))
	}
	for _, row := range results[3].rows {
		s.last[eventKey{int32(number(row[0])), text(row[1])}] = number(row[2])
	}
	s.exist = textSet(results[4])
	for _, row := range results[5].rows {
		s.lost[text(row[0])] = number(row[1])
	}
}

// await adds an await to a saga.
func (s *scene) await(of *waiter, key eventKey, after int64) {
	if before, known := of.awaits[key]; !known || after < before {
		of.awaits[key] = after
	}
	if s.byKey[key] == nil {
		s.byKey[key] = make(map[int64]*waiter)
	}
	s.byKey[key][of.key] = of
}

// addTurn adds the turn of an entry, and its awaits. It wakes the saga if one of their events is stored.
func (s *scene) addTurn(one *item) {
	s.c.add(one)
	at := one.at
	if one.Turn == 1 {
		created := s.newest
		if after, lost := s.lost[one.Saga]; lost {
			created = after
		}
		one.created, at.created = &created, created
	}
	if one.Row == nil {
		return
	}
	if before := s.waiters[at.key]; before != nil {
		for key := range before.awaits {
			delete(s.byKey[key], at.key)
		}
	}
	delete(s.c.wakes, at.key)
	of := &waiter{
		key: at.key, id: one.Saga, shard: one.shard.owned.Shard, created: at.created, turn: one.awaitTurn(),
		running: one.Row.State == treatyv1.SagaState_SAGA_STATE_RUNNING, awaits: make(map[eventKey]int64),
	}
	s.waiters[at.key] = of
	found := false
	for i, await := range one.Row.Awaits {
		key := eventKey{s.b.name(await.Type), await.Subject}
		after := signed(await.After)
		s.c.awaits = append(s.c.awaits, awaitRow(at.key, after, i, key))
		s.await(of, key, after)
		found = found || s.last[key] > max(after, at.created)
	}
	if found && of.running {
		s.wake(one, of, one.Row.UpdateTime.UnixMicro())
	}
}

// wake makes a saga due because of an entry.
func (s *scene) wake(one *item, of *waiter, at int64) {
	if before, known := s.c.wakes[of.key]; !known || at < before.due {
		s.c.wakes[of.key] = wake{at, of.turn}
	}
	if of.shard != one.shard.owned.Shard {
		s.c.tell = append(s.c.tell, told{of.shard, of.id})
		return
	}
	one.Woken = append(one.Woken, of.id)
}

// publish adds the events of an entry, and wakes the sagas that await them.
func (s *scene) publish(one *item) {
	if len(one.Events) == 0 {
		return
	}
	before, added := s.newest, len(s.c.events)
	var refused error
	for _, event := range one.Events {
		kind, id := s.b.name(event.Type), eventID{event.Source, event.ID}
		if stored := s.stored[id]; stored != nil {
			event.Position, event.Err = stored.position, stored.differs(event, kind)
			refused = errors.Join(refused, event.Err)
			continue
		}
		s.newest++
		event.Position = uint64(s.newest)
		s.stored[id] = &storedEvent{
			position: event.Position, kind: kind, subject: event.Subject, publisher: event.Publisher, data: event.Data,
		}
		s.c.events = append(s.c.events, event)
	}
	if refused != nil && one.Saga == "" {
		s.discard(one, before, added)
		one.Err = fmt.Errorf("none of %d events was published: %w", len(one.Events), refused)
		return
	}
	for _, event := range s.c.events[added:] {
		if event.Subject == "" {
			continue // it can't be awaited
		}
		key := eventKey{s.b.name(event.Type), event.Subject}
		s.last[key] = int64(event.Position)
		for _, of := range s.byKey[key] {
			if of.running && int64(event.Position) > max(of.awaits[key], of.created) {
				s.wake(one, of, event.StoreTime.UnixMicro())
			}
		}
	}
	s.c.newest = s.newest
	if len(one.Woken) > 1 {
		slices.Sort(one.Woken)
		one.Woken = slices.Compact(one.Woken)
	}
}

// discard takes back the events of an entry. It only publishes events, so all are written or none.
func (s *scene) discard(one *item, before int64, added int) {
	for _, event := range s.c.events[added:] {
		delete(s.stored, eventID{event.Source, event.ID})
	}
	s.c.events, s.newest = s.c.events[:added], before
	for _, event := range one.Events {
		if event.Position > uint64(before) {
			event.Position = 0
		}
	}
}

func awaitRow(saga, after int64, number int, key eventKey) await {
	return await{saga: saga, after: after, number: int32(number), kind: key.kind, subject: key.subject}
}

// queueEvents queues the awaits and events of a transaction, and the sagas that it wakes.
func (b *batch) queueEvents(c *changes) {
	a := b.w.args.many(5)
	for _, one := range c.awaits {
		a[0].int8(one.saga)
		a[1].int8(one.after)
		a[2].int4(one.number)
		a[3].int4(one.kind)
		a[4].text(one.subject)
	}
	b.queueRows(&awaitStatement, a)
	a = b.w.args.many(9)
	for _, event := range c.events {
		a[0].int8(int64(event.Position))
		a[1].int8(event.Time.UnixMicro())
		a[2].int8(event.StoreTime.UnixMicro())
		a[3].int4(b.name(event.Type))
		a[4].text(event.Source)
		a[5].text(event.ID)
		a[6].text(event.Subject)
		a[7].optional(event.Publisher)
		a[8].bytes(event.Data)
	}
	b.queueRows(&eventStatement, a)
	if len(c.events) > 0 {
		b.w.line.queue(&positionStatement, int8Value(c.newest))
	}
	a = b.w.args.many(3)
	for key, one := range c.wakes {
		a[0].int8(key)
		a[1].int8(one.due)
		a[2].int4(one.turn)
	}
	b.queueRows(&wakeStatement, a)
	a = b.w.args.many(2)
	for _, one := range c.tell {
		a[0].int4(int32(one.shard))
		a[1].text(one.id)
	}
	b.queueRows(&tellStatement, a)
}
