package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Watcher says what Watch watches, and whom it tells. Watch calls its functions one at a time, from one goroutine.
type Watcher struct {
	// Shards returns the numbers of the shards that the instance owns.
	Shards func() []int

	// Woken is called with sagas of one of these shards that are due because of an event of another shard. It is called
	// again for a saga that is due again. It isn't called for a saga that became due before the instance owned the
	// shard: Due tells of that one.
	Woken func(shard int, sagas []string)

	// Published is called with the position of the newest event when there are new ones, of any instance. It may be
	// nil.
	Published func(newest uint64)

	// Failed is called when the database can't be asked. Watch goes on. It may be nil.
	Failed func(err error)

	// Interval is how often the database is asked. Default 500 milliseconds. In between, it is asked when another
	// instance sends a notification, which works only if connections go to the server itself.
	Interval time.Duration
}

const (
	watchInterval = 500 * time.Millisecond
	sizeInterval  = time.Minute

	// channel is the name of the notifications.
	channel = "treaty"
)

// Watch tells of what other instances, and other shards of this instance, have written, until ctx ends. An instance
// calls it once.
func (d *Database) Watch(ctx context.Context, w Watcher) error {
	if w.Interval == 0 {
		w.Interval = watchInterval
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	notified := make(chan struct{}, 1)
	if !pooled(d.pool.Config().ConnConfig) {
		listening := make(chan struct{})
		go func() {
			defer close(listening)
			d.listen(ctx, w.Interval, notified)
		}()
		defer func() { cancel(); <-listening }()
	}
	poll, size := time.NewTicker(w.Interval), time.NewTicker(sizeInterval)
	defer poll.Stop()
	defer size.Stop()
	d.measure(ctx)
	for newest := uint64(0); ; {
		if newest, err = d.poll(ctx, &w, newest); err != nil && ctx.Err() == nil && w.Failed != nil {
			w.Failed(explain("watch the store", d.name, err))
		}
		select {
		case <-poll.C:
		case <-notified:
		case <-size.C:
			d.measure(ctx)
		case <-d.hints.sent:
			// Others hear of it, unless the notification gets lost.
			_, _ = d.pool.Exec(ctx, `SELECT pg_notify($1, '')`, channel)
		case <-d.closed:
			return journal.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// poll asks the database once. It returns the position of the newest event.
func (d *Database) poll(ctx context.Context, w *Watcher, newest uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var position int64
	if err := d.pool.QueryRow(ctx, `SELECT newest FROM event_counter`).Scan(&position); err != nil {
		return newest, err
	}
	if uint64(position) > newest && w.Published != nil {
		w.Published(uint64(position))
	}
	newest = uint64(position)
	shards := w.Shards()
	if len(shards) == 0 {
		return newest, nil
	}
	var waits bool
	err := d.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM wakes WHERE shard = ANY ($1))`, shards).Scan(&waits)
	if err != nil || !waits {
		return newest, err
	}
	// They are deleted first: one that is added while the instance hears of them is told, too.
	rows, err := d.pool.Query(ctx, `DELETE FROM wakes WHERE shard = ANY ($1) RETURNING shard, id`, shards)
	if err != nil {
		return newest, err
	}
	told, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (one told, err error) {
		err = row.Scan(&one.shard, &one.id)
		return one, err
	})
	if err != nil {
		return newest, err
	}
	woken := make(map[int][]string)
	for _, one := range told {
		woken[one.shard] = append(woken[one.shard], decoded(one.id))
	}
	for shard, sagas := range woken {
		slices.Sort(sagas)
		w.Woken(shard, sagas)
	}
	return newest, nil
}

// listen passes notifications on until ctx ends. It has a connection of its own.
func (d *Database) listen(ctx context.Context, interval time.Duration, notified chan<- struct{}) {
	for ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
		if err == nil {
			_, err = conn.Exec(ctx, "LISTEN "+channel)
		}
		for err == nil {
			select {
			case notified <- struct{}{}: // also the first time: what came before may have been missed
			default:
			}
			_, err = conn.WaitForNotification(ctx)
		}
		if conn != nil {
			_ = conn.Close(context.Background())
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
		}
	}
}

// measure reads how much room the database takes.
func (d *Database) measure(ctx context.Context) {
	var size int64
	if err := d.pool.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&size); err == nil {
		d.size.Store(size)
	}
}
