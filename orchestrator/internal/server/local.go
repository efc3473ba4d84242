package server

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// localPatience is how long a parent waits for a child of the same orchestrator until it asks again by itself. It is told when the child
// ends, so this only matters when that is lost.
const localPatience = time.Hour

// Serves says whether a method starts a saga that is served here, or undoes one for its parent.
func (s *Server) Serves(method string) bool {
	if _, served := s.definitions[method]; served {
		return true
	}
	saga, undoes := s.catalog.CompensatedSaga(method)
	return undoes && s.definitions[saga.Definition] != nil
}

// Attempt is a command of a saga of this orchestrator that is itself a saga of this orchestrator, or undoes one. It returns at once: a child that
// hasn't ended is pending, and completes the command itself when it does.
func (s *Server) Attempt(ctx context.Context, call *engine.Attempt) engine.Answer {
	method := call.Call.Method
	if d, starts := s.definitions[method]; starts {
		return s.startLocal(ctx, d, call)
	}
	saga, _ := s.catalog.CompensatedSaga(method)
	d := s.definitions[saga.Definition]
	action, err := fieldIn(call.Request, saga.Compensation.ActionField)
	if err != nil {
		return local(codes.InvalidArgument, fmt.Sprintf("the request of %s can't be read: %v", method, err))
	}
	params, err := s.childParams(ctx, d, call, action)
	if err != nil {
		return local(codes.InvalidArgument, err.Error())
	}
	undone, err := s.engine.BeginCompensateChild(ctx, params)
	switch {
	case err != nil:
		return s.localError(err)
	case undone:
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: []byte{}}
	}
	return accepted()
}

func (s *Server) startLocal(ctx context.Context, d *definition, call *engine.Attempt) engine.Answer {
	params, err := s.childParams(ctx, d, call, call.Request)
	if err != nil {
		return local(codes.InvalidArgument, err.Error())
	}
	started, err := s.engine.Start(ctx, params)
	if err != nil {
		return s.localError(err)
	}
	end, ended, err := started.Ended(ctx)
	switch {
	case err != nil:
		return s.localError(err)
	case !ended:
		return accepted()
	case end.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: end.Reply}
	}
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_REFUSED, Failure: engine.RefusalOf(end.Failure)}
}

// childParams are how a child is started. Its id is derived from the command id, so that every attempt finds the same child.
func (s *Server) childParams(ctx context.Context, d *definition, call *engine.Attempt, request []byte) (engine.StartParams, error) {
	commandID := call.Saga + "/steps/" + call.Step
	read, err := d.readChild(request)
	if err != nil {
		return engine.StartParams{}, err
	}
	id := engine.ChildID(d.Definition, commandID)
	return engine.StartParams{
		Definition: d.Definition, Request: request, SagaID: id, Labels: read.labels, Deadline: d.Deadline,
		Trace:  s.telemetry.StartAnchor(telemetry.Extract(ctx), "sagas/"+id, d.Definition),
		Parent: &treatyv1.Parent{CommandId: commandID, Kind: d.Kind, Local: true},
	}, nil
}

// readChild is read for a child, whose identity is that of the command: a request id in its request means nothing.
func (d *definition) readChild(request []byte) (start, error) {
	plain := *d.SagaDefinition
	plain.RequestID = nil
	return (&definition{SagaDefinition: &plain, input: d.input}).read(request, "")
}

func accepted() engine.Answer {
	return engine.Answer{
		Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: localPatience,
		Failure: &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "the child saga hasn't ended"},
	}
}

// localError is what an attempt came to that the engine turned down: it is tried again, for nothing is known.
func (s *Server) localError(err error) engine.Answer {
	return local(codes.Unavailable, err.Error())
}

func local(code codes.Code, message string) engine.Answer {
	return engine.Answer{Outcome: contract.OutcomeOf(nil, code), Failure: &treatyv1.Failure{Code: int32(code), Message: message}}
}

// fieldIn returns the message that a field of a serialized message holds; empty when it is absent.
func fieldIn(data []byte, wanted protowire.Number) ([]byte, error) {
	found := []byte{}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		data = data[n:]
		if number == wanted && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			found, data = append(found, value...), data[n:] // a message that is split is one message
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return nil, protowire.ParseError(n)
		}
		data = data[n:]
	}
	return found, nil
}
