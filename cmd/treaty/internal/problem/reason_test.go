package problem

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func TestReasonOf(t *testing.T) {
	for _, c := range []struct {
		name string
		info *errdetails.ErrorInfo
		want treatyv1.ErrorReason
	}{
		{"known", &errdetails.ErrorInfo{Domain: "treaty", Reason: "SAGA_NOT_FOUND"},
			treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND},
		{"newer", &errdetails.ErrorInfo{Domain: "treaty", Reason: "FROM_THE_FUTURE"},
			treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED},
		{"from elsewhere", &errdetails.ErrorInfo{Domain: "proxy", Reason: "SAGA_NOT_FOUND"},
			treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED},
	} {
		failure, err := status.New(codes.NotFound, "no").WithDetails(c.info)
		if err != nil {
			t.Fatal(err)
		}
		if got := reasonOf(failure); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := reasonOf(status.New(codes.NotFound, "no")); got != treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		t.Errorf("without details: %v", got)
	}
}
