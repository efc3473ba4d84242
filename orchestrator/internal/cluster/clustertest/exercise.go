package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Directory is a directory that the suite can test.
type Directory interface {
	cluster.Directory

	// SetEpoch sets the epoch of a shard that nobody owns.
	SetEpoch(ctx context.Context, shard int, epoch uint64) error
}

// shards is the number of shards in the suite.
const shards = 8

// Exercise tests every promise of a directory. The function makes an empty one.
func Exercise(t *testing.T, empty func(t *testing.T) Directory) {
	for name, test := range map[string]func(*testing.T, *directory){
		"first member decides the number of shards": testShards,
		"members are listed":                        testList,
		"ids are new":                               testIDs,
		"nobody renews what was fenced":             testRenewFenced,
		"only an ended lease is fenced":             testFence,
		"a member that renewed isn't fenced":        testFenceRenewed,
		"a silent member is fenced":                 testFenceSilent,
		"claims are exclusive":                      testClaim,
		"claims beside each other":                  testClaimsBesideEachOther,
		"strangers claim nothing":                   testClaimStranger,
		"a fenced member's shards are free":         testClaimFenced,
		"epochs never go back":                      testEpochs,
		"epochs ahead of the clock":                 testEpochAhead,
		"only what is owned is given up":            testGiveUp,
		"a retiring member stays":                   testRetire,
		"leaving frees all":                         testLeave,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, &directory{Directory: empty(t), t: t})
		})
	}
}

// directory fails the test where a call must succeed.
type directory struct {
	Directory

	t *testing.T
}

func (d *directory) join(member string, lease time.Duration) {
	d.t.Helper()
	count, err := d.Join(d.t.Context(), cluster.Joining{
		Member: member, Address: member + ":7233", Lease: lease, Shards: shards, Lanes: 2,
	})
	if err != nil || count != shards {
		d.t.Fatalf("member %s joins %d shards, %v; want %d", member, count, err, shards)
	}
}

func (d *directory) list() cluster.View {
	d.t.Helper()
	view, err := d.List(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return view
}

// owners returns the owner of each shard.
func (d *directory) owners() []string {
	d.t.Helper()
	var owners []string
	for _, shard := range d.list().Shards {
		owners = append(owners, shard.Owner)
	}
	return owners
}

func (d *directory) claim(member string, limit, want int) []cluster.Claim {
	d.t.Helper()
	claims, err := d.Claim(d.t.Context(), member, limit)
	if err != nil || len(claims) != want {
		d.t.Fatalf("member %s claims %v, %v; want %d shards", member, claims, err, want)
	}
	return claims
}

// awaitExpiry waits until a lease has ended on the directory's clock.
func (d *directory) awaitExpiry(member string) {
	d.t.Helper()
	for {
		view := d.list()
		if info, _ := view.Member(member); info.Expired {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-d.t.Context().Done():
			d.t.Fatalf("the lease of member %s doesn't end", member)
		}
	}
}

func (d *directory) fence(suspect cluster.Suspect, want bool) {
	d.t.Helper()
	if fenced, err := d.Fence(d.t.Context(), suspect); err != nil || fenced != want {
		d.t.Fatalf("fencing %+v: %v, %v; want %v", suspect, fenced, err, want)
	}
}

func (d *directory) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *directory) mustFenced(err error) {
	d.t.Helper()
	if !errors.Is(err, cluster.ErrFenced) {
		d.t.Errorf("error %v, want %v", err, cluster.ErrFenced)
	}
}

func testShards(t *testing.T, d *directory) {
	d.join("a", time.Minute)
	count, err := d.Join(t.Context(), cluster.Joining{Member: "b", Lease: time.Minute, Shards: shards * 2, Lanes: 1})
	if err != nil || count != shards {
		t.Errorf("another number of shards, later: %d, %v; want %d", count, err, shards)
	}
	var want []cluster.ShardInfo
	for number := range shards {
		want = append(want, cluster.ShardInfo{ShardEpoch: cluster.ShardEpoch{Shard: number}})
	}
	if diff := cmp.Diff(want, d.list().Shards); diff != "" {
		t.Errorf("new shards (-want +got):\n%s", diff)
	}
}

