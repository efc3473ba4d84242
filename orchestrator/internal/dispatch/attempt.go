package dispatch

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// The metadata of every call to a participant, besides W3C trace context.
const (
	// MetadataSaga is the saga's name, "sagas/{saga}".
	MetadataSaga = "treaty-saga"

	// MetadataCommandID is "sagas/{saga}/steps/{step}": the same for all attempts and for both directions.
	MetadataCommandID = "treaty-command-id"

	// MetadataDirection is "action" or "compensation".
	MetadataDirection = "treaty-direction"

	// MetadataAttempt is the attempt's number, decimal, from 1.
	MetadataAttempt = "treaty-attempt"

	// MetadataEpoch is the fencing epoch, decimal.
	MetadataEpoch = "treaty-epoch"
)

// Attempt makes one gRPC call and says what it came to. It never retries. It ends when the call's timeout passes or ctx
// ends. The request's bytes must never change, not even after the return: the connection may still be sending them.
func (d *Dispatcher) Attempt(ctx context.Context, call *engine.Attempt) engine.Answer {
	r, ok := d.routeTo(call.Call.Method, call.Participant)
	if !ok {
		return d.unserved(ctx, call)
	}
	if len(call.Request) > d.maxMessageBytes {
		return result(treatyv1.Outcome_OUTCOME_REFUSED, status.Newf(codes.InvalidArgument,
			"dispatch: the request to %s has %d bytes, more than the limit of %d; the command was not sent",
			call.Call.Method, len(call.Request), d.maxMessageBytes))
	}
	if !d.calls.enter() {
		return result(treatyv1.Outcome_OUTCOME_UNKNOWN, status.New(codes.Unavailable, closedMessage))
	}
	defer d.calls.leave()

	about := telemetry.AttemptParams{
		Saga:      call.Saga,
		Step:      call.Step,
		Direction: call.Direction.String(),
		Number:    call.Number,
		Epoch:     call.Epoch,
		Method:    call.Call.Method,
		Target:    r.participant.target,
		Kind:      call.Kind,
		Undoes:    call.Undoes,
		Anchor:    call.Trace,
	}
	var start time.Time
	metering := d.telemetry.Metering()
	if metering {
		start = time.Now()
	}
	_, span := d.telemetry.StartAttempt(ctx, &about)

	answer := d.send(ctx, r, call, span)

	end := telemetry.AttemptEnd{Outcome: answer.Outcome, Accepted: answer.Pending > 0}
	if answer.Failure != nil && answer.Pending == 0 {
		end.Code = codes.Code(answer.Failure.GetCode())
		if details := answer.Failure.GetDetails(); len(details) > 0 && answer.Outcome == treatyv1.Outcome_OUTCOME_REFUSED {
			end.Rejection = string(details[0].MessageName())
		}
	}
	span.End(end)
	if metering {
		d.telemetry.AttemptEnded(call.Call.Method, answer.Outcome, time.Since(start))
	}
	return answer
}

// exchange holds what gRPC needs pointers to during a call, so that a call takes one allocation for all three.
type exchange struct {
	request, reply rawcodec.Message
	trailer        metadata.MD
}

// send makes the call and tells the participant's breaker.
func (d *Dispatcher) send(ctx context.Context, r route, call *engine.Attempt, span telemetry.AttemptSpan) engine.Answer {
	callCtx, cancel := context.WithTimeout(ctx, call.Call.Timeout)
	defer cancel()
	callCtx = outgoing(callCtx, call, span)

	p := r.participant
	ticket := p.breaker.begin()
	x := &exchange{request: call.Request}
	err := p.conn.Invoke(callCtx, r.path, &x.request, &x.reply, grpc.Trailer(&x.trailer))
	if err == nil {
		p.breaker.end(ticket, answered)
		if values := x.trailer[MetadataPending]; len(values) > 0 {
			return d.accepted(ctx, call, values)
		}
		if err := readable(call.Call.Output, x.reply); err != nil {
			// Neither the saga's code nor the command's compensation could do anything with it, and what was recorded stays.
			message := fmt.Sprintf("dispatch: the reply of %s isn't a %s: %v", call.Call.Method, call.Call.Output.FullName(), err)
			return result(treatyv1.Outcome_OUTCOME_UNKNOWN, status.New(codes.Internal, message))
		}
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: x.reply}
	}
	st := status.Convert(err)
	p.breaker.end(ticket, d.reach(ctx, p, st.Code()))
	return result(outcomeOf(call.Call, st, x.trailer), st)
}

// readable returns why bytes can't be read as a message of a type.
func readable(as protoreflect.MessageDescriptor, data []byte) error {
	if as == nil || len(data) == 0 {
		return nil
	}
	known, err := protoregistry.GlobalTypes.FindMessageByName(as.FullName())
	if err != nil {
		known = dynamicpb.NewMessageType(as)
	}
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, known.New().Interface())
}

