package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const verifiedType, turnedDownType = "acme.identity.v1.ApplicantVerified", "acme.identity.v1.ApplicantTurnedDown"

func verified(t *testing.T, id, applicant string) *treatyv1.PublishedEvent {
	t.Helper()
	return &treatyv1.PublishedEvent{
		Id: id, Source: "register", Data: pack(t, &identityv1.ApplicantVerified{Applicant: applicant}),
	}
}

func turnedDown(t *testing.T, id, applicant string) *treatyv1.PublishedEvent {
	t.Helper()
	return &treatyv1.PublishedEvent{
		Id: id, Source: "register", Data: pack(t, &identityv1.ApplicantTurnedDown{Applicant: applicant}),
	}
}

// publishAll publishes events and returns their positions.
func (a *testServer) publishAll(events ...*treatyv1.PublishedEvent) []uint64 {
	a.t.Helper()
	response, err := a.events.PublishEvents(a.ctx(), &treatyv1.PublishEventsRequest{Events: events})
	if err != nil {
		a.t.Fatal(err)
	}
	return response.GetPositions()
}

func TestPublishEvents(t *testing.T) {
	a := newTestServer(t)
	at := time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)
	full := verified(t, "1", "applicants/1")
	full.Type, full.Subject, full.Time, full.Position = verifiedType, "applicants/1", timestamppb.New(at), 77
	first := a.publishAll(full, turnedDown(t, "2", "applicants/2"))
	if len(first) != 2 || first[0] == 0 || first[1] <= first[0] {
		t.Fatalf("positions %v", first)
	}
	again := a.publishAll(turnedDown(t, "2", "applicants/2"), turnedDown(t, "3", "applicants/3"))
	if again[0] != first[1] || again[1] <= first[1] {
		t.Errorf("positions %v after %v", again, first)
	}
	if twice := a.publishAll(verified(t, "4", "applicants/4"), verified(t, "4", "applicants/4")); twice[0] != twice[1] {
		t.Errorf("the same event twice in a request: positions %v", twice)
	}
	stored, err := a.memory.Events(t.Context(), journal.EventsParams{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, event := range stored {
		got = append(got, fmt.Sprintf("%s %s %s %s", event.Source, event.ID, event.Type, event.Subject))
	}
	want := []string{
		"register 1 " + verifiedType + " applicants/1",
		"register 2 " + turnedDownType + " applicants/2",
		"register 3 " + turnedDownType + " applicants/3",
		"register 4 " + verifiedType + " applicants/4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if !stored[0].Time.Equal(at.Truncate(time.Microsecond)) {
		t.Errorf("time %v", stored[0].Time)
	}
}

// The same event in other bytes is published once, because serialization isn't stable.
func TestPublishEventsAgain(t *testing.T) {
	applicant, reference := []byte("\x0a\x01a"), []byte("\x12\x01r")
	publish := func(a *testServer, parts ...[]byte) (uint64, error) {
		event := verified(t, "1", "a")
		event.Data.Value = slices.Concat(parts...)
		response, err := a.events.PublishEvents(
			a.ctx(), &treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{event}},
		)
		if err != nil {
			return 0, err
		}
		return response.GetPositions()[0], nil
	}
	for name, test := range map[string]struct {
		again [][]byte
		other bool
	}{
		"the same bytes":           {again: [][]byte{applicant, reference}},
		"another order":            {again: [][]byte{reference, applicant}},
		"a field twice":            {again: [][]byte{[]byte("\x0a\x01b"), applicant, reference}},
		"a field more":             {again: [][]byte{applicant, reference, []byte("\xf2\x3f\x01x")}, other: true},
		"another value of a field": {again: [][]byte{applicant, []byte("\x12\x01s")}, other: true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			first, err := publish(a, applicant, reference)
			if err != nil {
				t.Fatal(err)
			}
			again, err := publish(a, test.again...)
			switch {
			case test.other && failureOf(t, err).reason != treatyv1.ErrorReason_ERROR_REASON_EVENT_EXISTS:
				t.Errorf("another event: %d, %v", again, err)
			case !test.other && (err != nil || again != first):
				t.Errorf("the same event: %d, %v, want %d", again, err, first)
			}
		})
	}
}

