package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

const (
	// markEvery is how often the mark is moved while spans are exported.
	markEvery = 10 * time.Second

	// markSlack is how far the mark stays behind: a turn's spans end a moment after the turn's time.
	markSlack = 10 * time.Second

	// markBehind is how far the mark stays behind after an export has failed.
	markBehind = time.Hour

	// confirmTimeout is how long to wait for an export.
	confirmTimeout = 5 * time.Second

	// retracedSpans is how many spans are exported again at a time. They must fit in the queue beside those of the
	// sagas that run.
	retracedSpans = 4096
)

// traceMark keeps a mark in the store: all spans of what happened before it were exported. What happened after it is
// exported again by the next process, since this one may be killed at any time. The spans are the same, so it doesn't
// matter that many are exported twice. Its methods aren't safe for concurrent use.
type traceMark struct {
	telemetry *telemetry.Telemetry
	store     traceStore
	logger    *slog.Logger
	now       func() time.Time

	mark     time.Time
	retraced bool      // what the last process may have lost was exported again
	ended    int64     // how many spans had ended when the mark was moved
	lostTime time.Time // when spans were last found lost; zero if that was long ago
}

// traceStore is what traceMark needs of a store.
type traceStore interface {
	NoteTraced(ctx context.Context, until time.Time) error
}

// begin returns since when spans may be missing, given the mark of the last process. It returns zero if none are: the
// last process didn't export any.
func (m *traceMark) begin(ctx context.Context, mark time.Time) (since time.Time, err error) {
	if !m.telemetry.Tracing() {
		if mark.IsZero() {
			return mark, nil
		}
		return time.Time{}, m.store.NoteTraced(ctx, time.Time{}) // the spans since are never exported
	}
	m.mark = mark
	if mark.IsZero() {
		m.mark = m.now().Add(-markSlack)
		err = m.store.NoteTraced(ctx, m.mark)
	}
	return mark, err
}

// settledSagas calls a function for each saga that is settled since a time. See [engine.Engine.Settled].
type settledSagas func(ctx context.Context, since time.Time, f func(*machine.Saga) error) error

// run exports the spans of settled sagas again that happened since a time, unless that is zero. Then it moves the mark
// until ctx ends.
func (m *traceMark) run(ctx context.Context, since time.Time, settled settledSagas, export func(*machine.Saga)) {
	if !since.IsZero() {
		exported := m.telemetry.EndedSpans()
		err := settled(ctx, since, func(saga *machine.Saga) error {
			export(saga)
			if ended := m.telemetry.EndedSpans(); ended-exported >= retracedSpans {
				exported = ended
				m.confirm(ctx)
			}
			return context.Cause(ctx)
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.logger.Warn("spans that the last process may have lost weren't exported again; sagas aren't affected",
				"error", err)
		}
	}
	m.retraced = true
	ticker := time.NewTicker(markEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.move(ctx, markSlack)
		}
	}
}

// confirm exports all spans. If one was lost, the mark stays behind.
func (m *traceMark) confirm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if now := m.now(); !m.telemetry.Confirm(ctx) {
		m.lostTime = now
	}
}

// move moves the mark to what was exported, with some slack, once the spans of the last process were exported again.
func (m *traceMark) move(ctx context.Context, slack time.Duration) {
	now, ended := m.now(), m.telemetry.EndedSpans()
	if !m.retraced || ended == m.ended && m.lostTime.IsZero() {
		return
	}
	m.confirm(ctx)
	next := now.Add(-slack)
	if behind := now.Add(-markBehind); m.lostTime.After(behind) {
		next = behind
	} else {
		m.lostTime = time.Time{}
	}
	if next.After(m.mark) {
		if err := m.store.NoteTraced(ctx, next); err != nil {
			if !errors.Is(err, context.Canceled) {
				m.logger.Warn("storing up to when spans were exported failed; the next process exports more of them "+
					"again", "error", err)
			}
			return
		}
		m.mark = next
	}
	m.ended = ended
}
