package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
)

// Backup copies the store to a new file, and returns the time of the backup. An orchestrator may have the store open:
// the copy is the state of one moment. It can't be served before it was restored, so that nobody serves it by accident
// next to the original.
//
// The errors are those of the store (ErrStoreCorrupt, ErrStoreVersion, ErrStoreFull), fs.ErrNotExist if there is no
// store, and fs.ErrExist if there is such a file.
func (o *Orchestrator) Backup(ctx context.Context, to string) (time.Time, error) {
	return stores.Backup(ctx, o.settings.store, to)
}

// RestoreParams says how a store is restored.
type RestoreParams struct {
	// Since is since when the store may lack what happened. It is needed for a copy that wasn't made by Backup.
	Since time.Time

	// Trusted are services of participants that can't say what they know, because they don't serve
	// treaty.v1.ParticipantService. What the store says of them is believed. Without it, every open saga that may have
	// sent them a command since the backup waits for a person.
	Trusted []string

	// EpochFromClock sets the store's epoch back to the clock, after a clock that was far ahead was corrected. A store
	// that wasn't made by Backup needs Since, too.
	EpochFromClock bool
}

// Restore makes a store that was copied from a backup, or that was replaced, one that can be served again. It returns
// since when the store may lack what happened. The store must not be open. When it is served next, no saga continues
// before all participants have said what they know.
//
// The errors are those of the store (ErrStoreLocked, ErrStoreCorrupt, ErrStoreVersion, ErrStoreReadOnly, ErrStoreFull),
// and fs.ErrNotExist.
func (o *Orchestrator) Restore(ctx context.Context, params RestoreParams) (since time.Time, err error) {
	for _, service := range params.Trusted {
		if !slices.ContainsFunc(o.settings.participants, func(p participant) bool { return p.service == service }) {
			return since, fmt.Errorf("restoring the store %s: no participant is configured for the trusted service "+
				"%s: "+
				"correct its name, or restore with the settings with which the orchestrator serves",
				stores.Display(o.settings.store), service)
		}
	}
	restored, err := stores.Restore(ctx, o.settings.store, journal.RestoreParams{
		Name: o.settings.name, Since: params.Since, Trusted: o.settings.participantNames(params.Trusted),
		EpochFromClock: params.EpochFromClock,
	})
	return restored.BackupTime, err
}

// participantNames returns the services, and the other services of the same participants, one of which is the
// participant's name.
func (s *settings) participantNames(services []string) []string {
	names := append([]string{}, services...)
	for _, service := range services {
		for _, p := range s.participants {
			if p.service != service {
				continue
			}
			for _, other := range s.participants {
				if other.target == p.target {
					names = append(names, other.service)
				}
			}
		}
	}
	return names
}
