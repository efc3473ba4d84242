package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// began is when every saga of the tests began.
var began = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

// at returns the time that long after began.
func at(after time.Duration) *timestamppb.Timestamp { return timestamppb.New(began.Add(after)) }

// shop holds the test's contracts, as a compiler makes them of testdata/shop/v1/shop.proto.
var shop = sync.OnceValues(func() (*protoregistry.Files, error) {
	// The contracts import what is built into the test, so that options have the types that the generated code has.
	builtIn := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return protocompile.SearchResult{}, err
		}
		return protocompile.SearchResult{Desc: file}, nil
	})
	compiler := protocompile.Compiler{Resolver: protocompile.CompositeResolver{
		&protocompile.SourceResolver{ImportPaths: []string{"testdata"}}, builtIn,
	}}
	compiled, err := compiler.Compile(context.Background(), "shop/v1/shop.proto")
	if err != nil {
		return nil, err
	}
	// Through bytes, as over the wire.
	raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(compiled[0]))
	if err != nil {
		return nil, err
	}
	fileProto := protodesc.ToFileDescriptorProto(compiled[0])
	if err := proto.Unmarshal(raw, fileProto); err != nil {
		return nil, err
	}
	file, err := protodesc.NewFile(fileProto, protoregistry.GlobalFiles)
	if err != nil {
		return nil, err
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(file); err != nil {
		return nil, err
	}
	return files, nil
})

// resolver looks in the shop's contracts, then in what is built in.
type resolver struct{ shop *protoregistry.Files }

