package orchestrator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

var _ engine.Observer = (*observer)(nil)

// observer makes spans and metrics of what the engine notifies of.
type observer struct {
	telemetry *telemetry.Telemetry
	open      atomic.Int64
}

// SagaStarted exports the saga's anchor.
func (o *observer) SagaStarted(saga *machine.Saga) {
	o.open.Add(1)
	o.telemetry.SagaStarted(saga.Started.GetDefinition())
	o.anchor(saga)
}

// SagaRecovered exports the saga's anchor again. A process that was killed may not have exported it, and no span may
// lack its parent. It is identical, so a backend that receives it twice keeps one.
func (o *observer) SagaRecovered(saga *machine.Saga) {
	o.open.Add(1)
	o.anchor(saga)
	if !o.telemetry.Tracing() {
		return
	}
	for _, step := range saga.Steps {
		if saga.UpdateTime.Sub(step.EndTime) < exportLag && !step.EndTime.IsZero() && step.Attempts > 0 {
			o.recoverAttempt(saga, step)
		}
	}
}

// exportLag is how long a span may wait in the exporter.
const exportLag = time.Second

// recoverAttempt exports again the attempt that ended a step shortly before the process was killed.
func (o *observer) recoverAttempt(saga *machine.Saga, step *machine.Step) {
	result := telemetry.AttemptEnd{Outcome: treatyv1.Outcome_OUTCOME_DONE,
		Code: codes.Code(uint32(step.Failure.GetCode()))}
	switch {
	case step.Reply != nil:
	case step.State == treatyv1.StepState_STEP_STATE_REFUSED:
		result.Outcome = treatyv1.Outcome_OUTCOME_REFUSED
	default:
		result.Outcome = treatyv1.Outcome_OUTCOME_UNKNOWN
	}
	o.telemetry.RecoverAttempt(&telemetry.RecoveredAttempt{
		AttemptParams: telemetry.AttemptParams{
			Saga: wire.SagaName(saga.ID), Step: step.Path(), Direction: wire.Action, Number: int(step.Attempts),
			Method: step.Scheduled.GetMethod(), Kind: step.Scheduled.GetKind(), Anchor: saga.Started.GetTrace(),
		},
		StartTime: step.ScheduleTime, EndTime: step.EndTime, End: result,
	})
}

func (o *observer) anchor(saga *machine.Saga) {
	if o.telemetry.Tracing() {
		o.telemetry.EmitAnchor(saga.Started.GetTrace(), telemetry.SagaStart{
			Saga: wire.SagaName(saga.ID), Definition: saga.Started.GetDefinition(), Time: saga.CreateTime,
		})
	}
}

// SagaEnded exports the saga's end span.
func (o *observer) SagaEnded(saga *machine.Saga) {
	o.open.Add(-1)
	o.telemetry.SagaEnded(saga.Started.GetDefinition(), saga.State, saga.EndTime.Sub(saga.CreateTime))
	if o.telemetry.Tracing() {
		o.telemetry.EmitEnd(saga.Started.GetTrace(), telemetry.SagaEnd{
			Saga: wire.SagaName(saga.ID), Definition: saga.Started.GetDefinition(),
			Start: saga.CreateTime, Time: saga.EndTime, State: saga.State,
			Code: saga.CompensationDecided.GetFailure().GetCode(),
		})
	}
}

// SagaReopened counts the saga as open again.
func (o *observer) SagaReopened(*machine.Saga) { o.open.Add(1) }

// SagaSuspended counts the suspension.
func (o *observer) SagaSuspended(_ *machine.Saga, reason treatyv1.SuspensionReason) {
	o.telemetry.SagaSuspended(reason)
}

// CodeLeft counts the goroutine.
func (o *observer) CodeLeft() { o.telemetry.CodeLeft() }

// CodeEnded counts the goroutine no longer.
func (o *observer) CodeEnded() { o.telemetry.CodeEnded() }

// GroupCommitted measures the commit.
func (o *observer) GroupCommitted(turns int, took time.Duration) { o.telemetry.Committed(turns, took) }

// countSuspended counts the suspended sagas as open. Recovery doesn't load them.
func (o *observer) countSuspended(ctx context.Context, store journal.Store) error {
	if !o.telemetry.Metering() {
		return nil
	}
	params := journal.ListParams{
		Filter: &journal.Filter{Op: journal.Equal, Field: journal.FieldState, Text: "SUSPENDED"},
		Limit:  1000,
	}
	for {
		rows, err := store.List(ctx, params)
		if err != nil {
			return fmt.Errorf("counting suspended sagas: %w", err)
		}
		o.open.Add(int64(len(rows)))
		if len(rows) < params.Limit {
			break
		}
		params.After = rows[len(rows)-1]
	}
	if err := o.telemetry.ObserveOpenSagas(o.open.Load); err != nil {
		return fmt.Errorf("setting up metrics: %w", err)
	}
	return nil
}
