// Package servertest serves the gRPC API of an orchestrator to tests, without an orchestrator.
//
// [New] starts a server whose data the test sets. The server answers from that data and remembers every request; see
// [Last]. It also offers server reflection for the contracts of a made-up shop, compiled from
// testdata/shop/v1/shop.proto. [ShopAny] and [ShopBytes] make messages of them.
package servertest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
)

// Began is the time at which the fake orchestrator starts every saga.
var Began = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

// Resumed is the time at which the fake orchestrator resumes every saga.
var Resumed = Began.Add(time.Minute)

// Server serves the API of an orchestrator from fixed data. Set the exported fields before the first call; the methods
// that tests call may run concurrently with calls.
type Server struct {
	treatyv1.UnimplementedSagaServiceServer
	treatyv1.UnimplementedEventServiceServer

	// Address is the address of the server, HOST:PORT on loopback.
	Address string

	// Sagas and Records are what the server holds. Every saga has the same records.
	Sagas   []*treatyv1.Saga
	Records []*treatyv1.SagaRecord

	// Participants are the participants.
	Participants []*treatyv1.Participant

	// Lost are the lost sagas.
	Lost []*treatyv1.LostSaga

	// Streams are the WatchSaga streams and Events the StreamEvents streams, one for each call. The server consumes
	// them.
	Streams []Stage
	Events  []EventStage

	// Existing is the saga to which every start attaches; nil lets starts make new sagas.
	Existing *treatyv1.Saga

	// Woken is how many sagas each published event wakes; nil if the server doesn't say.
	Woken *int32

	// NotDriven is why lists say that no saga is driven.
	NotDriven *treatyv1.NotDriven

	// FailFor are the errors of the calls that resume or cancel a saga, by its name.
	FailFor map[string]error

	// Fail is the error of every call; nil lets calls succeed.
	Fail error

	// PageSize is how many sagas a page has. Default 2.
	PageSize int

	// Hold, if it isn't nil, lets a call go on for each element that it receives.
	Hold chan struct{}

	reads chan struct{} // receives each call of GetSaga for which a stream waits

	mu       sync.Mutex
	requests []proto.Message
}

// Stage is what one WatchSaga stream sends, and how it ends.
type Stage struct {
	Sagas []*treatyv1.Saga
	Err   error

	// Reads is how many calls of GetSaga the stream waits for before it sends the last saga.
	Reads int

	// Until, if it isn't nil, is closed when the last saga may be sent.
	Until chan struct{}

	// Stays keeps the stream open after the last saga until the caller ends it.
	Stays bool
}

// EventStage is what one StreamEvents stream sends, and how it ends.
type EventStage struct {
	Events []*treatyv1.PublishedEvent
	Err    error
}

// Option changes what a server serves.
type Option int

const (
	// WithoutReflection turns server reflection off.
	WithoutReflection Option = iota + 1

	// WithoutDefinitions serves no saga definitions.
	WithoutDefinitions
)

// New starts a server on loopback. It stops when the test ends.
func New(t *testing.T, options ...Option) *Server {
	t.Helper()
	files, err := ShopFiles()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{reads: make(chan struct{})}
	server := grpc.NewServer()
	treatyv1.RegisterSagaServiceServer(server, s)
	treatyv1.RegisterEventServiceServer(server, s)
	services := served{
		"grpc.reflection.v1.ServerReflection": {}, "treaty.v1.SagaService": {}, "undescribed.v1.Service": {},
	}
	if !slices.Contains(options, WithoutDefinitions) {
		services["shop.v1.OrderSagas"] = grpc.ServiceInfo{}
	}
	if !slices.Contains(options, WithoutReflection) {
		reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(reflection.ServerOptions{
			Services:           services,
			DescriptorResolver: resolver{files},
		}))
	}
	s.Address = testkit.Serve(t, server)
	return s
}

// served names the services that reflection lists.
type served map[string]grpc.ServiceInfo

func (s served) GetServiceInfo() map[string]grpc.ServiceInfo { return s }

// Requests returns every request that the server received, oldest first.
func (s *Server) Requests() []proto.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// take records a request and returns the error that the call must return.
func (s *Server) take(request proto.Message) error {
	if s.Hold != nil {
		<-s.Hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, request)
	return s.Fail
}

