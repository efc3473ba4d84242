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
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

const (
	// MaxEvents is how many events one request may publish.
	MaxEvents = 1000

	// MaxEventID is how many characters an event's id may have.
	MaxEventID = 128

	// MaxEventSource is how many characters an event's source may have.
	MaxEventSource = 256

	// MaxEventBytes is how many bytes an event's data may have.
	MaxEventBytes = 1 << 20
)

// PublishEvents makes events durable, all of them or none.
func (s *Server) PublishEvents(ctx context.Context, request *treatyv1.PublishEventsRequest) (*treatyv1.PublishEventsResponse, error) {
	published := request.GetEvents()
	switch n := len(published); {
	case n == 0:
		return nil, invalid("events", "is missing: give 1 to %d of them", MaxEvents)
	case n > MaxEvents:
		return nil, invalid("events", "has %d of them; at most %d are allowed at once", n, MaxEvents)
	}
	events := make([]*journal.Event, len(published))
	for i, event := range published {
		var err error
		if events[i], err = s.eventOf(fmt.Sprintf("events[%d]", i), event); err != nil {
			return nil, err
		}
	}
	if err := checkDuplicates(events); err != nil {
		return nil, err
	}
	err := s.engine.Publish(ctx, events)
	switch {
	case errors.Is(err, engine.ErrOtherEvent):
		return nil, eventsExistError(events)
	case err != nil:
		return nil, err
	}
	response := &treatyv1.PublishEventsResponse{Positions: make([]uint64, len(events))}
	for i, event := range events {
		response.Positions[i] = event.Position
	}
	return response, nil
}

// checkDuplicates finds an event that is another one than that of the same source and id before it in the request.
func checkDuplicates(events []*journal.Event) error {
	type key struct{ source, id string }
	seen := make(map[key]int, len(events))
	for i, event := range events {
		first, again := seen[key{event.Source, event.ID}]
		if !again {
			seen[key{event.Source, event.ID}] = i
			continue
		}
		if before := events[first]; before.Type != event.Type || before.Subject != event.Subject || !bytes.Equal(before.Data, event.Data) {
			return invalid(fmt.Sprintf("events[%d].id", i), "%q of source %q is that of events[%d], whose type, subject or data is another: give what is new a new id", event.ID, event.Source, first)
		}
	}
	return nil
}

// eventsExistError names the events for which nothing was published.
func eventsExistError(events []*journal.Event) error {
	const most = 10
	var names []string
	for i, event := range events {
		if event.Err != nil && len(names) < most {
			names = append(names, fmt.Sprintf("events[%d] (id %q of source %q)", i, event.ID, event.Source))
		}
	}
	return &apiError{
		code: codes.AlreadyExists, reason: treatyv1.ErrorReason_ERROR_REASON_EVENT_EXISTS,
		message: "nothing was published, for these were published before with another type, subject or data: " + strings.Join(names, ", ") + "; give what is new a new id",
	}
}

// eventOf checks an event against its contract. The field is where it stands in the request.
func (s *Server) eventOf(field string, published *treatyv1.PublishedEvent) (*journal.Event, error) {
	if err := checkIdentity(field, published); err != nil {
		return nil, err
	}
	data := published.GetData()
	if data.GetTypeUrl() == "" {
		return nil, invalid(field+".data", "is missing: give a message that is an event; %s", s.knownEvents())
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
		return nil, invalid(field+".type", "is %q, but the data is a %s: leave the type out, or make both the same", untrusted.Shorten(t), known.Type)
	}
	key := field + ".data." + string(known.Key.Name())
	subject, err := known.Subject(canonical)
	switch {
	case errors.Is(err, contract.ErrEmptyKey):
		return nil, invalid(key, "is empty: it is the correlation key, by which sagas await the event")
	case err != nil:
		return nil, invalid(key, "can't be read: %s", untrusted.Reason(err))
	case len(subject) > machine.MaxSubjectBytes:
		return nil, invalid(key, "has %d bytes; a correlation key has at most %d", len(subject), machine.MaxSubjectBytes)
	}
	if given := published.GetSubject(); given != "" && given != subject {
		return nil, invalid(field+".subject", "is %q, but %s in the data is %q: leave the subject out, or make both the same", untrusted.Shorten(given), known.Key.Name(), untrusted.Shorten(subject))
	}
	event := &journal.Event{Source: published.GetSource(), ID: published.GetId(), Type: string(known.Type), Subject: subject, Data: canonical}
	if at := published.GetTime(); at != nil {
		if err := at.CheckValid(); err != nil {
			return nil, invalid(field+".time", "is no time between the years 1 and 9999")
		}
		if event.Time = at.AsTime().UTC().Truncate(time.Microsecond); event.Time.IsZero() {
			return nil, invalid(field+".time", "is 0001-01-01T00:00:00Z, which stands for no time in many programs: leave it out for the time of publishing")
		}
	}
	return event, nil
}

