package journaltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ErrInjected is the cause of a fault's errors, unless the fault has another.
var ErrInjected = errors.New("injected fault")

// When says whether a fault happens before or after the commit.
type When int

// The caller of Append can't tell them apart.
const (
	// BeforeCommit doesn't write the group.
	BeforeCommit When = iota

	// AfterCommit writes the group, and returns an error.
	AfterCommit
)

// Fault is a failure of one Append.
type Fault struct {
	// Append is the number of the Append that fails. The first one after Inject has the number 1, the default.
	Append int

	// When is whether it fails before or after the commit. The default is BeforeCommit.
	When When

	// Loads is how many Loads fail after it, of any saga.
	Loads int

	// Err is the cause of the errors. The default is ErrInjected.
	Err error
}

// Faults is a journal.Store that injects faults into another store. All methods may be called concurrently.
type Faults struct {
	journal.Store

	mu      sync.Mutex
	appends int
	pending []*injected
	loads   int   // how many more Loads fail
	cause   error // the cause of their errors
}

type injected struct {
	fault    Fault
	happened chan struct{}
}

// NewFaults returns a store that works like another one until a fault is injected.
func NewFaults(store journal.Store) *Faults { return &Faults{Store: store} }

// Inject adds a fault to those that haven't happened yet. The channel is closed when the failing Append is about to
// return.
func (f *Faults) Inject(fault Fault) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault.Append = f.appends + max(fault.Append, 1)
	if fault.Err == nil {
		fault.Err = ErrInjected
	}
	planned := &injected{fault: fault, happened: make(chan struct{})}
	f.pending = append(f.pending, planned)
	return planned.happened
}

// Append appends to the other store, or fails.
func (f *Faults) Append(ctx context.Context, group []*journal.Entry) error {
	injected := f.next()
	if injected == nil {
		return f.Store.Append(ctx, group)
	}
	defer close(injected.happened)
	fault := injected.fault
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

// Load loads from the other store, or fails.
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

// next counts an Append and returns the fault to inject into it, or nil.
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