func TestPublishEventsRefuses(t *testing.T) {
	data := func(change func(*treatyv1.PublishedEvent)) []*treatyv1.PublishedEvent {
		event := verified(t, "2", "applicants/2")
		change(event)
		return []*treatyv1.PublishedEvent{verified(t, "1", "applicants/1"), event}
	}
	field := func(name string) failure {
		return failure{
			code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, field: name,
		}
	}
	for name, test := range map[string]struct {
		events []*treatyv1.PublishedEvent
		want   failure
		says   string
	}{
		"none":     {nil, field("events"), ""},
		"too many": {make([]*treatyv1.PublishedEvent, 1001), field("events"), "1000"},
		"no id":    {data(func(e *treatyv1.PublishedEvent) { e.Id = "" }), field("events[1].id"), ""},
		"long id": {
			data(func(e *treatyv1.PublishedEvent) { e.Id = strings.Repeat("é", 129) }), field("events[1].id"), "",
		},
		"no source": {
			data(func(e *treatyv1.PublishedEvent) { e.Source = "" }), field("events[1].source"), "",
		},
		"blank id": {
			data(func(e *treatyv1.PublishedEvent) { e.Id = " \t" }), field("events[1].id"), "blank",
		},
		"an id twice": {
			data(func(e *treatyv1.PublishedEvent) { e.Id = "1" }), field("events[1].id"), "events[0]",
		},
		"source with a blank": {
			data(func(e *treatyv1.PublishedEvent) { e.Source = "the register" }),
			field("events[1].source"),
			"URI reference",
		},
		"source that is not a URI": {
			data(func(e *treatyv1.PublishedEvent) { e.Source = "%%%" }), field("events[1].source"), "URI reference",
		},
		"source with a control code": {
			data(func(e *treatyv1.PublishedEvent) { e.Source = "register\x00" }),
			field("events[1].source"),
			"URI reference",
		},
		"zero time": {
			data(
				func(e *treatyv1.PublishedEvent) { e.Time = timestamppb.New(time.Time{}) },
			), field("events[1].time"), "leave it out",
		},
		"long source": {
			data(func(e *treatyv1.PublishedEvent) { e.Source = strings.Repeat("é", 257) }),
			field("events[1].source"),
			"",
		},
		"a reply's id": {
			data(
				func(e *treatyv1.PublishedEvent) { e.Source, e.Id = "sagas/a/steps/1", "reply" },
			), field("events[1].id"), "",
		},
		"no data": {data(func(e *treatyv1.PublishedEvent) { e.Data = nil }), field("events[1].data"), verifiedType},
		"no event": {
			data(func(e *treatyv1.PublishedEvent) { e.Data = pack(t, &identityv1.Applicant{}) }),
			failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_EVENT_TYPE_UNKNOWN,
				field:  "events[1].data",
			}, turnedDownType + ", " + verifiedType,
		},
		"unknown type": {
			data(func(e *treatyv1.PublishedEvent) { e.Data.TypeUrl = "x/acme.gone.v1.Gone" }),
			failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_EVENT_TYPE_UNKNOWN,
				field:  "events[1].data",
			}, verifiedType,
		},
		"too large": {
			data(func(e *treatyv1.PublishedEvent) { e.Data.Value = make([]byte, 1<<20+1) }),
			field("events[1].data"),
			"",
		},
		"unreadable": {
			data(func(e *treatyv1.PublishedEvent) { e.Data.Value = []byte("\xff") }), field("events[1].data"), "",
		},
		"other type": {
			data(func(e *treatyv1.PublishedEvent) { e.Type = turnedDownType }), field("events[1].type"), verifiedType,
		},
		"other subject": {
			data(func(e *treatyv1.PublishedEvent) { e.Subject = "applicants/3" }),
			field("events[1].subject"),
			"applicants/2",
		},
		"empty key": {
			data(func(e *treatyv1.PublishedEvent) { e.Data.Value = nil }),
			field("events[1].data.applicant"),
			"correlation key",
		},
		"long key": {
			data(func(e *treatyv1.PublishedEvent) {
				e.Data = pack(t, &identityv1.ApplicantVerified{Applicant: strings.Repeat("x", 257)})
			}), field("events[1].data.applicant"), "",
		},
		"no time": {
			data(func(e *treatyv1.PublishedEvent) { e.Time = &timestamppb.Timestamp{Seconds: 1 << 50} }),
			field("events[1].time"),
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			a.engine.publish = func([]*journal.Event) error {
				t.Error("something is published")
				return nil
			}
			_, err := a.events.PublishEvents(a.ctx(), &treatyv1.PublishEventsRequest{Events: test.events})
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
			if !strings.Contains(status.Convert(err).Message(), test.says) {
				t.Errorf("%v doesn't say %q", err, test.says)
			}
		})
	}
}

