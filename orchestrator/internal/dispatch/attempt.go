package dispatch

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// closedMessage is the message of an attempt after Close.
const closedMessage = "dispatch: command not sent: the orchestrator is shutting down"

// Attempt makes one gRPC call and returns its outcome. It never retries. It ends when the call's timeout has passed
// or ctx ends. The request's bytes must never change, not even after Attempt has returned, since the connection may
// still be sending them.
func (d *Dispatcher) Attempt(ctx context.Context, call *engine.Attempt) engine.Answer {
	defer call.Slot.Release()
	r, ok := d.find(engine.Destination{Method: call.Call.Method, Participant: call.Participant})
	if !ok {
		return d.notConfigured(ctx, call)
	}
	if len(call.Request) > d.maxMessageBytes {
		return notSent(treatyv1.Outcome_OUTCOME_REFUSED, status.Newf(codes.InvalidArgument,
			"dispatch: command not sent: the request to %s has %d bytes, more than the limit of %d",
			call.Call.Method, len(call.Request), d.maxMessageBytes))
	}
	if !d.calls.Enter() {
		return notSent(treatyv1.Outcome_OUTCOME_UNKNOWN, status.New(codes.Unavailable, closedMessage))
	}
	defer d.calls.Leave()
	m := r.participant.method(call.Call)
	if reason := m.parked.Load(); reason != nil {
		return m.waits(*reason)
	}
	trial, ok := m.enter()
	if !ok {
		return m.held()
	}
	if trial {
		defer m.leave()
		call.Slot.Release() // so that those that wait behind it are held, too, and their clocks go on
	}

	params := telemetry.AttemptParams{
		Saga:      call.Saga,
		Step:      call.Step,
		Direction: call.Direction.String(),
		Number:    call.Number,
		Epoch:     call.Epoch,
		Method:    call.Call.Method,
		Target:    r.participant.target,
		Kind:      call.Kind,
		Anchor:    call.Trace,
	}
	var start time.Time
	metering := d.telemetry.Metering()
	if metering {
		start = time.Now()
	}
	span := d.telemetry.StartAttempt(&params)

	answer := d.send(ctx, r, m, call, span)
	d.noteEnd(ctx, &m.troubles, r.participant, call, answer)

	span.End(endOf(answer))
	if metering {
		d.telemetry.AttemptEnded(call.Call.Method, answer.Outcome, time.Since(start))
	}
	return answer
}

// endOf returns what an attempt's span records of its answer.
func endOf(answer engine.Answer) telemetry.AttemptEnd {
	end := telemetry.AttemptEnd{Outcome: answer.Outcome, Accepted: answer.Pending > 0}
	if answer.Failure == nil || answer.Pending > 0 {
		return end
	}
	end.Code = codes.Code(answer.Failure.GetCode())
	if details := answer.Failure.GetDetails(); len(details) > 0 && answer.Outcome == treatyv1.Outcome_OUTCOME_REFUSED {
		end.Rejection = string(details[0].MessageName())
	}
	return end
}

// send makes the call and reports its end to whatever judges the participant by it.
func (d *Dispatcher) send(
	ctx context.Context, r route, m *method, call *engine.Attempt, span telemetry.AttemptSpan,
) engine.Answer {
	x := &exchange{request: call.Request}
	p := r.participant
	call.Slot.Begin()
	began := p.begin(m)
	start := time.Now()
	sent, err := p.stream(ctx, m, call, x, span)
	if !sent && err == nil {
		err = d.invoke(ctx, r, call, x, span)
	}
	if err != nil {
		st := status.Convert(err)
		h := p.healthOf(ctx, x, st.Code())
		p.end(m, began, h, min(time.Since(start), call.Call.Timeout))
		answer := p.failed(call, x, st)
		endSlot(call.Slot, h, answer)
		return answer
	}
	p.end(m, began, answered, 0)
	call.Slot.End(admission.Answered, 0)
	answer := d.replied(ctx, p, call, x)
	answer.Repeated = x.sendings.Load() > 1
	return answer
}

// invoke sends the command as a unary call.
func (d *Dispatcher) invoke(
	ctx context.Context, r route, call *engine.Attempt, x *exchange, span telemetry.AttemptSpan,
) error {
	ctx, cancel := context.WithTimeout(ctx, call.Call.Timeout)
	defer cancel()
	ctx = exchangeContext{d.withMetadata(ctx, call, span), x}
	return r.participant.conn.Invoke(ctx, r.path, &x.request, &x.reply, grpc.Trailer(&x.trailer))
}

