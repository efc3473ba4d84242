package engine

import (
	"errors"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Causes of the engine's errors, to be compared with errors.Is. Beside these, journal.ErrNotFound says that there is no such saga,
// and machine.ErrPastPivot, ErrPivotUnderWay, ErrFinal, ErrNotSuspended and ErrUnfit turn down a decision.
var (
	// ErrPurged says that the saga of that request id or saga id has ended and is no longer kept.
	ErrPurged = journal.ErrPurged

	// ErrOtherRequest says that the request id or saga id was used before with another request or definition.
	ErrOtherRequest = errors.New("the id was used before with another request")

	// ErrNoDefinition says that this orchestrator doesn't run sagas of that definition.
	ErrNoDefinition = errors.New("no such saga definition here")

	// ErrInDoubt says that the store failed in a way that leaves open whether the input was recorded. The saga goes on either
	// way once the store answers; ask again, with the same ids.
	ErrInDoubt = errors.New("the store didn't say whether it was recorded")

	// ErrStopping says that the engine is being stopped; nothing was recorded.
	ErrStopping = errors.New("the orchestrator is stopping")
)

// Store is what the engine needs of journal.Store.
type Store = journal.Store

// StartParams describes a saga to be started.
type StartParams struct {
	// Definition is the saga definition, e.g. "acme.card.v1.CardSagas/IssueCard".
	Definition string

	// Request is the serialized request; it must be readable as the definition's input.
	Request []byte

	// RequestID makes the start idempotent; empty for none. The saga's id is derived from it and the definition unless SagaID
	// is set.
	RequestID string

	// SagaID is the saga's id when the caller chose one.
	SagaID string

	// Labels are what the saga can be searched by.
	Labels map[string]string

	// Deadline is how long the saga may take; 0 for no limit.
	Deadline time.Duration

	// Trace is what its spans hang from; nil for no trace.
	Trace *treatyv1.TraceAnchor

	// Parent is the step of another saga that it is; nil for a saga of its own.
	Parent *treatyv1.Parent
}

// SagaEnd is how a saga ended.
type SagaEnd struct {
	// State is SUCCEEDED or COMPENSATED.
	State treatyv1.SagaState

	// Reply is the serialized reply of one that succeeded.
	Reply []byte

	// Failure is the error of one that was compensated.
	Failure *treatyv1.Failure
}

// ResumeParams is an operator's decision about a suspended saga.
type ResumeParams = machine.Resume
