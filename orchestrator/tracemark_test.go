package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// markStore is a store that only keeps the mark.
type markStore struct {
	mark  time.Time
	notes int
}

// NoteTraced keeps the mark.
func (s *markStore) NoteTraced(_ context.Context, until time.Time) error {
	s.mark, s.notes = until, s.notes+1
	return nil
}

// brittleExporter is an exporter that counts spans, and fails when it is told to.
type brittleExporter struct {
	fails    bool
	exported int
}

// ExportSpans counts the spans.
func (e *brittleExporter) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	if e.fails {
		return errors.New("the collector is down")
	}
	e.exported += len(spans)
	return nil
}

// Shutdown does nothing.
func (*brittleExporter) Shutdown(context.Context) error { return nil }

// marked is a mark with what it depends on.
type marked struct {
	traceMark

	store    *markStore
	exporter *brittleExporter
	clock    time.Time
	anchor   *treatyv1.TraceAnchor
}

func newMarked(t *testing.T) *marked {
	t.Helper()
	exporter := new(brittleExporter)
	tel, err := telemetry.New(t.Context(),
		telemetry.Config{Unbatched: true, SpanExporter: exporter, Sampler: sdktrace.AlwaysSample()})
	if err != nil {
		t.Fatal(err)
	}
	m := &marked{store: new(markStore), exporter: exporter, clock: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	m.traceMark = traceMark{
		telemetry: tel, store: m.store, logger: slog.New(slog.DiscardHandler), now: func() time.Time { return m.clock },
	}
	m.anchor = tel.NewAnchor(t.Context(), "sagas/a", "acme.v1.Sagas/Do")
	return m
}

// emit ends a span, and then lets time pass.
func (m *marked) emit(then time.Duration) {
	m.traceMark.telemetry.EmitAnchor(m.anchor, telemetry.SagaStart{Saga: "sagas/a", Time: m.clock})
	m.clock = m.clock.Add(then)
}

// The mark follows what was exported. It stays where it is while nothing ends, so that an idle orchestrator writes
// nothing, and while exports fail. It never passes a span that was lost less than an hour ago.
func TestMarkFollowsExports(t *testing.T) {
	m := newMarked(t)
	start := m.clock
	if since, err := m.begin(t.Context(), time.Time{}); err != nil || !since.IsZero() || m.store.mark.IsZero() {
		t.Fatalf("a store without a mark: spans are missing since %v, %v; the mark is %v", since, err, m.store.mark)
	}
	m.retraced = true
	is := func(what string, want time.Duration, notes int) {
		t.Helper()
		m.move(t.Context(), markSlack)
		if got := m.store.mark.Sub(start); got != want || m.store.notes != notes {
			t.Errorf("%s: the mark is at %v after %d writes, want %v after %d", what, got, m.store.notes, want, notes)
		}
	}
	m.clock = m.clock.Add(time.Minute)
	is("nothing has ended", -markSlack, 1)
	m.emit(time.Minute)
	is("a span was exported", 2*time.Minute-markSlack, 2)
	m.exporter.fails = true
	m.emit(time.Minute)
	is("an export failed", 2*time.Minute-markSlack, 2)
	m.exporter.fails = false
	m.emit(time.Minute)
	is("the next export succeeded", 2*time.Minute-markSlack, 2)
	m.emit(time.Hour - 90*time.Second)
	is("almost an hour has passed", 2*time.Minute+30*time.Second, 3)
	m.clock = m.clock.Add(time.Hour)
	is("an hour has passed", 2*time.Hour+2*time.Minute+30*time.Second-markSlack, 4)
}

// What happened since the mark of the last process is exported again, before the mark moves. When tracing is turned
// off, the mark is removed, since what happens then is never exported.
func TestSpansSinceTheMarkAreExportedAgain(t *testing.T) {
	m := newMarked(t)
	mark := m.clock.Add(-time.Minute)
	since, err := m.begin(t.Context(), mark)
	if err != nil || !since.Equal(mark) || m.store.notes != 0 {
		t.Fatalf("spans are missing since %v, %v, after %d writes; want %v", since, err, m.store.notes, mark)
	}
	stopped, stop := context.WithCancel(t.Context())
	settled := func(_ context.Context, since time.Time, f func(*machine.Saga) error) error {
		if !since.Equal(mark) {
			t.Errorf("sagas are read since %v", since)
		}
		for _, id := range []string{"one", "two", "three"} {
			if err := f(&machine.Saga{ID: id}); err != nil {
				return err
			}
		}
		return nil
	}
	var exported []string
	m.run(stopped, since, settled, func(saga *machine.Saga) {
		exported = append(exported, saga.ID)
		m.emit(0)
		if saga.ID == "two" {
			stop()
		}
	})
	if m.move(t.Context(), 0); m.store.notes != 0 || !slices.Equal(exported, []string{"one", "two"}) {
		t.Errorf("stopped after %v, the mark moved to %v", exported, m.store.mark)
	}
	stopped, stop = context.WithCancel(t.Context())
	m.run(stopped, since, settled, func(saga *machine.Saga) {
		m.emit(0)
		if saga.ID == "three" {
			go stop()
		}
	})
	m.retraced = true
	if m.move(t.Context(), 0); !m.store.mark.Equal(m.clock) {
		t.Errorf("the mark is at %v, want %v", m.store.mark, m.clock)
	}

	m.traceMark.telemetry = nil
	if since, err := m.begin(t.Context(), mark); err != nil || !since.IsZero() || !m.store.mark.IsZero() {
		t.Errorf("with tracing off, spans are missing since %v, %v; the mark is %v", since, err, m.store.mark)
	}
	writes := m.store.notes
	if _, err := m.begin(t.Context(), time.Time{}); err != nil || m.store.notes != writes {
		t.Errorf("with tracing off and without a mark: %v, %d writes", err, m.store.notes-writes)
	}
}
