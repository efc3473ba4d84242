package journaltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ErrInjected is the cause of the errors that Faults makes up, unless a fault names another.
var ErrInjected = errors.New("injected fault")

// When says on which side of the commit a fault strikes.
type When int

// The sides of a commit. The caller can't tell them apart.
const (
	// BeforeCommit drops the group.
	BeforeCommit When = iota

	// AfterCommit writes the group, and returns the error all the same.
	AfterCommit
)

// Fault is one failing Append.
type Fault struct {
	// Append is which one fails, counted from 1, which is the first one after Inject; the default is 1.
	Append int

	// When is the side of the commit.
	When When

	// Loads is how many Loads fail after it, whichever saga they ask for.
	Loads int

	// Err is the cause of the errors; the default is ErrInjected.
	Err error
}

// Faults is a journal.Store that fails where it is told to. All methods may be called concurrently.
type Faults struct {
	journal.Store

	mu      sync.Mutex
	appends int
	pending []*injected
	loads   int   // how many more Loads fail
	cause   error // with what
}

type injected struct {
	fault  Fault
	struck chan struct{}
}

// NewFaults returns a store that does what another one does, until a fault is injected.
func NewFaults(store journal.Store) *Faults { return &Faults{Store: store} }

// Inject plans a fault, beside those planned before. The channel is closed when the failing Append is about to return.
func (f *Faults) Inject(fault Fault) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault.Append = f.appends + max(fault.Append, 1)
	if fault.Err == nil {
		fault.Err = ErrInjected
	}
	planned := &injected{fault: fault, struck: make(chan struct{})}
	f.pending = append(f.pending, planned)
	return planned.struck
}

// Append writes a group, or fails.
func (f *Faults) Append(ctx context.Context, group []*journal.Entry) error {
	strike := f.next()
	if strike == nil {
		return f.Store.Append(ctx, group)
	}
	defer close(strike.struck)
	fault := strike.fault
	if fault.When == AfterCommit {
		if err := f.Store.Append(ctx, group); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.loads, f.cause = f.loads+fault.Loads, fault.Err
	f.mu.Unlock()
	return fmt.Errorf("append: %w", fault.Err)
}

// Load returns one saga, or fails.
func (f *Faults) Load(ctx context.Context, id string) (*journal.Journal, error) {
	f.mu.Lock()
	fails := f.loads > 0
	if fails {
		f.loads--
	}
	cause := f.cause
	f.mu.Unlock()
	if fails {
		return nil, fmt.Errorf("load saga %s: %w", id, cause)
	}
	return f.Store.Load(ctx, id)
}

// next counts an Append and returns what is planned for it.
func (f *Faults) next() *injected {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.appends++
	i := slices.IndexFunc(f.pending, func(planned *injected) bool { return planned.fault.Append == f.appends })
	if i < 0 {
		return nil
	}
	planned := f.pending[i]
	f.pending = slices.Delete(f.pending, i, i+1)
	return planned
}
