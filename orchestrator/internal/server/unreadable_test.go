package server_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// A request that isn't protobuf is the client's error, whichever service receives it.
func TestUnreadableRequests(t *testing.T) {
	a := newTestServer(t)
	type method struct {
		name    string
		request string // the message's name
	}
	var methods []method
	for _, service := range []protoreflect.ServiceDescriptor{
		treatyv1.File_treaty_v1_saga_service_proto.Services().ByName("SagaService"),
		treatyv1.File_treaty_v1_event_service_proto.Services().ByName("EventService"),
		treatyv1.File_treaty_v1_participant_service_proto.Services().ByName("ParticipantService"),
		customerv1.File_acme_customer_v1_customer_sagas_proto.Services().ByName("CustomerSagas"),
	} {
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			if m.IsStreamingClient() {
				continue // An orchestrator serves no stream of commands.
			}
			methods = append(methods, method{
				fmt.Sprintf("/%s/%s", service.FullName(), m.Name()), string(m.Input().FullName()),
			})
		}
	}
	for _, m := range methods {
		for what, sent := range map[string]raw{"no protobuf": "\xff\xff\xff", "cut off": "\x0a\x05ab"} {
			t.Run(m.name+"/"+what, func(t *testing.T) {
				stream, err := a.conn.NewStream(a.ctx(), &grpc.StreamDesc{ServerStreams: true}, m.name,
					grpc.ForceCodec(rawCodec{}))
				if err != nil {
					t.Fatal(err)
				}
				// A stream that was refused already is io.EOF here. RecvMsg tells why.
				if err := errors.Join(stream.SendMsg(sent), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				err = stream.RecvMsg(new(emptypb.Empty))
				want := failure{
					code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
					field: "request",
				}
				got, message := failureOf(t, err), status.Convert(err).Message()
				if got != want || !strings.Contains(message, m.request) {
					t.Errorf("%+v, want %+v and %s (%v)", got, want, m.request, err)
				}
			})
		}
	}
}

// TestLargeRequests sends requests of more than 64 KiB. Only those may be as large that carry payloads.
func TestLargeRequests(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for name, test := range map[string]struct {
		call    func(a *testServer) error
		refused bool
	}{
		"get": {func(a *testServer) error {
			_, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: long})
			return err
		}, true},
		"list": {func(a *testServer) error {
			_, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{Filter: long})
			return err
		}, true},
		"watch": {func(a *testServer) error {
			stream, err := a.sagas.WatchSaga(a.ctx(), &treatyv1.WatchSagaRequest{Name: long})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}, true},
		"stream events": {func(a *testServer) error {
			stream, err := a.events.StreamEvents(a.ctx(), &treatyv1.StreamEventsRequest{Subject: long})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}, true},
		"publish": {func(a *testServer) error {
			_, err := a.events.PublishEvents(a.ctx(), &treatyv1.PublishEventsRequest{
				Events: []*treatyv1.PublishedEvent{large(t, "1", len(long))},
			})
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.call(newTestServer(t))
			refused := strings.Contains(status.Convert(err).Message(), "at most 65536 are allowed")
			if refused != test.refused || refused && failureOf(t, err).field != "request" {
				t.Errorf("got %v", err)
			}
			if !test.refused && err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}
