package journal

import (
	"context"
	"time"
)

// Purger deletes what is no longer kept. It is a part of Store, whose general promises hold.
type Purger interface {
	// Purge deletes up to a limit of sagas that ended before a time, with their journals and labels, and returns how many; it may
	// return both a number and an error. Ids of deleted sagas may be used anew, but for those that are remembered: these the store keeps, alone and
	// for good. It works in small transactions, between which others write.
	Purge(ctx context.Context, params PurgeParams) (int, error)

	// PurgeEvents deletes up to limit events, in the order of their positions, until it meets one that wasn't published before the given time,
	// and returns how many; it may return both a number and an error. The newest event of all is kept, so that positions never start anew. It
	// works in small transactions, between which others write.
	PurgeEvents(ctx context.Context, before time.Time, limit int) (int, error)
}

// PurgeParams says which sagas are no longer kept.
type PurgeParams struct {
	// Definitions are the definitions whose sagas are meant; none means no sagas.
	Definitions []string

	// EndedBefore is the time before which a saga must have ended, by its row's EndTime. A saga whose state isn't final is never purged.
	EndedBefore time.Time

	// Remember says of an id whether no other saga may ever have it; nil says so of none. It must not call the store.
	Remember func(id string) bool

	// Limit is how many sagas are deleted at the most; it is positive.
	Limit int
}
