package journaltest_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

func start(id string) []*journal.Entry {
	row := &journal.Row{ID: id, State: treatyv1.SagaState_SAGA_STATE_RUNNING}
	return []*journal.Entry{{Saga: id, Turn: 1, Row: row}}
}

// TestFaults fails one Append before and one after the commit.
func TestFaults(t *testing.T) {
	store := journaltest.NewFaults(journaltest.NewMemory())
	own := errors.New("no space")
	before := store.Inject(journaltest.Fault{Append: 2, Loads: 1})
	after := store.Inject(journaltest.Fault{Append: 3, When: journaltest.AfterCommit, Err: own})
	for i, want := range []error{nil, journaltest.ErrInjected, own, nil} {
		if err := store.Append(t.Context(), start(fmt.Sprint(i))); !errors.Is(err, want) {
			t.Errorf("append %d: %v, want %v", i+1, err, want)
		}
		if i == 1 {
			<-before
			if _, err := store.Load(t.Context(), "0"); !errors.Is(err, journaltest.ErrInjected) {
				t.Errorf("load after a fault: %v", err)
			}
		}
	}
	<-after
	for i, want := range []error{nil, journal.ErrNotFound, nil, nil} {
		if _, err := store.Load(t.Context(), fmt.Sprint(i)); !errors.Is(err, want) {
			t.Errorf("load saga %d: %v, want %v", i, err, want)
		}
	}
}

func TestFaultsConcurrently(t *testing.T) {
	store := journaltest.NewFaults(journaltest.NewMemory())
	happened := store.Inject(journaltest.Fault{Append: 5})
	var mu sync.Mutex
	var all sync.WaitGroup
	failed := 0
	for i := range 10 {
		all.Go(func() {
			if err := store.Append(t.Context(), start(fmt.Sprint(i))); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
			}
		})
	}
	<-happened
	all.Wait()
	if failed != 1 {
		t.Errorf("%d appends failed, want 1", failed)
	}
}
