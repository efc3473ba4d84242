package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestPurgeDoubtsTheClock sets the clock after a saga has ended and events were published. They are kept for their
// retention by the time that passes, unless the clock stays ahead.
func TestPurgeDoubtsTheClock(t *testing.T) {
	const (
		day       = 24 * time.Hour
		year      = 365 * day
		retention = 3 * day
	)
	type setting struct{ after, offset time.Duration }
	for _, test := range []struct {
		name    string
		set     []setting
		restart time.Duration // when the orchestrator starts again; 0: it doesn't
		kept    time.Duration // since the end of the saga, at least
		gone    time.Duration // since the end of the saga, at most
	}{
		{"not set", nil, 0, retention, retention + 2*time.Minute},
		{"ahead, and returns", []setting{{2 * time.Minute, year}, {time.Hour, 0}}, 0, retention,
			retention + 2*time.Minute},
		{"ahead twice", []setting{{2 * time.Minute, year}, {time.Hour, 0}, {2 * day, year}, {2*day + time.Hour, 0}},
			0, retention, retention + 2*time.Minute},
		{"ahead for good", []setting{{2 * time.Minute, year}}, 0, day, day + 5*time.Minute},
		{"ahead before a start, and returns", []setting{{2 * time.Minute, year}, {time.Hour, 0}}, 3 * time.Minute,
			retention, retention + 2*time.Minute},
		{"back, and returns", []setting{{2 * time.Minute, -day}, {time.Hour, 0}}, 0, retention,
			retention + 2*time.Minute},
		{"back for good", []setting{{2 * time.Minute, -day}}, 0, retention + day, retention + day + 2*time.Minute},
		{"a start after a day", nil, day, retention, retention + 2*time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.retention, w.eventRetention = map[string]time.Duration{definition: retention}, retention
				clock := new(settable)
				w.reopen(clock)
				w.publish(verified("applicants/ada"), verified("applicants/bob")) // the newer one may be kept for good
				handle := w.start(1)
				w.await(handle.ID)
				ended := time.Now()
				kept := func() (saga, events bool) {
					_, err := w.store.Get(t.Context(), handle.ID)
					if err != nil && !errors.Is(err, journal.ErrNotFound) {
						t.Fatal(err)
					}
					stored, eventErr := w.store.Events(t.Context(), journal.EventsParams{Limit: 10})
					if eventErr != nil {
						t.Fatal(eventErr)
					}
					return err == nil, len(stored) > 1
				}
				set := test.set
				if test.restart > 0 {
					for len(set) > 0 && set[0].after < test.restart {
						pass(set[0].after - time.Since(ended))
						clock.set(set[0].offset)
						set = set[1:]
					}
					pass(test.restart - time.Since(ended))
					w.reopen(clock)
				}
				for _, s := range set {
					pass(s.after - time.Since(ended))
					clock.set(s.offset)
				}
				pass(test.kept - time.Minute - time.Since(ended))
				if saga, events := kept(); !saga || !events {
					t.Errorf("%v after the end: the saga is kept: %v, the events: %v", time.Since(ended), saga, events)
				}
				pass(test.gone - time.Since(ended))
				if saga, events := kept(); saga || events {
					t.Errorf("%v after the end: the saga is kept: %v, the events: %v", time.Since(ended), saga, events)
				}
			})
		})
	}
}
