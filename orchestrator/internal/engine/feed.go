package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// feedPause is the shortest time between two views of a watched saga. Changes in between make one view.
	feedPause = 50 * time.Millisecond

	// feedPauseEach is added to feedPause for each watcher, so that sending the views to many leaves most of the
	// processor to the sagas.
	feedPauseEach = 100 * time.Microsecond
)

// SagaView is a saga at one moment. All watchers of the saga share it, and must not change it.
type SagaView struct {
	// Saga is the saga with its steps and complete payloads.
	Saga *treatyv1.Saga

	err     error
	changes uint64 // how many changes it includes
	asked   uint64 // how many watchers had begun to watch before it was made

	encoding sync.Once
	encoded  []byte
	failed   error
}

// Encoded returns what encode returns for the view's saga. It calls encode once for all callers, who must not change
// the result. All callers must pass a function that does the same.
func (v *SagaView) Encoded(encode func(*treatyv1.Saga) ([]byte, error)) ([]byte, error) {
	v.encoding.Do(func() { v.encoded, v.failed = encode(v.Saga) })
	return v.encoded, v.failed
}

// SagaWatch follows the changes of one saga. Its methods may not be called concurrently.
type SagaWatch struct {
	feed  *feed
	asked uint64
	seen  *SagaView // nil before the first one
	done  bool
}

// Next returns the saga as it is now at the first call, and later waits until the saga or Condition has changed since
// the call before. It returns the newest view only: a slow caller misses those in between. Changes in quick succession
// make one view. The errors are those of Get, ErrStopping, and the cause of ctx.
func (w *SagaWatch) Next(ctx context.Context) (*SagaView, error) {
	for {
		view, replaced := w.feed.current()
		if view != nil && view.asked >= w.asked && (w.seen == nil || view.changes > w.seen.changes) {
			w.seen = view
			return view, view.err
		}
		select {
		case <-replaced:
		case <-w.feed.all.work.ctx.Done():
			return nil, ErrStopping
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close ends the watch.
func (w *SagaWatch) Close() {
	if !w.done {
		w.done = true
		w.feed.all.leave(w.feed)
	}
}

// feeds are the feeds of the sagas that somebody watches. All methods may be called concurrently.
type feeds struct {
	work *work
	read func(ctx context.Context, id string) (*machine.Saga, error)
	view func(*machine.Saga) *treatyv1.Saga

	count atomic.Int64 // of watchers, so that a turn costs nothing while nobody watches

	mu   sync.Mutex
	byID map[string]*feed
}

// feed makes the views of one saga: each once for all watchers, from the turns that were committed since the view
// before. It reads the store when the first watcher comes, and when it has missed a turn.
type feed struct {
	all *feeds
	id  string

	mu       sync.Mutex
	watchers int
	asked    uint64          // how many watchers have begun to watch
	changes  uint64          // how many changes were noted
	turns    []committedTurn // that no view includes
	latest   *SagaView       // nil until the first view was made
	replaced chan struct{}   // closed when latest is replaced
	made     time.Time       // when latest was made
	making   bool            // make is scheduled or runs
	again    bool            // something was noted since then

	saga *machine.Saga // only make uses it; nil: it must be read from the store
}

// committedTurn is a turn that is durable. Nobody changes it.
type committedTurn struct {
	number uint64
	turn   *treatyv1.Turn
}

// watch begins to watch a saga.
func (f *feeds) watch(id string) *SagaWatch {
	f.count.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	watched := f.byID[id]
	if watched == nil {
		if f.byID == nil {
			f.byID = make(map[string]*feed)
		}
		watched = &feed{all: f, id: id, replaced: make(chan struct{})}
		f.byID[id] = watched
	}
	watched.mu.Lock()
	defer watched.mu.Unlock()
	watched.watchers++
	watched.asked++
	watched.schedule()
	return &SagaWatch{feed: watched, asked: watched.asked}
}

// leave ends a watch.
func (f *feeds) leave(watched *feed) {
	f.count.Add(-1)
	f.mu.Lock()
	defer f.mu.Unlock()
	watched.mu.Lock()
	defer watched.mu.Unlock()
	watched.watchers--
	if watched.watchers == 0 {
		delete(f.byID, watched.id)
	}
}

// committed notes a turn that is durable.
func (f *feeds) committed(id string, number uint64, turn *treatyv1.Turn) {
	if f.count.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if watched := f.byID[id]; watched != nil {
		watched.note(committedTurn{number, turn})
	}
}

// conditionChanged notes a change of Condition.
func (f *feeds) conditionChanged() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, watched := range f.byID {
		watched.note()
	}
}

// note notes a change.
func (f *feed) note(turns ...committedTurn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turns = append(f.turns, turns...)
	f.changes++
	f.schedule()
}

// current returns the latest view, or nil, and a channel that is closed when another one replaces it.
func (f *feed) current() (latest *SagaView, replaced <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latest, f.replaced
}

// schedule has a view made, once the pause since the view before is over. The caller holds mu.
func (f *feed) schedule() {
	if f.making {
		f.again = true
		return
	}
	f.making = true
	pause := feedPause + time.Duration(f.watchers)*feedPauseEach
	time.AfterFunc(max(0, pause-time.Since(f.made)), f.make)
}

// make makes a view of what was noted.
func (f *feed) make() {
	f.mu.Lock()
	if f.watchers == 0 {
		f.mu.Unlock()
		return // the feed was removed
	}
	view := &SagaView{changes: f.changes, asked: f.asked}
	turns := f.turns
	f.turns, f.again = nil, false
	f.mu.Unlock()
	view.Saga, view.err = f.render(turns)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest = view
	close(f.replaced)
	f.replaced = make(chan struct{})
	f.made, f.making = time.Now(), false
	if f.again {
		f.schedule()
	}
}

// render brings the saga up to date and returns it.
func (f *feed) render(turns []committedTurn) (*treatyv1.Saga, error) {
	if !f.all.work.Enter() {
		return nil, ErrStopping
	}
	defer f.all.work.Leave()
	if f.saga != nil && !f.fold(turns) {
		f.saga = nil
	}
	if f.saga == nil {
		saga, err := f.all.read(f.all.work.ctx, f.id)
		if err != nil {
			return nil, err
		}
		f.saga = saga
	}
	return f.all.view(f.saga), nil
}

// fold adds turns to the saga, unless it has them. It returns false if one is missing, or doesn't fit.
func (f *feed) fold(turns []committedTurn) bool {
	for _, t := range turns {
		if t.number <= f.saga.Turns {
			continue
		}
		if t.number != f.saga.Turns+1 || f.saga.Fold(t.turn) != nil {
			return false
		}
	}
	return true
}
