package conform

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// answer is what one attempt came to.
type answer struct {
	status  *status.Status
	outcome treatyv1.Outcome
	reply   proto.Message // nil unless the code is OK and the command isn't accepted
	marks   []string      // the values of treaty-answer

	// wait is how many seconds an accepted command may take; 0 if it isn't accepted.
	wait int
}

func (a answer) code() codes.Code { return a.status.Code() }

func (a answer) done() bool { return a.code() == codes.OK && a.wait == 0 }

func (a answer) accepted() bool { return a.code() == codes.OK && a.wait > 0 }

// reason is that of the ErrorInfo of this protocol.
func (a answer) reason() treatyv1.ErrorReason {
	for _, detail := range a.status.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == wire.ErrorDomain {
			return wire.ParseReason(info.GetReason())
		}
	}
	return treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// rejections are the names of the other details.
func (a answer) rejections() []string {
	var names []string
	for _, detail := range a.status.Proto().GetDetails() {
		name := detail.GetTypeUrl()[strings.LastIndexByte(detail.GetTypeUrl(), '/')+1:]
		if !strings.HasPrefix(name, "google.rpc.") {
			names = append(names, name)
		}
	}
	return names
}

// final are the reasons of errors that an orchestrator doesn't retry.
var final = []treatyv1.ErrorReason{
	treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH, treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST,
	treatyv1.ErrorReason_ERROR_REASON_PURGED, treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED,
	treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD, treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID,
}

// transient reports whether an orchestrator would send the command again.
func (a answer) transient() bool {
	if slices.Contains(final, a.reason()) {
		return false
	}
	switch a.outcome {
	case treatyv1.Outcome_OUTCOME_UNKNOWN, treatyv1.Outcome_OUTCOME_CONFLICT, treatyv1.Outcome_OUTCOME_THROTTLED:
		return true
	default:
		return false
	}
}

func (a answer) refused() bool {
	return a.outcome == treatyv1.Outcome_OUTCOME_REFUSED &&
		a.reason() != treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID
}

// outcomeOf returns what a code means: what the contract says, or else the default.
func outcomeOf(overrides []*treatyv1.OutcomeOverride, c codes.Code) treatyv1.Outcome {
	for _, o := range overrides {
		if number, known := code.Code_value[o.GetCode()]; known && codes.Code(number) == c {
			return o.GetOutcome()
		}
	}
	switch c {
	case codes.OK:
		return treatyv1.Outcome_OUTCOME_DONE
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
		codes.PermissionDenied:
		return treatyv1.Outcome_OUTCOME_REFUSED
	case codes.Aborted:
		return treatyv1.Outcome_OUTCOME_CONFLICT
	case codes.Unimplemented, codes.Unauthenticated:
		return treatyv1.Outcome_OUTCOME_MISDEPLOYED
	case codes.ResourceExhausted:
		return treatyv1.Outcome_OUTCOME_THROTTLED
	default:
		return treatyv1.Outcome_OUTCOME_UNKNOWN
	}
}

// String says what the answer was, without its payload.
func (a answer) String() string {
	var b strings.Builder
	switch {
	case a.accepted():
		fmt.Fprintf(&b, "OK with %s: %d", wire.PendingKey, a.wait)
	case a.code() == codes.OK:
		b.WriteString("OK")
	default:
		b.WriteString(a.code().String())
		if reason := a.reason(); reason != treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			b.WriteString(" " + wire.Reason(reason))
		}
		fmt.Fprintf(&b, " (%.200s)", a.status.Message())
	}
	if len(a.marks) > 0 {
		fmt.Fprintf(&b, ", marked %s", strings.Join(a.marks, " and "))
	}
	return b.String()
}

// same reports whether two answers say the same to the orchestrator.
func same(a, b answer) bool {
	if a.code() != codes.OK || b.code() != codes.OK {
		return a.code() == b.code() && slices.Equal(a.rejections(), b.rejections())
	}
	return a.accepted() && b.accepted() || a.reply != nil && b.reply != nil && proto.Equal(a.reply, b.reply)
}

// call makes one attempt. md are keys and values.
func call(
	ctx context.Context, conn grpc.ClientConnInterface, timeout time.Duration, method protoreflect.MethodDescriptor,
	request proto.Message, md ...string,
) answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var trailer metadata.MD
	reply := dynamicpb.NewMessage(method.Output())
	err := conn.Invoke(metadata.AppendToOutgoingContext(ctx, md...), "/"+Name(method), request, reply,
		grpc.Trailer(&trailer))
	a := answer{status: status.Convert(err), marks: trailer.Get(wire.AnswerKey)}
	a.outcome = outcomeOf(options(method).outcomes, a.code())
	if err != nil {
		return a
	}
	if pending := trailer.Get(wire.PendingKey); len(pending) > 0 {
		a.wait, err = strconv.Atoi(pending[0])
		if err != nil || len(pending) > 1 || a.wait < 1 || a.wait > 86400 {
			a.status = status.Newf(codes.Internal, "the trailer %s is %q, want one number of seconds from 1 to 86400",
				wire.PendingKey, pending)
			a.outcome = treatyv1.Outcome_OUTCOME_UNKNOWN
			return a
		}
		return a
	}
	a.reply = reply
	return a
}
