package problem

import (
	"cmp"
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

// Subject says what a failed call was for.
type Subject struct {
	// Doing says what was being done, e.g. "starting the saga". It may be empty.
	Doing string

	// Saga is the saga's name. It may be empty.
	Saga string

	// Start is true for a call that starts a saga.
	Start bool

	// Again is what makes the start safe to repeat, e.g. "--request-id". It is empty if nothing does.
	Again string

	// Step is true for a call about one of the saga's steps, which may not exist although the saga does.
	Step bool
}

// Explainer explains the errors of calls to one orchestrator.
type Explainer struct {
	// Address is the orchestrator's address.
	Address string

	// Timeout is how long a call may take.
	Timeout time.Duration

	// CertFile is the file of the client certificate, or "" without one.
	CertFile string

	// MaxReplyBytes is the size of the largest message that this program reads from the orchestrator. 0 means unknown.
	MaxReplyBytes int64

	// CertificateAsked is true if the orchestrator asked for a client certificate.
	CertificateAsked bool
}

// Explain turns the error of a call into a [*Problem]. It returns nil for nil, and a problem unchanged.
func (e Explainer) Explain(err error, about Subject) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	failure, ok := status.FromError(err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		failure = status.FromContextError(err)
	default:
		return &Error{Exit: ExitFailure, Message: err.Error()}
	}
	message := failure.Message()
	if message == "" {
		message = strings.ToLower(strings.ReplaceAll(render.CodeName(failure.Code()), "_", " "))
	}
	out := &Error{Exit: ExitFailure, Code: failure.Code(), Message: message, Details: failure.Proto().GetDetails()}
	if about.Doing != "" {
		out.Message = about.Doing + ": " + out.Message
	}
	out.read(failure)
	e.advise(out, failure, about)
	return out
}

// read adds notes and hints from the details of the status.
func (p *Error) read(failure *status.Status) {
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				p.Notes = append(p.Notes, violation.GetField()+": "+violation.GetDescription())
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.GetViolations() {
				p.Notes = append(p.Notes,
					strings.TrimPrefix(violation.GetSubject()+": "+violation.GetDescription(), ": "))
			}
		case *errdetails.RetryInfo:
			if wait := detail.GetRetryDelay(); wait != nil {
				p.Hints = append(p.Hints, "Try again in "+render.Duration(wait.AsDuration())+".")
			}
		}
	}
}

// startHint returns the hint that follows an error after which a saga may have been started.
func startHint(about Subject) string {
	if about.Again == "" {
		return "The saga may have been started. To find it, run treaty sagas list. " +
			"Another start is another saga; one with a --request-id is safe to repeat."
	}
	return "The saga may have been started. To attach to it, start it again with the same " + about.Again + "."
}

// startsNothing returns whether an orchestrator answers a start with a reason only if it has recorded nothing: it
// drives no saga, or its store has refused the saga.
func startsNothing(reason treatyv1.ErrorReason) bool {
	switch reason {
	case treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED, treatyv1.ErrorReason_ERROR_REASON_RESTORING,
		treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD, treatyv1.ErrorReason_ERROR_REASON_STORE_FULL,
		treatyv1.ErrorReason_ERROR_REASON_STORE_READ_ONLY, treatyv1.ErrorReason_ERROR_REASON_SAGA_LOST:
		return true
	default:
		return false
	}
}

// advise adds hints on what to do next, and makes some messages more specific.
func (e Explainer) advise(p *Error, failure *status.Status, about Subject) {
	switch failure.Code() {
	case codes.Unavailable:
		if errorInfo(failure) == nil {
			e.adviseUnavailable(p, failure.Message(), about)
			return
		}
		adviseUnavailableHere(p, reasonOf(failure), about)
	case codes.DeadlineExceeded:
		p.Message = fmt.Sprintf("no answer from %s within %s", e.Address, e.Timeout)
		if about.Doing != "" {
			p.Message = about.Doing + ": " + p.Message
		}
		p.Hints = append(p.Hints, "Check --address, or allow more time with --timeout.")
		if about.Start {
			p.Hints = append(p.Hints, startHint(about))
		}
	case codes.NotFound:
		if about.Saga != "" && (!about.Step || reasonOf(failure) == treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND) {
			p.Message = e.Address + " has no saga " + about.Saga
			p.Hints = append(p.Hints, "To list sagas, run treaty sagas list.")
		}
	case codes.AlreadyExists:
		if name := sagaOf(failure); name != "" {
			p.Hints = append(p.Hints, "To show the existing saga, run treaty sagas get "+render.ShellQuote(name)+".")
		}
		if about.Start {
			p.Hints = append(p.Hints,
				"To attach to that saga, send the same data.",
				"To start another one, use another --request-id or --saga-id.")
		}
	case codes.FailedPrecondition:
		if reasonOf(failure) == treatyv1.ErrorReason_ERROR_REASON_NOT_ACCEPTED {
			p.Hints = append(p.Hints, "If you know that the participant will never execute it, add --force.")
		}
		if about.Saga != "" {
			p.Hints = append(p.Hints,
				"To show its state and the possible decisions, run treaty sagas get "+render.ShellQuote(about.Saga)+".")
		}
	case codes.Unauthenticated:
		p.Hints = append(p.Hints, "Identify yourself with --tls-cert and --tls-key.")
	case codes.PermissionDenied:
		p.Hints = append(p.Hints,
			"The orchestrator's access rules don't allow this for you. Your identity is the certificate of --tls-cert.")
	case codes.Unimplemented:
		p.Message = e.Address + " doesn't offer this call: " + failure.Message()
		p.Hints = append(p.Hints, "Check that --address is an orchestrator at least as new as this program.")
	case codes.ResourceExhausted, codes.Aborted:
		if reasonOf(failure) == treatyv1.ErrorReason_ERROR_REASON_SAGA_CHANGED {
			p.Hints = append(p.Hints, "To show what it is now, run treaty sagas get "+
				render.ShellQuote(cmp.Or(about.Saga, sagaOf(failure), "NAME"))+".")
			return
		}
		if size, limit, is := tooLarge(failure); is {
			e.adviseTooLarge(p, about, size, limit)
		} else if len(p.Hints) == 0 {
			p.Hints = append(p.Hints, "Try again later.")
		}
	case codes.Internal, codes.Unknown, codes.DataLoss:
		if reasonOf(failure) == treatyv1.ErrorReason_ERROR_REASON_SAGA_PURGED {
			return // the orchestrator didn't fail, so its log has nothing to add
		}
		p.Hints = append(p.Hints, "See the orchestrator's log.")
	}
}

// adviseUnavailableHere adds hints to an error that the orchestrator itself returned: it is stopping, for example, or
// its store failed.
func adviseUnavailableHere(p *Error, reason treatyv1.ErrorReason, about Subject) {
	switch {
	case reason == treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED:
		p.Hints = append(p.Hints, "Call the other orchestrator. See the log of this one.")
	case len(p.Hints) == 0:
		p.Hints = append(p.Hints, "Try again later.")
	}
	if about.Start && !startsNothing(reason) {
		p.Hints = append(p.Hints, startHint(about))
	}
}

// ExplainReflection is Explain for the errors of server reflection.
func (e Explainer) ExplainReflection(err error) error {
	if status.Code(err) == codes.Unimplemented {
		return &Error{
			Exit: ExitFailure,
			Code: codes.Unimplemented,
			Message: e.Address +
				" doesn't offer server reflection (grpc.reflection.v1), which has the definitions and types",
			Hints: []string{"Check that --address is an orchestrator."},
		}
	}
	// The innermost error is the plain status. The errors around it would repeat its message.
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