func (s *Server) saga(name string) (*treatyv1.Saga, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, saga := range s.Sagas {
		if saga.GetName() == name {
			return saga, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "no saga %q", name)
}

// CreateSaga answers with a running saga, or with Existing.
func (s *Server) CreateSaga(_ context.Context, in *treatyv1.CreateSagaRequest) (*treatyv1.Saga, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	if s.Existing != nil {
		return s.Existing, nil
	}
	id := in.GetSagaId()
	if id == "" {
		id = "new-1"
	}
	return &treatyv1.Saga{
		Name: wire.SagaName(id), Definition: in.GetDefinition(), State: treatyv1.SagaState_SAGA_STATE_RUNNING,
		Request: in.GetRequest(), RequestId: in.GetRequestId(), CreateTime: timestamppb.New(Began),
		UpdateTime: timestamppb.New(Began),
	}, nil
}

// GetSaga returns a saga of Sagas.
func (s *Server) GetSaga(_ context.Context, in *treatyv1.GetSagaRequest) (*treatyv1.Saga, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	select {
	case s.reads <- struct{}{}:
	default:
	}
	return s.saga(in.GetName())
}

// ListSagas returns the sagas in pages of PageSize.
func (s *Server) ListSagas(_ context.Context, in *treatyv1.ListSagasRequest) (*treatyv1.ListSagasResponse, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from, size := 0, cmp.Or(s.PageSize, 2)
	if in.GetPageToken() == "page-2" {
		from = size
	}
	out := &treatyv1.ListSagasResponse{NotDriven: s.NotDriven}
	for _, saga := range s.Sagas[from:min(from+size, len(s.Sagas))] {
		short := proto.Clone(saga).(*treatyv1.Saga)
		short.Steps, short.Request, short.Reply, short.PossibleDecisions = nil, nil, nil, nil
		if reason := short.GetSuspension().GetReason(); reason != 0 {
			short.Suspension = &treatyv1.SagaSuspended{Reason: reason}
		}
		out.Sagas = append(out.Sagas, short)
	}
	if from == 0 && len(s.Sagas) > size {
		out.NextPageToken = "page-2"
	}
	return out, nil
}

// WatchSaga sends the next of the streams, or the saga as it is when none is left.
func (s *Server) WatchSaga(
	in *treatyv1.WatchSagaRequest, out grpc.ServerStreamingServer[treatyv1.WatchSagaResponse],
) error {
	if err := s.take(in); err != nil {
		return err
	}
	s.mu.Lock()
	var next Stage
	if len(s.Streams) > 0 {
		next, s.Streams = s.Streams[0], s.Streams[1:]
		s.mu.Unlock()
	} else {
		s.mu.Unlock()
		saga, err := s.saga(in.GetName())
		if err != nil {
			return err
		}
		next.Sagas = []*treatyv1.Saga{saga}
		if saga.GetEndTime() == nil {
			if err := out.Send(&treatyv1.WatchSagaResponse{Saga: saga}); err != nil {
				return err
			}
			<-out.Context().Done()
			return status.FromContextError(out.Context().Err()).Err()
		}
	}
	for i, saga := range next.Sagas {
		for range next.Reads {
			if i < len(next.Sagas)-1 {
				break
			}
			select {
			case <-s.reads:
			case <-out.Context().Done():
				return status.FromContextError(out.Context().Err()).Err()
			}
		}
		if next.Until != nil && i == len(next.Sagas)-1 {
			select {
			case <-next.Until:
			case <-out.Context().Done():
				return status.FromContextError(out.Context().Err()).Err()
			}
		}
		if err := out.Send(&treatyv1.WatchSagaResponse{Saga: saga}); err != nil {
			return err
		}
	}
	if next.Stays {
		<-out.Context().Done()
		return status.FromContextError(out.Context().Err()).Err()
	}
	return next.Err
}

// CancelSaga answers with the saga as COMPENSATING.
func (s *Server) CancelSaga(_ context.Context, in *treatyv1.CancelSagaRequest) (*treatyv1.Saga, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	if err := s.FailFor[in.GetName()]; err != nil {
		return nil, err
	}
	saga, err := s.saga(in.GetName())
	if err != nil {
		return nil, err
	}
	saga = proto.Clone(saga).(*treatyv1.Saga)
	saga.State = treatyv1.SagaState_SAGA_STATE_COMPENSATING
	return saga, nil
}

// ResumeSaga answers with a running saga.
func (s *Server) ResumeSaga(_ context.Context, in *treatyv1.ResumeSagaRequest) (*treatyv1.Saga, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	if err := s.FailFor[in.GetName()]; err != nil {
		return nil, err
	}
	return &treatyv1.Saga{
		Name: in.GetName(), State: treatyv1.SagaState_SAGA_STATE_RUNNING, UpdateTime: timestamppb.New(Resumed),
	}, nil
}

// PurgeSaga says that a saga was purged, and a child with it if it is order-1.
func (s *Server) PurgeSaga(_ context.Context, in *treatyv1.PurgeSagaRequest) (*treatyv1.PurgeSagaResponse, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	if err := s.FailFor[in.GetName()]; err != nil {
		return nil, err
	}
	if _, err := s.saga(in.GetName()); err != nil {
		return nil, err
	}
	if in.GetName() == "sagas/order-1" {
		return &treatyv1.PurgeSagaResponse{PurgedSagas: 2}, nil
	}
	return &treatyv1.PurgeSagaResponse{PurgedSagas: 1}, nil
}

// ListParticipants returns the participants.
func (s *Server) ListParticipants(
	_ context.Context, in *treatyv1.ListParticipantsRequest,
) (*treatyv1.ListParticipantsResponse, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	return &treatyv1.ListParticipantsResponse{Participants: s.Participants}, nil
}

// ListLostSagas returns two lost sagas per page.
func (s *Server) ListLostSagas(
	_ context.Context, in *treatyv1.ListLostSagasRequest,
) (*treatyv1.ListLostSagasResponse, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	if in.GetPageToken() == "" && len(s.Lost) > 2 {
		return &treatyv1.ListLostSagasResponse{LostSagas: s.Lost[:2], NextPageToken: "rest"}, nil
	}
	return &treatyv1.ListLostSagasResponse{LostSagas: s.Lost[min(2, len(s.Lost)):]}, nil
}

// DeleteLostSaga accepts every lost saga.
func (s *Server) DeleteLostSaga(
	_ context.Context, in *treatyv1.DeleteLostSagaRequest,
) (*treatyv1.DeleteLostSagaResponse, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	for _, saga := range s.Lost {
		if saga.GetName() == in.GetName() {
			return &treatyv1.DeleteLostSagaResponse{}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "%s isn't lost", in.GetName())
}

// ListSagaRecords returns the first four records, then the rest.
func (s *Server) ListSagaRecords(
	_ context.Context, in *treatyv1.ListSagaRecordsRequest,
) (*treatyv1.ListSagaRecordsResponse, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	if _, err := s.saga(in.GetParent()); err != nil {
		return nil, err
	}
	if in.GetPageToken() == "" && len(s.Records) > 4 {
		return &treatyv1.ListSagaRecordsResponse{Records: s.Records[:4], NextPageToken: "rest"}, nil
	}
	return &treatyv1.ListSagaRecordsResponse{Records: s.Records[min(4, len(s.Records)):]}, nil
}

// CompleteStep accepts every completion.
func (s *Server) CompleteStep(
	_ context.Context, in *treatyv1.CompleteStepRequest,
) (*treatyv1.CompleteStepResponse, error) {
	return &treatyv1.CompleteStepResponse{}, s.take(in)
}

// PublishEvents answers with position 4711.
func (s *Server) PublishEvents(
	_ context.Context, in *treatyv1.PublishEventsRequest,
) (*treatyv1.PublishEventsResponse, error) {
	if err := s.take(in); err != nil {
		return nil, err
	}
	return &treatyv1.PublishEventsResponse{Positions: []uint64{4711}, WokenSagas: s.Woken}, nil
}

// AcknowledgeEvents accepts every acknowledgement.
func (s *Server) AcknowledgeEvents(
	_ context.Context, in *treatyv1.AcknowledgeEventsRequest,
) (*treatyv1.AcknowledgeEventsResponse, error) {
	return &treatyv1.AcknowledgeEventsResponse{}, s.take(in)
}

// StreamEvents sends the next of the event streams, or nothing when none is left.
func (s *Server) StreamEvents(
	in *treatyv1.StreamEventsRequest, out grpc.ServerStreamingServer[treatyv1.StreamEventsResponse],
) error {
	if err := s.take(in); err != nil {
		return err
	}
	if err := out.SendHeader(nil); err != nil {
		return err
	}
	s.mu.Lock()
	var next EventStage
	if len(s.Events) > 0 {
		next, s.Events = s.Events[0], s.Events[1:]
	}
	s.mu.Unlock()
	for _, event := range next.Events {
		if err := out.Send(&treatyv1.StreamEventsResponse{Event: event}); err != nil {
			return err
		}
	}
	if next.Err != nil {
		return next.Err
	}
	<-out.Context().Done()
	return status.FromContextError(out.Context().Err()).Err()
}

// Last returns the last request of type M. It fails the test when the server received none.
func Last[M proto.Message](t *testing.T, s *Server) M {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range slices.Backward(s.requests) {
		if found, ok := v.(M); ok {
			return found
		}
	}
	var none M
	t.Fatalf("no %T was received", none)
	return none
}
