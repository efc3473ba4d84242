package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// The methods about consumers, without the slash before them.
const (
	methodStreamEvents      = "treaty.v1.EventService/StreamEvents"
	methodAcknowledgeEvents = "treaty.v1.EventService/AcknowledgeEvents"
)

var consumerName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func checkConsumer(name string) error {
	if !consumerName.MatchString(name) {
		return invalid("consumer", "%q is invalid: want 1 to 63 lower-case letters, "+
			"digits and hyphens", untrusted.Shorten(name))
	}
	return nil
}

// consumers are the named consumers that have an open stream.
type consumers struct {
	mu   sync.Mutex
	live map[string]*session
}

// session is one stream of a named consumer.
type session struct {
	superseded chan struct{} // closed when another stream of the same consumer starts
	acks       chan struct{} // holds a token after each acknowledgement

	mu       sync.Mutex
	position uint64 // the highest that was acknowledged since the stream started
}

// open opens a session and ends the consumer's previous one.
func (c *consumers) open(name string) *session {
	opened := &session{superseded: make(chan struct{}), acks: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.live[name]; before != nil {
		close(before.superseded)
	}
	if c.live == nil {
		c.live = make(map[string]*session)
	}
	c.live[name] = opened
	return opened
}

// remove removes a session, unless another has superseded it.
func (c *consumers) remove(name string, left *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live[name] == left {
		delete(c.live, name)
	}
}

// acknowledge notifies the consumer's open session, if there is one.
func (c *consumers) acknowledge(name string, position uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	opened := c.live[name]
	if opened == nil {
		return
	}
	opened.mu.Lock()
	opened.position = max(opened.position, position)
	opened.mu.Unlock()
	select {
	case opened.acks <- struct{}{}:
	default:
	}
}

// acknowledgedPosition returns the highest position that was acknowledged since the stream started.
func (s *session) acknowledgedPosition() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

// replaced returns a channel that is closed when another stream supersedes this one. It returns nil for a stream
// without a consumer.
func (s *session) replaced() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.superseded
}

// acknowledgements returns a channel that holds a token after each acknowledgement. It returns nil for a stream without
// a consumer.
func (s *session) acknowledgements() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.acks
}

// AcknowledgeEvents moves a consumer forward and makes that durable.
func (s *Server) AcknowledgeEvents(
	ctx context.Context, request *treatyv1.AcknowledgeEventsRequest,
) (*treatyv1.AcknowledgeEventsResponse, error) {
	if err := s.acknowledge(ctx, request.GetConsumer(), request.GetPosition()); err != nil {
		return nil, err
	}
	return &treatyv1.AcknowledgeEventsResponse{}, nil
}

func (s *Server) acknowledge(ctx context.Context, consumer string, position uint64) error {
	if err := checkConsumer(consumer); err != nil {
		return err
	}
	if position == 0 {
		return invalid("position", "is missing: want that of the last event that the consumer has processed")
	}
	_, newest, err := s.store.EventRange(ctx)
	if err != nil {
		return err
	}
	if position > newest {
		return eventsAheadError(position, newest)
	}
	err = s.store.Acknowledge(ctx, consumer, position, s.consumerPrincipal(ctx, consumer))
	switch {
	case errors.Is(err, journal.ErrForeign):
		return s.foreignConsumer(ctx, methodAcknowledgeEvents, consumer)
	case errors.Is(err, journal.ErrNotFound):
		return &apiError{
			code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_NOT_FOUND,
			metadata: map[string]string{wire.ErrorConsumer: consumer},
			message:  fmt.Sprintf("there is no consumer %q: open a stream for it first, which creates it", consumer),
		}
	case err != nil:
		return fmt.Errorf("%w: %w", engine.ErrInDoubt, err)
	}
	s.consumers.acknowledge(consumer, position)
	return nil
}

// consumerPrincipal returns as whom the caller uses a consumer. Those who may administer it are nobody in particular,
// so that they can use every consumer.
func (s *Server) consumerPrincipal(ctx context.Context, consumer string) string {
	q := question{server: s, ctx: ctx}
	if s.authorizer != nil && q.refusal(access.Request{Action: access.Administer, Consumer: consumer}) == nil {
		return ""
	}
	return access.PrincipalOf(ctx).String()
}

// foreignConsumer returns the error for a consumer that belongs to another principal.
func (s *Server) foreignConsumer(ctx context.Context, method, consumer string) error {
	q := question{server: s, ctx: ctx, method: method}
	return q.decide(access.Request{Action: access.Consume, Consumer: consumer}, &apiError{
		code: codes.PermissionDenied, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED,
		metadata: map[string]string{wire.ErrorConsumer: consumer},
		message: fmt.Sprintf("the consumer %q belongs to the principal that made it, and the caller is %s: use a "+
			"consumer of your own", consumer, access.PrincipalOf(ctx)),
	})
}

// eventsAheadError returns the error for a position that no event has reached yet.
func eventsAheadError(position, newest uint64) error {
	return &apiError{
		code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_AHEAD, metadata: map[string]string{
			wire.ErrorPosition: strconv.FormatUint(newest, 10),
		},
		message: fmt.Sprintf("no event has the position %d yet; the newest event has %d", position, newest),
	}
}
