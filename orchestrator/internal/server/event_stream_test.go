package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// listener is a stream of events.
type listener struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[treatyv1.StreamEventsResponse]
	cancel func()
}

// listen opens a stream and waits until it is open, if it can be.
func (a *testServer) listen(request *treatyv1.StreamEventsRequest) *listener {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.ctx())
	a.t.Cleanup(cancel)
	stream, err := a.events.StreamEvents(ctx, request)
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		a.t.Fatal(err)
	}
	return &listener{t: a.t, stream: stream, cancel: cancel}
}

// next returns the ids of the next events.
func (l *listener) next(n int) string {
	l.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		response, err := l.stream.Recv()
		if err != nil {
			l.t.Fatalf("event %d of %d: %v", i, n, err)
		}
		ids[i] = response.GetEvent().GetId()
	}
	return strings.Join(ids, " ")
}

// failure returns how the stream ended.
func (l *listener) failure() (failure, error) {
	l.t.Helper()
	response, err := l.stream.Recv()
	if err == nil {
		l.t.Fatalf("got %v, not the end", response)
	}
	return failureOf(l.t, err), err
}

func (l *listener) expect(want string) {
	l.t.Helper()
	if got := l.next(strings.Count(want, " ") + 1); got != want {
		l.t.Errorf("events %q, want %q", got, want)
	}
}

func (a *testServer) acknowledge(consumer string, position uint64) {
	a.t.Helper()
	if _, err := a.events.AcknowledgeEvents(
		a.ctx(), &treatyv1.AcknowledgeEventsRequest{Consumer: consumer, Position: position},
	); err != nil {
		a.t.Fatal(err)
	}
}

func TestStreamEvents(t *testing.T) {
	for name, test := range map[string]struct {
		request *treatyv1.StreamEventsRequest
		want    string
	}{
		"all":             {&treatyv1.StreamEventsRequest{}, "1 2 3 4 5"},
		"from a position": {&treatyv1.StreamEventsRequest{AfterPosition: 2}, "3 4 5"},
		"of a type":       {&treatyv1.StreamEventsRequest{Types: []string{turnedDownType}}, "2 5"},
		"of a subject":    {&treatyv1.StreamEventsRequest{Subject: "applicants/1"}, "1 5"},
		"of both": {
			&treatyv1.StreamEventsRequest{Types: []string{turnedDownType, verifiedType}, Subject: "applicants/2"},
			"2 4",
		},
		"to a consumer": {
			&treatyv1.StreamEventsRequest{Consumer: "mail", MaxUnacknowledged: 5, Subject: "applicants/3"}, "3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			a.publishAll(
				verified(t, "1", "applicants/1"), turnedDown(t, "2", "applicants/2"), verified(t, "3", "applicants/3"),
			)
			l := a.listen(test.request)
			a.publishAll(verified(t, "4", "applicants/2"), turnedDown(t, "5", "applicants/1"))
			l.expect(test.want)
		})
	}
}

