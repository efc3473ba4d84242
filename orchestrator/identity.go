package orchestrator

import (
	"context"
	"fmt"
	"regexp"
	"runtime/debug"
	"sync"
	"time"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// theShard is the name of a store's only shard.
const theShard = "0"

var namePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)

func (s *settings) checkName() error {
	if !namePattern.MatchString(s.name) {
		return fmt.Errorf(`the name %.80q isn't allowed: want at most 64 letters, digits, "-", "_" and "."`, s.name)
	}
	return nil
}

// self returns what participants are told about a shard of this orchestrator's store. d is what drives it.
func (d *driven) self(store journal.Store, shard string) *dispatch.Self {
	identity := store.Identity()
	return &dispatch.Self{
		Scope: wire.ScopeName(identity.Name, shard), StoreID: identity.StoreID, Build: build(),
		Epoch: identity.Epoch, PreviousEpoch: identity.PreviousEpoch, Position: identity.Position,
		Restored:     identity.Restored != nil,
		NextPosition: store.RaisePosition,
		Horizon: func() time.Time {
			if <-d.set; d.engine == nil {
				return time.Time{}
			}
			return d.engine.Horizon()
		},
		Replaced: func(cause string, epoch uint64) {
			if <-d.set; d.engine != nil {
				d.replaced(cause, epoch)
			}
		},
	}
}

// build returns the version of the program, for people.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Path + " " + info.Main.Version
}

// conditionChanged is called by the engine of a scope when it begins or ceases to drive sagas.
func (r *running) conditionChanged(scope string, condition error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conditions, scope)
	if condition != nil {
		r.conditions[scope] = condition
	}
	if len(r.conditions) == 0 {
		r.telemetry.DrivingBegan()
	} else {
		r.telemetry.DrivingEnded()
	}
	r.setHealth()
}

// writableChanged is called by the engine with the error when the store refuses commits, and with nil when it accepts
// them again.
func (r *running) writableChanged(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unwritable = cause
	r.setHealth()
}

// recovered is called when all open sagas have been recovered.
func (r *running) recovered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = true
	r.setHealth()
}

// setHealth sets the server's health. The caller holds the lock.
func (r *running) setHealth() {
	switch {
	case !r.ready || r.server == nil:
	case len(r.conditions) == 0 && r.unwritable == nil:
		r.server.SetReady()
	default:
		r.server.SetUnready()
	}
}

// participantMemory is what the dispatcher remembers about participants, in the store.
type participantMemory struct {
	store participantStore

	mu       sync.Mutex
	services map[string]journal.Participant
}

// participantStore is what participantMemory needs of a store.
type participantStore interface {
	Participants(ctx context.Context) ([]journal.Participant, error)
	PutParticipant(ctx context.Context, participant journal.Participant) error
}

func newParticipantMemory(ctx context.Context, store participantStore) (*participantMemory, error) {
	known, err := store.Participants(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading what is known about participants: %w", err)
	}
	m := &participantMemory{store: store, services: make(map[string]journal.Participant)}
	for _, p := range known {
		m.services[p.Service] = p
	}
	return m, nil
}

// Proven implements dispatch.Memory.
func (m *participantMemory) Proven(service string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.services[service].Proven
}

// SetProven implements dispatch.Memory.
func (m *participantMemory) SetProven(ctx context.Context, services []string) error {
	return m.change(ctx, services, func(p *journal.Participant) { p.Proven = true })
}

// SetHorizon implements dispatch.Memory.
func (m *participantMemory) SetHorizon(ctx context.Context, services []string, horizon time.Time) error {
	return m.change(ctx, services, func(p *journal.Participant) { p.Horizon = horizon })
}

func (m *participantMemory) change(ctx context.Context, services []string, change func(*journal.Participant)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range services {
		p := m.services[service]
		p.Service = service
		if change(&p); p == m.services[service] {
			continue
		}
		if err := m.store.PutParticipant(ctx, p); err != nil {
			return err
		}
		m.services[service] = p
	}
	return nil
}
