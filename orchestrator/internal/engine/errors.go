package engine

import (
	"errors"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
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
