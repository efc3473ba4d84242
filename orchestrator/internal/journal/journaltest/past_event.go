package journaltest

import (
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// purgeEventIDs publishes events again after they were purged, and after their ids were.
func purgeEventIDs(f *fixture) {
	publish := func(id, subject string, at int) *journal.Event {
		e := event(verified, id, subject, at)
		f.append(publishing(e))
		return e
	}
	first, second := publish("1", "c-1", 1), publish("2", "c-2", 2)
	publish("3", "c-3", 9)
	purge := func(until, want int) {
		f.T.Helper()
		if n, err := f.PurgeEvents(f.Context(), minute(until), 10); err != nil || n != want {
			f.Errorf("%d events were purged, %v; want %d", n, err, want)
		}
	}
	purge(5, 2)
	for range 2 {
		if again := publish("1", "c-1", 20); again.Err != nil || again.Position != first.Position {
			f.Errorf("the same event again: position %d, %v; want %d", again.Position, again.Err, first.Position)
		}
		if _, newest, err := f.EventRange(f.Context()); err != nil || newest != 3 {
			f.Errorf("the newest event is %d, %v; want 3", newest, err)
		}
		other := event(verified, "2", "c-2", 20)
		other.Subject = "another"
		entry := publishing(other)
		f.append(entry)
		f.failsWith("another event with a used id", entry.Err, journal.ErrExists)
		f.failsWith("the event itself", other.Err, journal.ErrExists)
		f.reopen()
	}
	ids := func(until, limit, want int) {
		f.T.Helper()
		if n, err := f.PurgeEventIDs(f.Context(), minute(until), limit); err != nil || n != want {
			f.Errorf("%d ids were purged, %v; want %d", n, err, want)
		}
	}
	ids(1, 10, 0)
	ids(2, 10, 1)
	ids(9, 1, 1)
	ids(9, 10, 0)
	if again := publish("2", "c-2", 21); again.Err != nil || again.Position <= second.Position {
		f.Errorf("an event whose id was purged: position %d, %v", again.Position, again.Err)
	}
	_, err := f.PurgeEventIDs(f.Context(), minute(1), 0)
	f.failsWith("purging no ids", err, journal.ErrInvalid)
}

// foreignEvents publishes an event again as other principals, also after it was purged.
func foreignEvents(f *fixture) {
	publish := func(principal string) (*journal.Event, *journal.Entry) {
		e := event(verified, "1", "c-1", 1)
		e.Publisher = principal
		entry := publishing(e)
		f.append(entry)
		return e, entry
	}
	again := func(when string) {
		f.T.Helper()
		for _, principal := range []string{"jwt:i#bob", "local", "anonymous"} {
			e, entry := publish(principal)
			f.failsWith(when+", the event of "+principal, e.Err, journal.ErrForeign)
			f.failsWith(when+", the entry of "+principal, entry.Err, journal.ErrExists)
		}
		for _, principal := range []string{"jwt:i#ada", ""} {
			if e, entry := publish(principal); e.Err != nil || entry.Err != nil || e.Position != 1 {
				f.Errorf("%s, published again by %q: position %d, %v", when, principal, e.Position, e.Err)
			}
		}
	}
	publish("jwt:i#ada")
	f.append(publishing(event(verified, "2", "c-2", 9)))
	events, err := f.Events(f.Context(), journal.EventsParams{Limit: 9})
	if err != nil || len(events) != 2 || events[0].Publisher != "jwt:i#ada" || events[1].Publisher != "" {
		f.Errorf("the events are %+v, %v", events, err)
	}
	again("while it is stored")
	if n, err := f.PurgeEvents(f.Context(), minute(5), 10); err != nil || n != 1 {
		f.Errorf("%d events were purged, %v", n, err)
	}
	again("after it was purged")
	f.reopen()
	again("after a restart")
}
