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

// self returns what participants are told about this orchestrator.
func (r *running) self() *dispatch.Self {
	identity := r.store.Identity()
	return &dispatch.Self{
		Scope: wire.ScopeName(identity.Name, theShard), StoreID: identity.StoreID, Build: build(),
		Epoch: identity.Epoch, PreviousEpoch: identity.PreviousEpoch, Position: identity.Position,
		Restored:     identity.Restored != nil,
		NextPosition: r.store.RaisePosition,
		Horizon: func() time.Time {
			if <-r.engineSet; r.engine == nil {
				return time.Time{}
			}
			return r.engine.Horizon()
		},
		Replaced: func(cause string, epoch uint64) {
			if <-r.engineSet; r.engine != nil {
				r.engine.Replaced(cause, epoch)
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

// conditionChanged is called by the engine when it begins or ceases to drive sagas.
func (r *running) conditionChanged(condition error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.condition = condition
	if condition == nil {
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
	case r.condition == nil && r.unwritable == nil:
		r.server.SetReady()
	default:
		r.server.SetUnready()
	}
}

// participantMemory is what the dispatcher remembers about participants, in the store.
type participantMemory struct {
	store journal.Store

	mu       sync.Mutex
	services map[string]journal.Participant
}

func newParticipantMemory(ctx context.Context, store journal.Store) (*participantMemory, error) {
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
