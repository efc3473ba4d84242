package engine

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Observer is notified of what is durable. Its methods are called on the hot path and concurrently, so they must not
// block.
type Observer interface {
	// SagaStarted is called once the start is committed.
	SagaStarted(saga *machine.Saga)

	// CommandScheduled is called once the intent to send a step's action or compensation is committed, before it is
	// sent.
	CommandScheduled(saga *machine.Saga, step string, direction Direction)

	// SagaEnded is called once a final state is committed.
	SagaEnded(saga *machine.Saga)

	// SagaReopened is called once the decision of a parent to compensate a saga that had succeeded is committed.
	SagaReopened(saga *machine.Saga)

	// SagaSuspended is called once a suspension is committed.
	SagaSuspended(saga *machine.Saga, reason treatyv1.SuspensionReason)

	// SagaRecovered is called for each open saga that is found when the engine starts.
	SagaRecovered(saga *machine.Saga)

	// CodeLeft is called when the goroutine of saga code that blocks was left behind.
	CodeLeft()

	// CodeEnded is called when such a goroutine has ended after all.
	CodeEnded()

	// GroupCommitted is called after each commit, with the number of turns in it and its duration.
	GroupCommitted(turns int, took time.Duration)
}

// NoObserver is an Observer that does nothing.
type NoObserver struct{}

// SagaStarted does nothing.
func (NoObserver) SagaStarted(*machine.Saga) {}

// CommandScheduled does nothing.
func (NoObserver) CommandScheduled(*machine.Saga, string, Direction) {}

// SagaEnded does nothing.
func (NoObserver) SagaEnded(*machine.Saga) {}

// SagaReopened does nothing.
func (NoObserver) SagaReopened(*machine.Saga) {}

// SagaSuspended does nothing.
func (NoObserver) SagaSuspended(*machine.Saga, treatyv1.SuspensionReason) {}

// SagaRecovered does nothing.
func (NoObserver) SagaRecovered(*machine.Saga) {}

// CodeLeft does nothing.
func (NoObserver) CodeLeft() {}

// CodeEnded does nothing.
func (NoObserver) CodeEnded() {}

// GroupCommitted does nothing.
func (NoObserver) GroupCommitted(int, time.Duration) {}