// endSlot says what the end of a call that failed means for the limits of its participant.
func endSlot(slot *admission.Slot, h health, answer engine.Answer) {
	switch {
	case answer.Outcome == treatyv1.Outcome_OUTCOME_THROTTLED:
		slot.End(admission.Throttled, answer.RetryAfter)
	case h == answered:
		slot.End(admission.Answered, 0)
	case h == timedOut:
		slot.End(admission.TimedOut, 0)
	default:
		slot.End(admission.NoSample, 0)
	}
}

// replied returns the answer of a call that ended with OK.
func (d *Dispatcher) replied(ctx context.Context, p *participant, call *engine.Attempt, x *exchange) engine.Answer {
	mark := x.mark()
	if mark != "" {
		p.prove()
	}
	if values := x.trailer[wire.PendingKey]; len(values) > 0 {
		return d.accepted(ctx, call, values)
	}
	if (call.Call.CompleteWithin > 0 || call.Call.OfSaga) && mark != wire.AnswerDone && !p.isPlain() {
		// An answer that accepts the command says so in a trailer, which somebody may have dropped.
		st := status.New(codes.Unknown, "the participant's OK came without its trailers, so it may have accepted the "+
			"command and not completed it")
		p.warnUnmarked(st)
		return unknown(st)
	}
	if err := checkReply(call.Call.Output, x.reply); err != nil {
		// A recorded reply stays in the journal, and neither saga code nor the compensation could use this one.
		message := fmt.Sprintf("dispatch: the reply of %s isn't a %s: %v",
			call.Call.Method, call.Call.Output.FullName(), err)
		return unknown(status.New(codes.Internal, message))
	}
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Evidence: engine.Settled, Reply: x.reply}
}

// withMetadata adds a call's metadata to ctx.
func (d *Dispatcher) withMetadata(
	ctx context.Context, call *engine.Attempt, span telemetry.AttemptSpan,
) context.Context {
	var space [20]string
	kv := append(space[:0],
		wire.SagaKey, call.Saga,
		wire.CommandIDKey, wire.JoinStep(call.Saga, call.Step),
		wire.DirectionKey, call.Direction.String(),
		wire.AttemptKey, strconv.Itoa(call.Number),
		wire.EpochKey, strconv.FormatUint(call.Epoch, 10),
	)
	if call.Scope != "" {
		kv = append(kv, wire.ScopeKey, call.Scope)
	}
	if !call.SagaStart.IsZero() {
		kv = append(kv, wire.StartKey, strconv.FormatInt(call.SagaStart.UnixMicro(), 10))
	}
	if call.Digest != "" {
		kv = append(kv, wire.RequestDigestKey, call.Digest)
	}
	if parent := span.Traceparent(); parent != "" {
		kv = append(kv, telemetry.TraceparentKey, parent)
		if state := span.Tracestate(); state != "" {
			kv = append(kv, telemetry.TracestateKey, state)
		}
	}
	return metadata.AppendToOutgoingContext(ctx, kv...)
}

// checkReply returns an error if data isn't a serialized message of a type.
func checkReply(of protoreflect.MessageDescriptor, data []byte) error {
	if of == nil || len(data) == 0 {
		return nil
	}
	linked, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		linked = dynamicpb.NewMessageType(of)
	}
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, linked.New().Interface())
}

// notConfigured is the answer to a command for which no participant is configured.
func (d *Dispatcher) notConfigured(ctx context.Context, call *engine.Attempt) engine.Answer {
	var message string
	if name := call.Participant; name != "" {
		message = fmt.Sprintf("dispatch: command not sent: this saga sends %s to %s, "+
			"for which no participant is configured now: start the orchestrator with it again, "+
			"such as --participant %s=HOST:PORT", call.Call.Method, name, name)
	} else {
		service, _, _ := strings.Cut(call.Call.Method, "/")
		message = fmt.Sprintf("dispatch: command not sent: no participant is configured for %s: "+
			"start the orchestrator with one, such as --participant %s=HOST:PORT", service, service)
	}
	answer := notSent(treatyv1.Outcome_OUTCOME_MISDEPLOYED, status.New(codes.Unimplemented, message))
	d.noteEnd(ctx, d.unconfigured(call.Call.Method), nil, call, answer)
	return answer
}
