package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

var consumerName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func checkConsumer(name string) error {
	if !consumerName.MatchString(name) {
		return invalid("consumer", "%q can't be used: 1 to 63 lower-case letters, digits and hyphens", untrusted.Shorten(name))
	}
	return nil
}

// consumers are the named consumers that are being sent events.
type consumers struct {
	mu   sync.Mutex
	live map[string]*session
}

// session is one stream of a named consumer.
type session struct {
	taken chan struct{} // closed when another stream of the same consumer has begun
	acked chan struct{} // holds a token after each acknowledgement

	mu       sync.Mutex
	position uint64 // acknowledged since the stream began
}

// take opens a session and ends the one before.
func (c *consumers) take(name string) *session {
	opened := &session{taken: make(chan struct{}), acked: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.live[name]; before != nil {
		close(before.taken)
	}
	if c.live == nil {
		c.live = make(map[string]*session)
	}
	c.live[name] = opened
	return opened
}

// leave forgets a session, unless another has taken its place.
func (c *consumers) leave(name string, left *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live[name] == left {
		delete(c.live, name)
	}
}

// acknowledged tells the session of a consumer, if there is one.
func (c *consumers) acknowledged(name string, position uint64) {
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
	case opened.acked <- struct{}{}:
	default:
	}
}

// acknowledgedPosition is how far the consumer is, as far as was said since the stream began.
func (s *session) acknowledgedPosition() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

// over returns a channel that is closed when another stream has taken over; nil for a stream that isn't a consumer's.
func (s *session) over() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.taken
}

// heard returns a channel that holds a token after each acknowledgement; nil for a stream that isn't a consumer's.
func (s *session) heard() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.acked
}

// AcknowledgeEvents moves a consumer forward, durably.
func (s *Server) AcknowledgeEvents(ctx context.Context, request *treatyv1.AcknowledgeEventsRequest) (*treatyv1.AcknowledgeEventsResponse, error) {
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
		return invalid("position", "is missing: give that of the last event that the consumer is done with")
	}
	_, newest, err := s.store.EventRange(ctx)
	if err != nil {
		return err
	}
	if position > newest {
		return ahead(position, newest)
	}
	err = s.store.Acknowledge(ctx, consumer, position)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return &apiError{
			code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_NOT_FOUND, metadata: map[string]string{wire.ErrorConsumer: consumer},
			message: fmt.Sprintf("there is no consumer %q: it is made when its first stream is opened", consumer),
		}
	case err != nil:
		return fmt.Errorf("%w: %w", engine.ErrInDoubt, err)
	}
	s.consumers.acknowledged(consumer, position)
	return nil
}

// ahead says that no event has reached a position yet.
func ahead(position, newest uint64) error {
	return &apiError{
		code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_AHEAD, metadata: map[string]string{wire.ErrorPosition: strconv.FormatUint(newest, 10)},
		message: fmt.Sprintf("no event has the position %d yet; the newest has %d", position, newest),
	}
}
