package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

const (
	// maxEvents limits the events of one request.
	maxEvents = 1000

	// maxEventID limits an event's id, in characters.
	maxEventID = 128

	// maxEventSource limits an event's source, in characters.
	maxEventSource = 256

	// maxEventBytes limits an event's data, in bytes.
	maxEventBytes = machine.MaxEventBytes
)

// PublishEvents publishes events durably, all of them or none.
func (s *Server) PublishEvents(
	ctx context.Context, request *treatyv1.PublishEventsRequest,
) (*treatyv1.PublishEventsResponse, error) {
	published := request.GetEvents()
	switch n := len(published); {
	case n == 0:
		return nil, invalid("events", "is missing: want 1 to %d events", maxEvents)
	case n > maxEvents:
		return nil, invalid("events", "has %d events; at most %d are allowed", n, maxEvents)
	}
	events, publisher := make([]*journal.Event, len(published)), access.PrincipalOf(ctx).String()
	for i, event := range published {
		var err error
		if events[i], err = s.eventOf(fmt.Sprintf("events[%d]", i), event); err != nil {
			return nil, err
		}
		events[i].Publisher = publisher
	}
	if err := checkDuplicates(events); err != nil {
		return nil, err
	}
	if err := s.checkEventLimit(ctx, len(events)); err != nil {
		return nil, err
	}
	woken, err := s.engine.Publish(ctx, events)
	switch {
	case errors.Is(err, engine.ErrOtherEvent):
		return nil, eventsExistError(events)
	case err != nil:
		return nil, err
	}
	response := &treatyv1.PublishEventsResponse{
		Positions: make([]uint64, len(events)), WokenSagas: new(int32(woken)),
	}
	for i, event := range events {
		response.Positions[i] = event.Position
	}
	return response, nil
}

// checkEventLimit returns an error if the store has as many events as the limit allows. Calls that run at the same time
// may exceed it by their events.
func (s *Server) checkEventLimit(ctx context.Context, more int) error {
	if s.eventLimit <= 0 {
		return nil
	}
	oldest, newest, err := s.store.EventRange(ctx)
	if err != nil {
		return err
	}
	stored := uint64(0)
	if oldest > 0 {
		stored = newest - oldest + 1
	}
	if stored+uint64(more) <= uint64(s.eventLimit) {
		return nil
	}
	return limitReached("%d events are stored, and at most %d may be: publish these %d again once older ones are "+
		"purged; an operator can raise --event-limit, or shorten --event-retention", stored, s.eventLimit, more)
}

// checkDuplicates returns an error when two events of a request have the same source and id but different content.
func checkDuplicates(events []*journal.Event) error {
	type key struct{ source, id string }
	seen := make(map[key]int, len(events))
	for i, event := range events {
		first, again := seen[key{event.Source, event.ID}]
		if !again {
			seen[key{event.Source, event.ID}] = i
			continue
		}
		if before := events[first]; before.Type != event.Type || before.Subject != event.Subject ||
			!bytes.Equal(before.Data, event.Data) {
			return invalid(fmt.Sprintf("events[%d].id", i), "%q of source %q is also that of events[%d], which has "+
				"another type, subject or data: want a new id for a new event", event.ID, event.Source, first)
		}
	}
	return nil
}

// eventsExistError returns the error that names the events that exist already with other content.
func eventsExistError(events []*journal.Event) error {
	const most = 10
	var names []string
	foreign := false
	for i, event := range events {
		if event.Err != nil && len(names) < most {
			names = append(names, fmt.Sprintf("events[%d] (id %q of source %q)", i, event.ID, event.Source))
		}
		foreign = foreign || errors.Is(event.Err, journal.ErrForeign)
	}
	e := &apiError{
		code: codes.AlreadyExists, reason: treatyv1.ErrorReason_ERROR_REASON_EVENT_EXISTS,
		message: "nothing was published, because these events exist with another type, subject or data: " +
			strings.Join(names, ", ") + "; use a new id for a new event",
	}
	if foreign {
		e.reason = treatyv1.ErrorReason_ERROR_REASON_OTHER_PUBLISHER
		e.message = "nothing was published, because other principals have published events with the sources and ids " +
			"of some of these: " + strings.Join(names, ", ") + "; use a source of your own"
	}
	return e
}

