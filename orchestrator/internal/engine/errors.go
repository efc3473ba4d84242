package engine

import (
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// The errors of the engine. Compare them with errors.Is. Methods also return journal.ErrNotFound when there is no such
// saga, and the machine's errors when a decision is rejected.
var (
	// ErrPurged says that the saga of that request id or saga id has ended and was purged.
	ErrPurged = journal.ErrPurged

	// ErrOtherRequest says that the request id or saga id was used before with another request or definition.
	ErrOtherRequest = errors.New("the id was used before with another request")

	// ErrNoDefinition says that this orchestrator doesn't run sagas of that definition.
	ErrNoDefinition = errors.New("no such saga definition here")

	// ErrInDoubt says that the store failed, so that it isn't known whether the input was recorded. The saga continues
	// either way once the store answers. Repeat the call with the same ids.
	ErrInDoubt = errors.New("the store didn't say whether it was recorded")

	// ErrNotAsked says that a decision needs to know what the step's participant knows, and that it can't be asked now.
	// Nothing was recorded.
	ErrNotAsked = errors.New("the participant can't be asked")

	// ErrStopping says that the engine is stopping. Nothing was recorded.
	ErrStopping = errors.New("the orchestrator is stopping")
)

// OtherRequestError is an ErrOtherRequest that says what the id was used for before.
type OtherRequestError struct {
	// Saga is the saga's id, and Definition its definition.
	Saga, Definition string

	// Digest is the digest that came with the command of a saga's parent. It is empty if none came.
	Digest string
}

func otherRequest(saga *machine.Saga) error {
	return &OtherRequestError{
		Saga: saga.ID, Definition: saga.Started.GetDefinition(), Digest: saga.Started.GetParent().GetRequestDigest(),
	}
}

// Error says which saga has the id.
func (e *OtherRequestError) Error() string {
	return fmt.Sprintf("%v: saga %s of %s", ErrOtherRequest, e.Saga, e.Definition)
}

// Is returns whether target is ErrOtherRequest.
func (e *OtherRequestError) Is(target error) bool { return target == ErrOtherRequest }
