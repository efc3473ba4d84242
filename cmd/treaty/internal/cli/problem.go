package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
)

// problem is a failure as it is told to the operator.
type problem struct {
	// exit is the exit code.
	exit int

	// code is the gRPC code, OK when no call failed.
	code codes.Code

	// message says what failed, in one sentence without a full stop.
	message string

	// notes say more about it, a line each.
	notes []string

	// hints say what to do next, a line each.
	hints []string

	// details are those of the status.
	details []*anypb.Any
}

// Error returns the message alone.
func (p *problem) Error() string { return p.message }

// exitError ends the run with a code and says nothing: what there is to say has been printed.
type exitError int

// Error names the exit code.
func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// usage makes a problem of a wrong command line.
func usage(message string, hints ...string) *problem {
	return &problem{exit: ExitUsage, message: message, hints: hints}
}

// subject is what a failed call was about.
type subject struct {
	// doing says what was being done, e.g. "starting the saga"; may be empty.
	doing string

	// saga is the saga's name; may be empty.
	saga string

	// start says that the call would have started a saga.
	start bool

	// step says that the call was about one of the saga's steps, which may be missing where the saga isn't.
	step bool
}

// explain makes a problem of an error that a call returned.
func (a *app) explain(err error, about subject) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*problem](err); ok {
		return known
	}
	failure, ok := status.FromError(err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		failure = status.FromContextError(err)
	default:
		return &problem{exit: ExitFailure, message: err.Error()}
	}
	message := failure.Message()
	if message == "" {
		message = strings.ToLower(strings.ReplaceAll(render.CodeName(failure.Code()), "_", " "))
	}
	out := &problem{exit: ExitFailure, code: failure.Code(), message: message, details: failure.Proto().GetDetails()}
	if about.doing != "" {
		out.message = about.doing + ": " + out.message
	}
	out.read(failure)
	a.advise(out, failure, about)
	return out
}

// read takes what the details say into the notes.
func (p *problem) read(failure *status.Status) {
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				p.notes = append(p.notes, violation.GetField()+": "+violation.GetDescription())
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.GetViolations() {
				p.notes = append(p.notes, strings.TrimPrefix(violation.GetSubject()+": "+violation.GetDescription(), ": "))
			}
		case *errdetails.RetryInfo:
			if wait := detail.GetRetryDelay(); wait != nil {
				p.hints = append(p.hints, "Try again in "+render.Duration(wait.AsDuration())+".")
			}
		}
	}
}

// advise adds what to do next, and names what the status alone doesn't.
func (a *app) advise(p *problem, failure *status.Status, about subject) {
	address := a.flags.address
	switch failure.Code() {
	case codes.Unavailable:
		if treatyInfo(failure) == nil {
			a.adviseUnavailable(p, failure.Message(), about)
			return
		}
		// The orchestrator itself says so: it stops, or its store fails.
		if len(p.hints) == 0 {
			p.hints = append(p.hints, "Try again later.")
		}
		if about.start {
			p.hints = append(p.hints, "The saga may have been started all the same: starting it again with the same --request-id attaches to it.")
		}
	case codes.DeadlineExceeded:
		p.message = fmt.Sprintf("no answer from %s within %s", address, a.flags.timeout)
		if about.doing != "" {
			p.message = about.doing + ": " + p.message
		}
		p.hints = append(p.hints, "Check --address, or give more time with --timeout.")
		if about.start {
			p.hints = append(p.hints, "The saga may have been started all the same: starting it again with the same --request-id attaches to it.")
		}
	case codes.NotFound:
		if about.saga != "" && (!about.step || treatyInfo(failure).GetReason() == "SAGA_NOT_FOUND") {
			p.message = "there is no saga " + about.saga + " at " + address
			p.hints = append(p.hints, "treaty sagas list shows the sagas that there are.")
		}
	case codes.AlreadyExists:
		if name := sagaOf(failure); name != "" {
			p.hints = append(p.hints, "It is "+name+": treaty sagas get "+render.ShellQuote(name)+" shows it.")
		}
		if about.start {
			p.hints = append(p.hints, "To attach to it, send the data it was started with; to start another saga, give another --request-id or --saga-id.")
		}
	case codes.FailedPrecondition:
		if about.saga != "" {
			p.hints = append(p.hints, "treaty sagas get "+render.ShellQuote(about.saga)+" shows where it stands and what fits.")
		}
	case codes.Unauthenticated:
		p.hints = append(p.hints, "Show who you are with --tls-cert and --tls-key.")
	case codes.PermissionDenied:
		p.hints = append(p.hints, "The orchestrator's operator decides who may do this; see --tls-cert for whom you act.")
	case codes.Unimplemented:
		p.message = address + " answers, but doesn't offer this: " + failure.Message()
		p.hints = append(p.hints, "Check --address: is it an orchestrator, and is it as new as this treaty?")
	case codes.ResourceExhausted, codes.Aborted:
		if len(p.hints) == 0 {
			p.hints = append(p.hints, "Try again later.")
		}
	case codes.Internal, codes.Unknown, codes.DataLoss:
		if treatyInfo(failure).GetReason() == "SAGA_PURGED" {
			return // the message says it all; nothing went wrong that the log would tell of
		}
		p.hints = append(p.hints, "The orchestrator's log says more.")
	}
}

