package journal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Opening says how a store is opened for writing.
type Opening struct {
	// Name is the orchestrator's name. A store belongs to the name with which it was first opened.
	Name string

	// Now tells the time. Default time.Now.
	Now func() time.Time

	// Rand returns random numbers. Default math/rand/v2.
	Rand func() uint64
}

const (
	// epochBits is the number of random bits at the end of an epoch. The bits before them are milliseconds since 1970.
	epochBits = 20

	// RandomEpochs is how many epochs begin in one millisecond. Which of them an opening gets is random.
	RandomEpochs = 1 << epochBits

	// MaxEpochAhead is how far an epoch may be ahead of the clock. Participants believe none that is further ahead.
	MaxEpochAhead = 24 * time.Hour
)

// NextEpoch returns the epoch of the next opening of a store, and whether it is further ahead of the clock than
// participants believe. It is greater than the epoch before. It follows the clock, so that the epoch of a restored
// backup isn't behind one that participants have heard, and ends with random bits, so that two copies of a store never
// have the same.
func (o Opening) NextEpoch(before uint64) (epoch uint64, ahead bool) {
	now, random := time.Now, rand.Uint64
	if o.Now != nil {
		now = o.Now
	}
	if o.Rand != nil {
		random = o.Rand
	}
	clock := uint64(max(now().UnixMilli(), 0)) << epochBits
	epoch = min(max(before+1, clock)+random()&(RandomEpochs-1), math.MaxInt64)
	return epoch, epoch > clock+uint64(MaxEpochAhead.Milliseconds())<<epochBits
}

// ClockEpoch returns the epoch of a moment without random bits.
func ClockEpoch(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) << epochBits }

// Identity is what a store says about itself.
type Identity struct {
	// StoreID identifies the store. Copies have the same id. It is empty if the store was never opened for writing.
	StoreID string

	// Name is the name of the orchestrator that the store belongs to.
	Name string

	// Epoch is the fencing epoch of this opening, and PreviousEpoch the one before, or 0.
	Epoch, PreviousEpoch uint64

	// EpochAhead says that the epoch is further ahead of the clock than participants believe.
	EpochAhead bool

	// Position is what RaisePosition returned last before this opening, or 0.
	Position uint64

	// Replaced says why the store was replaced by another one. It is empty if it wasn't.
	Replaced string

	// RemoteChildren is what NoteRemoteChildren stored before this opening, or zero.
	RemoteChildren time.Time

	// Traced is what NoteTraced stored before this opening, or zero.
	Traced time.Time

	// Restored is not nil if the store was restored from a backup, and EndRestore wasn't called since.
	Restored *Restored
}

// Restored describes a store that was restored from a backup.
type Restored struct {
	// BackupTime is when the backup was made.
	BackupTime time.Time `json:"backupTime"`

	// RestoreTime is when the store was restored.
	RestoreTime time.Time `json:"restoreTime"`

	// Trusted are the names of the participants that can't say what they know, and whose journals are believed.
	Trusted []string `json:"trusted,omitempty"`
}

// RestoreParams says how a store is restored.
type RestoreParams struct {
	// Name is the name of the orchestrator that the store must belong to.
	Name string

	// Since is since when the store may lack what happened, for a copy that isn't marked as a backup. Of several times,
	// the earliest counts.
	Since time.Time

	// Trusted are the names of the participants that can't say what they know. What the journals say of them is
	// believed.
	Trusted []string

	// EpochFromClock sets the epoch back to the clock, after a clock that was ahead was corrected.
	EpochFromClock bool

	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// Participant is what a store remembers about a participant's service.
type Participant struct {
	// Service is the full name of the service.
	Service string

	// Proven says that the participant has marked its answers.
	Proven bool

	// Horizon is the latest horizon that the participant was told, or zero.
	Horizon time.Time
}

// MaxPosition is the highest number that RaisePosition accepts. No store that counts comes near it.
const MaxPosition = 1 << 62

// LostSaga is a saga that participants know and a restored store doesn't.
type LostSaga struct {
	// ID is the saga's id.
	ID string `json:"id"`

	// FoundTime is when the saga was found missing.
	FoundTime time.Time `json:"foundTime"`

	// Commands are the commands that participants know.
	Commands []LostCommand `json:"commands"`

	// EventsAfter is the position of the newest event when the saga was added. AddLost sets it.
	EventsAfter uint64 `json:"eventsAfter"`
}

// LostCommand is a command of a lost saga.
type LostCommand struct {
	// CommandID is the command id.
	CommandID string `json:"commandId"`

	// Participant is the name of the participant that knows the command.
	Participant string `json:"participant"`

	// Method is the method that was called.
	Method string `json:"method"`

	// Digest is the digest of the request. It is empty if the participant doesn't know it.
	Digest string `json:"digest,omitempty"`

	// Compensation says that the command is a compensation.
	Compensation bool `json:"compensation,omitempty"`

	// Verdict is the number of a treaty.v1.CommandVerdict.
	Verdict int32 `json:"verdict"`

	// Start is the saga's start. It is zero if the participant doesn't know it.
	Start time.Time `json:"start,omitzero"`
}

// LostParams selects a page of lost sagas, in the order of their ids.
type LostParams struct {
	// After is the id after which the page begins.
	After string

	// Limit is the maximum number of sagas. It must be positive.
	Limit int
}

// Validate returns ErrInvalid for invalid parameters.
func (p LostParams) Validate() error {
	if p.Limit <= 0 {
		return fmt.Errorf("%w: the limit must be positive", ErrInvalid)
	}
	return nil
}

// MergeLost adds the commands of a lost saga to those that are known, and returns the result. A command that is known
// already is replaced.
func MergeLost(known, found LostSaga) LostSaga {
	merged := LostSaga{ID: found.ID, FoundTime: known.FoundTime, EventsAfter: known.EventsAfter}
	if known.ID == "" {
		merged.FoundTime, merged.EventsAfter = found.FoundTime, found.EventsAfter
	}
	type key struct {
		id, participant string
		compensation    bool
	}
	index := make(map[key]int)
	for _, command := range append(append([]LostCommand{}, known.Commands...), found.Commands...) {
		k := key{command.CommandID, command.Participant, command.Compensation}
		if i, twice := index[k]; twice {
			merged.Commands[i] = command
			continue
		}
		index[k] = len(merged.Commands)
		merged.Commands = append(merged.Commands, command)
	}
	return merged
}