// outcomeOf says what a failed call came to. What a contract says about a code holds only where the participant itself
// sent it: a connection that breaks in the middle of a command is UNAVAILABLE as well, and the command may have been
// executed.
func outcomeOf(call *contract.CallConfig, st *status.Status, trailer metadata.MD) treatyv1.Outcome {
	if _, ok := call.Outcomes[st.Code()]; ok && madeHere(st.Code()) && !saidThere(trailer) {
		call = nil
	}
	outcome := contract.OutcomeOf(call, st.Code())
	if st.Code() == codes.ResourceExhausted && replyTooLarge(st) {
		// The participant may have done it, and only its reply was too large to be taken.
		return treatyv1.Outcome_OUTCOME_UNKNOWN
	}
	return outcome
}

// madeHere returns whether gRPC itself makes statuses of this code on the caller's side.
func madeHere(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange, codes.Aborted, codes.DataLoss:
		return false
	default:
		return true
	}
}

// saidThere returns whether a failure's trailers show that the participant sent it. An error alone is one frame, which holds
// the content type too. Where headers came first it can't be told, and counts as not.
func saidThere(trailer metadata.MD) bool {
	contentType := trailer.Get("content-type")
	return len(contentType) > 0 && strings.HasPrefix(contentType[0], "application/grpc")
}

// reach says what a failed call tells about the participant.
func (d *Dispatcher) reach(ctx context.Context, p *participant, code codes.Code) reach {
	if ctx.Err() != nil {
		return cutOff // we ended it ourselves
	}
	if code != codes.Unavailable && code != codes.DeadlineExceeded {
		return answered
	}
	switch {
	case p.conn.GetState() != connectivity.Ready:
		return disconnected
	case code == codes.Unavailable:
		return unavailable
	default:
		return slow
	}
}

// replyTooLarge returns whether gRPC may have refused a reply: here, where a participant refuses a request in the same words; or there, where its own limit
// kept it from sending the reply. The words are those of gRPC for Go, of gRPC's core (Python, Ruby, C++) and Node, and of .NET.
func replyTooLarge(st *status.Status) bool {
	return strings.Contains(st.Message(), "larger than max") || strings.Contains(st.Message(), "exceeds the maximum configured message size")
}

// outgoing adds the call's metadata to ctx.
func outgoing(ctx context.Context, call *engine.Attempt, span telemetry.AttemptSpan) context.Context {
	var space [14]string
	kv := append(space[:0],
		MetadataSaga, call.Saga,
		MetadataCommandID, call.Saga+"/steps/"+call.Step,
		MetadataDirection, call.Direction.String(),
		MetadataAttempt, strconv.Itoa(call.Number),
		MetadataEpoch, strconv.FormatUint(call.Epoch, 10),
	)
	if parent := span.Traceparent(); parent != "" {
		kv = append(kv, telemetry.MetadataTraceparent, parent)
		if state := span.Tracestate(); state != "" {
			kv = append(kv, telemetry.MetadataTracestate, state)
		}
	}
	return metadata.AppendToOutgoingContext(ctx, kv...)
}

// unserved is the result of a command for which no participant is configured.
func (d *Dispatcher) unserved(ctx context.Context, call *engine.Attempt) engine.Answer {
	service, _, _ := strings.Cut(call.Call.Method, "/")
	if name := call.Participant; name != "" {
		message := fmt.Sprintf("dispatch: no participant is configured for %s any more, to which this saga sends %s: start the orchestrator with it again, e.g. --participant %s=HOST:PORT",
			name, call.Call.Method, name)
		d.logger.ErrorContext(ctx, message, "saga", call.Saga, "step", call.Step, "participant", name, "method", call.Call.Method)
		return result(treatyv1.Outcome_OUTCOME_MISDEPLOYED, status.New(codes.Unimplemented, message))
	}
	message := fmt.Sprintf("dispatch: no participant is configured for %s: start the orchestrator with one, e.g. --participant %s=HOST:PORT", service, service)
	d.logger.ErrorContext(ctx, message, "saga", call.Saga, "step", call.Step, "method", call.Call.Method)
	return result(treatyv1.Outcome_OUTCOME_MISDEPLOYED, status.New(codes.Unimplemented, message))
}

func result(outcome treatyv1.Outcome, st *status.Status) engine.Answer {
	failure, retryAfter := failureOf(st)
	if outcome == treatyv1.Outcome_OUTCOME_REFUSED {
		retryAfter = 0
	}
	return engine.Answer{Outcome: outcome, Failure: failure, RetryAfter: retryAfter}
}