func TestStreamedEventIsWhole(t *testing.T) {
	a := newTestServer(t)
	position := a.publishAll(verified(t, "1", "applicants/1"))[0]
	l := a.listen(&treatyv1.StreamEventsRequest{})
	response, err := l.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	got := response.GetEvent()
	want := verified(t, "1", "applicants/1")
	want.Type, want.Subject, want.Position, want.Time = verifiedType, "applicants/1", position, got.GetTime()
	want.Principal = "local"
	if diff := cmp.Diff(want.String(), got.String()); diff != "" || got.GetTime().AsTime().Unix() != 1_800_000_000 {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

// A stream receives each event once and in order while many more than are read at a time are published.
func TestStreamEventsInOrder(t *testing.T) {
	a := newTestServer(t)
	const n = 500
	l := a.listen(&treatyv1.StreamEventsRequest{Types: []string{verifiedType}})
	var want []string
	var requests []*treatyv1.PublishEventsRequest
	for i := range n {
		want = append(want, fmt.Sprint(i))
		requests = append(requests, &treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{
			turnedDown(t, fmt.Sprintf("other-%d", i), "applicants/1"), verified(t, fmt.Sprint(i), "applicants/1"),
		}})
	}
	var publishing sync.WaitGroup
	defer publishing.Wait() // the last event may arrive before the publisher's reply
	publishing.Go(func() {
		for _, request := range requests {
			if _, err := a.events.PublishEvents(t.Context(), request); err != nil {
				t.Error(err)
				return
			}
		}
	})
	l.expect(strings.Join(want, " "))
}

func TestConsumerContinuesAfterAcknowledgedEvent(t *testing.T) {
	a := newTestServer(t)
	positions := a.publishAll(
		verified(t, "1", "applicants/1"), verified(t, "2", "applicants/2"), verified(t, "3", "applicants/3"),
	)
	first := a.listen(&treatyv1.StreamEventsRequest{Consumer: "mail"})
	first.expect("1 2 3")
	a.acknowledge("mail", positions[1])
	a.acknowledge("mail", positions[0]) // behind; ignored
	second := a.listen(&treatyv1.StreamEventsRequest{Consumer: "mail"})
	second.expect("3")
	got, err := first.failure()
	if want := (failure{code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_TAKEN}); got != want {
		t.Errorf("the first stream ended with %+v (%v), want %+v", got, err, want)
	}
	other := a.listen(&treatyv1.StreamEventsRequest{Consumer: "print", AfterPosition: positions[1]})
	other.expect("3")
	a.acknowledge("mail", positions[2])
	a.publishAll(verified(t, "4", "applicants/4"))
	second.expect("4")
	other.expect("4")
}

func TestConsumersWindow(t *testing.T) {
	a := newTestServer(t)
	var events []*treatyv1.PublishedEvent
	for i := range 7 {
		// Every second event isn't wanted, and so isn't acknowledged either.
		events = append(
			events,
			verified(t, fmt.Sprintf("v%d", i), "applicants/1"),
			turnedDown(t, fmt.Sprintf("t%d", i), "applicants/1"),
		)
	}
	positions := a.publishAll(events...)
	l := a.listen(&treatyv1.StreamEventsRequest{Consumer: "mail", MaxUnacknowledged: 2, Types: []string{verifiedType}})
	l.expect("v0 v1")
	a.acknowledge("mail", positions[0])
	l.expect("v2")
	// More than the window would come now if it weren't kept.
	a.acknowledge("mail", positions[4])
	l.expect("v3 v4")
	// Forward past what was sent.
	a.acknowledge("mail", positions[11])
	l.expect("v6")
}

// A consumer is moved past events that it doesn't want, so purging them doesn't end its stream.
func TestConsumerSkipsUnwantedEvents(t *testing.T) {
	a := newTestServer(t)
	l := a.listen(&treatyv1.StreamEventsRequest{Consumer: "mail", Types: []string{verifiedType}})
	first := a.publishAll(verified(t, "v1", "applicants/1"))[0]
	l.expect("v1")
	a.acknowledge("mail", first)
	var events []*treatyv1.PublishedEvent
	for i := range 20 {
		events = append(events, turnedDown(t, fmt.Sprintf("t%d", i), "applicants/1"))
	}
	positions := a.publishAll(append(events, verified(t, "v2", "applicants/1"))...)
	l.expect("v2") // which isn't acknowledged
	a.server.Drain(a.ctx())
	got, err := a.memory.Consumer(t.Context(), journal.Consumer{Name: "mail"})
	if want := positions[20] - 1; err != nil || got.Position != want {
		t.Errorf("the consumer is %+v (%v), want it at %d", got, err, want)
	}
}

// A consumer's filter can't change: events that it has skipped would be missing.
func TestConsumerKeepsItsFilter(t *testing.T) {
	both, one := []string{verifiedType, turnedDownType}, []string{verifiedType}
	for name, test := range map[string]struct {
		first, second *treatyv1.StreamEventsRequest
		refused       bool
		says          []string
	}{
		"the same": {
			first:  &treatyv1.StreamEventsRequest{Types: one, Subject: "applicants/1"},
			second: &treatyv1.StreamEventsRequest{Types: one, Subject: "applicants/1"},
		},
		"all": {
			first: &treatyv1.StreamEventsRequest{}, second: &treatyv1.StreamEventsRequest{MaxUnacknowledged: 3},
		},
		"in another order": {
			first:  &treatyv1.StreamEventsRequest{Types: both},
			second: &treatyv1.StreamEventsRequest{Types: []string{turnedDownType, verifiedType, turnedDownType}},
		},
		"another type": {
			&treatyv1.StreamEventsRequest{Types: one}, &treatyv1.StreamEventsRequest{
				Types: []string{turnedDownType},
			}, true, []string{verifiedType, turnedDownType, "another name"},
		},
		"more types": {
			&treatyv1.StreamEventsRequest{Types: one}, &treatyv1.StreamEventsRequest{Types: both}, true, nil,
		},
		"fewer types": {
			&treatyv1.StreamEventsRequest{Types: both}, &treatyv1.StreamEventsRequest{Types: one}, true, nil,
		},
		"no types": {
			&treatyv1.StreamEventsRequest{Types: one}, &treatyv1.StreamEventsRequest{}, true, []string{"all types"},
		},
		"another subject": {
			&treatyv1.StreamEventsRequest{Subject: "applicants/1"},
			&treatyv1.StreamEventsRequest{Subject: "applicants/2"},
			true,
			[]string{"applicants/1", "applicants/2"},
		},
		"no subject": {
			&treatyv1.StreamEventsRequest{Subject: "applicants/1"}, &treatyv1.StreamEventsRequest{}, true, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			test.first.Consumer, test.second.Consumer = "mail", "mail"
			first := a.listen(test.first)
			second, err := a.events.StreamEvents(a.ctx(), test.second)
			if err != nil {
				t.Fatal(err)
			}
			a.publishAll(verified(t, "1", "applicants/1"))
			response, err := second.Recv()
			if !test.refused {
				if err != nil || response.GetEvent().GetId() != "1" {
					t.Errorf("got %v, %v", response, err)
				}
				return
			}
			if got, want := failureOf(t, err), (failure{code: codes.FailedPrecondition,
				reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_FILTER}); got != want {
				t.Errorf("%+v, want %+v (%v)", got, want, err)
			}
			for _, says := range test.says {
				if !strings.Contains(status.Convert(err).Message(), says) {
					t.Errorf("%v doesn't say %q", err, says)
				}
			}
			first.expect("1") // the first stream continues
		})
	}
}