// checkIdentity checks what tells an event apart.
func checkIdentity(field string, event *treatyv1.PublishedEvent) error {
	switch n := utf8.RuneCountInString(event.GetId()); {
	case n == 0:
		return invalid(field+".id", "is missing: with it, publishing again after a lost answer publishes nothing twice")
	case n > MaxEventID:
		return invalid(field+".id", "has %d characters; at most %d are allowed", n, MaxEventID)
	}
	switch n := utf8.RuneCountInString(event.GetSource()); {
	case n == 0:
		return invalid(field+".source", "is missing: say who publishes the event, e.g. the service's name")
	case n > MaxEventSource:
		return invalid(field+".source", "has %d characters; at most %d are allowed", n, MaxEventSource)
	}
	if strings.TrimSpace(event.GetId()) == "" {
		return invalid(field+".id", "is blank: give one that tells the event apart from others of its source")
	}
	if _, err := url.Parse(event.GetSource()); err != nil || strings.ContainsFunc(event.GetSource(), unicode.IsSpace) {
		return invalid(field+".source", "%q is no URI reference: give e.g. the service's name, without white space", event.GetSource())
	}
	if strings.HasPrefix(event.GetSource(), wire.SagaPrefix) && (event.GetId() == engine.EventIDReply || event.GetId() == engine.EventIDCompensation) {
		return invalid(field+".id", "%q of a source that begins with %q is for the replies that the orchestrator itself publishes: give it another id", event.GetId(), wire.SagaPrefix)
	}
	return nil
}

// canonicalEvent serializes an event's data in the one way in which it is stored. Serializing isn't stable, above all
// that of maps, and an event that is published again must be known as the same.
func canonicalEvent(field string, data *anypb.Any, event *contract.EventType) ([]byte, error) {
	if n := len(data.GetValue()); n > MaxEventBytes {
		return nil, invalid(field, "has %d bytes; at most %d are allowed: keep what is long elsewhere, and publish where it is", n, MaxEventBytes)
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

// eventTypeUnknownError says that a type is no event, and what is.
func (s *Server) eventTypeUnknownError(field, name string) error {
	p := invalid(field, "is a %q, which no contract that is linked into this orchestrator marks with (treaty.v1.event); %s", untrusted.Shorten(name), s.knownEvents())
	p.reason = treatyv1.ErrorReason_ERROR_REASON_EVENT_TYPE_UNKNOWN
	return p
}

// knownEvents lists the events that can be published here.
func (s *Server) knownEvents() string {
	var names []string
	for event := range s.catalog.EventTypes() {
		names = append(names, string(event.Type))
	}
	if len(names) == 0 {
		return "it knows no events at all"
	}
	return "it knows " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// publishedOf is an event as it is handed on.
func publishedOf(event *journal.Event) *treatyv1.PublishedEvent {
	return &treatyv1.PublishedEvent{
		Id: event.ID, Source: event.Source, Type: event.Type, Subject: event.Subject, Time: timestamppb.New(event.Time), Position: event.Position,
		Data: &anypb.Any{TypeUrl: "type.googleapis.com/" + event.Type, Value: event.Data},
	}
}
