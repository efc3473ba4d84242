package server

import (
	"errors"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// subject is what a call, or its error, is about.
type subject struct {
	saga       string // id
	step       string // name
	definition string
}

// sagaName returns the saga's name; empty when the subject has no saga.
func (s subject) sagaName() string {
	if s.saga == "" {
		return ""
	}
	return wire.SagaName(s.saga)
}

// orElse takes from another subject what this one doesn't have.
func (s subject) orElse(other subject) subject {
	if s.saga == "" {
		s.saga = other.saga
	}
	if s.step == "" {
		s.step = other.step
	}
	if s.definition == "" {
		s.definition = other.definition
	}
	return s
}

// of adds the subject to an error. It returns nil for nil.
func (s subject) of(err error) error {
	if err == nil {
		return nil
	}
	return &subjectError{subject: s, cause: err}
}

// subjectError is an error with what it is about.
type subjectError struct {
	subject subject
	cause   error
}

// Error returns the text of the cause.
func (e *subjectError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *subjectError) Unwrap() error { return e.cause }

// subjectOf returns what a call is about, from its method, its request and its error.
func (s *Server) subjectOf(method string, request any, err error) subject {
	var found subject
	if known, is := errors.AsType[*subjectError](err); is {
		found = known.subject
	}
	return found.orElse(s.subjectOfRequest(method, request))
}

func (s *Server) subjectOfRequest(method string, request any) subject {
	if d := s.definitions[method]; d != nil {
		return subject{definition: d.Definition}
	}
	if compensated, is := s.catalog.CompensatedSaga(method); is {
		return subject{definition: compensated.Definition}
	}
	switch request := request.(type) {
	case *treatyv1.CompleteStepRequest:
		return subjectOfStep(request.GetName())
	case *treatyv1.HeartbeatStepRequest:
		return subjectOfStep(request.GetName())
	case *treatyv1.ListSagaRecordsRequest:
		return subjectOfSaga(request.GetParent())
	case interface{ GetName() string }:
		return subjectOfSaga(request.GetName())
	}
	return subject{}
}

func subjectOfSaga(name string) subject {
	id, err := parseName("name", name)
	if err != nil {
		return subject{}
	}
	return subject{saga: id}
}

func subjectOfStep(name string) subject {
	saga, path, ok := parseCommandID(name)
	if !ok {
		return subject{}
	}
	return subject{saga: saga, step: wire.StepName(saga, path)}
}

// aboutEvents returns whether a method is about events and not about a saga.
func aboutEvents(method string) bool {
	return strings.HasPrefix(method, treatyv1.EventService_ServiceDesc.ServiceName+"/")
}
