package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// DefaultUnacknowledged is how many events a consumer may have been sent and not acknowledged when it doesn't say.
	DefaultUnacknowledged = 1000

	// MaxUnacknowledged is how many it may ask for.
	MaxUnacknowledged = 10_000

	// MaxEventTypes is how many types a stream may ask for.
	MaxEventTypes = 100

	// maxEventsRead is how many events are read from the store at a time; each may have MaxEventBytes.
	maxEventsRead = 32

	// maxUnwanted is how many positions a consumer may pass without being sent anything until the store is told.
	maxUnwanted = 1000

	// closeTimeout bounds what is written when a consumer's stream ends.
	closeTimeout = 2 * time.Second
)

// StreamEvents sends events from a position on, or from where a consumer is, and goes on as more come.
func (s *Server) StreamEvents(request *treatyv1.StreamEventsRequest, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse]) error {
	r, err := s.newEventStream(request)
	if err != nil {
		return err
	}
	return r.run(stream.Context(), request.GetAfterPosition(), stream)
}

// newEventStream checks what is asked for.
func (s *Server) newEventStream(request *treatyv1.StreamEventsRequest) (*eventStream, error) {
	if n := len(request.GetTypes()); n > MaxEventTypes {
		return nil, invalid("types", "has %d of them; at most %d are allowed: leave it out for all", n, MaxEventTypes)
	}
	for i, name := range request.GetTypes() {
		if _, known := s.catalog.EventType(name); !known {
			return nil, s.eventTypeUnknownError(fmt.Sprintf("types[%d]", i), name)
		}
	}
	if n := len(request.GetSubject()); n > machine.MaxSubjectBytes {
		return nil, invalid("subject", "has %d bytes; a correlation key has at most %d", n, machine.MaxSubjectBytes)
	}
	r := &eventStream{server: s, wanted: journal.EventsParams{Types: request.GetTypes(), Subject: request.GetSubject()}}
	if r.consumer = request.GetConsumer(); r.consumer == "" {
		if request.GetMaxUnacknowledged() != 0 {
			return nil, invalid("max_unacknowledged", "is for a consumer with a name: give consumer, or leave it out")
		}
		return r, nil
	}
	if err := checkConsumer(r.consumer); err != nil {
		return nil, err
	}
	switch n := int(request.GetMaxUnacknowledged()); {
	case n == 0:
		r.window = DefaultUnacknowledged
	case n < 0 || n > MaxUnacknowledged:
		return nil, invalid("max_unacknowledged", "is %d: leave it out, or give 1 to %d", n, MaxUnacknowledged)
	default:
		r.window = n
	}
	return r, nil
}

// eventStream sends one stream its events.
type eventStream struct {
	server *Server
	wanted journal.EventsParams // but for where and how many

	position uint64 // all events up to here were sent, or aren't wanted
	newest   uint64 // of all events, when it was asked for last

	// For a consumer with a name.
	consumer       string
	session        *session
	window         int
	unacknowledged []uint64 // the positions that were sent and not acknowledged, ascending
	stored         uint64   // what the store knows it to be done with
}