func (r resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if file, err := r.shop.FindFileByPath(path); err == nil {
		return file, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (r resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if found, err := r.shop.FindDescriptorByName(name); err == nil {
		return found, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

func (r resolver) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	found, err := r.FindDescriptorByName(name)
	if err != nil {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewMessageType(found.(protoreflect.MessageDescriptor)), nil
}

func (r resolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return r.FindMessageByName(typeName(url))
}

func (r resolver) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

func (r resolver) FindExtensionByNumber(protoreflect.FullName, protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

// shopMessage makes a message of the shop's contracts.
func shopMessage(t testing.TB, name, text string) proto.Message {
	t.Helper()
	files, err := shop()
	if err != nil {
		t.Fatal(err)
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatal(err)
	}
	message := dynamicpb.NewMessage(found.(protoreflect.MessageDescriptor))
	if err := (protojson.UnmarshalOptions{Resolver: resolver{files}}).Unmarshal([]byte(text), message); err != nil {
		t.Fatal(err)
	}
	return message
}

func shopAny(t testing.TB, name, text string) *anypb.Any {
	t.Helper()
	out, err := packed(shopMessage(t, name, text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func shopBytes(t testing.TB, name, text string) []byte { return shopAny(t, name, text).GetValue() }

// fake is an orchestrator's API without an orchestrator.
type fake struct {
	treatyv1.UnimplementedSagaServiceServer
	treatyv1.UnimplementedEventServiceServer
	address string

	mu       sync.Mutex
	sagas    []*treatyv1.Saga
	records  []*treatyv1.SagaRecord
	streams  []stage
	events   []eventStage
	fail     error
	requests []proto.Message
}

// stage is what one WatchSaga stream brings.
type stage struct {
	sagas []*treatyv1.Saga
	err   error
}

// eventStage is what one StreamEvents stream brings.
type eventStage struct {
	events []*treatyv1.PublishedEvent
	err    error
}

// fakeOption changes what a fake serves.
type fakeOption int

const withoutReflection fakeOption = iota + 1

func newFake(t *testing.T, options ...fakeOption) *fake {
	t.Helper()
	files, err := shop()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{address: listener.Addr().String()}
	server := grpc.NewServer()
	treatyv1.RegisterSagaServiceServer(server, f)
	treatyv1.RegisterEventServiceServer(server, f)
	if len(options) == 0 {
		reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(reflection.ServerOptions{
			Services:           served{},
			DescriptorResolver: resolver{files},
		}))
	}
	gone := make(chan error, 1)
	go func() { gone <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-gone; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return f
}

// served names the services that reflection lists.
type served struct{}

func (served) GetServiceInfo() map[string]grpc.ServiceInfo {
	return map[string]grpc.ServiceInfo{
		"grpc.reflection.v1.ServerReflection": {},
		"shop.v1.OrderSagas":                  {},
		"treaty.v1.SagaService":               {},
		"undescribed.v1.Service":              {},
	}
}

// take notes a request and returns the failure that was asked for.
func (f *fake) take(request proto.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request)
	return f.fail
}

func (f *fake) saga(name string) (*treatyv1.Saga, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, saga := range f.sagas {
		if saga.GetName() == name {
			return saga, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "no saga %q", name)
}

func (f *fake) CreateSaga(_ context.Context, in *treatyv1.CreateSagaRequest) (*treatyv1.Saga, error) {
	if err := f.take(in); err != nil {
		return nil, err
	}
	id := in.GetSagaId()
	if id == "" {
		id = "new-1"
	}
	return &treatyv1.Saga{
		Name: "sagas/" + id, Definition: in.GetDefinition(), State: treatyv1.SagaState_SAGA_STATE_RUNNING,
		Request: in.GetRequest(), RequestId: in.GetRequestId(), CreateTime: at(0), UpdateTime: at(0),
	}, nil
}

func (f *fake) GetSaga(_ context.Context, in *treatyv1.GetSagaRequest) (*treatyv1.Saga, error) {
	if err := f.take(in); err != nil {
		return nil, err
	}
	return f.saga(in.GetName())
}

// ListSagas gives two sagas a page.
func (f *fake) ListSagas(_ context.Context, in *treatyv1.ListSagasRequest) (*treatyv1.ListSagasResponse, error) {
	if err := f.take(in); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from := 0
	if in.GetPageToken() == "page-2" {
		from = 2
	}
	out := &treatyv1.ListSagasResponse{}
	for _, saga := range f.sagas[from:min(from+2, len(f.sagas))] {
		short := proto.Clone(saga).(*treatyv1.Saga)
		short.Steps, short.Request, short.Reply = nil, nil, nil
		out.Sagas = append(out.Sagas, short)
	}
	if from == 0 && len(f.sagas) > 2 {
		out.NextPageToken = "page-2"
	}
	return out, nil
}

// WatchSaga brings the next of the streams, and the saga as it is when there is none.
func (f *fake) WatchSaga(in *treatyv1.WatchSagaRequest, out grpc.ServerStreamingServer[treatyv1.WatchSagaResponse]) error {
	if err := f.take(in); err != nil {
		return err
	}
	f.mu.Lock()
	var next stage
	if len(f.streams) > 0 {
		next, f.streams = f.streams[0], f.streams[1:]
		f.mu.Unlock()
	} else {
		f.mu.Unlock()
		saga, err := f.saga(in.GetName())
		if err != nil {
			return err
		}
		next.sagas = []*treatyv1.Saga{saga}
		if !isFinal(saga.GetState()) {
			if err := out.Send(&treatyv1.WatchSagaResponse{Saga: saga}); err != nil {
				return err
			}
			<-out.Context().Done()
			return status.FromContextError(out.Context().Err()).Err()
		}
	}
	for _, saga := range next.sagas {
		if err := out.Send(&treatyv1.WatchSagaResponse{Saga: saga}); err != nil {
			return err
		}
	}
	return next.err
}

func (f *fake) CancelSaga(_ context.Context, in *treatyv1.CancelSagaRequest) (*treatyv1.Saga, error) {
	if err := f.take(in); err != nil {
		return nil, err
	}
	saga, err := f.saga(in.GetName())
	if err != nil {
		return nil, err
	}
	saga = proto.Clone(saga).(*treatyv1.Saga)
	saga.State = treatyv1.SagaState_SAGA_STATE_COMPENSATING
	return saga, nil
}

func (f *fake) ResumeSaga(_ context.Context, in *treatyv1.ResumeSagaRequest) (*treatyv1.Saga, error) {
	if err := f.take(in); err != nil {
		return nil, err
	}
	return &treatyv1.Saga{Name: in.GetName(), State: treatyv1.SagaState_SAGA_STATE_RUNNING}, nil
}

// ListSagaRecords gives the first four records, then the rest.
func (f *fake) ListSagaRecords(_ context.Context, in *treatyv1.ListSagaRecordsRequest) (*treatyv1.ListSagaRecordsResponse, error) {
	if err := f.take(in); err != nil {
		return nil, err
	}
	if _, err := f.saga(in.GetParent()); err != nil {
		return nil, err
	}
	if in.GetPageToken() == "" && len(f.records) > 4 {
		return &treatyv1.ListSagaRecordsResponse{Records: f.records[:4], NextPageToken: "rest"}, nil
	}
	return &treatyv1.ListSagaRecordsResponse{Records: f.records[min(4, len(f.records)):]}, nil
}

func (f *fake) CompleteStep(_ context.Context, in *treatyv1.CompleteStepRequest) (*treatyv1.CompleteStepResponse, error) {
	return &treatyv1.CompleteStepResponse{}, f.take(in)
}

func (f *fake) PublishEvents(_ context.Context, in *treatyv1.PublishEventsRequest) (*treatyv1.PublishEventsResponse, error) {
	if err := f.take(in); err != nil {
		return nil, err
	}
	return &treatyv1.PublishEventsResponse{Positions: []uint64{4711}}, nil
}

func (f *fake) AcknowledgeEvents(_ context.Context, in *treatyv1.AcknowledgeEventsRequest) (*treatyv1.AcknowledgeEventsResponse, error) {
	return &treatyv1.AcknowledgeEventsResponse{}, f.take(in)
}

// StreamEvents brings the next of the event stages, and nothing when there is none.
func (f *fake) StreamEvents(in *treatyv1.StreamEventsRequest, out grpc.ServerStreamingServer[treatyv1.StreamEventsResponse]) error {
	if err := f.take(in); err != nil {
		return err
	}
	if err := out.SendHeader(nil); err != nil {
		return err
	}
	f.mu.Lock()
	var next eventStage
	if len(f.events) > 0 {
		next, f.events = f.events[0], f.events[1:]
	}
	f.mu.Unlock()
	for _, event := range next.events {
		if err := out.Send(&treatyv1.StreamEventsResponse{Event: event}); err != nil {
			return err
		}
	}
	if next.err != nil {
		return next.err
	}
	<-out.Context().Done()
	return status.FromContextError(out.Context().Err()).Err()
}

// last returns the last request of a type.
func last[M proto.Message](t *testing.T, f *fake) M {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range slices.Backward(f.requests) {
		if found, ok := v.(M); ok {
			return found
		}
	}
	var none M
	t.Fatalf("no %T was received", none)
	return none
}

// writeFile writes a file that a command line names, and returns its path.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// validJSONLines fails unless every line is one JSON value.
func validJSONLines(t *testing.T, r io.Reader) {
	t.Helper()
	for decoder := json.NewDecoder(r); ; {
		var value map[string]any
		if err := decoder.Decode(&value); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("not JSON: %v", err)
		}
	}
}
