package orchestrator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

var _ engine.Observer = (*observer)(nil)

// observer makes spans and metrics of what the engine notifies of.
type observer struct {
	telemetry *telemetry.Telemetry
	catalog   *contract.Catalog
	open      atomic.Int64

	// exportSince is since when spans may be missing that an earlier process should have exported. It is set before
	// sagas are recovered.
	exportSince time.Time
}

// SagaStarted exports the saga's anchor.
func (o *observer) SagaStarted(saga *machine.Saga) {
	o.open.Add(1)
	o.telemetry.SagaStarted(saga.Started.GetDefinition())
	o.anchor(saga)
}

// CommandScheduled exports the span of the step's action or compensation.
func (o *observer) CommandScheduled(saga *machine.Saga, step string, direction engine.Direction) {
	if !o.telemetry.Tracing() {
		return
	}
	if s := saga.Step(step); s != nil {
		o.step(saga, s, direction)
	}
}

// SagaRecovered exports again what the saga's journal says.
func (o *observer) SagaRecovered(saga *machine.Saga) {
	o.open.Add(1)
	o.export(saga)
}

// export exports again what the journal of a saga says since a process may have lost it. A process that was killed
// need not have exported its last spans, and no span may lack its parent. The spans are the same, so a backend that
// receives one twice keeps one.
func (o *observer) export(saga *machine.Saga) {
	if !o.telemetry.Tracing() {
		return
	}
	lost := func(at time.Time) bool { return !at.IsZero() && !at.Before(o.exportSince) }
	if lost(saga.CreateTime) {
		o.anchor(saga)
	}
	for _, step := range saga.Steps {
		if lost(step.ScheduleTime) {
			o.step(saga, step, engine.Action)
		}
		if lost(step.UndoTime) {
			o.step(saga, step, engine.Compensation)
		}
	}
	if lost(saga.SucceedTime) {
		o.end(saga, treatyv1.SagaState_SAGA_STATE_SUCCEEDED, saga.SucceedTime)
	}
	if saga.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED && lost(saga.EndTime) {
		o.end(saga, saga.State, saga.EndTime)
	}
}

// step exports the span of a step's action or compensation.
func (o *observer) step(saga *machine.Saga, step *machine.Step, direction engine.Direction) {
	scheduled := step.Scheduled
	start := telemetry.StepStart{
		Saga: wire.SagaName(saga.ID), SagaStart: saga.CreateTime, Step: step.Path(), Direction: direction.String(),
		Method: scheduled.GetMethod(), Kind: scheduled.GetKind(), Participant: scheduled.GetParticipant(),
		Time: step.ScheduleTime,
	}
	if _, is := o.catalog.SagaDefinition(scheduled.GetMethod()); is {
		command := wire.JoinStep(start.Saga, start.Step)
		start.Child = wire.SagaName(engine.ChildID(scheduled.GetMethod(), command))
	}
	if direction == engine.Compensation {
		start.Method, start.Time = scheduled.GetCompensation().GetMethod(), step.UndoTime
		start.Kind = treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED
	}
	o.telemetry.EmitStep(saga.Started.GetTrace(), &start)
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
		o.end(saga, saga.State, saga.EndTime)
	}
}

// end exports the span of one end of a saga.
func (o *observer) end(saga *machine.Saga, state treatyv1.SagaState, at time.Time) {
	end := telemetry.SagaEnd{
		Saga: wire.SagaName(saga.ID), Definition: saga.Started.GetDefinition(),
		Start: saga.CreateTime, Time: at, State: state,
	}
	if state == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		end.Code = saga.CompensationDecided.GetFailure().GetCode()
	}
	o.telemetry.EmitEnd(saga.Started.GetTrace(), end)
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

// sagaLister is what countSuspended needs of a store.
type sagaLister interface {
	List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error)
}

// countSuspended counts the suspended sagas as open. Recovery doesn't load them.
func (o *observer) countSuspended(ctx context.Context, store sagaLister) error {
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
