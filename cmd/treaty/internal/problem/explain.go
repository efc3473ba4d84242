package problem

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Subject is what a failed call was about.
type Subject struct {
	// Doing says what was being done, e.g. "starting the saga"; may be empty.
	Doing string

	// Saga is the saga's name; may be empty.
	Saga string

	// Start says that the call would have started a saga.
	Start bool

	// Step says that the call was about one of the saga's steps, which may be missing where the saga isn't.
	Step bool
}

// Explainer explains the errors of calls to one orchestrator.
type Explainer struct {
	// Address is the orchestrator's address.
	Address string

	// Timeout is how long a call may take.
	Timeout time.Duration

	// CertFile names the client certificate; empty without one.
	CertFile string

	// CertificateAsked says that the orchestrator asked for a client certificate.
	CertificateAsked bool
}

// Explain makes a problem of an error that a call returned.
func (e Explainer) Explain(err error, about Subject) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*Problem](err); ok {
		return known
	}
	failure, ok := status.FromError(err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		failure = status.FromContextError(err)
	default:
		return &Problem{Exit: ExitFailure, Message: err.Error()}
	}
	message := failure.Message()
	if message == "" {
		message = strings.ToLower(strings.ReplaceAll(render.CodeName(failure.Code()), "_", " "))
	}
	out := &Problem{Exit: ExitFailure, Code: failure.Code(), Message: message, Details: failure.Proto().GetDetails()}
	if about.Doing != "" {
		out.Message = about.Doing + ": " + out.Message
	}
	out.read(failure)
	e.advise(out, failure, about)
	return out
}

// read takes what the details say into the notes.
func (p *Problem) read(failure *status.Status) {
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				p.Notes = append(p.Notes, violation.GetField()+": "+violation.GetDescription())
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.GetViolations() {
				p.Notes = append(p.Notes, strings.TrimPrefix(violation.GetSubject()+": "+violation.GetDescription(), ": "))
			}
		case *errdetails.RetryInfo:
			if wait := detail.GetRetryDelay(); wait != nil {
				p.Hints = append(p.Hints, "Try again in "+render.Duration(wait.AsDuration())+".")
			}
		}
	}
}

// advise adds what to do next, and names what the status alone doesn't.
func (e Explainer) advise(p *Problem, failure *status.Status, about Subject) {
	address := e.Address
	switch failure.Code() {
	case codes.Unavailable:
		if errorInfo(failure) == nil {
			e.adviseUnavailable(p, failure.Message(), about)
			return
		}
		// The orchestrator itself says so: it stops, or its store fails.
		if len(p.Hints) == 0 {
			p.Hints = append(p.Hints, "Try again later.")
		}
		if about.Start {
			p.Hints = append(p.Hints, "The saga may have been started all the same: starting it again with the same --request-id attaches to it.")
		}
	case codes.DeadlineExceeded:
		p.Message = fmt.Sprintf("no answer from %s within %s", address, e.Timeout)
		if about.Doing != "" {
			p.Message = about.Doing + ": " + p.Message
		}
		p.Hints = append(p.Hints, "Check --address, or give more time with --timeout.")
		if about.Start {
			p.Hints = append(p.Hints, "The saga may have been started all the same: starting it again with the same --request-id attaches to it.")
		}
	case codes.NotFound:
		if about.Saga != "" && (!about.Step || reasonOf(failure) == treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND) {
			p.Message = "there is no saga " + about.Saga + " at " + address
			p.Hints = append(p.Hints, "treaty sagas list shows the sagas that there are.")
		}
	case codes.AlreadyExists:
		if name := sagaOf(failure); name != "" {
			p.Hints = append(p.Hints, "It is "+name+": treaty sagas get "+render.ShellQuote(name)+" shows it.")
		}
		if about.Start {
			p.Hints = append(p.Hints, "To attach to it, send the data it was started with; to start another saga, give another --request-id or --saga-id.")
		}
	case codes.FailedPrecondition:
		if about.Saga != "" {
			p.Hints = append(p.Hints, "treaty sagas get "+render.ShellQuote(about.Saga)+" shows where it stands and what fits.")
		}
	case codes.Unauthenticated:
		p.Hints = append(p.Hints, "Show who you are with --tls-cert and --tls-key.")
	case codes.PermissionDenied:
		p.Hints = append(p.Hints, "The orchestrator's operator decides who may do this; see --tls-cert for whom you act.")
	case codes.Unimplemented:
		p.Message = address + " answers, but doesn't offer this: " + failure.Message()
		p.Hints = append(p.Hints, "Check --address: is it an orchestrator, and is it as new as this treaty?")
	case codes.ResourceExhausted, codes.Aborted:
		if len(p.Hints) == 0 {
			p.Hints = append(p.Hints, "Try again later.")
		}
	case codes.Internal, codes.Unknown, codes.DataLoss:
		if reasonOf(failure) == treatyv1.ErrorReason_ERROR_REASON_SAGA_PURGED {
			return // the message says it all; nothing went wrong that the log would tell of
		}
		p.Hints = append(p.Hints, "The orchestrator's log says more.")
	}
}

// ExplainReflection is Explain for calls of server reflection.
func (e Explainer) ExplainReflection(err error) error {
	if status.Code(err) == codes.Unimplemented {
		return &Problem{
			Exit:    ExitFailure,
			Code:    codes.Unimplemented,
			Message: e.Address + " doesn't offer server reflection (grpc.reflection.v1), from which definitions and types are read",
			Hints:   []string{"Check --address: is it an orchestrator?"},
		}
	}
	// The root of the error is the plain status; what wraps it would repeat itself.
	if failure, ok := status.FromError(rootCause(err)); ok {
		err = failure.Err()
	}
	return e.Explain(err, Subject{Doing: "reading the definitions"})
}

// rootCause returns the innermost error.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
