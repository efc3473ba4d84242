package cluster

import (
	"context"
	"errors"
	"time"
)

// ErrFenced means that the member isn't one any more: its lease has ended and another member has fenced it, or it has
// left. It owns nothing, and none of its commits lands any more. It never becomes a member again. Compare with
// errors.Is.
var ErrFenced = errors.New("this instance isn't a member of the cluster any more")

// Directory is what the instances of a cluster share: who is a member, and who owns which shard. It is kept in their
// database. All methods may be called concurrently.
//
// Each method is one transaction. An error other than ErrFenced says nothing about what was done: it may still happen
// later. So each method is safe in that case, and List tells what came of it.
type Directory interface {
	// Join makes an instance a member, with a lease that begins when the call reaches the database. It returns the
	// number of shards, which the first member of all decides.
	Join(ctx context.Context, joining Joining) (shards int, err error)

	// Renew prolongs a member's lease, so that it ends no earlier than its length after the call was sent. It returns
	// ErrFenced if there is no such member.
	Renew(ctx context.Context, member string) error

	// List returns the members and the shards. The owner of a shard that isn't among the members was fenced before.
	List(ctx context.Context) (View, error)

	// Fence removes another member if it has not renewed its lease since it was seen, and if its lease has ended on the
	// database's clock or nobody asks for that. When it returns true, all commits that the member had in flight have
	// ended, and none will land any more. It returns an error if a commit stays open for too long.
	Fence(ctx context.Context, suspect Suspect) (fenced bool, err error)

	// Claim makes a member the owner of at most limit free shards, those with the lowest numbers. A shard is free if
	// its owner has given it up or isn't a member any more. Each gets an epoch that is greater than all before,
	// as journal.Opening.NextEpoch computes it, by the database's clock. Two members never get the same shard. It
	// returns ErrFenced if there is no such member.
	Claim(ctx context.Context, member string, limit int) ([]Claim, error)

	// GiveUp makes those of the shards free that the member owns under the epochs. When it returns, all commits that
	// the member had in flight have ended, also on broken connections. So the member must have stopped driving the
	// shards before, and may go on with its others.
	GiveUp(ctx context.Context, member string, shards []ShardEpoch) error

	// Retire says that a member is about to leave, so that the others take its shares. It returns ErrFenced if there is
	// no such member.
	Retire(ctx context.Context, member string) error

	// Leave ends a membership and makes the member's shards free. When it returns, all commits that the member had in
	// flight have ended, and none will land any more. It returns nil if there is no such member.
	Leave(ctx context.Context, member string) error
}

// Joining describes an instance that becomes a member.
type Joining struct {
	// Member is the id. It must be new.
	Member string

	// Address is where the other instances reach this one, HOST:PORT.
	Address string

	// Lease is how long a lease lasts after a renewal.
	Lease time.Duration

	// Shards is the number of shards if the cluster has none yet.
	Shards int

	// Lanes is the number of rows that the member's commits lock, so that commits on different connections needn't
	// share one.
	Lanes int
}

// Suspect is a member that has probably crashed.
type Suspect struct {
	// Member is its id.
	Member string

	// Renewals is the number of its renewals when it was seen last.
	Renewals int64

	// Silent says that this number hasn't changed for longer than its lease, as the one who asks has seen by its own
	// clock. Then the database's clock doesn't matter.
	Silent bool
}

// ShardEpoch is a shard and the epoch under which somebody owns it.
type ShardEpoch struct {
	Shard int
	Epoch uint64
}

// Claim is a shard that a member has become the owner of.
type Claim struct {
	ShardEpoch

	// PreviousEpoch is the epoch of the owner before, or 0.
	PreviousEpoch uint64

	// EpochAhead says that the epoch is further ahead of the database's clock than participants believe.
	EpochAhead bool
}

// View is the directory at a moment.
type View struct {
	// Time is the time of the database's clock.
	Time time.Time

	// Members are the members in the order of their ids.
	Members []MemberInfo

	// Shards are all shards in the order of their numbers, which begin with 0.
	Shards []ShardInfo
}

// MemberInfo describes a member.
type MemberInfo struct {
	// ID identifies it. Each start of a process has an id of its own.
	ID string

	// Address is where other instances reach it, HOST:PORT.
	Address string

	// Lease is how long its lease lasts after a renewal.
	Lease time.Duration

	// Renewals is how often it has renewed its lease.
	Renewals int64

	// Expired says that its lease has ended on the database's clock.
	Expired bool

	// Leaving says that it is handing over its shards.
	Leaving bool
}

// ShardInfo describes a shard.
type ShardInfo struct {
	ShardEpoch

	// Owner is the id of its owner. It is empty if the shard is free. An owner that isn't a member any more was fenced,
	// and the shard is free, too.
	Owner string
}

// Member returns a member by its id, and whether there is one.
func (v *View) Member(id string) (MemberInfo, bool) {
	for _, member := range v.Members {
		if member.ID == id {
			return member, true
		}
	}
	return MemberInfo{}, false
}

// Owner returns the member that owns a shard, and whether there is one.
func (v *View) Owner(shard int) (MemberInfo, bool) {
	return v.Member(v.shard(shard).Owner)
}

// shard returns a shard, or a free one if there is none with this number.
func (v *View) shard(number int) ShardInfo {
	if number < 0 || number >= len(v.Shards) {
		return ShardInfo{}
	}
	return v.Shards[number]
}
