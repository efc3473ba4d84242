package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

const (
	// DefaultAttemptTimeout is how long [Run] waits for an answer before it calls again, unless [AttemptTimeout] says
	// otherwise.
	DefaultAttemptTimeout = time.Minute

	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second

	// maxInternal is how many calls in a row may fail at once with an INTERNAL that isn't the orchestrator's: it always
	// gives a reason. It takes about ten seconds. A connection that broke so works again by then; a wrong proxy or a
	// reply that can't be read doesn't.
	maxInternal = 8
)

type attemptTimeout struct {
	grpc.EmptyCallOption

	timeout time.Duration
}

// AttemptTimeout returns an option of [Run]: how long one call may take before Run calls again. The saga continues
// meanwhile. It bounds how long a connection that is dead without a sign goes unnoticed. 0 or less means no limit.
func AttemptTimeout(timeout time.Duration) grpc.CallOption { return attemptTimeout{timeout: timeout} }

type onRequestID struct {
	grpc.EmptyCallOption

	tell func(id string)
}

// OnRequestID returns an option of [Run]: a function that is told the request id before the first call. A program that
// stores the request and the id there can pick up the saga after its own restart.
func OnRequestID(tell func(id string)) grpc.CallOption { return onRequestID{tell: tell} }

// Run starts a saga with a method of a generated client, and waits for its end. If a call breaks, it calls again with
// the same request id, which attaches to the same saga, until the saga ends or the context does. It repeats what
// [RetryAfter] allows, after a pause that grows from 0.1 s to 5 s and varies, and not before the time in the error. The
// pause is short again after a call that took longer than 5 s.
//
// The request id is that of the request's field, or of the metadata treaty-request-id of the context if the contract
// marks no field. If it is empty, Run makes one; see [OnRequestID]. Run doesn't change the request. To pick up a saga
// from another process, call Run there with the same request and request id.
//
// Without a field, the id depends on everything between that drops no metadata. If a call attaches to another saga than
// an earlier one did, Run returns an error that names both.
//
// An error is that of the last call. If the context has ended, the error wraps the context's error and the last call's
// text, its code is DEADLINE_EXCEEDED or CANCELLED, and the saga continues if it was started. An INTERNAL without a
// reason is nobody's word about the saga: after eight in a row that came within 5 s, Run returns the last one, with the
// request id in its text.
func Run[Request proto.Message, Reply any](
	ctx context.Context, method func(context.Context, Request, ...grpc.CallOption) (Reply, error), request Request,
	options ...grpc.CallOption,
) (Reply, error) {
	var none Reply
	request, ctx, id, err := identified(ctx, request)
	if err != nil {
		return none, err
	}
	where := fmt.Sprintf("the request id %q", id)
	if requestIDField(request.ProtoReflect().Descriptor()) == nil {
		where += " in the metadata " + wire.RequestIDKey
	}
	timeout := DefaultAttemptTimeout
	for _, option := range options {
		switch option := option.(type) {
		case attemptTimeout:
			timeout = option.timeout
		case onRequestID:
			option.tell(id)
		}
	}
	pause, saga, internal := firstPause, "", 0
	for {
		var header metadata.MD
		began := time.Now()
		reply, err := attempt(ctx, timeout, func(ctx context.Context) (Reply, error) {
			return method(ctx, request, append(slices.Clip(options), grpc.Header(&header))...)
		})
		if name := SagaOf(header); name != "" && saga != "" && name != saga {
			return none, fmt.Errorf("calling a saga with %s: one call started %s, and another one %s, so both may "+
				"have taken effect: decide which one to cancel. Orchestrators with different names serve this "+
				"address, or something between drops the request id", where, saga, name)
		}
		if err == nil {
			return reply, nil
		}
		saga = cmp.Or(SagaOf(header), saga, Saga(err))
		after, again := RetryAfter(err)
		if !again {
			return none, err
		}
		if time.Since(began) > longPause {
			pause, internal = firstPause, 0
		}
		if status.Code(err) != codes.Internal {
			internal = 0
		} else if internal++; internal == maxInternal {
			return none, fmt.Errorf("waiting for %s with %s: %d calls in a row failed in a way that no orchestrator "+
				"does: check what is between; to pick it up, call again with the same request and request id: %w",
				cmp.Or(saga, "a saga"), where, internal, err)
		}
		// At least half of the pause is waited, and never less than the orchestrator asks for.
		after += pause/2 + mathrand.N(pause/2)
		pause = min(2*pause, longPause)
		select {
		case <-ctx.Done():
			return none, &interruptedError{cause: ctx.Err(), last: err, where: where, saga: saga}
		case <-time.After(after):
		}
	}
}

func attempt[Reply any](
	ctx context.Context, timeout time.Duration, call func(context.Context) (Reply, error),
) (Reply, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return call(ctx)
}

// identified returns the request and the context with a request id, and the id.
func identified[Request proto.Message](
	ctx context.Context, request Request,
) (Request, context.Context, string, error) {
	message := request.ProtoReflect()
	if !message.IsValid() {
		return request, ctx, "", errors.New("starting a saga: the request is nil")
	}
	// A request that can't be sent would look like a broken connection.
	if _, err := proto.Marshal(request); err != nil {
		return request, ctx, "", fmt.Errorf("starting a saga: the request can't be sent: %w", err)
	}
	if field := requestIDField(message.Descriptor()); field != nil {
		if id := message.Get(field).String(); id != "" {
			return request, ctx, id, nil
		}
		id := requestIDOf(ctx)
		if id == "" {
			id = rand.Text()
		}
		copied := message.New()
		proto.Merge(copied.Interface(), request)
		copied.Set(field, protoreflect.ValueOfString(id))
		return copied.Interface().(Request), ctx, id, nil //nolint:forcetypeassert // of the request's own type
	}
	id := requestIDOf(ctx)
	if id == "" {
		id = rand.Text()
		ctx = metadata.AppendToOutgoingContext(ctx, wire.RequestIDKey, id)
	}
	return request, ctx, id, nil
}

func requestIDOf(ctx context.Context) string {
	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md.Get(wire.RequestIDKey); len(values) > 0 {
		return values[0]
	}
	return ""
}

func requestIDField(message protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if marked, ok := proto.GetExtension(field.Options(), treatyv1.E_RequestId).(bool); ok && marked {
			return field
		}
	}
	return nil
}

// interruptedError is the error of Run when its context has ended.
type interruptedError struct {
	cause, last error
	where, saga string
}

// Error says what was waited for.
func (e *interruptedError) Error() string {
	return fmt.Sprintf("waiting for %s with %s: %v; to pick it up, call again with the same request and request id; "+
		"the last call failed: %v", cmp.Or(e.saga, "a saga"), e.where, e.cause, e.last)
}

// Unwrap returns the context's error.
func (e *interruptedError) Unwrap() error { return e.cause }

// GRPCStatus returns a status with the code of the context's error. It has a reason only if the saga is known.
func (e *interruptedError) GRPCStatus() *status.Status {
	plain := status.New(status.FromContextError(e.cause).Code(), e.Error())
	if e.saga == "" {
		return plain
	}
	reason := treatyv1.ErrorReason_ERROR_REASON_CANCELLED
	if errors.Is(e.cause, context.DeadlineExceeded) {
		reason = treatyv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED
	}
	detailed, err := plain.WithDetails(&errdetails.ErrorInfo{Domain: wire.ErrorDomain, Reason: wire.Reason(reason),
		Metadata: map[string]string{wire.ErrorSaga: e.saga}})
	if err != nil {
		return plain
	}
	return detailed
}
