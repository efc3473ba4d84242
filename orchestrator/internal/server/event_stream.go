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
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/quota"
)

const (
	// defaultUnacknowledged limits the events that a consumer was sent and hasn't acknowledged, unless its request says
	// otherwise.
	defaultUnacknowledged = 1000

	// maxUnacknowledged is the highest limit of unacknowledged events that a request may set.
	maxUnacknowledged = 10_000

	// maxEventTypes limits the event types in the request for a stream.
	maxEventTypes = 100

	// maxEventsRead limits the events that are read from the store at a time.
	maxEventsRead = 32

	// maxBytesRead is with how many bytes a page of events ends. Its last event may have maxEventBytes.
	maxBytesRead = 16 << 10

	// pageRoom is the room that a page of events needs.
	pageRoom = maxBytesRead + maxEventBytes

	// maxUnwanted is how far a consumer may get ahead of its stored position because of events that it doesn't want.
	maxUnwanted = 1000

	// closeTimeout limits how long storing a consumer's position may take when its stream ends.
	closeTimeout = 2 * time.Second
)

// StreamEvents streams the events after a position, or after a consumer's position, and continues with new events.
func (s *Server) StreamEvents(
	request *treatyv1.StreamEventsRequest, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse],
) error {
	r, err := s.newEventStream(request)
	if err != nil {
		return err
	}
	if r.call, err = s.openStream(stream.Context()); err != nil {
		return err
	}
	defer r.call.Close()
	return r.run(stream.Context(), request.GetAfterPosition(), stream)
}

// newEventStream checks the request for a stream.
func (s *Server) newEventStream(request *treatyv1.StreamEventsRequest) (*eventStream, error) {
	if n := len(request.GetTypes()); n > maxEventTypes {
		return nil, invalid("types", "has %d of them; at most %d are allowed: leave it out for all", n, maxEventTypes)
	}
	for i, name := range request.GetTypes() {
		if _, known := s.catalog.EventType(name); !known {
			return nil, s.eventTypeUnknownError(fmt.Sprintf("types[%d]", i), name)
		}
	}
	if n := len(request.GetSubject()); n > machine.MaxSubjectBytes {
		return nil, invalid("subject", "has %d bytes; a correlation key has at most %d", n, machine.MaxSubjectBytes)
	}
	r := &eventStream{server: s, wanted: journal.EventsParams{Types: request.GetTypes(), Subject: request.GetSubject(),
		MaxBytes: maxBytesRead}}
	if r.consumer = request.GetConsumer(); r.consumer == "" {
		if request.GetMaxUnacknowledged() != 0 {
			return nil, invalid("max_unacknowledged", "is only for a named consumer: set consumer, or leave it out")
		}
		return r, nil
	}
	if err := checkConsumer(r.consumer); err != nil {
		return nil, err
	}
	switch n := int(request.GetMaxUnacknowledged()); {
	case n == 0:
		r.window = defaultUnacknowledged
	case n < 0 || n > maxUnacknowledged:
		return nil, invalid("max_unacknowledged", "is %d: want 1 to %d, or leave it out", n, maxUnacknowledged)
	default:
		r.window = n
	}
	return r, nil
}

// eventStream sends events to one client.
type eventStream struct {
	server *Server
	call   *quota.Call
	wanted journal.EventsParams // without position and limit
	view   eventView

	position uint64 // all wanted events up to here were sent
	newest   uint64 // the position of the newest event of all, when last read

	// Only for a named consumer.
	consumer       string
	principal      string // that uses the consumer; see consumerPrincipal
	session        *session
	window         int
	unacknowledged []uint64 // the positions that were sent and not acknowledged, ascending
	stored         uint64   // the consumer's position in the store
}

