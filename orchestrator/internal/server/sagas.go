package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// The metadata of a call to a saga's own method.
const (
	// HeaderSaga is the header that names the saga, "sagas/{saga}", as soon as its start is durable.
	HeaderSaga = "treaty-saga"

	// HeaderRequestID is where a client may give a request id, for contracts without a field for it.
	HeaderRequestID = "treaty-request-id"
)

// register serves a saga service as itself, with the methods by which parents undo its sagas.
func (s *Server) register(service service) {
	desc := &grpc.ServiceDesc{ServiceName: service.name, HandlerType: (*any)(nil)}
	add := func(method string, handle func(ctx context.Context, request payload) (any, error)) {
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: method[len(service.name)+1:], Handler: handler(method, handle)})
	}
	for _, d := range service.definitions {
		add(d.Definition, func(ctx context.Context, request payload) (any, error) { return s.run(ctx, d, request) })
		if d.Compensation != nil {
			add(d.Compensation.Method, func(ctx context.Context, request payload) (any, error) { return s.undoChild(ctx, d, request) })
		}
	}
	s.grpc.RegisterService(desc, struct{}{})
}

func handler(method string, serve func(ctx context.Context, request payload) (any, error)) grpc.MethodHandler {
	info := &grpc.UnaryServerInfo{FullMethod: "/" + method}
	handle := func(ctx context.Context, request any) (any, error) {
		return serve(ctx, *request.(*payload)) //nolint:forcetypeassert // made a few lines down
	}
	return func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		request := new(payload)
		if err := decode(request); err != nil {
			return nil, err
		}
		if interceptor == nil {
			return handle(ctx, request)
		}
		return interceptor(ctx, request, info, handle)
	}
}

// run starts a saga, names it to the caller, and waits for its end.
func (s *Server) run(ctx context.Context, d *definition, request payload) (any, error) {
	command, err := sentBy(ctx)
	if err != nil {
		return nil, s.explain(ctx, d.Definition, about{definition: d.Definition}, err)
	}
	if command != nil {
		return s.runChild(ctx, d, command, request)
	}
	var requestID string
	if values := metadata.ValueFromIncomingContext(ctx, HeaderRequestID); len(values) > 0 {
		requestID = values[0]
	}
	saga, started, err := s.start(ctx, d, startParams{request: request, requestID: requestID})
	err = s.introduce(ctx, saga, err)
	if err != nil {
		return nil, s.explain(ctx, d.Definition, saga, err)
	}
	end, err := started.Await(ctx)
	if err != nil {
		return nil, s.explain(ctx, d.Definition, saga, err)
	}
	if end.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		return payload(end.Reply), nil
	}
	return nil, ended(saga, s.causeOf(ctx, saga, end), end.Failure)
}

// introduce names a saga to its caller: at once when its start is durable, with the status when that isn't known.
func (s *Server) introduce(ctx context.Context, saga about, err error) error {
	if saga.saga == "" {
		return err
	}
	name := metadata.Pairs(HeaderSaga, saga.name())
	if err == nil {
		return grpc.SendHeader(ctx, name)
	}
	if headerErr := grpc.SetHeader(ctx, name); headerErr != nil {
		s.logger.DebugContext(ctx, "naming a saga to its caller", "saga", saga.name(), "error", headerErr)
	}
	return err
}

// causeOf finds out why a saga was undone. Only three codes leave a doubt.
func (s *Server) causeOf(ctx context.Context, saga about, end engine.SagaEnd) treatyv1.CompensationCause {
	switch codes.Code(end.Failure.GetCode()) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted:
		if view, err := s.engine.Get(ctx, saga.saga); err == nil {
			return view.GetCause()
		}
	}
	return treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED
}

// startParams is what a caller wants to be started.
type startParams struct {
	request   []byte
	requestID string
	sagaID    string
}

// start starts a saga. What it says about the saga is empty when there certainly is none.
func (s *Server) start(ctx context.Context, d *definition, params startParams) (about, Started, error) {
	read, err := d.read(params.request, params.requestID)
	if err != nil {
		return about{}, nil, err
	}
	id := params.sagaID
	if id == "" {
		id = engine.NewID(time.Now(), d.Definition, read.RequestID)
	} else if read.RequestID != "" {
		return about{}, nil, invalid("saga_id", "can't be chosen for a saga with a request id, from which its name is made: leave one of the two out")
	}
	saga := about{saga: id, definition: d.Definition}
	// The anchor hangs from the caller's span itself. A server span in between would be exported only when the call ends, so until then,
	// and for ever if this process is killed, the anchor would lack its parent.
	started, err := s.engine.Start(ctx, engine.StartParams{
		Definition: d.Definition,
		Request:    params.request,
		RequestID:  read.RequestID,
		SagaID:     id,
		Labels:     read.Labels,
		Deadline:   d.Deadline,
		Trace:      s.telemetry.StartAnchor(telemetry.Extract(ctx), saga.name(), d.Definition),
	})
	return saga, started, err
}
