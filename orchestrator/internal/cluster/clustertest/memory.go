// Package clustertest holds a directory in memory, and the suite that every directory passes.
package clustertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Memory is a directory in memory. The zero value has no members and no shards. All methods may be called concurrently.
type Memory struct {
	mutex   sync.Mutex
	offset  time.Duration
	members map[string]*memoryMember
	shards  []memoryShard
}

type memoryMember struct {
	info     cluster.MemberInfo
	leaseEnd time.Time
}

type memoryShard struct {
	owner           string
	epoch, previous uint64
}

var _ cluster.Directory = (*Memory)(nil)

// SetOffset sets how far the directory's clock is ahead of time.Now.
func (d *Memory) SetOffset(offset time.Duration) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.offset = offset
}

// Join implements cluster.Directory.
func (d *Memory) Join(_ context.Context, joining cluster.Joining) (int, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.members[joining.Member] != nil {
		return 0, fmt.Errorf("member %s exists already", joining.Member)
	}
	if d.members == nil {
		d.members = make(map[string]*memoryMember)
	}
	if d.shards == nil {
		d.shards = make([]memoryShard, joining.Shards)
	}
	d.members[joining.Member] = &memoryMember{
		info:     cluster.MemberInfo{ID: joining.Member, Address: joining.Address, Lease: joining.Lease},
		leaseEnd: d.now().Add(joining.Lease),
	}
	return len(d.shards), nil
}

// Renew implements cluster.Directory.
func (d *Memory) Renew(_ context.Context, member string) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	m := d.members[member]
	if m == nil {
		return cluster.ErrFenced
	}
	m.leaseEnd = d.now().Add(m.info.Lease)
	m.info.Renewals++
	return nil
}

// List implements cluster.Directory.
func (d *Memory) List(context.Context) (cluster.View, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	view := cluster.View{Time: d.now()}
	for _, id := range slices.Sorted(maps.Keys(d.members)) {
		info := d.members[id].info
		info.Expired = !d.members[id].leaseEnd.After(view.Time)
		view.Members = append(view.Members, info)
	}
	for number, shard := range d.shards {
		view.Shards = append(view.Shards, cluster.ShardInfo{
			ShardEpoch: cluster.ShardEpoch{Shard: number, Epoch: shard.epoch}, Owner: shard.owner,
		})
	}
	return view, nil
}

// Fence implements cluster.Directory.
func (d *Memory) Fence(_ context.Context, suspect cluster.Suspect) (bool, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	m := d.members[suspect.Member]
	if m == nil || m.info.Renewals != suspect.Renewals || !suspect.Silent && m.leaseEnd.After(d.now()) {
		return false, nil
	}
	delete(d.members, suspect.Member)
	return true, nil
}

// Claim implements cluster.Directory.
func (d *Memory) Claim(_ context.Context, member string, limit int) ([]cluster.Claim, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.members[member] == nil {
		return nil, cluster.ErrFenced
	}
	var claims []cluster.Claim
	for number := range d.shards {
		shard := &d.shards[number]
		if len(claims) == limit {
			break
		}
		if d.members[shard.owner] != nil {
			continue
		}
		epoch, ahead := journal.Opening{Now: d.now}.NextEpoch(shard.epoch)
		*shard = memoryShard{owner: member, epoch: epoch, previous: shard.epoch}
		claims = append(claims, cluster.Claim{
			ShardEpoch:    cluster.ShardEpoch{Shard: number, Epoch: epoch},
			PreviousEpoch: shard.previous, EpochAhead: ahead,
		})
	}
	return claims, nil
}

// GiveUp implements cluster.Directory.
func (d *Memory) GiveUp(_ context.Context, member string, shards []cluster.ShardEpoch) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for _, given := range shards {
		if d.owns(member, given) {
			d.shards[given.Shard].owner = ""
		}
	}
	return nil
}

// Retire implements cluster.Directory.
func (d *Memory) Retire(_ context.Context, member string) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	m := d.members[member]
	if m == nil {
		return cluster.ErrFenced
	}
	m.info.Leaving = true
	return nil
}

// Leave implements cluster.Directory.
func (d *Memory) Leave(_ context.Context, member string) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	delete(d.members, member)
	for number := range d.shards {
		if d.shards[number].owner == member {
			d.shards[number].owner = ""
		}
	}
	return nil
}

// Commit returns whether a commit of a member, under the epoch of a shard, would land now.
func (d *Memory) Commit(member string, under cluster.ShardEpoch) bool {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.members[member] != nil && d.owns(member, under)
}

// SetEpoch sets the epoch of a shard, as if it had been given up under it.
func (d *Memory) SetEpoch(_ context.Context, shard int, epoch uint64) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.shards[shard] = memoryShard{epoch: epoch}
	return nil
}

func (d *Memory) owns(member string, under cluster.ShardEpoch) bool {
	if under.Shard < 0 || under.Shard >= len(d.shards) {
		return false
	}
	shard := d.shards[under.Shard]
	return shard.owner == member && shard.epoch == under.Epoch
}

func (d *Memory) now() time.Time { return time.Now().Add(d.offset) }