func testList(t *testing.T, d *directory) {
	d.join("b", time.Minute)
	d.join("a", time.Hour)
	d.must(d.Renew(t.Context(), "b"))
	claims := d.claim("b", 1, 1)
	before := time.Now()
	view := d.list()
	want := []cluster.MemberInfo{
		{ID: "a", Address: "a:7233", Lease: time.Hour},
		{ID: "b", Address: "b:7233", Lease: time.Minute, Renewals: 1},
	}
	if diff := cmp.Diff(want, view.Members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if owner, owned := view.Owner(0); !owned || owner.ID != "b" || view.Shards[0].Epoch != claims[0].Epoch {
		t.Errorf("the owner of shard 0 is %+v under epoch %d, want b under %d", owner, view.Shards[0].Epoch,
			claims[0].Epoch)
	}
	for _, free := range []int{-1, 1, shards} {
		if owner, owned := view.Owner(free); owned {
			t.Errorf("shard %d has the owner %+v", free, owner)
		}
	}
	if off := view.Time.Sub(before).Abs(); off > time.Minute {
		t.Errorf("the directory's clock is off by %v", off)
	}
}

func testIDs(t *testing.T, d *directory) {
	d.join("a", time.Minute)
	d.claim("a", shards, shards)
	_, err := d.Join(t.Context(), cluster.Joining{Member: "a", Lease: time.Minute, Shards: shards, Lanes: 2})
	if err == nil {
		t.Error("two members have one id")
	}
	d.must(d.Renew(t.Context(), "a"))
}

func testRenewFenced(t *testing.T, d *directory) {
	d.mustFenced(d.Renew(t.Context(), "a"))
	d.join("a", 20*time.Millisecond)
	d.must(d.Renew(t.Context(), "a"))
	d.awaitExpiry("a")
	d.must(d.Renew(t.Context(), "a")) // Nobody has fenced it.
	d.awaitExpiry("a")
	d.fence(cluster.Suspect{Member: "a", Renewals: 2}, true)
	d.mustFenced(d.Renew(t.Context(), "a"))
}

func testFence(_ *testing.T, d *directory) {
	d.join("a", time.Minute)
	d.join("b", 20*time.Millisecond)
	d.awaitExpiry("b")
	d.fence(cluster.Suspect{Member: "a"}, false)
	d.fence(cluster.Suspect{Member: "b"}, true)
	d.fence(cluster.Suspect{Member: "b"}, false)
	d.fence(cluster.Suspect{Member: "unknown", Silent: true}, false)
	if view := d.list(); len(view.Members) != 1 || view.Members[0].ID != "a" {
		d.t.Errorf("members %+v, want a", view.Members)
	}
}

func testFenceRenewed(t *testing.T, d *directory) {
	d.join("a", 20*time.Millisecond)
	d.must(d.Renew(t.Context(), "a"))
	d.awaitExpiry("a")
	d.fence(cluster.Suspect{Member: "a"}, false)
	d.fence(cluster.Suspect{Member: "a", Silent: true}, false)
	d.fence(cluster.Suspect{Member: "a", Renewals: 1}, true)
}

func testFenceSilent(t *testing.T, d *directory) {
	d.join("a", time.Hour)
	d.must(d.Renew(t.Context(), "a"))
	d.fence(cluster.Suspect{Member: "a", Renewals: 1}, false)
	d.fence(cluster.Suspect{Member: "a", Renewals: 1, Silent: true}, true)
}

func testClaim(t *testing.T, d *directory) {
	d.join("a", time.Minute)
	d.join("b", time.Minute)
	var numbers []int
	for _, claim := range d.claim("a", 3, 3) {
		numbers = append(numbers, claim.Shard)
	}
	if !slices.Equal(numbers, []int{0, 1, 2}) {
		t.Errorf("shards %v, want the first ones", numbers)
	}
	d.claim("b", shards, shards-3)
	d.claim("a", shards, 0)
	if want := []string{"a", "a", "a", "b", "b", "b", "b", "b"}; !slices.Equal(d.owners(), want) {
		t.Errorf("owners %v, want %v", d.owners(), want)
	}
}

func testClaimsBesideEachOther(t *testing.T, d *directory) {
	const members = 6
	for i := range members {
		d.join(fmt.Sprint("m", i), time.Minute)
	}
	var mutex sync.Mutex
	owner := make(map[int]string)
	var group sync.WaitGroup
	for i := range members {
		group.Go(func() {
			member := fmt.Sprint("m", i)
			for range 2 {
				claims, err := d.Claim(t.Context(), member, 1)
				if err != nil {
					t.Error(err)
				}
				mutex.Lock()
				for _, claim := range claims {
					if owner[claim.Shard] != "" {
						t.Errorf("shard %d was claimed by %s and %s", claim.Shard, owner[claim.Shard], member)
					}
					owner[claim.Shard] = member
				}
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	for number, listed := range d.owners() {
		if owner[number] != listed || listed == "" {
			t.Errorf("shard %d was claimed by %q and is listed as owned by %q", number, owner[number], listed)
		}
	}
}

func testClaimStranger(t *testing.T, d *directory) {
	d.join("a", time.Minute)
	_, err := d.Claim(t.Context(), "b", 1)
	d.mustFenced(err)
}

func testClaimFenced(t *testing.T, d *directory) {
	d.join("a", 20*time.Millisecond)
	first := d.claim("a", 2, 2)
	d.join("b", time.Minute)
	d.awaitExpiry("a")
	d.claim("b", shards, shards-2) // An ended lease alone frees nothing.
	d.fence(cluster.Suspect{Member: "a"}, true)
	_, err := d.Claim(t.Context(), "a", 1)
	d.mustFenced(err)
	second := d.claim("b", shards, 2)
	for i := range second {
		if second[i].PreviousEpoch != first[i].Epoch || second[i].Epoch <= first[i].Epoch {
			t.Errorf("a shard claimed as %+v, and then as %+v", first[i], second[i])
		}
	}
}

func testEpochs(t *testing.T, d *directory) {
	d.join("a", time.Minute)
	var previous uint64
	for range 20 {
		claim := d.claim("a", 1, 1)[0]
		clock := journal.ClockEpoch(d.list().Time)
		if claim.PreviousEpoch != previous || claim.Epoch <= previous {
			t.Fatalf("epoch %d after %d, which is told as %d", claim.Epoch, previous, claim.PreviousEpoch)
		}
		minute := journal.ClockEpoch(time.UnixMilli(60_000))
		if claim.Epoch > clock+minute || claim.Epoch+minute < clock {
			t.Fatalf("epoch %d doesn't follow the clock, %d", claim.Epoch, clock)
		}
		if claim.EpochAhead {
			t.Fatalf("epoch %d is ahead of the clock, %d", claim.Epoch, clock)
		}
		previous = claim.Epoch
		d.must(d.GiveUp(t.Context(), "a", []cluster.ShardEpoch{claim.ShardEpoch}))
	}
}

func testEpochAhead(t *testing.T, d *directory) {
	d.join("a", time.Minute)
	hour := journal.ClockEpoch(d.list().Time.Add(time.Hour))
	month := journal.ClockEpoch(d.list().Time.Add(30 * 24 * time.Hour))
	for number, epoch := range []uint64{hour, month, math.MaxInt64 - 10, math.MaxInt64} {
		d.must(d.SetEpoch(t.Context(), number, epoch))
	}
	claims := d.claim("a", 4, 4)
	for i, want := range []struct {
		low, high uint64
		ahead     bool
	}{
		{low: hour + 1, high: hour + 1<<20},
		{low: month + 1, high: month + 1<<20, ahead: true},
		{low: math.MaxInt64 - 10, high: math.MaxInt64, ahead: true},
		{low: math.MaxInt64, high: math.MaxInt64, ahead: true},
	} {
		got := claims[i]
		if got.Epoch < want.low || got.Epoch > want.high || got.EpochAhead != want.ahead {
			t.Errorf("epoch %d after %d, ahead %v; want one from %d to %d, ahead %v", got.Epoch, got.PreviousEpoch,
				got.EpochAhead, want.low, want.high, want.ahead)
		}
	}
}

func testGiveUp(t *testing.T, d *directory) {
	d.join("a", time.Minute)
	d.join("b", time.Minute)
	a, b := d.claim("a", 3, 3), d.claim("b", 1, 1)
	older := a[1].ShardEpoch
	older.Epoch--
	d.must(d.GiveUp(t.Context(), "a", []cluster.ShardEpoch{a[0].ShardEpoch, older, b[0].ShardEpoch}))
	d.must(d.GiveUp(t.Context(), "a", nil))
	d.must(d.GiveUp(t.Context(), "unknown", []cluster.ShardEpoch{a[2].ShardEpoch}))
	if want := []string{"", "a", "a", "b", "", "", "", ""}; !slices.Equal(d.owners(), want) {
		t.Errorf("owners %v, want %v", d.owners(), want)
	}
	if again := d.claim("b", 1, 1)[0]; again.Shard != 0 || again.Epoch <= a[0].Epoch {
		t.Errorf("claimed %+v after %+v was given up", again, a[0])
	}
}

func testRetire(t *testing.T, d *directory) {
	d.mustFenced(d.Retire(t.Context(), "a"))
	d.join("a", time.Minute)
	d.claim("a", shards, shards)
	d.must(d.Retire(t.Context(), "a"))
	d.must(d.Renew(t.Context(), "a"))
	view := d.list()
	if info, _ := view.Member("a"); !info.Leaving || view.Shards[0].Owner != "a" {
		t.Errorf("a member that retires is listed as %+v, and shard 0 as %+v", info, view.Shards[0])
	}
}

func testLeave(t *testing.T, d *directory) {
	d.must(d.Leave(t.Context(), "a"))
	d.join("a", time.Minute)
	d.join("b", time.Minute)
	d.claim("a", 2, 2)
	d.claim("b", 1, 1)
	d.must(d.Leave(t.Context(), "a"))
	d.mustFenced(d.Renew(t.Context(), "a"))
	if want := []string{"", "", "b", "", "", "", "", ""}; !slices.Equal(d.owners(), want) {
		t.Errorf("owners %v, want %v", d.owners(), want)
	}
}