func TestPublishEventsFails(t *testing.T) {
	a := newTestServer(t)
	a.publishAll(verified(t, "1", "applicants/1"))
	_, err := a.events.PublishEvents(
		a.ctx(),
		&treatyv1.PublishEventsRequest{
			Events: []*treatyv1.PublishedEvent{verified(t, "2", "applicants/2"), verified(t, "1", "applicants/3")},
		},
	)
	if got, want := failureOf(t, err), (failure{code: codes.AlreadyExists,
		reason: treatyv1.ErrorReason_ERROR_REASON_EVENT_EXISTS}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if text := status.Convert(err).Message(); !strings.Contains(text, `events[1] (id "1" of source "register")`) ||
		strings.Contains(text, "events[0]") {
		t.Errorf("message %q", text)
	}
	for name, test := range map[string]struct {
		err  error
		want failure
		says string
	}{
		"in doubt": {
			engine.ErrInDoubt,
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_IN_DOUBT},
			"the same sources and ids",
		},
		"stopping": {
			engine.ErrStopping,
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING},
			"repeat the call when it runs again",
		},
		"closed": {
			wrapped(engine.ErrInDoubt, journal.ErrClosed),
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING},
			"repeat the call when it runs again",
		},
		"a full store": {
			wrapped(engine.ErrInDoubt, journal.ErrFull),
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_FULL},
			"no space left",
		},
		"a read-only store": {
			wrapped(engine.ErrInDoubt, journal.ErrReadOnly),
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_READ_ONLY},
			"can't be written",
		},
		"a corrupt store": {
			wrapped(engine.ErrInDoubt, journal.ErrCorrupt),
			failure{code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_CORRUPT},
			"the stored events",
		},
		"an unknown error": {
			errSecret, failure{code: codes.Internal, reason: treatyv1.ErrorReason_ERROR_REASON_INTERNAL}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a.engine.publish = func([]*journal.Event) error { return test.err }
			_, err := a.events.PublishEvents(
				a.ctx(),
				&treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{verified(t, "3", "applicants/3")}},
			)
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
			if text := status.Convert(err).Message(); !strings.Contains(text, test.says) ||
				strings.Contains(text, "saga") {
				t.Errorf("message %q doesn't say %q", text, test.says)
			}
		})
	}
}

// TestEventLimit publishes as many events as may be stored, and more. Those that are purged make room.
func TestEventLimit(t *testing.T) {
	a := newSecureTestServer(t, security{eventLimit: 3})
	a.publishAll(verified(t, "1", "applicants/1"), verified(t, "2", "applicants/1"))
	two := &treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{
		verified(t, "3", "applicants/1"), verified(t, "4", "applicants/1"),
	}}
	if _, err := a.events.PublishEvents(a.ctx(), two); !isLimitReached(t, err) {
		t.Errorf("two more: %v", err)
	}
	a.publishAll(verified(t, "5", "applicants/1"))
	if _, err := a.memory.PurgeEvents(t.Context(), time.Unix(1_900_000_000, 0), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := a.events.PublishEvents(a.ctx(), two); err != nil {
		t.Errorf("two more, after two were purged: %v", err)
	}
}
