package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// CreateSaga starts a saga and returns it without waiting for its end.
func (s *Server) CreateSaga(ctx context.Context, request *treatyv1.CreateSagaRequest) (*treatyv1.Saga, error) {
	if request.GetDefinition() == "" {
		return nil, invalid("definition", "is missing: want package.Service/Method")
	}
	d, known := s.definitions[strings.TrimPrefix(request.GetDefinition(), "/")]
	if !known {
		name := untrusted.Shorten(request.GetDefinition())
		return nil, &apiError{
			code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_DEFINITION_NOT_FOUND,
			subject: subject{definition: name},
			message: fmt.Sprintf("this orchestrator doesn't run sagas of %q; %s", name, s.listDefinitions()),
		}
	}
	if err := checkType("request", request.GetRequest(), d.Input); err != nil {
		return nil, err
	}
	if id := request.GetSagaId(); id != "" && !validSagaID(id) {
		return nil, invalid("saga_id", "%q is invalid: want 1 to %d lower-case letters, digits and hyphens that "+
			"begin with a letter and don't end with a hyphen", untrusted.Shorten(id), maxSagaID)
	}
	saga, _, err := s.start(ctx, d, startParams{
		request: request.GetRequest().GetValue(), requestID: request.GetRequestId(), sagaID: request.GetSagaId(),
	})
	if err != nil {
		return nil, err
	}
	return s.view(ctx, saga.saga)
}

// listDefinitions lists the definitions that this orchestrator runs, for an error message.
func (s *Server) listDefinitions() string {
	if len(s.definitions) == 0 {
		return "it doesn't run any"
	}
	var names []string
	for name := range s.definitions {
		names = append(names, name)
	}
	slices.Sort(names)
	return "it runs " + strings.Join(names, ", ")
}

// checkType checks that an Any holds a message of the wanted type.
func checkType(field string, held *anypb.Any, wanted protoreflect.MessageDescriptor) error {
	if held.GetTypeUrl() == "" {
		return invalid(field, "is missing: want a %s", wanted.FullName())
	}
	if held.MessageName() != wanted.FullName() {
		return invalid(field, "is a %q: want a %s", untrusted.Shorten(held.GetTypeUrl()), wanted.FullName())
	}
	return nil
}

// checkMessage checks that an Any holds a valid message of the wanted type.
func checkMessage(field string, held *anypb.Any, wanted protoreflect.MessageDescriptor) error {
	if err := checkType(field, held, wanted); err != nil {
		return err
	}
	if err := untrusted.Unmarshal(held.GetValue(), untrusted.MessageType(wanted).New().Interface()); err != nil {
		return invalid(field, "can't be read as %s: %s", wanted.FullName(), untrusted.Reason(err))
	}
	return nil
}

// view returns a redacted saga.
func (s *Server) view(ctx context.Context, id string) (*treatyv1.Saga, error) {
	saga, err := s.engine.Get(ctx, id)
	if err != nil {
		return nil, subject{saga: id}.of(err)
	}
	return s.shownTo(ctx, saga), nil
}

// redacted returns a redacted copy of a saga.
func redacted(saga *treatyv1.Saga) *treatyv1.Saga {
	copied := proto.CloneOf(saga)
	contract.Redact(copied)
	return copied
}

// GetSaga returns one saga with its steps.
func (s *Server) GetSaga(ctx context.Context, request *treatyv1.GetSagaRequest) (*treatyv1.Saga, error) {
	id, err := parseName("name", request.GetName())
	if err != nil {
		return nil, err
	}
	return s.view(ctx, id)
}

// WaitSaga waits for the end of a saga and returns it.
func (s *Server) WaitSaga(ctx context.Context, request *treatyv1.WaitSagaRequest) (*treatyv1.Saga, error) {
	id, err := parseName("name", request.GetName())
	if err != nil {
		return nil, err
	}
	wait, cancel := s.untilStopping(ctx)
	defer cancel()
	if _, err := s.engine.Await(wait, id); err != nil {
		if cause := context.Cause(wait); errors.Is(cause, engine.ErrStopping) {
			err = cause
		}
		return nil, err
	}
	return s.view(ctx, id)
}

// untilStopping returns a context that also ends when the server begins to drain; its cause is then ErrStopping.
func (s *Server) untilStopping(ctx context.Context) (context.Context, func()) {
	wait, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		select {
		case <-s.stopping:
			cancel(engine.ErrStopping)
		case <-done:
		}
	}()
	return wait, func() { close(done); cancel(nil) }
}

// WatchSaga streams a saga as it is now and after each change, also of whether it is driven, until it ends.
func (s *Server) WatchSaga(
	request *treatyv1.WatchSagaRequest, stream grpc.ServerStreamingServer[treatyv1.WatchSagaResponse],
) error {
	id, err := parseName("name", request.GetName())
	if err != nil {
		return err
	}
	call, err := s.openStream(stream.Context())
	if err != nil {
		return err
	}
	defer call.Close()
	watch := s.engine.Watch(id)
	defer watch.Close()
	ctx, cancel := s.untilStopping(stream.Context())
	defer cancel()
	for {
		if err := s.awaitReader(ctx, call); err != nil {
			return err
		}
		view, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		encoded, err := s.encodeFor(ctx, view)
		if err != nil {
			return err
		}
		if err := s.sendChange(ctx, call, encoded, stream); err != nil {
			return err
		}
		if view.Saga.GetEndTime() != nil {
			return nil
		}
	}
}

// encodeFor returns the serialized response to one who watches a saga.
func (s *Server) encodeFor(ctx context.Context, view *engine.SagaView) ([]byte, error) {
	if !s.hidesTexts(ctx, view.Saga.GetDefinition()) {
		return view.Encoded(s.encodeWatched)
	}
	encoded, err := proto.Marshal(&treatyv1.WatchSagaResponse{Saga: s.shownTo(ctx, view.Saga)})
	if err != nil {
		return nil, fmt.Errorf("serializing %s for one who watches it: %w", view.Saga.GetName(), err)
	}
	return encoded, nil
}

// encodeWatched returns the serialized response to all who watch a saga.
func (s *Server) encodeWatched(saga *treatyv1.Saga) ([]byte, error) {
	encoded, err := proto.Marshal(&treatyv1.WatchSagaResponse{Saga: s.shown(saga)})
	if err != nil {
		return nil, fmt.Errorf("serializing %s for those who watch it: %w", saga.GetName(), err)
	}
	return encoded, nil
}

// CancelSaga cancels a saga, which compensates it.
func (s *Server) CancelSaga(ctx context.Context, request *treatyv1.CancelSagaRequest) (*treatyv1.Saga, error) {
	id, err := parseName("name", request.GetName())
	if err != nil {
		return nil, err
	}
	decide := decisionOf
	if request.GetDecision() != nil {
		decide = personsDecisionOf
	}
	decision, err := decide(ctx, request.GetDecision())
	if err != nil {
		return nil, err
	}
	if err := s.engine.Cancel(ctx, id, engine.CancelParams{Decision: decision, Etag: request.GetEtag()}); err != nil {
		return nil, err
	}
	return s.view(ctx, id)
}
