package client_test

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/treatyhq/treaty/client"
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
)

func failure(t *testing.T, code codes.Code, reason string, more ...protoadapt.MessageV1) error {
	t.Helper()
	if reason != "" {
		more = append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "treaty", Reason: reason,
			Metadata: map[string]string{"saga": "sagas/a"}}}, more...)
	}
	s, err := status.New(code, "no").WithDetails(more...)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestErrors(t *testing.T) {
	tests := []struct {
		code                        codes.Code
		reason                      string
		compensated, unknown, again bool
	}{
		{codes.Unavailable, "IN_DOUBT", false, true, true},
		{codes.Unavailable, "STOPPING", false, true, true},
		{codes.Unavailable, "STORE_FULL", false, false, true},
		{codes.Unavailable, "RESTORING", false, true, true},
		{codes.Unavailable, "OF_A_LATER_VERSION", false, true, true},
		{codes.ResourceExhausted, "OVERLOADED", false, false, true},
		{codes.DeadlineExceeded, "DEADLINE_EXCEEDED", false, true, true},
		{codes.Canceled, "CANCELLED", false, true, true},
		{codes.InvalidArgument, "INVALID_REQUEST", false, false, false},
		{codes.AlreadyExists, "OTHER_REQUEST", false, false, false},
		{codes.NotFound, "DEFINITION_NOT_FOUND", false, false, false},
		{codes.DataLoss, "SAGA_PURGED", false, true, false},
		{codes.Internal, "INTERNAL", false, true, false},
		{codes.Unavailable, "SAGA_COMPENSATED", true, false, false},
		{codes.Canceled, "SAGA_CANCELLED", true, false, false},
		{codes.DeadlineExceeded, "SAGA_DEADLINE", true, false, false},
		{codes.FailedPrecondition, "COMPENSATED_BY_PARENT", true, false, false},
		{codes.Unavailable, "", false, true, true},
		{codes.Internal, "", false, true, true},
		{codes.ResourceExhausted, "", false, true, false},
		{codes.Unimplemented, "", false, true, false},
		{codes.FailedPrecondition, "", false, true, false},
	}
	for _, test := range tests {
		err := failure(t, test.code, test.reason)
		_, again := client.RetryAfter(err)
		if client.Compensated(err) != test.compensated || client.Unknown(err) != test.unknown || again != test.again {
			t.Errorf("%s %s: compensated %v, unknown %v, again %v; want %v, %v, %v", test.code, test.reason,
				client.Compensated(err), client.Unknown(err), again, test.compensated, test.unknown, test.again)
		}
		if named := client.Saga(err) == "sagas/a"; named != (test.reason != "") {
			t.Errorf("%s %s: the saga is %q", test.code, test.reason, client.Saga(err))
		}
	}
}

func TestDetails(t *testing.T) {
	err := failure(t, codes.ResourceExhausted, "OVERLOADED",
		&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})
	if after, ok := client.RetryAfter(err); after != 3*time.Second || !ok {
		t.Errorf("RetryAfter = %v, %v", after, ok)
	}
	if _, ok := client.RetryAfter(nil); ok || client.Unknown(nil) || client.Compensated(nil) || client.Saga(nil) != "" {
		t.Error("nil is taken for an error")
	}
	err = failure(t, codes.FailedPrecondition, "SAGA_COMPENSATED", &cardv1.AddressNotServed{Reason: "a P.O. box"})
	if r, ok := client.Rejection[*cardv1.AddressNotServed](err); !ok || r.GetReason() != "a P.O. box" {
		t.Errorf("Rejection = %v, %v", r, ok)
	}
}