func TestStreamEventsRefuses(t *testing.T) {
	field := func(name string) failure {
		return failure{
			code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, field: name,
		}
	}
	for name, test := range map[string]struct {
		request *treatyv1.StreamEventsRequest
		want    failure
	}{
		"unknown type": {
			&treatyv1.StreamEventsRequest{Types: []string{verifiedType, "acme.gone.v1.Gone"}},
			failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_EVENT_TYPE_UNKNOWN,
				field:  "types[1]",
			},
		},
		"many types":      {&treatyv1.StreamEventsRequest{Types: make([]string, 101)}, field("types")},
		"long subject":    {&treatyv1.StreamEventsRequest{Subject: strings.Repeat("x", 257)}, field("subject")},
		"consumer's name": {&treatyv1.StreamEventsRequest{Consumer: "Mail"}, field("consumer")},
		"window of none": {
			&treatyv1.StreamEventsRequest{Consumer: "mail", MaxUnacknowledged: -1}, field("max_unacknowledged"),
		},
		"too large a window": {
			&treatyv1.StreamEventsRequest{Consumer: "mail", MaxUnacknowledged: 10_001}, field("max_unacknowledged"),
		},
		"window without a consumer": {&treatyv1.StreamEventsRequest{MaxUnacknowledged: 1}, field("max_unacknowledged")},
		"ahead": {
			&treatyv1.StreamEventsRequest{AfterPosition: 99},
			failure{code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_AHEAD},
		},
		"purged": {
			&treatyv1.StreamEventsRequest{AfterPosition: 1},
			failure{code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_PURGED},
		},
		"purged, by consumer": {
			&treatyv1.StreamEventsRequest{Consumer: "mail"},
			failure{code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_PURGED},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			if test.request.GetConsumer() == "mail" {
				a.publishAll(verified(t, "1", "applicants/1"))
				l := a.listen(&treatyv1.StreamEventsRequest{Consumer: "mail"})
				l.expect("1")
				l.cancel()
			}
			a.publishAll(
				verified(t, "1", "applicants/1"), verified(t, "2", "applicants/2"), verified(t, "3", "applicants/3"),
			)
			if _, err := a.memory.PurgeEvents(t.Context(), time.Unix(1_900_000_000, 0), 2); err != nil {
				t.Fatal(err)
			}
			stream, err := a.events.StreamEvents(a.ctx(), test.request)
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
			if test.want.reason == treatyv1.ErrorReason_ERROR_REASON_EVENTS_PURGED &&
				!strings.Contains(status.Convert(err).Message(), "position 2") {
				t.Errorf("%v doesn't say how to continue", err)
			}
			if test.want.reason == treatyv1.ErrorReason_ERROR_REASON_EVENTS_PURGED && test.request.GetConsumer() != "" {
				a.acknowledge("mail", 2)
				a.listen(test.request).expect("3")
			}
		})
	}
}

