package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// register serves a saga service as itself, with the methods by which parents compensate its sagas.
func (s *Server) register(service service) {
	desc := &grpc.ServiceDesc{ServiceName: service.name, HandlerType: (*any)(nil)}
	add := func(method string, handle func(ctx context.Context, request payload) (any, error)) {
		desc.Methods = append(
			desc.Methods, grpc.MethodDesc{MethodName: method[len(service.name)+1:], Handler: handler(method, handle)},
		)
	}
	for _, d := range service.definitions {
		add(d.Definition, func(ctx context.Context, request payload) (any, error) { return s.run(ctx, d, request) })
		if d.Compensation != nil {
			add(
				d.Compensation.Method,
				func(ctx context.Context, request payload) (any, error) { return s.compensateChild(ctx, d, request) },
			)
		}
	}
	s.grpc.RegisterService(desc, struct{}{})
}

func handler(method string, serve func(ctx context.Context, request payload) (any, error)) grpc.MethodHandler {
	info := &grpc.UnaryServerInfo{FullMethod: "/" + method}
	handle := func(ctx context.Context, request any) (any, error) {
		return serve(ctx, *request.(*payload)) //nolint:forcetypeassert // made below
	}
	return func(
		_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
	) (any, error) {
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

// run starts a saga, sends its name to the caller, and waits for its end.
func (s *Server) run(ctx context.Context, d *definition, request payload) (any, error) {
	command, err := s.parentCommand(ctx, d.Definition, d)
	if err != nil {
		return nil, err
	}
	if command != nil {
		return s.runChild(ctx, d, command, request)
	}
	var requestID string
	if values := metadata.ValueFromIncomingContext(ctx, wire.RequestIDKey); len(values) > 0 {
		requestID = values[0]
	}
	saga, started, err := s.start(ctx, d, startParams{request: request, requestID: requestID})
	if err = s.sendSagaName(ctx, saga, err); err != nil {
		return nil, saga.of(err)
	}
	end, err := started.Await(ctx)
	if err != nil {
		return nil, saga.of(err)
	}
	if end.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		return payload(end.Reply), nil
	}
	return nil, &sagaEndedError{saga: saga, cause: s.causeOf(ctx, saga, end), failure: end.Failure}
}

// sendSagaName sends the saga's name in the header once its start is durable. When it isn't known whether the start is
// durable, or when the request id belongs to an earlier saga, the name comes with the status. A start that was refused
// has no name, since there is no saga. It returns the error of the start, or its own.
func (s *Server) sendSagaName(ctx context.Context, saga subject, err error) error {
	if saga.saga == "" || err != nil && !mayExist(err) {
		return err
	}
	header := metadata.Pairs(wire.SagaKey, saga.sagaName())
	if err == nil {
		if err := grpc.SendHeader(ctx, header); err != nil {
			return sendError("sending the saga's name", err)
		}
		return nil
	}
	if headerErr := grpc.SetHeader(ctx, header); headerErr != nil {
		s.logger.DebugContext(
			ctx, "setting the header with a saga's name failed", "saga", saga.sagaName(), "error", headerErr,
		)
	}
	return err
}

// mayExist returns whether there may be a saga although its start failed with this error. A store that is full, can't
// be written or can't be read has stored nothing, although a failed commit is in doubt in general.
func mayExist(err error) bool {
	for _, refused := range []error{journal.ErrFull, journal.ErrReadOnly, journal.ErrCorrupt} {
		if errors.Is(err, refused) {
			return false
		}
	}
	return errors.Is(err, engine.ErrInDoubt) || errors.Is(err, engine.ErrOtherRequest)
}

// causeOf returns why a saga was compensated. Only three codes leave that open.
func (s *Server) causeOf(ctx context.Context, saga subject, end engine.SagaEnd) treatyv1.CompensationCause {
	switch codes.Code(end.Failure.GetCode()) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted:
		if view, err := s.engine.Get(ctx, saga.saga); err == nil {
			return view.GetCause()
		}
	}
	return treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED
}

// startParams are the parts of a call that starts a saga.
type startParams struct {
	request   []byte
	requestID string
	sagaID    string
}

// start starts a saga. The subject is empty when the saga certainly doesn't exist.
func (s *Server) start(ctx context.Context, d *definition, params startParams) (subject, Started, error) {
	read, err := d.read(params.request, params.requestID)
	if err != nil {
		return subject{}, nil, err
	}
	if err := s.startRates.take(ctx); err != nil {
		return subject{}, nil, err
	}
	id := params.sagaID
	if id == "" {
		id = engine.NewID(time.Now(), s.name, d.Definition, read.RequestID)
	} else if read.RequestID != "" {
		return subject{}, nil, invalid("saga_id", "can't be combined with a request id, from which the saga's id is "+
			"derived: leave one of the two out")
	}
	saga, principal := subject{saga: id, definition: d.Definition}, access.PrincipalOf(ctx).String()
	// The anchor's parent is the caller's span. A server span between them would be exported only when the call ends,
	// so until then, and forever if this process is killed, the anchor would lack its parent.
	started, err := s.engine.Start(ctx, engine.StartParams{
		Definition: d.Definition,
		Request:    params.request,
		RequestID:  read.RequestID,
		SagaID:     id,
		Labels:     read.Labels,
		Deadline:   d.Deadline,
		Trace:      s.telemetry.NewAnchor(ctx, saga.sagaName(), d.Definition),
		Principal:  principal,
	})
	if err != nil {
		return saga, nil, saga.of(err)
	}
	if err := s.checkAttached(ctx, saga, started.StartedBy(), principal); err != nil {
		return subject{}, nil, err
	}
	return saga, started, nil
}

// checkAttached returns an error if a start has found the saga of another principal, and the caller may not read it.
func (s *Server) checkAttached(ctx context.Context, saga subject, starter, principal string) error {
	if s.authorizer == nil || starter == "" || starter == principal {
		return nil
	}
	q := question{server: s, ctx: ctx, method: saga.definition}
	return q.ask(access.Request{Action: access.Read, Definition: saga.definition, Saga: saga.sagaName()})
}