func (r *eventStream) run(ctx context.Context, after uint64, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse]) error {
	// First the watch, so that no event slips through between reading and watching.
	published, cancel := r.server.engine.WatchEvents()
	defer cancel()
	if err := r.begin(ctx, after); err != nil {
		return err
	}
	// So that a caller who waits for the first event knows that the stream is open.
	if err := stream.SendHeader(nil); err != nil {
		return fmt.Errorf("opening a stream of events: %w", err)
	}
	defer r.close(ctx)
	for {
		if err := r.catchUp(ctx, stream); err != nil {
			return err
		}
		if err := r.skipUnwanted(ctx, maxUnwanted); err != nil {
			return err
		}
		select {
		case <-published:
		case <-r.session.acknowledgements():
		case <-r.session.replaced():
			return r.takenError()
		case <-r.server.stopping:
			return engine.ErrStopping
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// begin finds out where the stream begins.
func (r *eventStream) begin(ctx context.Context, after uint64) error {
	oldest, newest, err := r.server.store.EventRange(ctx)
	if err != nil {
		return err
	}
	if after > newest {
		return eventsAheadError(after, newest)
	}
	if after == 0 && oldest > 0 {
		after = oldest - 1
	}
	if r.consumer != "" {
		// Before the stream that is open already is ended for this one.
		var known journal.Consumer
		if known, err = r.storedConsumer(ctx, after); err != nil {
			return err
		}
		if known.Filter != r.filter() {
			return r.filterError(known.Filter)
		}
		r.session = r.server.consumers.open(r.consumer)
		if known, err = r.storedConsumer(ctx, after); err == nil {
			oldest, newest, err = r.server.store.EventRange(ctx)
		}
		after = known.Position
		r.stored = after
	}
	if err == nil {
		r.position, r.newest = after, newest
		err = r.checkPurged(oldest)
	}
	if err == nil && after > newest {
		err = eventsAheadError(after, newest)
	}
	if err != nil && r.session != nil {
		r.server.consumers.remove(r.consumer, r.session)
	}
	return err
}

// storedConsumer returns the consumer as the store knows it.
func (r *eventStream) storedConsumer(ctx context.Context, after uint64) (journal.Consumer, error) {
	return r.server.store.Consumer(ctx, journal.Consumer{Name: r.consumer, Position: after, Filter: r.filter()})
}

// filter says which events are wanted, the same whatever the order in which they were asked for.
func (r *eventStream) filter() string {
	wanted := "all types"
	if len(r.wanted.Types) > 0 {
		wanted = strings.Join(slices.Compact(slices.Sorted(slices.Values(r.wanted.Types))), ", ")
	}
	if r.wanted.Subject != "" {
		wanted += " of subject " + r.wanted.Subject
	}
	return wanted
}

// filterError refuses a consumer that was made for other events: it has passed those that it didn't want, so they
// wouldn't come.
func (r *eventStream) filterError(made string) error {
	return &apiError{
		code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_FILTER, metadata: map[string]string{wire.ErrorConsumer: r.consumer},
		message: fmt.Sprintf("the consumer %q reads %s, and has passed whatever else there was; for %s, use a consumer with another name", r.consumer, made, r.filter()),
	}
}

// checkPurged makes sure that nothing behind the position has been purged.
func (r *eventStream) checkPurged(oldest uint64) error {
	if oldest <= r.position+1 {
		return nil
	}
	p := &apiError{
		code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_PURGED, metadata: map[string]string{wire.ErrorPosition: strconv.FormatUint(oldest-1, 10)},
		message: fmt.Sprintf("events behind position %d are no longer kept; the oldest that is kept has %d: ", r.position, oldest),
	}
	if r.consumer == "" {
		p.message += fmt.Sprintf("to go on without those in between, begin after position %d", oldest-1)
	} else {
		p.metadata[wire.ErrorConsumer] = r.consumer
		p.message += fmt.Sprintf("to go on without those in between, acknowledge position %d for the consumer %q, and open the stream again", oldest-1, r.consumer)
	}
	return p
}

// catchUp sends what there is, as far as the consumer's window reaches. Nothing more is read while a slow caller takes
// what was sent.
func (r *eventStream) catchUp(ctx context.Context, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse]) error {
	for {
		params := r.wanted
		if params.Limit = r.capacity(); params.Limit == 0 {
			return nil
		}
		params.After = r.position
		events, err := r.server.store.Events(ctx, params)
		if err != nil {
			return err
		}
		oldest, newest, err := r.server.store.EventRange(ctx)
		if err != nil {
			return err
		}
		if err := r.checkPurged(oldest); err != nil {
			return err
		}
		if err := r.send(events, stream); err != nil {
			return err
		}
		if len(events) < params.Limit {
			// The others up to what was the newest before this was read aren't wanted. Later ones have greater
			// positions.
			r.position = max(r.position, r.newest)
		}
		if r.newest = newest; r.position >= newest {
			return nil
		}
	}
}

// capacity is how many events may be read now.
func (r *eventStream) capacity() int {
	if r.session == nil {
		return maxEventsRead
	}
	done := r.session.acknowledgedPosition()
	n := 0
	for n < len(r.unacknowledged) && r.unacknowledged[n] <= done {
		n++
	}
	r.unacknowledged = append(r.unacknowledged[:0], r.unacknowledged[n:]...)
	r.stored, r.position = max(r.stored, done), max(r.position, done)
	return min(r.window-len(r.unacknowledged), maxEventsRead)
}

func (r *eventStream) send(events []*journal.Event, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse]) error {
	for _, event := range events {
		select {
		case <-r.session.replaced():
			return r.takenError()
		case <-r.server.stopping:
			return engine.ErrStopping
		default:
		}
		if r.session != nil {
			r.unacknowledged = append(r.unacknowledged, event.Position)
		}
		if err := stream.Send(&treatyv1.StreamEventsResponse{Event: publishedOf(event)}); err != nil {
			return fmt.Errorf("sending an event: %w", err)
		}
		r.position = event.Position
	}
	return nil
}

func (r *eventStream) takenError() error {
	return &apiError{
		code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_TAKEN, metadata: map[string]string{wire.ErrorConsumer: r.consumer},
		message: fmt.Sprintf("another stream of the consumer %q has begun; what this one didn't acknowledge goes there", r.consumer),
	}
}

// skipUnwanted moves a consumer past events that it doesn't want, and so never acknowledges, once they are more than a number.
// Otherwise its place would be purged some day, although it has missed nothing.
func (r *eventStream) skipUnwanted(ctx context.Context, most uint64) error {
	if r.session == nil {
		return nil
	}
	r.capacity() // takes what was acknowledged
	passed := r.position
	if len(r.unacknowledged) > 0 {
		passed = r.unacknowledged[0] - 1
	}
	if passed <= r.stored || passed-r.stored <= most {
		return nil
	}
	if err := r.server.store.Acknowledge(ctx, r.consumer, passed); err != nil {
		return fmt.Errorf("moving the consumer %q past events that it doesn't want: %w", r.consumer, err)
	}
	r.stored = passed
	return nil
}

// close takes leave of a consumer.
func (r *eventStream) close(ctx context.Context) {
	if r.session == nil {
		return
	}
	defer r.server.consumers.remove(r.consumer, r.session)
	select {
	case <-r.session.replaced():
		return // it is another stream's now
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := r.skipUnwanted(ctx, 0); err != nil && !errors.Is(err, journal.ErrClosed) {
		r.server.logger.WarnContext(ctx, "the place of a consumer of events isn't kept; it is sent nothing twice for that", "consumer", r.consumer, "error", err)
	}
}