// eventOf checks an event against its contract. The field is its place in the request.
func (s *Server) eventOf(field string, published *treatyv1.PublishedEvent) (*journal.Event, error) {
	if err := checkIdentity(field, published); err != nil {
		return nil, err
	}
	data := published.GetData()
	if data.GetTypeUrl() == "" {
		return nil, invalid(field+".data", "is missing: want a message that is an event; %s", s.knownEvents())
	}
	known, is := s.catalog.EventType(string(data.MessageName()))
	if !is {
		return nil, s.eventTypeUnknownError(field+".data", data.GetTypeUrl())
	}
	canonical, err := canonicalEvent(field+".data", data, known)
	if err != nil {
		return nil, err
	}
	if t := published.GetType(); t != "" && t != string(known.Type) {
		return nil, invalid(field+".type", "is %q, but the data is a %s: "+
			"leave the type out, or make them equal", untrusted.Shorten(t), known.Type)
	}
	key := field + ".data." + string(known.Key.Name())
	subject, err := known.Subject(canonical)
	switch {
	case errors.Is(err, contract.ErrEmptyKey):
		return nil, invalid(key, "is empty: it is the correlation key, which sagas use to await the event")
	case err != nil:
		return nil, invalid(key, "can't be parsed: %s", untrusted.Reason(err))
	case len(subject) > machine.MaxSubjectBytes:
		return nil, invalid(
			key, "has %d bytes; a correlation key has at most %d", len(subject), machine.MaxSubjectBytes,
		)
	}
	if given := published.GetSubject(); given != "" && given != subject {
		return nil, invalid(field+".subject", "is %q, but %s in the data is %q: "+
			"leave the subject out, or make them equal",
			untrusted.Shorten(given), known.Key.Name(), untrusted.Shorten(subject))
	}
	event := &journal.Event{
		Source:  published.GetSource(),
		ID:      published.GetId(),
		Type:    string(known.Type),
		Subject: subject,
		Data:    canonical,
	}
	if at := published.GetTime(); at != nil {
		if err := at.CheckValid(); err != nil {
			return nil, invalid(field+".time", "isn't a time between the years 1 and 9999")
		}
		if event.Time = at.AsTime().UTC().Truncate(time.Microsecond); event.Time.IsZero() {
			return nil, invalid(field+".time", "is 0001-01-01T00:00:00Z, which many programs use for an unset time: "+
				"leave it out for the time of publishing")
		}
	}
	return event, nil
}

// checkIdentity checks an event's id and source.
func checkIdentity(field string, event *treatyv1.PublishedEvent) error {
	switch n := utf8.RuneCountInString(event.GetId()); {
	case n == 0:
		return invalid(field+".id", "is missing: it keeps a repeated request from publishing the event twice")
	case n > maxEventID:
		return invalid(field+".id", "has %d characters; at most %d are allowed", n, maxEventID)
	}
	switch n := utf8.RuneCountInString(event.GetSource()); {
	case n == 0:
		return invalid(field+".source", "is missing: want the publisher, such as the service's name")
	case n > maxEventSource:
		return invalid(field+".source", "has %d characters; at most %d are allowed", n, maxEventSource)
	}
	if strings.TrimSpace(event.GetId()) == "" {
		return invalid(field+".id", "is blank: want an id that is unique for its source")
	}
	if _, err := url.Parse(event.GetSource()); err != nil || strings.ContainsFunc(event.GetSource(), unicode.IsSpace) {
		return invalid(field+".source", "%q isn't a URI reference: "+
			"want, for example, the service's name, without white space", event.GetSource())
	}
	if strings.HasPrefix(event.GetSource(), wire.SagaPrefix) &&
		(event.GetId() == engine.EventIDReply || event.GetId() == engine.EventIDCompensation) {
		return invalid(field+".id", "%q with a source that begins with %q is reserved for replies, which the "+
			"orchestrator publishes: want another id", event.GetId(), wire.SagaPrefix)
	}
	return nil
}

// canonicalEvent serializes an event's data deterministically, so that an event that is published again is recognized.
func canonicalEvent(field string, data *anypb.Any, event *contract.EventType) ([]byte, error) {
	if n := len(data.GetValue()); n > maxEventBytes {
		return nil, invalid(field, "has %d bytes; at most %d are allowed: store large data elsewhere and publish a "+
			"reference to it", n, maxEventBytes)
	}
	message := untrusted.MessageType(event.Message).New().Interface()
	if err := untrusted.Unmarshal(data.GetValue(), message); err != nil {
		return nil, invalid(field, "can't be read as %s: %s", event.Type, untrusted.Reason(err))
	}
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("serializing an event: %w", err)
	}
	return nonNil(canonical), nil
}

// eventTypeUnknownError returns the error for a type that isn't an event. It names the known events.
func (s *Server) eventTypeUnknownError(field, name string) error {
	p := invalid(field, "is a %q, which isn't marked with (treaty.v1.event) in a contract that is linked into this "+
		"orchestrator; %s", untrusted.Shorten(name), s.knownEvents())
	p.reason = treatyv1.ErrorReason_ERROR_REASON_EVENT_TYPE_UNKNOWN
	return p
}

// knownEvents lists the event types that can be published, for an error message.
func (s *Server) knownEvents() string {
	var names []string
	for event := range s.catalog.EventTypes() {
		names = append(names, string(event.Type))
	}
	if len(names) == 0 {
		return "it doesn't know any events"
	}
	return "it knows " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// publishedOf returns an event as the API returns it.
func publishedOf(event *journal.Event) *treatyv1.PublishedEvent {
	return &treatyv1.PublishedEvent{
		Id: event.ID, Source: event.Source, Type: event.Type, Subject: event.Subject, Time: timestamppb.New(event.Time),
		Position: event.Position, Principal: event.Publisher,
		Data: &anypb.Any{TypeUrl: "type.googleapis.com/" + event.Type, Value: event.Data},
	}
}
