package main

import (
	"testing"
	"time"
)

// TestSides runs one round of each side there is, with one saga at a time.
func TestSides(t *testing.T) {
	for _, s := range []struct {
		name      string
		o         options
		wantSpans []int // of a saga of the floor and of Treaty, at least: one for each end of each call that is traced
	}{
		{"default", options{Inbox: true}, nil},
		{"no inbox", options{}, nil},
		{"unary", options{Unary: true, Inbox: true}, nil},
		{"unary, no inbox", options{Unary: true, Refused: 100}, nil},
		{"traced", options{Inbox: true, Tracing: true}, []int{7, 8}},
	} {
		t.Run(s.name, func(t *testing.T) {
			o := s.o
			o.Steps, o.InFlight, o.Rounds, o.Conns, o.Round = 3, 1, 1, 1, 500*time.Millisecond
			m, err := newMeasurement(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer m.end()
			floor, err := m.startFloor("floor", o, "--heap-floor")
			if err != nil {
				t.Fatal(err)
			}
			treaty, err := m.startTreaty("Treaty", o)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.run(o, t.Output(), floor, treaty); err != nil {
				t.Fatal(err)
			}
			wantSpans := 0
			for i, side := range []*side{floor, treaty} {
				done := side.rounds[0]
				if s.wantSpans != nil {
					wantSpans += done.AllSagas * s.wantSpans[i]
				}
				if want := done.AllSagas * o.Refused / 100; done.Refusals != want {
					t.Errorf("%s: %d sagas were refused, want %d of %d", side.name, done.Refusals, want, done.AllSagas)
				}
				for name, used := range map[string]usage{
					"client": done.Used, "server": done.server, "participant": done.participant,
				} {
					if used.CPU <= 0 || used.Bytes == 0 || used.Objects == 0 {
						t.Errorf("%s: its %s has used %+v", side.name, name, used)
					}
				}
			}
			m.end()
			if s.wantSpans == nil {
				return
			}
			if spans := int(m.spans.spans.Load()); spans < wantSpans {
				t.Errorf("%d spans, want %d", spans, wantSpans)
			}
		})
	}
}
