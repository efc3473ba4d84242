package dispatch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// Self is what the orchestrator tells participants about itself, and learns from them about itself.
type Self struct {
	// Scope is the scope of its epochs.
	Scope string

	// StoreID is the id of its store.
	StoreID string

	// Build is its version, for people.
	Build string

	// Epoch is the epoch of its store, and PreviousEpoch the one before this opening.
	Epoch, PreviousEpoch uint64

	// Position is the store's position at its opening.
	Position uint64

	// Restored says that the store was restored from a backup, so that participants are expected to know more.
	Restored bool

	// NextPosition raises the store's position durably, above a number that a participant has heard.
	NextPosition func(ctx context.Context, above uint64) (uint64, error)

	// Horizon returns the time before which no saga started whose commands will still be sent, or zero.
	Horizon func() time.Time

	// Replaced is called when a participant knows more than this store, so that another one has taken over. It must not
	// block. epoch is what the participant has heard from that one, or 0.
	Replaced func(cause string, epoch uint64)
}

// Scope is a scope of epochs whose sagas are driven here. All methods may be called concurrently.
type Scope struct {
	dispatcher *Dispatcher
	self       *Self
	greetings  map[*participant]*greeting
	stop       context.CancelFunc
	greeters   sync.WaitGroup
}

var _ engine.Participants = (*Scope)(nil)

// Open begins to tell participants about a scope. Commands wait, those of other scopes, too, until each participant was
// told. Close the scope when its sagas are no longer driven here.
func (d *Dispatcher) Open(self *Self) *Scope {
	ctx, stop := context.WithCancel(d.greeting)
	s := &Scope{dispatcher: d, self: self, stop: stop, greetings: make(map[*participant]*greeting)}
	for _, p := range d.participants {
		g := &greeting{introduction: p.introduction, self: self}
		s.greetings[p] = g
		g.hold(g)
		s.greeters.Go(func() { g.run(ctx) })
	}
	d.scopes.add(s)
	return s
}

// Close ends what Open has begun. No command is sent for the scope any more.
func (s *Scope) Close() {
	s.dispatcher.scopes.remove(s)
	s.stop()
	s.greeters.Wait()
	for _, g := range s.greetings {
		g.release(g)
	}
}

// Participants implements engine.Participants.
func (s *Scope) Participants() []engine.ParticipantState {
	states := make([]engine.ParticipantState, 0, len(s.dispatcher.participants))
	for _, p := range s.dispatcher.participants {
		states = append(states, engine.ParticipantState{
			Name: p.name, Described: s.greetings[p].told.Load(), Problem: p.lastProblem(),
			Lists:       p.has(treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_LIST_COMMANDS),
			KeptMethods: slices.Sorted(slices.Values(p.described().GetKeptMethods())),
		})
	}
	return states
}

// NameOf implements engine.Participants.
func (s *Scope) NameOf(to engine.Destination) string {
	r, ok := s.dispatcher.find(to)
	if !ok {
		return ""
	}
	return r.participant.name
}

// ListCommands implements engine.Participants.
func (s *Scope) ListCommands(
	ctx context.Context, name string, request *treatyv1.ListCommandsRequest,
	yield func(*treatyv1.KnownCommand) error,
) error {
	p, ok := s.dispatcher.services[name]
	if !ok {
		return fmt.Errorf("dispatch: no participant %s is configured that can be asked what it knows", name)
	}
	return s.dispatcher.list(ctx, p, sender{s.self.Scope, s.self.Epoch}, request, yield)
}

// sender is on whose behalf a participant is called.
type sender struct {
	scope string
	epoch uint64
}

func senderOf(attempt *engine.Attempt) sender { return sender{attempt.Scope, attempt.Epoch} }

// scopes are the open scopes of a dispatcher.
type scopes struct {
	mu   sync.RWMutex
	open []*Scope
}

func (s *scopes) add(scope *Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, scope)
}

func (s *scopes) remove(scope *Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(other *Scope) bool { return other == scope })
}

// find returns what is told about the sender's scope, or nil if it isn't open any more.
func (s *scopes) find(of sender) *Self {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, scope := range s.open {
		if scope.self.Scope == of.scope && scope.self.Epoch == of.epoch {
			return scope.self
		}
	}
	return nil
}

// any returns what is told about one of the scopes, or nil if none is open.
func (s *scopes) any() *Self {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.open) == 0 {
		return nil
	}
	return s.open[0].self
}

// wait waits until nobody is asked any more.
func (s *scopes) wait() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, scope := range s.open {
		scope.greeters.Wait()
	}
}