func (r *eventStream) run(
	ctx context.Context, after uint64, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse],
) error {
	// The watch begins before the first read, so that no event is missed in between.
	published, cancel := r.server.engine.WatchEvents()
	defer cancel()
	if err := r.begin(ctx, after); err != nil {
		return err
	}
	// The header says that the stream is open, even when no event follows for a while.
	if err := stream.SendHeader(nil); err != nil {
		return sendError("opening a stream of events", err)
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

// begin determines the position at which the stream begins.
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
		// This is checked before the consumer's open stream is ended.
		var known journal.Consumer
		r.principal = r.server.consumerPrincipal(ctx, r.consumer)
		if known, err = r.storedConsumer(ctx, after); err != nil {
			return err
		}
		if journal.Foreign(known.Owner, r.principal) {
			return r.server.foreignConsumer(ctx, methodStreamEvents, r.consumer)
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

// storedConsumer returns the consumer from the store, which creates it if necessary.
func (r *eventStream) storedConsumer(ctx context.Context, after uint64) (journal.Consumer, error) {
	return r.server.store.Consumer(ctx, journal.Consumer{
		Name: r.consumer, Position: after, Filter: r.filter(), Owner: r.principal,
	})
}

// filter describes the wanted events. It doesn't depend on the order of the types in the request.
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

// filterError returns the error for a consumer that was created with another filter. It has skipped events that it
// didn't want then, so those would be missing now.
func (r *eventStream) filterError(made string) error {
	return &apiError{
		code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_FILTER,
		metadata: map[string]string{wire.ErrorConsumer: r.consumer},
		message: fmt.Sprintf("the consumer %q reads %s and has skipped all other events; "+
			"for %s, use a consumer with another name", r.consumer, made, r.filter()),
	}
}

// checkPurged returns an error when events after the position were purged.
func (r *eventStream) checkPurged(oldest uint64) error {
	if oldest <= r.position+1 {
		return nil
	}
	p := &apiError{
		code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_PURGED, metadata: map[string]string{
			wire.ErrorPosition: strconv.FormatUint(oldest-1, 10),
		},
		message: fmt.Sprintf("events after position %d were purged; "+
			"the oldest that is left has %d: ", r.position, oldest),
	}
	if r.consumer == "" {
		p.message += fmt.Sprintf("to continue without the purged events, begin after position %d", oldest-1)
	} else {
		p.metadata[wire.ErrorConsumer] = r.consumer
		p.message += fmt.Sprintf("to continue without the purged events, acknowledge position %d for the consumer %q "+
			"and open the stream again", oldest-1, r.consumer)
	}
	return p
}

// catchUp sends the stored events that the consumer's window allows. It reads no further events while a slow client
// receives the ones before.
func (r *eventStream) catchUp(
	ctx context.Context, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse],
) error {
	for {
		limit := r.capacity()
		if limit == 0 {
			return nil
		}
		if ended, err := r.sendPage(ctx, limit, stream); ended || err != nil {
			return err
		}
	}
}

// sendPage waits until the client has taken what was sent before, and sends the next page. It returns whether there are
// no more events.
func (r *eventStream) sendPage(
	ctx context.Context, limit int, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse],
) (ended bool, err error) {
	room, err := r.call.Reserve(ctx, pageRoom, r.session.replaced(), r.server.stopping)
	if err != nil {
		return false, r.noRoom(err)
	}
	defer room.Close()
	params := r.wanted
	params.Limit, params.After = limit, r.position
	events, err := r.server.store.Events(ctx, params)
	if err != nil {
		return false, err
	}
	oldest, newest, err := r.server.store.EventRange(ctx)
	if err != nil {
		return false, err
	}
	if err := r.checkPurged(oldest); err != nil {
		return false, err
	}
	if err := r.send(events, room, stream); err != nil {
		return false, err
	}
	if len(events) == 0 {
		// No other event up to the one that was the newest before this read is wanted. Later events have higher
		// positions.
		r.position = max(r.position, r.newest)
	}
	r.newest = newest
	return r.position >= newest, nil
}

// noRoom returns the error of a stream that got no room for events.
func (r *eventStream) noRoom(err error) error {
	switch {
	case errors.Is(err, quota.ErrInterrupted):
		return r.interrupted()
	case !errors.Is(err, quota.ErrStalled):
		return err
	}
	stalled := &apiError{
		code: codes.ResourceExhausted, reason: treatyv1.ErrorReason_ERROR_REASON_STREAM_STALLED,
		metadata: map[string]string{wire.ErrorPosition: strconv.FormatUint(r.position, 10)},
		message: fmt.Sprintf("the reader of this stream, or the caller's others, took nothing for %v: process what "+
			"has arrived, up to position %d, and open the stream again after it",
			r.server.quota.Limits().StalledAfter, r.position),
	}
	if r.consumer != "" {
		stalled.metadata[wire.ErrorConsumer] = r.consumer
		stalled.message = fmt.Sprintf("the consumer %q, or the caller's other streams, took nothing for %v: process "+
			"and acknowledge what has arrived, up to position %d, and open the stream again; a lower "+
			"max_unacknowledged keeps less waiting", r.consumer, r.server.quota.Limits().StalledAfter, r.position)
	}
	return stalled
}

// interrupted returns why the stream must end, or nil.
func (r *eventStream) interrupted() error {
	select {
	case <-r.session.replaced():
		return r.takenError()
	case <-r.server.stopping:
		return engine.ErrStopping
	default:
		return nil
	}
}

// capacity processes acknowledgements and returns how many events may be read now.
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

func (r *eventStream) send(
	events []*journal.Event, room *quota.Room, stream grpc.ServerStreamingServer[treatyv1.StreamEventsResponse],
) error {
	for _, event := range events {
		if err := r.interrupted(); err != nil {
			return err
		}
		encoded, err := proto.Marshal(&treatyv1.StreamEventsResponse{
			Event: r.view.show(stream.Context(), r.server, event),
		})
		if err != nil {
			return fmt.Errorf("serializing the event at position %d: %w", event.Position, err)
		}
		if r.session != nil {
			r.unacknowledged = append(r.unacknowledged, event.Position)
		}
		if err := stream.SendMsg(room.Message(encoded)); err != nil {
			return sendError("sending an event", err)
		}
		r.position = event.Position
	}
	return nil
}

func (r *eventStream) takenError() error {
	return &apiError{
		code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_TAKEN, metadata: map[string]string{
			wire.ErrorConsumer: r.consumer,
		},
		message: fmt.Sprintf("another stream of the consumer %q has started; "+
			"it receives what this one didn't acknowledge", r.consumer),
	}
}

// skipUnwanted moves a consumer past events that it doesn't want, and so never acknowledges, when its stored position
// is more than limit behind. Otherwise those events would be purged at some point, and the consumer would seem to have
// missed some.
func (r *eventStream) skipUnwanted(ctx context.Context, limit uint64) error {
	if r.session == nil {
		return nil
	}
	r.capacity() // processes acknowledgements
	passed := r.position
	if len(r.unacknowledged) > 0 {
		passed = r.unacknowledged[0] - 1
	}
	if passed <= r.stored || passed-r.stored <= limit {
		return nil
	}
	if err := r.server.store.Acknowledge(ctx, r.consumer, passed, ""); err != nil {
		return fmt.Errorf("moving the consumer %q past events that it doesn't want: %w", r.consumer, err)
	}
	r.stored = passed
	return nil
}

// close stores the consumer's position and removes its session.
func (r *eventStream) close(ctx context.Context) {
	if r.session == nil {
		return
	}
	defer r.server.consumers.remove(r.consumer, r.session)
	select {
	case <-r.session.replaced():
		return // another stream has superseded this one
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := r.skipUnwanted(ctx, 0); err != nil && !errors.Is(err, journal.ErrClosed) {
		r.server.logger.WarnContext(ctx, "storing the position of an event consumer failed; its next stream skips "+
			"the same unwanted events again", "consumer", r.consumer, "error", err)
	}
}