// A stream without a position begins with the oldest event in the store.
func TestStreamBeginsWithOldestEvent(t *testing.T) {
	a := newTestServer(t)
	a.publishAll(verified(t, "1", "applicants/1"), verified(t, "2", "applicants/2"), verified(t, "3", "applicants/3"))
	if _, err := a.memory.PurgeEvents(t.Context(), time.Unix(1_900_000_000, 0), 1); err != nil {
		t.Fatal(err)
	}
	a.listen(&treatyv1.StreamEventsRequest{}).expect("2 3")
	a.listen(&treatyv1.StreamEventsRequest{Consumer: "mail"}).expect("2 3")
}

func TestStreamEventsEndsWhenTheOrchestratorStops(t *testing.T) {
	a := newTestServer(t)
	l := a.listen(&treatyv1.StreamEventsRequest{})
	ctx := a.ctx()
	var draining sync.WaitGroup
	defer draining.Wait()
	draining.Go(func() { a.server.Drain(ctx) })
	got, err := l.failure()
	if got != (failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING}) ||
		strings.Contains(status.Convert(err).Message(), "request id") {
		t.Errorf("%+v (%v)", got, err)
	}
}

func TestAcknowledgeEventsRefuses(t *testing.T) {
	a := newTestServer(t)
	a.publishAll(verified(t, "1", "applicants/1"))
	for name, test := range map[string]struct {
		request *treatyv1.AcknowledgeEventsRequest
		want    failure
	}{
		"no consumer": {
			&treatyv1.AcknowledgeEventsRequest{Position: 1},
			failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  "consumer",
			},
		},
		"no position": {
			&treatyv1.AcknowledgeEventsRequest{Consumer: "mail"},
			failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  "position",
			},
		},
		"ahead": {
			&treatyv1.AcknowledgeEventsRequest{Consumer: "mail", Position: 2},
			failure{code: codes.OutOfRange, reason: treatyv1.ErrorReason_ERROR_REASON_EVENTS_AHEAD},
		},
		"unknown consumer": {
			&treatyv1.AcknowledgeEventsRequest{Consumer: "mail", Position: 1},
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_CONSUMER_NOT_FOUND},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.events.AcknowledgeEvents(a.ctx(), test.request)
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
		})
	}
}
