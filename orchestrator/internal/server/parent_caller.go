package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// maxWarned is how many callers that aren't believed are logged, so that strangers fill neither the log nor memory.
const maxWarned = 1000

// checkParent returns an error if the caller isn't an orchestrator that may run child sagas here: of one definition, or
// of any if d is nil. Nobody else may start and compensate children, or raise the epoch of a parent's orchestrator,
// which would shut that one out. A refusal would make the parent's saga fail, so the caller isn't believed instead, and
// the parent waits.
func (s *Server) checkParent(ctx context.Context, method string, d *definition) error {
	believed := s.believed(ctx)
	if believed && !s.guarded() {
		return nil
	}
	var structural error
	if !believed {
		structural = s.notBelieved(ctx)
	}
	q, request := question{server: s, ctx: ctx, method: method}, access.Request{Action: access.UndoChild}
	if d != nil {
		request.Definition = d.Definition
	} else if believed && (q.refusal(request) == nil || len(q.allowed(access.UndoChild)) > 0) {
		return nil // the caller asks what this orchestrator knows
	}
	if q.decide(request, structural) != nil {
		return s.notBelieved(ctx)
	}
	return nil
}

// notBelieved returns the error for a caller that isn't an orchestrator that may run child sagas here, and logs it.
func (s *Server) notBelieved(ctx context.Context) error {
	who := strings.Join(access.PrincipalOf(ctx).Identities(), ", ")
	if s.firstTime(who) {
		s.logger.WarnContext(ctx, "a call for a parent saga was refused, since its caller isn't believed: if it is an "+
			"orchestrator, declare its identity with --parent-identity, and allow it to undo children", "caller", who)
	}
	return &apiError{
		code: codes.Unauthenticated, reason: treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED,
		message: fmt.Sprintf("the call is made for a parent saga, but its caller, %s, isn't an orchestrator that this "+
			"one believes: declare its identity with --parent-identity, and allow it to undo children", who),
	}
}

// believed returns whether the caller may be a parent's orchestrator: one of those that are declared, or else whom an
// authorizer allows it, or else, if other machines can't reach the API, everybody who has proved something.
func (s *Server) believed(ctx context.Context) bool {
	if len(s.parents) > 0 {
		return slices.Contains(s.parents, caller.Any) || callerIs(ctx, s.parents)
	}
	if s.authorizer != nil || s.strict {
		return s.authorizer != nil
	}
	kind := access.PrincipalOf(ctx).Kind
	return kind != access.Anonymous && kind != ""
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
