package incoming

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// maxEpochAhead is how far an epoch may be ahead of the clock.
const maxEpochAhead = 24 * time.Hour

// CheckEpoch returns the error for an epoch that is more than a day ahead of the clock, or nil.
func CheckEpoch(epoch uint64, now time.Time) error {
	if epoch>>20 <= uint64(max(now.Add(maxEpochAhead).UnixMilli(), 0)) {
		return nil
	}
	return Error(codes.Unauthenticated, treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD, fmt.Sprintf(
		"the epoch %d is more than a day ahead of this participant's clock, %s: correct the clock of the two that is "+
			"wrong",
		epoch, now.UTC().Format(time.RFC3339)), nil)
}

// InvalidMetadata returns the status for metadata that can't be read.
func InvalidMetadata(err error) error {
	return Error(codes.InvalidArgument, treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID, err.Error(), nil)
}

// Error returns a status with a reason.
func Error(code codes.Code, reason treatyv1.ErrorReason, message string, more map[string]string) error {
	st := status.New(code, message)
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{
		Domain: wire.ErrorDomain, Reason: wire.Reason(reason), Metadata: more,
	})
	if err != nil {
		return st.Err()
	}
	return detailed.Err()
}

// Mark sets the trailer that says what the answer to a call covers. Without it, the answer only leaves a doubt.
func Mark(ctx context.Context, answer string) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, answer))
}