// adviseUnavailable tells apart why an orchestrator can't be reached.
func (a *app) adviseUnavailable(p *problem, message string, about subject) {
	address := a.flags.address
	cause := message
	// gRPC wraps the cause: connection error: desc = "transport: Error while dialing: dial tcp ...: connection refused".
	for _, wrapper := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		if _, after, ok := strings.Cut(cause, wrapper); ok {
			cause = strings.TrimSuffix(after, `"`)
		}
	}
	p.message = "no orchestrator can be reached at " + address + ": " + cause
	if about.doing != "" {
		p.message = about.doing + ": " + p.message
	}
	// A server of TLS 1.3 turns a client down when that takes the connection to be open already, and often only a broken pipe is seen.
	askedFor := a.flags.certificateAsked.Load() && !strings.Contains(message, "Error while dialing")
	switch {
	case strings.Contains(message, "first record does not look like a TLS handshake"):
		p.hints = append(p.hints, "It speaks plaintext. Leave the --tls flags out; beyond loopback that takes --insecure.")
	case strings.Contains(message, "certificate required"), strings.Contains(message, "bad certificate"), askedFor && a.flags.tlsCert == "":
		p.hints = append(p.hints, "It asks for a client certificate that it trusts: --tls-cert and --tls-key.")
	case strings.Contains(message, "certificate is valid for"), strings.Contains(message, "certificate is not valid for any names"), strings.Contains(message, "doesn't contain any IP SANs"):
		p.hints = append(p.hints, "Its certificate has another name; give the right one with --tls-server-name.")
	case strings.Contains(message, "x509: "):
		p.hints = append(p.hints, "Its certificate isn't trusted; name the authority that signed it with --tls-ca.")
	case askedFor:
		p.hints = append(p.hints, "It asks for a client certificate, and may not trust the one of --tls-cert; or it was stopped.")
	case strings.Contains(message, "error reading server preface"):
		p.hints = append(p.hints, "It may want TLS (--tls-ca FILE), or it may not be an orchestrator.")
	default:
		p.hints = append(p.hints, "Start the orchestrator, or name another address with --address or TREATY_ADDRESS.")
	}
	if about.start && !strings.Contains(message, "Error while dialing") {
		p.hints = append(p.hints, "If the call got through, starting again with the same --request-id attaches to the saga.")
	}
}

// sagaOf returns the saga that an error is about by its ErrorInfo.
func sagaOf(failure *status.Status) string {
	return treatyInfo(failure).GetMetadata()["saga"]
}

// treatyInfo returns the ErrorInfo that an orchestrator puts into each of its errors; nil when the error is from elsewhere.
func treatyInfo(failure *status.Status) *errdetails.ErrorInfo {
	for _, detail := range failure.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "treaty" {
			return info
		}
	}
	return nil
}

// report tells how a run ended and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return ExitOK
	}
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	if ctx.Err() != nil {
		return ExitInterrupted
	}
	var p *problem
	if !errors.As(err, &p) {
		// Only cobra's own errors come as anything else, and they are all about the command line.
		p = usage(err.Error(), "See treaty --help.")
	}
	if a.flags.json {
		a.reportJSON(p)
		return p.exit
	}
	var out strings.Builder
	out.WriteString("treaty: " + cleanLines(p.message) + "\n")
	for _, note := range p.notes {
		out.WriteString("  " + cleanLines(note) + "\n")
	}
	for _, hint := range p.hints {
		out.WriteString(cleanLines(hint) + "\n")
	}
	_, _ = io.WriteString(a.Stderr, out.String())
	return p.exit
}

// problemJSON is a problem in the output of --json.
type problemJSON struct {
	Code    string            `json:"code,omitempty"`
	Message string            `json:"message"`
	Notes   []string          `json:"notes,omitempty"`
	Hints   []string          `json:"hints,omitempty"`
	Details []json.RawMessage `json:"details,omitempty"`
}

func (a *app) reportJSON(p *problem) {
	out := problemJSON{Message: p.message, Notes: p.notes, Hints: p.hints}
	if p.code != codes.OK {
		out.Code = render.CodeName(p.code)
	}
	if a.client != nil {
		encoder := schema.NewEncoder(a.client.schema)
		for _, detail := range p.details {
			out.Details = append(out.Details, encoder.Encode(detail))
		}
	}
	writeJSON(a.Stderr, map[string]problemJSON{"error": out})
}

// cleanLines is clean for text that may have several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = render.Clean(lines[i])
	}
	return strings.Join(lines, "\n  ")
}
