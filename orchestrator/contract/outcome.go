package contract

import (
	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// OutcomeOf returns the outcome of an attempt that returned a gRPC code: the one in the contract, or else the default.
// It is never OUTCOME_UNSPECIFIED; a code that gRPC doesn't define means OUTCOME_UNKNOWN. A nil call has the defaults.
func OutcomeOf(call *CallConfig, code codes.Code) treatyv1.Outcome {
	if call != nil {
		if outcome, ok := call.Outcomes[code]; ok {
			return outcome
		}
	}
	switch code {
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
	default: // Unavailable, DeadlineExceeded, Unknown, Internal, Canceled, DataLoss
		return treatyv1.Outcome_OUTCOME_UNKNOWN
	}
}

// codeNames holds the codes whose outcome a contract may change, by their names in google.rpc.Code.
var codeNames = map[string]codes.Code{
	"CANCELLED":           codes.Canceled,
	"UNKNOWN":             codes.Unknown,
	"INVALID_ARGUMENT":    codes.InvalidArgument,
	"DEADLINE_EXCEEDED":   codes.DeadlineExceeded,
	"NOT_FOUND":           codes.NotFound,
	"ALREADY_EXISTS":      codes.AlreadyExists,
	"PERMISSION_DENIED":   codes.PermissionDenied,
	"RESOURCE_EXHAUSTED":  codes.ResourceExhausted,
	"FAILED_PRECONDITION": codes.FailedPrecondition,
	"ABORTED":             codes.Aborted,
	"OUT_OF_RANGE":        codes.OutOfRange,
	"UNIMPLEMENTED":       codes.Unimplemented,
	"INTERNAL":            codes.Internal,
	"UNAVAILABLE":         codes.Unavailable,
	"DATA_LOSS":           codes.DataLoss,
	"UNAUTHENTICATED":     codes.Unauthenticated,
}

// outcomes reads the overrides at s.
func (r *report) outcomes(s site, overrides []*treatyv1.OutcomeOverride) map[codes.Code]treatyv1.Outcome {
	if len(overrides) == 0 {
		return nil
	}
	outcomes := make(map[codes.Code]treatyv1.Outcome, len(overrides))
	for i, override := range overrides {
		entry := s.below(int32(i))
		code, known := codeNames[override.GetCode()]
		switch {
		case override.GetCode() == "OK":
			r.add(outcomeCodeInvalid, entry, "OK always means done: remove it from outcomes")
		case !known:
			r.add(outcomeCodeInvalid, entry,
				"%q is not a gRPC code: write a name as in google.rpc.Code, e.g. \"UNAVAILABLE\"", override.GetCode())
		}
		outcome := override.GetOutcome()
		switch outcome {
		case treatyv1.Outcome_OUTCOME_REFUSED, treatyv1.Outcome_OUTCOME_CONFLICT, treatyv1.Outcome_OUTCOME_MISDEPLOYED,
			treatyv1.Outcome_OUTCOME_THROTTLED, treatyv1.Outcome_OUTCOME_UNKNOWN:
		default:
			r.add(outcomeInvalid, entry, "%s can't be %s: "+
				"write OUTCOME_REFUSED, OUTCOME_CONFLICT, OUTCOME_MISDEPLOYED, OUTCOME_THROTTLED or OUTCOME_UNKNOWN",
				override.GetCode(), outcome)
		}
		if _, twice := outcomes[code]; twice && known {
			r.add(outcomeDuplicate, entry, "%s already has an outcome: keep one of the two", override.GetCode())
		}
		outcomes[code] = outcome
	}
	return outcomes
}
