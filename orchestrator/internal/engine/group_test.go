package engine

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// groupStore notes the sizes of the groups that are appended to it.
type groupStore struct {
	journal.Store

	mu     sync.Mutex
	groups []int
}

func (s *groupStore) Append(_ context.Context, group []*journal.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = append(s.groups, len(group))
	return nil
}

// first returns the size of the first group, or 0 if there was none yet.
func (s *groupStore) first() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.groups) == 0 {
		return 0
	}
	return s.groups[0]
}

func newTestCommitter(tb testing.TB) (*groupCommitter, *groupStore) {
	store := new(groupStore)
	committer := newGroupCommitter(store, NoObserver{}, new(writable), func() {})
	tb.Cleanup(committer.close)
	return committer, store
}

func newTestTurn() *pendingTurn { return &pendingTurn{done: make(chan struct{}, 1)} }

// oneProcessor lets one goroutine run at a time, so that who runs next doesn't depend on the machine.
func oneProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// TestGathers tests that a group takes the turns of sagas that can run when it begins. Each of them would otherwise
// wait for a commit of its own, or of few.
func TestGathers(t *testing.T) {
	oneProcessor(t)
	best := 0
	for range 20 { // the scheduler may run the committer again before any saga
		best = max(best, firstGroupOf(t, 100))
	}
	if best < 50 {
		t.Errorf("the first group has %d turns of 100 at most, want at least half of them", best)
	}
}

// firstGroupOf returns the size of the first group if a number of sagas can run at the same moment.
func firstGroupOf(t *testing.T, number int) (size int) {
	synctest.Test(t, func(t *testing.T) { // no time passes while they run
		committer, store := newTestCommitter(t)
		begin := make(chan struct{})
		var sagas sync.WaitGroup
		for range number {
			sagas.Go(func() {
				<-begin
				if err := committer.commit(newTestTurn()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(begin)
		sagas.Wait()
		size = store.first()
	})
	return size
}

// TestGathersNotForever tests that a group is written although more and more turns come.
func TestGathersNotForever(t *testing.T) {
	oneProcessor(t)
	committer, store := newTestCommitter(t)
	var sagas sync.WaitGroup
	for range maxGroup {
		if store.first() > 0 {
			break
		}
		sagas.Go(func() {
			if err := committer.commit(newTestTurn()); err != nil {
				t.Error(err)
			}
		})
		runtime.Gosched() // one more turn for each time that the committer yields
	}
	sagas.Wait()
	if got := store.first(); got > 2*maxYields {
		t.Errorf("the first group has %d turns, want it to be written after yielding %d times", got, maxYields)
	}
}

// BenchmarkLoneTurn measures what a turn costs that finds no others, apart from the store.
func BenchmarkLoneTurn(b *testing.B) {
	committer, _ := newTestCommitter(b)
	turn := newTestTurn()
	for b.Loop() {
		if err := committer.commit(turn); err != nil {
			b.Fatal(err)
		}
	}
}
