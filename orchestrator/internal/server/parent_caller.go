package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
)

// maxWarned is how many callers that aren't believed are logged, so that strangers fill neither the log nor memory.
const maxWarned = 1000

// checkParent returns an error if the caller isn't an orchestrator that may run child sagas here. Nobody else may start
// and compensate children, or raise the epoch of a parent's orchestrator, which would shut that one out.
func (s *Server) checkParent(ctx context.Context) error {
	who, believed := caller.Believed(ctx, s.parents)
	if believed {
		return nil
	}
	if s.firstTime(who) {
		s.logger.WarnContext(ctx, "a call for a parent saga was refused, since its caller isn't believed: if it is an "+
			"orchestrator, declare its identity with --parent-identity", "caller", who)
	}
	return &apiError{
		code: codes.Unauthenticated, reason: treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED,
		message: fmt.Sprintf("the call is made for a parent saga, but its caller, %s, isn't an orchestrator that this "+
			"one believes: declare its identity with --parent-identity", who),
	}
}

// firstTime returns whether a caller, or a damaged saga, wasn't warned about yet. It returns false once there were too
// many.
func (s *Server) firstTime(who string) bool {
	if s.warnedCount.Load() >= maxWarned {
		return false
	}
	_, warned := s.warned.LoadOrStore(who, true)
	return !warned && s.warnedCount.Add(1) <= maxWarned
}
